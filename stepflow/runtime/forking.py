"""A fork: a new run that begins with what another had recorded before one of its steps.

::

    source   a ─ b ─ c ─ d           fork of c    a ─ b ─ c' ─ d'
             │   │   │   │                        │   │
             recorded    asked for                kept as records of the fork's own

Kept is every result whose LSN is lower than that of the record that began the step, and every value
and event on the stream that was recorded before it; **pinned** results stand in for what a call
came to, or would come to. The records are written anew, in the old order, in the frame of the
fork's first record: so the fork is a run like any other, with ids, idempotency keys and a stream of
its own, and needs nothing of its source, which may be purged. Events that the source keeps are not
kept by the fork.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from stepflow.errors import InvalidInputError
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from stepflow.model.run import ANY_ARGS, FN_CHILD

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from stepflow.model.records import Record
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.recorder import Copied

__all__ = ["ForkPlan", "call_of", "plan_fork"]

_KNOWN_MAX = 20
"""So many keys a refusal names."""
_AT_ONCE = 250
"""So many records, or calls, are prepared in one go."""
_BYTES_AT_ONCE = 512 * 1024


_Row = tuple[int, bool, "Record", "rec.EventReceived | None"]
"""A record of the fork: by which LSN of the source it comes, whether it ends something, the record
but for its place, and the event that it names."""
_PLACE: Final[dict[str, Any]] = {"lsn": 0, "r": "", "rs": 0, "ts": 0}
"""Of a record that is not written yet."""


class ForkPlan:
    """What a fork begins with, as the source was when the plan was made.

    Calls change when their run goes on, so they are copied at once. All else is made of records,
    which never change, by `prepare`, some at a time: there may be many thousands.
    """

    __slots__ = ("_before", "_calls", "_marks", "_records", "_rows", "_values", "nbytes")

    def __init__(self, state: RunState, calls: list[CallState], before: int) -> None:
        self._calls = calls
        self._before = before
        """Only what has a lower LSN is kept."""
        self._records = list(state.records)
        self._values = frozenset(state.values)
        self._marks = frozenset(state.marks)
        self._rows: list[_Row] = []
        self.nbytes = sum(len(c.result or b"") + len(c.error or b"") + 512 for c in calls)
        """About how many bytes the records take."""

    def prepare(self) -> Generator[None]:
        """Make the rows of the records; yields where the loop may do something else."""
        undo: dict[str, str] = {}
        others: dict[str, tuple[Record, int]] = {}
        nbytes = 0
        for place, data in enumerate(self._records, 1):
            self._read(data, undo, others)
            nbytes += len(data)
            if place % _AT_ONCE == 0 or nbytes > _BYTES_AT_ONCE:
                nbytes = 0
                yield
        for record, size in others.values():
            if record.lsn < self._before:
                self._rows.append((record.lsn, True, record, None))
                self.nbytes += size
        for place, call in enumerate(self._calls, 1 + len(self._records)):
            self._rows += _rows_of(call, undo.get(call.key, ""))
            if place % _AT_ONCE == 0:
                yield
        self._rows.sort(key=itemgetter(0, 1))

    def _read(
        self, data: bytes, undo: dict[str, str], others: dict[str, tuple[Record, int]]
    ) -> None:
        """Note what undoes which step, and the records of what is no call."""
        match decode_record(data):
            case rec.StepStarted(key=key, undo=undoes) if undoes:
                undo[key] = undoes
            case rec.ValueRecorded(key=key) as record if key in self._values:
                others[key] = record, len(data)
            case rec.Emitted(key=key) | rec.Progressed(key=key) as record if key in self._marks:
                others[key] = record, len(data)
            case rec.VersionChosen(name=name) as record:
                others[f"@version:{name}"] = record, len(data)
            case _:
                pass

    def copies(self) -> Iterator[Copied]:
        """Yield the records, prepared, with the events that they name."""
        for row in self._rows:
            yield row[2:]

    def write(self, actor: RunActor) -> None:
        """Record it all, prepared, as the history of a run that has just been started."""
        actor.sup.recorder.write_copies(actor, self.copies())


def call_of(state: RunState, step: str, what: str = "fromStep") -> CallState:
    """Return the call with this key, or the first of this name. Raises `InvalidInputError`."""
    found = state.calls.get(step)
    if found is None:
        found = next((call for call in state.calls.values() if call.name == step), None)
    if found is None:
        known = ", ".join(list(state.calls)[:_KNOWN_MAX]) or "none"
        raise InvalidInputError(f"{what}: the run has no step {step!r:.100}; it has: {known}")
    return found


def plan_fork(
    state: RunState, from_step: str, results: Mapping[str, bytes], *, other_input: bool
) -> ForkPlan:
    """Return what a fork from that step begins with. Raises `InvalidInputError`.

    A result that is pinned, or kept beside another input, is taken whatever its call is asked with.
    """
    first = call_of(state, from_step)
    pins = {call_of(state, step, "results").key: data for step, data in results.items()}
    calls: list[CallState] = []
    for call in state.calls.values():
        pinned = pins.get(call.key)
        if pinned is not None:
            calls.append(_pinned(call, pinned))
        elif call.status != "pending" and call.lsn < first.begun:
            kept = msgspec.structs.replace(call)
            if other_input and kept.args:
                kept.args = ANY_ARGS
            calls.append(kept)
    return ForkPlan(state, calls, first.begun)


def _pinned(call: CallState, result: bytes) -> CallState:
    pinned = msgspec.structs.replace(
        call,
        status="completed",
        result=result,
        error=None,
        timed_out=False,
        awaited=True,
        lsn=call.lsn or call.begun,
    )
    if pinned.args:
        pinned.args = ANY_ARGS
    return pinned


def _rows_of(call: CallState, undo: str) -> Iterator[_Row]:
    """Yield how the call began, as it did in the source, and what it came to."""
    begun = _begun(call, undo)
    if begun is not None:
        yield call.begun, False, begun, None
    ended = _ended(call)
    if ended is not None:
        yield call.lsn, True, ended, _event_of(call)


def _begun(call: CallState, undo: str) -> Record | None:
    fields: dict[str, Any] = {"key": call.key, "name": call.name, "group": call.group, **_PLACE}
    match call.kind:
        case "step":
            fields |= {
                "fn": call.fn,
                "args": call.args,
                "attempt": max(call.attempt, 1),
                "once": call.once,
                "undo": undo,
            }
            return rec.StepStarted(**fields)
        case "sleep":
            return rec.SleepStarted(**fields, due=call.due)
        case "event":
            args = ANY_ARGS if call.args == ANY_ARGS else ""
            return rec.WaitStarted(**fields, event=call.event, due=call.due, args=args)
        case "child":
            fields |= {
                "workflow": call.fn.removeprefix(f"{FN_CHILD}:"),
                "child": call.child,
                "args": call.args,
                "awaited": call.awaited,
            }
            return rec.ChildStarted(**fields)
        case "notify":
            # Begun and ended by one record.
            return None


def _ended(call: CallState) -> Record | None:
    failed = call.status == "failed"
    fields: dict[str, Any] = {"key": call.key, **_PLACE}
    came_to: dict[str, Any] = (
        {"error": Raw(call.error or b"{}")} if failed else {"result": _result(call)}
    )
    match call.kind:
        case "step":
            kind = rec.StepFailed if failed else rec.StepCompleted
            return kind(**fields, **came_to, attempt=max(call.attempt, 1))
        case "sleep":
            return rec.SleepEnded(**fields)
        case "event" if failed:
            return rec.WaitTimedOut(**fields)
        case "event":
            # With an event of its own, whose LSN is known when it is written.
            return rec.WaitResolved(**fields, payload=0)
        case "child":
            # One that is not awaited was begun and ended by one record.
            return rec.ChildEnded(**fields, **came_to) if call.awaited else None
        case "notify":
            count = int(call.result or b"0")
            return rec.NotifySent(**fields, name=call.name, args=call.args, count=count)


def _event_of(call: CallState) -> rec.EventReceived | None:
    """Return the event that the end of the call names."""
    if call.kind != "event" or call.status == "failed":
        return None
    return rec.EventReceived(**_PLACE, event=call.event, payload=_result(call), takers=1)


def _result(call: CallState) -> Raw:
    return Raw(call.result or b"null")
