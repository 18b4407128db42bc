r"""A run's line without what can be told from elsewhere, and whole again, byte for byte. PURE.

Each record of a line ends with its LSN, the run's id, its number in the run and its time::

    …,"lsn":452,"r":"run_Ny345aoIbRDlb4EqyzStsz","rs":4,"ts":1795871848534}

All of them say the same id, the numbers count from 1, and who keeps the line knows the LSN and the
time of the last. So a **bare** line has a zero byte, which no JSON has, in the place of each of
these ends; nothing in the place of its own head; and beside it how far each but the last lies
before the last, in one width for all::

    n - 1   LSNs      as wide as the largest needs: 1, 2, 4 or 8 bytes
    n - 1   times     likewise

A line that would not come back the same stays as it is.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WIDTHS", "Bare", "bare_of", "line_from"]

_END: Final = re.compile(
    rb',"lsn":([1-9][0-9]*),"r":"([^"]*)","rs":([1-9][0-9]*),"ts":([1-9][0-9]*)\}'
)
_HEAD: Final = b'{"k":"run","id":"%b","lsn":%d'
_KINDS: Final = "BHIQ"
"""Of 1, 2, 4 and 8 bytes, as `struct` knows them."""
_FORMS_MAX: Final = 64
WIDTHS: Final = len(_KINDS) ** 2
"""How many pairs of widths there are."""


class Bare(NamedTuple):
    """A bare line: what is left of its text, the numbers, and of which widths they are."""

    text: bytes
    numbers: bytes
    widths: int


def bare_of(line: bytes, run_id: str, lsn: int, ts_ms: int) -> Bare | None:
    """Return the line bare, None where `line_from` would not give it back.

    `lsn` and `ts_ms` are those of the run's last record, as they will be told to `line_from`.
    """
    own = run_id.encode()
    head = _HEAD % (own, lsn)
    if not line.startswith(head) or b"\0" in line:
        return None
    pieces = _END.split(line[len(head) :])
    count = len(pieces) // 5
    if (
        not count
        or pieces[2::5] != [own] * count
        or pieces[3::5] != [b"%d" % number for number in range(1, count + 1)]
    ):
        return None
    lsns = [lsn - int(of) for of in pieces[1::5]]
    times = [ts_ms - int(of) for of in pieces[4::5]]
    # The last ones are known, and nothing lies behind them.
    if lsns.pop() or times.pop() or min(lsns, default=0) < 0 or min(times, default=0) < 0:
        return None
    kind, kind_of_times = _kind_of(lsns), _kind_of(times)
    if kind is None or kind_of_times is None:
        return None
    widths = kind * len(_KINDS) + kind_of_times
    numbers = _numbers(count, widths).pack(*lsns, *times)
    return Bare(b"\0".join(pieces[0::5]), numbers, widths)


def line_from(bare: Bare, run_id: str, lsn: int, ts_ms: int) -> bytes:
    """Return the line that was made bare."""
    own = run_id.encode()
    text, numbers, widths = bare
    pieces = text.split(b"\0")
    count = len(pieces) - 1
    before = _numbers(count, widths).unpack(numbers)
    # Every fourth but one is the id: to put the others in their places is quicker than to zip.
    parts: list[bytes | int] = [own] * (4 * count + 3)
    parts[2::4] = pieces
    parts[3::4] = [lsn - by for by in before[: count - 1]] + [lsn]
    parts[5::4] = [ts_ms - by for by in before[count - 1 :]] + [ts_ms]
    parts[1] = lsn
    line = _form(count) if count <= _FORMS_MAX else _form.__wrapped__(count)
    return line % tuple(parts)


@lru_cache(maxsize=_FORMS_MAX * WIDTHS)
def _numbers(count: int, widths: int) -> struct.Struct:
    kind, kind_of_times = divmod(widths, len(_KINDS))
    return struct.Struct(f"<{count - 1}{_KINDS[kind]}{count - 1}{_KINDS[kind_of_times]}")


@lru_cache(maxsize=_FORMS_MAX)
def _form(count: int) -> bytes:
    """Return the form of a line of so many records: to fill one in is quicker than to join."""
    records = (b',"lsn":%%d,"r":"%%b","rs":%d,"ts":%%d}%%b' % n for n in range(1, count + 1))
    return b"%b%%b%b" % (_HEAD, b"".join(records))


def _kind_of(numbers: Sequence[int]) -> int | None:
    """Return the least width that takes all the numbers; None where none does."""
    bits = max(numbers, default=0).bit_length()
    return next((kind for kind in range(len(_KINDS)) if bits <= 8 << kind), None)
