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

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Raw

from stepflow.errors import InvalidInputError
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from stepflow.model.run import ANY_ARGS, FN_CHILD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.model.records import Record
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.actor import RunActor

__all__ = ["ForkPlan", "call_of", "plan_fork"]

_KNOWN_MAX = 20
"""So many keys a refusal names."""


class ForkPlan(NamedTuple):
    """What a fork begins with: calls with their results, and values, by the LSN of their record."""

    calls: list[CallState]
    others: list[Record]
    undo: Mapping[str, str]
    """By key: the function that undoes the step."""

    @property
    def nbytes(self) -> int:
        """About how many bytes the records take."""
        held = sum(len(c.result or b"") + len(c.error or b"") + 512 for c in self.calls)
        return held + sum(len(msgspec.json.encode(record)) for record in self.others)

    def write(self, actor: RunActor) -> None:
        """Record it all as the history of a run that has just been started."""
        rows: list[tuple[int, CallState | Record, bool]] = [(r.lsn, r, True) for r in self.others]
        for call in self.calls:
            rows.append((call.begun, call, False))
            rows.append((call.lsn, call, True))
        for _, what, ends in sorted(rows, key=lambda row: (row[0], row[2])):
            if isinstance(what, rec.Record):
                fields = {k: getattr(what, k) for k in what.__struct_fields__ if k not in _OWN}
                actor.record(type(what), lazy=False, **fields)
            elif ends:
                _end(actor, what)
            else:
                _begin(actor, what, self.undo.get(what.key, ""))


_OWN = frozenset({"lsn", "r", "rs", "ts", "v"})


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
    undo, others = _others(state)
    return ForkPlan(calls, [record for record in others if record.lsn < first.begun], undo)


def _others(state: RunState) -> tuple[dict[str, str], list[Record]]:
    """Return what undoes which step, and the records of what is no call."""
    undo: dict[str, str] = {}
    others: dict[str, Record] = {}
    for data in state.records:
        match decode_record(data):
            case rec.StepStarted(key=key, undo=undoes) if undoes:
                undo[key] = undoes
            case rec.ValueRecorded(key=key) as record if key in state.values:
                others[key] = record
            case rec.Emitted(key=key) | rec.Progressed(key=key) as record if key in state.marks:
                others[key] = record
            case rec.VersionChosen(name=name) as record:
                others[f"@version:{name}"] = record
            case _:
                pass
    return undo, list(others.values())


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


def _begin(actor: RunActor, call: CallState, undo: str) -> None:
    """Record that the call began, as it did in the source."""
    common: dict[str, Any] = {"key": call.key, "name": call.name, "group": call.group}
    match call.kind:
        case "step":
            actor.record(
                rec.StepStarted,
                lazy=False,
                fn=call.fn,
                args=call.args,
                attempt=max(call.attempt, 1),
                once=call.once,
                undo=undo,
                **common,
            )
        case "sleep":
            actor.record(rec.SleepStarted, due=call.due, **common)
        case "event":
            args = ANY_ARGS if call.args == ANY_ARGS else ""
            actor.record(rec.WaitStarted, event=call.event, due=call.due, args=args, **common)
        case "child":
            actor.record(
                rec.ChildStarted,
                workflow=call.fn.removeprefix(f"{FN_CHILD}:"),
                child=call.child,
                args=call.args,
                awaited=call.awaited,
                **common,
            )
        case "notify":
            # Begun and ended by one record.
            pass


def _end(actor: RunActor, call: CallState) -> None:
    """Record what the call came to."""
    key, failed = call.key, call.status == "failed"
    result, error = Raw(call.result or b"null"), Raw(call.error or b"{}")
    match call.kind:
        case "step" if failed:
            actor.record(rec.StepFailed, key=key, error=error, attempt=max(call.attempt, 1))
        case "step":
            actor.record(rec.StepCompleted, key=key, result=result, attempt=max(call.attempt, 1))
        case "sleep":
            actor.record(rec.SleepEnded, key=key)
        case "event" if failed:
            actor.record(rec.WaitTimedOut, key=key)
        case "event":
            payload = bytes(result)
            lsn = actor.sup.recorder.write_event(call.event, payload, 1, f"run:{actor.id}")
            actor.record(rec.WaitResolved, key=key, payload=lsn, body=payload)
        case "child" if not call.awaited:
            # Begun and ended by one record, too.
            pass
        case "child" if failed:
            actor.record(rec.ChildEnded, key=key, error=error)
        case "child":
            actor.record(rec.ChildEnded, key=key, result=result)
        case "notify":
            count = int(call.result or b"0")
            actor.record(rec.NotifySent, key=key, name=call.name, args=call.args, count=count)
