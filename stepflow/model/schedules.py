"""PURE. What is known of each schedule: records in, rows out.

A row says up to which time everything is decided, so that each fire time gets its one run, however
often the process dies. A snapshot has one line for each::

    {"k":"schedule","id":"nightly","lsn":57,"spec":"0 2 * * * Europe/Berlin","last":1705280400000}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepflow.model.records import ScheduleFired, SchedulePaused, ScheduleSet

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ScheduleRecord", "ScheduleRow", "ScheduleRows"]

ScheduleRecord = ScheduleSet | ScheduleFired | SchedulePaused


class ScheduleRow(msgspec.Struct, eq=False, omit_defaults=True):
    """One schedule."""

    id: str
    lsn: int = 0
    spec: str = ""
    """As it was set last; empty when it is gone."""
    last: int = 0
    """Every time up to this one is decided."""
    paused: bool = False
    fired: int = 0
    skipped: int = 0
    run: str = ""
    """The run started last, and for when."""
    at: int = 0

    def apply(self, record: ScheduleRecord) -> None:
        """Change the row as the record says."""
        match record:
            case ScheduleSet():
                self.spec = record.spec
                self.last = max(self.last, record.ts)
            case ScheduleFired():
                self.last = max(self.last, record.at)
                self.skipped += record.skipped
                if record.run:
                    self.fired += 1
                    self.run = record.run
                    self.at = record.at
            case SchedulePaused():
                self.paused = record.paused
                self.last = max(self.last, record.ts)
        self.lsn = record.lsn

    def line(self) -> bytes:
        """Return the row's line in a snapshot."""
        return b'{"k":"schedule",%b' % _encode(self)[1:]


class ScheduleRows:
    """All rows, by id."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[str, ScheduleRow] = {}

    def take_line(self, data: bytes) -> None:
        """Take a snapshot's line. Raises `msgspec.MsgspecError` for one that is none."""
        row = _decode(data)
        self.rows[row.id] = row

    def take(self, record: ScheduleRecord) -> ScheduleRow:
        """Apply a record, unless its row includes it."""
        row = self.rows.get(record.schedule)
        if row is None:
            row = self.rows[record.schedule] = ScheduleRow(record.schedule)
        if record.lsn > row.lsn:
            row.apply(record)
        return row


_encode: Callable[[ScheduleRow], bytes] = msgspec.json.Encoder().encode
_decode: Callable[[bytes], ScheduleRow] = msgspec.json.Decoder(ScheduleRow).decode
