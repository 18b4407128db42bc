"""What a group commit writes: from records and letters to rows. PURE.

The records themselves are the truth. All else is an index of them that lists, deliveries and
streams read without opening a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from stepflow.engine.postgres.acts import act_row
from stepflow.engine.postgres.inbox import text
from stepflow.model import records as rec
from stepflow.model.run import FINISHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stepflow.model.run import RunState

__all__ = ["Begins", "Consumed", "Effect", "Enters", "Entry", "Group", "Leaves", "Rows", "Sent"]
__all__ += ["WaitsAgain", "entry_of", "rows_of"]


@dataclass(slots=True)
class Entry:
    """One record and its bytes."""

    record: rec.Record
    data: bytes


@dataclass(frozen=True, slots=True)
class Consumed:
    """What came of a letter is in the records beside this."""

    run_id: str
    n: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter from a run to another."""

    sender: str
    to: str
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class WaitsAgain:
    """An event was no answer to the run's wait: it goes on."""

    run_id: str
    key: str
    event: str


@dataclass(frozen=True, slots=True)
class Enters:
    """A run may begin: it asks for its slots, or stands in line for them."""

    run_id: str
    ask: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Leaves:
    """A run does not want to begin any more."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Begins:
    """A run that was let in begins, with the record beside this."""

    run_id: str


Effect = Consumed | Sent | WaitsAgain | Enters | Leaves | Begins


@dataclass(slots=True)
class Group:
    """Records and effects that are written together or not at all."""

    first_lsn: int
    last_lsn: int
    entries: list[Entry]
    effects: list[Effect]
    runs: set[str]
    """Held runs whose claim it rests on."""


@dataclass(slots=True)
class RunRow:
    """A run as its last record leaves it."""

    rs: int
    lsn: int
    status: str
    updated_ms: int
    nbytes: int | None
    """How much it is, if it has ended."""


class Rows(msgspec.Struct):
    """Columns of rows, as the statements take them."""

    runs: dict[str, RunRow] = {}
    started: list[tuple[rec.RunStarted, bytes]] = []
    records: list[tuple[str, int, int, int, bytes]] = []
    payloads: dict[tuple[str, int], bytes] = {}
    waits: dict[tuple[str, str], str | None] = {}
    """Event by run and key; None: the wait is over."""
    types: dict[tuple[str, str], str] = {}
    """What these waits take, where it is known."""
    timed_out: set[tuple[str, str]] = set()
    checkpoints: list[tuple[str, str, str]] = []
    ended: dict[str, str] = {}
    restarted: dict[str, int] = {}
    declared: dict[str, tuple[str, ...]] = {}
    kept: set[str] = set()
    acts: list[tuple[str, bytes]] = []
    """What operators did, by run."""
    consumed: list[tuple[str, int]] = []
    sent: list[tuple[str, str, bytes]] = []
    gate: list[Enters | Leaves | Begins] = []


def entry_of(data: bytes) -> Entry:
    """Return the record with its bytes."""
    return Entry(rec.decode_known(data), data)


def rows_of(
    groups: Iterable[Group],
    state_of: Callable[[str], RunState | None],
    type_of: Callable[[str, str], str | None],
) -> Rows:
    """Return what the groups write.

    `state_of` returns a held run's present state, `type_of` what a wait of it takes.
    """
    rows = Rows()
    for group in groups:
        events = {
            e.record.lsn: bytes(e.record.payload)
            for e in group.entries
            if isinstance(e.record, rec.EventReceived)
        }
        for entry in group.entries:
            if entry.record.r:
                _take(rows, entry.record, entry.data, events, state_of)
        for effect in group.effects:
            _take_effect(rows, effect)
    for place, event in rows.waits.items():
        found = None if event is None else type_of(*place)
        if found is not None:
            rows.types[place] = text(found)
    return rows


def _take_effect(rows: Rows, effect: Effect) -> None:
    match effect:
        case Consumed():
            rows.consumed.append((effect.run_id, effect.n))
        case Sent():
            rows.sent.append((effect.to, effect.kind, effect.body))
        case WaitsAgain():
            rows.waits[effect.run_id, text(effect.key)] = text(effect.event)
        case Enters() | Leaves() | Begins():
            rows.gate.append(effect)


def _take(
    rows: Rows,
    record: rec.Record,
    data: bytes,
    events: Mapping[int, bytes],
    state_of: Callable[[str], RunState | None],
) -> None:
    run_id = record.r
    if isinstance(record, rec.RunStarted):
        rows.started.append((record, data))
        return
    before = rows.runs.get(run_id)
    status = _STATUS.get(type(record)) or (before.status if before is not None else "")
    if isinstance(record, rec.RunRetried) and record.held:
        status = "pending"
    nbytes = before.nbytes if before is not None else None
    if type(record) in _STATUS:
        state = state_of(run_id) if status in FINISHED else None
        nbytes = state.nbytes if state is not None else None
    rows.runs[run_id] = RunRow(record.rs, record.lsn, status, record.ts, nbytes)
    rows.records.append((run_id, record.rs, record.lsn, crc32(data), data))
    if type(record) in _ACTS:
        state = state_of(run_id)
        act = act_row(record, state.workflow if state is not None else "")
        if act is not None:
            rows.acts.append(act)
    _index(rows, record, events, state_of)


_ACTS: frozenset[type[rec.Record]] = frozenset(
    {rec.CancelRequested, rec.RunCancelled, rec.RunPaused, rec.RunResumed, rec.RunRetried}
)
_STATUS: dict[type[rec.Record], str] = {
    rec.RunReleased: "running",
    rec.RunRetried: "running",
    rec.RunRestarted: "running",
    rec.RunCompleted: "completed",
    rec.RunFailed: "failed",
    rec.RunCancelled: "cancelled",
}


def _index(  # noqa: C901, PLR0912  a table
    rows: Rows,
    record: rec.Record,
    events: Mapping[int, bytes],
    state_of: Callable[[str], RunState | None],
) -> None:
    run_id = record.r
    match record:
        case rec.WaitStarted():
            rows.waits[run_id, text(record.key)] = text(record.event)
        case rec.WaitResolved() | rec.EventKept():
            if record.payload in events:
                rows.payloads[run_id, record.payload] = events[record.payload]
            rows.kept.add(run_id)
            if isinstance(record, rec.WaitResolved):
                rows.waits[run_id, text(record.key)] = None
        case rec.WaitTimedOut():
            place = run_id, text(record.key)
            if rows.waits.get(place) is None:
                rows.timed_out.add(place)
            rows.waits[place] = None
        case rec.CallCancelled() | rec.CallAdopted():
            rows.waits[run_id, text(record.key)] = None
        case rec.StepCompleted():
            rows.checkpoints.append((run_id, text(record.key), _checkpoint(record)))
        case rec.RunCompleted() | rec.RunFailed() | rec.RunCancelled():
            rows.ended[run_id] = f'{{"status":"{_STATUS[type(record)]}"}}'
        case rec.RunRestarted():
            for place in [place for place in rows.waits if place[0] == run_id]:
                del rows.waits[place]
            rows.restarted[run_id] = record.rs - 1
            rows.declared[run_id] = record.events
        case rec.RunRetried():
            _revive(rows, run_id, state_of)
        case _:
            pass


def _revive(rows: Rows, run_id: str, state_of: Callable[[str], RunState | None]) -> None:
    """The run waits again for what it waited for when it ended."""
    rows.ended.pop(run_id, None)
    state = state_of(run_id)
    if state is None:
        return
    if state.started is not None:
        rows.declared[run_id] = state.started.events
    rows.kept.add(run_id)
    for call in state.pending_calls():
        if call.kind == "event":
            rows.waits[run_id, text(call.key)] = text(call.event)


def _checkpoint(record: rec.StepCompleted) -> str:
    """Return the result as `jsonb` can hold it: there is no NUL in it."""
    result = bytes(record.result)
    if b"\\u0000" in result:
        return f'{{"rs":{record.rs}}}'
    return result.decode()
