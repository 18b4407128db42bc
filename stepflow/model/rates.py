"""PURE. When runs began that a rate limit counts: kept beyond the runs themselves.

A run may be purged while its start still counts, so these times cannot follow from the runs that
are left. They follow from records: each run that is let in says under which rates (`admission` of
its `RunStarted` or `RunReleased`), and a snapshot has one line for each limit and key::

    {"k":"rate","id":"crawl input.host 1m","key":"7","per":60000,"lsn":57,"times":[…]}

A line bears the LSN of the last start that it includes; newer records are added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["RateRow", "Rates"]

_TIMES_MAX: Final = 100_000
"""As many as a limit may allow in its window."""


class RateRow(msgspec.Struct, eq=False):
    """The starts of one limit and key, oldest first; only those within the window matter."""

    id: str
    key: str
    per: int
    lsn: int = 0
    times: list[int] = []

    def add(self, lsn: int, ts: int) -> None:
        """Count a start."""
        self.lsn = lsn
        self.times.append(ts)

    def prune(self, now: int) -> None:
        """Forget what no window that ends at `now` or later has in it."""
        old = 0
        for ts in self.times:
            if ts > now - self.per:
                break
            old += 1
        del self.times[: max(old, len(self.times) - _TIMES_MAX)]

    def free_at(self, limit: int) -> int:
        """Return from when on one more may begin; 0: at once."""
        return self.times[len(self.times) - limit] + self.per if len(self.times) >= limit else 0

    def line(self) -> bytes:
        """Return the row's line in a snapshot."""
        return b'{"k":"rate",%b' % _encode(self)[1:]


class Rates:
    """All rows, as recovery finds them."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], RateRow] = {}

    def take_line(self, data: bytes) -> None:
        """Take a snapshot's line. Raises `msgspec.MsgspecError` for one that is none."""
        row = _decode(data)
        self.rows[row.id, row.key] = row

    def take(self, lsn: int, ts: int, admission: Iterable[tuple[str, str, int]]) -> None:
        """Count a start, unless the row includes it."""
        for limit_id, key, per in admission:
            row = self.rows.get((limit_id, key))
            if row is None:
                row = self.rows[limit_id, key] = RateRow(limit_id, key, per)
            if lsn > row.lsn:
                row.prune(ts)
                row.add(lsn, ts)


_encode: Callable[[RateRow], bytes] = msgspec.json.Encoder().encode
_decode: Callable[[bytes], RateRow] = msgspec.json.Decoder(RateRow).decode
