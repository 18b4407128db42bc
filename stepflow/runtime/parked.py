"""A run that nobody moves, as one `bytes` object: what lists need of it, then its history.

::

    0   8  LSN of its start             32  2  place of its workflow's name in `Names`
    8   8  LSN of its last record       34  1  status, as in `_STATUSES`
    16  8  created, ms                  35  1  flags: 1 compressed, 2 has tags, a key or a starter,
    24  8  updated, ms                         4 bare, from 16 on the widths of its numbers
                                        36     its line, as a snapshot has it

The line of a live run is made bare (bare_lines.py) and compressed: it may lie there for weeks,
beside a million others, and all lines of runs share their words (`_WORDS`). What made it bare
stands behind it as it is. So whoever wants the line says whose it is. The line of a run that has
ended is kept as it is: there it must be quick. Lives in memory only: nothing of this is on disk.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from stepflow.model.run import FINISHED, RunState, RunSummary
from stepflow.runtime.bare_lines import WIDTHS, Bare, bare_of, line_from

if TYPE_CHECKING:
    from stepflow.model.outline import Outline
    from stepflow.model.run import RunStatus

__all__ = [
    "Names",
    "finished_of",
    "line_of",
    "lsn_of",
    "park",
    "park_outline",
    "press",
    "start_lsn_of",
    "state_of",
    "status_of",
    "summary_of",
]

_HEAD: Final = struct.Struct("<QQQQHBB")
_LSN: Final = struct.Struct("<Q")
_STATUSES: Final[tuple[RunStatus, ...]] = (
    "pending",
    "running",
    "completed",
    "failed",
    "cancelled",
)
_NUMBERS: Final[dict[str, int]] = {status: number for number, status in enumerate(_STATUSES)}
_STATUS_AT: Final = 34
_ENDED: Final = frozenset(map(_NUMBERS.__getitem__, FINISHED))
_COMPRESSED: Final = 1
_LABELLED: Final = 2
_BARE: Final = 4
_WIDTH: Final = 16
assert _WIDTH * WIDTHS <= 256, "the widths have room in the flags"

# Raw deflate with a window that holds words and line: small to set up, and as good as a large one.
_WINDOW: Final = -11
_MEMORY: Final = 3
_LEVEL: Final = 3
# The likeliest last: what is near is cheaper to refer to.
_WORDS: Final = (
    b',"lsn":,"r":"run_","rs":1,"ts":17958},{"'
    b'"t":"child.started","workflow":"","child":"run_","awaited":true'
    b'"t":"child.ended","error":{"type":"","message":"","attempts":'
    b'"t":"event.kept","payload":"t":"step.retrying","due":"t":"step.failed"'
    b'"t":"sleep.ended","t":"sleep.started","t":"wait.timedout","t":"wait.resolved","payload":'
    b'"tags":[""],"idem":"","by":"key:","by":"run:run_","parent":"run_","parent_key":"'
    b',"payloads":{"":},"records":[{"t":"run.started","workflow":"'
    b'","input":{"","events":[""]' + b"\0"
    b',{"t":"step.started","key":"#1","name":"","fn":"","args":"","solo":true' + b"\0"
    b',{"t":"step.completed","key":"#1","result":{""}' + b"\0"
    b',{"t":"wait.started","key":"#1","name":"","event":"","due":17958,"solo":true' + b"\0]}"
)
_DEFLATE: Final = zlib.compressobj(
    _LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _WORDS
)


class Names:
    """Workflow ids by number: there are few of them, and each is held once."""

    __slots__ = ("_names", "_numbers")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the name's number, a new one for a new name."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number

    def __getitem__(self, number: int) -> str:
        return self._names[number]


def park(state: RunState, start_lsn: int, names: Names) -> bytes:
    """Return the run as one `bytes` object."""
    start = state.started
    labelled = start is not None and bool(start.tags or start.idem or start.by)
    return press(_park(state, state.pack(), start_lsn, names, labelled=labelled), state.id)


def park_outline(run: Outline, names: Names) -> bytes:
    """Return the run as one `bytes` object, not compressed yet: whoever starts is in a hurry."""
    labelled = bool(run.tags or run.idem or run.by)
    return _park(run, run.line(), run.start_lsn, names, labelled=labelled)


def _park(
    run: RunState | Outline, line: bytes, start_lsn: int, names: Names, *, labelled: bool
) -> bytes:
    head = _HEAD.pack(
        start_lsn,
        run.lsn,
        run.created_ms,
        run.updated_ms,
        names.number(run.workflow),
        _NUMBERS[run.status],
        _LABELLED if labelled else 0,
    )
    return head + line


def press(parked: bytes, run_id: str) -> bytes:
    """Return the run with its line compressed, if it lives and was not pressed already."""
    if finished_of(parked) or parked[_STATUS_AT + 1] & _COMPRESSED:
        return parked
    _, lsn, _, updated_ms, *_, flags = _HEAD.unpack_from(parked)
    line = parked[_HEAD.size :]
    numbers = b""
    bare = bare_of(line, run_id, lsn, updated_ms)
    if bare is not None:
        line, numbers, widths = bare
        flags |= _BARE | widths * _WIDTH
    # A copy: the words need not be taken in each time.
    deflate = _DEFLATE.copy()
    return b"%b%c%b%b%b" % (
        parked[: _STATUS_AT + 1],
        flags | _COMPRESSED,
        deflate.compress(line),
        deflate.flush(),
        numbers,
    )


def line_of(parked: bytes, run_id: str) -> bytes:
    """Return the run's snapshot line."""
    flags = parked[_STATUS_AT + 1]
    if not flags & _COMPRESSED:
        return parked[_HEAD.size :]
    inflate = zlib.decompressobj(_WINDOW, _WORDS)
    line = inflate.decompress(parked[_HEAD.size :])
    if not flags & _BARE:
        return line
    _, lsn, _, updated_ms, *_ = _HEAD.unpack_from(parked)
    return line_from(Bare(line, inflate.unused_data, flags // _WIDTH), run_id, lsn, updated_ms)


def state_of(parked: bytes, run_id: str) -> RunState:
    """Return the run's state, open."""
    return RunState.unpack(line_of(parked, run_id))


def start_lsn_of(parked: bytes) -> int:
    """Return the LSN of the run's start."""
    (lsn,) = _LSN.unpack_from(parked)
    return int(lsn)


def lsn_of(parked: bytes) -> int:
    """Return the LSN of the run's last record."""
    (lsn,) = _LSN.unpack_from(parked, 8)
    return int(lsn)


def status_of(parked: bytes) -> RunStatus:
    """Return the run's status."""
    return _STATUSES[parked[_STATUS_AT]]


def finished_of(parked: bytes) -> bool:
    """Tell whether the run has ended."""
    return parked[_STATUS_AT] in _ENDED


def summary_of(parked: bytes, run_id: str, names: Names) -> RunSummary:
    """Return what lists show; opens the run only for tags and the like, where it has any."""
    _, lsn, created_ms, updated_ms, name, status, flags = _HEAD.unpack_from(parked)
    if flags & _LABELLED:
        return state_of(parked, run_id).summary()
    return RunSummary(names[name], _STATUSES[int(status)], created_ms, updated_ms, lsn)
