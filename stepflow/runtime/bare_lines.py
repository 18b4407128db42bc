r"""A run's line without what can be told from elsewhere, and whole again, byte for byte. PURE.

Each record of a line ends with its LSN, the run's id, its number in the run and its time::

    …,"lsn":452,"r":"run_Ny345aoIbRDlb4EqyzStsz","rs":4,"ts":1795871848534}

All of them say the same id, the numbers count from 1, and who keeps the line knows the LSN and the
time of the last. So a **bare** line has a zero byte, which no JSON has, in the place of each of
these ends; nothing in the place of its own head; and beside it the differences from one LSN and
time to the next, of one width each::

    n - 1   differences of LSNs      as wide as the largest needs: 1, 2, 4 or 8 bytes
    n - 1   differences of times     likewise

A line that would not come back the same stays as it is.
"""

from __future__ import annotations

import re
from array import array
from functools import lru_cache
from itertools import accumulate, chain, pairwise, repeat
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_Kind = Literal["B", "H", "I", "Q"]

__all__ = ["WIDTHS", "Bare", "bare_of", "line_from"]

_END: Final = re.compile(
    rb',"lsn":([1-9][0-9]*),"r":"([^"]*)","rs":([1-9][0-9]*),"ts":([1-9][0-9]*)\}'
)
_HEAD: Final = b'{"k":"run","id":"%b","lsn":%d'
_KINDS: Final[tuple[_Kind, ...]] = ("B", "H", "I", "Q")
"""Of 1, 2, 4 and 8 bytes, as `array` and `memoryview` know them."""
_FORMATS_MAX: Final = 64
WIDTHS: Final = len(_KINDS) ** 2
"""How many pairs of widths there are."""


class Bare(NamedTuple):
    """A bare line: what is left of its text, the differences, and of which widths they are."""

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
    lsns, times = list(map(int, pieces[1::5])), list(map(int, pieces[4::5]))
    if lsns[-1] != lsn or times[-1] != ts_ms:
        return None
    steps, waits = _differences(lsns), _differences(times)
    if steps is None or waits is None:
        return None
    widths = _KINDS.index(steps.typecode) * len(_KINDS) + _KINDS.index(waits.typecode)
    return Bare(b"\0".join(pieces[0::5]), steps.tobytes() + waits.tobytes(), widths)


def line_from(bare: Bare, run_id: str, lsn: int, ts_ms: int) -> bytes:
    """Return the line that was made bare."""
    own = run_id.encode()
    first, *pieces = bare.text.split(b"\0")
    numbers = memoryview(bare.numbers)
    kind, kind_of_times = divmod(bare.widths, len(_KINDS))
    border = (len(pieces) - 1) << kind
    steps = numbers[:border].cast(_KINDS[kind])
    waits = numbers[border:].cast(_KINDS[kind_of_times])
    ends = zip(
        accumulate(steps, initial=lsn - sum(steps)),
        repeat(own),
        accumulate(waits, initial=ts_ms - sum(waits)),
        pieces,
        strict=False,
    )
    count = len(pieces)
    line = _line_of(count) if count <= _FORMATS_MAX else _line_of.__wrapped__(count)
    return line % (own, lsn, first, *chain.from_iterable(ends))


@lru_cache(maxsize=_FORMATS_MAX)
def _line_of(count: int) -> bytes:
    """Return the format of a line of so many records: to fill one in is quicker than to join."""
    records = (b',"lsn":%%d,"r":"%%b","rs":%d,"ts":%%d}%%b' % n for n in range(1, count + 1))
    return b"%b%%b%b" % (_HEAD, b"".join(records))


def _differences(numbers: Sequence[int]) -> array[int] | None:
    """Return the differences in as few bytes as they need; None where one is negative."""
    differences = [after - before for before, after in pairwise(numbers)]
    if differences and min(differences) < 0:
        return None
    largest = max(differences, default=0)
    for kind in _KINDS:
        room = array(kind)
        if largest < 1 << 8 * room.itemsize:
            room.fromlist(differences)
            return room
    return None
