"""What others see of a run: the JSON of http-api.md, and the events of its stream. PURE.

`run_view` gives `GET /runs/{runId}`. `event_of` tells a record as its event, at most one a record,
whose id is the record's number in the run: the same bytes live and from history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from stepflow.clock import rfc3339
from stepflow.model import records as rec
from stepflow.model.codec import public_error
from stepflow.model.run import FN_CHILD, CallState, RunState, RunStatus, StepStatus, call_name
from stepflow.model.shown import Shown
from stepflow.model.system import WorkflowPace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.model.records import Record

__all__ = [
    "EventName",
    "Lineage",
    "QueueView",
    "RunCounts",
    "RunEvent",
    "RunPage",
    "RunView",
    "RunViewState",
    "StepView",
    "WorkflowView",
    "event_of",
    "run_view",
    "sse_frame",
]

EventName = Literal["status", "step", "complete", "error", "emit", "progress", "resync", "expired"]

RunViewState = Literal[
    "queued",
    "active",
    "sleeping",
    "waiting",
    "retrying",
    "paused",
    "parked",
    "quarantined",
    "missing-workflow",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
]


class StepView(Shown, rename="camel", kw_only=True, omit_defaults=True):
    """One entry of a run's `steps`; without a `result` while it has none."""

    name: str
    status: StepStatus
    key: str
    kind: str
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    started_at: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET
    due_at: str | UnsetType = UNSET
    event_id: str | UnsetType = UNSET
    child_run_id: str | UnsetType = UNSET
    cancelled: bool | UnsetType = UNSET


class ParentView(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Whose child a run is; `key` is that of the call that awaits it."""

    run_id: str
    key: str | UnsetType = UNSET


class ChildView(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A child of a run: who it is and which call made it; `awaited` is false where it runs free."""

    run_id: str
    workflow_id: str
    key: str
    awaited: bool = True


class QueueView(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Where a pending run stands: it begins as the `position`-th of those that want the same."""

    position: int
    ahead: int
    limit: str
    key: Raw | UnsetType = UNSET
    free_at: str | UnsetType = UNSET
    """When a rate limit lets the next one begin."""
    held_by: tuple[str, ...] | UnsetType = UNSET
    """The first few runs that have what it waits for."""


class Lineage(msgspec.Struct, rename="camel", kw_only=True):
    """Where a fork came from."""

    run_id: str
    from_step: str
    reason: str | UnsetType = UNSET


class RunView(Shown, rename="camel", kw_only=True, weakref=True):
    """A run, as `GET /runs/{runId}` gives it; list rows have no `steps`."""

    id: str
    workflow_id: str
    status: RunStatus
    input: Raw
    steps: list[StepView] | UnsetType = UNSET
    created_at: str
    updated_at: str
    state: RunViewState | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    parent_run_id: str | UnsetType = UNSET
    lineage: Lineage | UnsetType = UNSET
    parent: ParentView | UnsetType = UNSET
    children: list[ChildView] | UnsetType = UNSET
    due_at: str | UnsetType = UNSET
    """When the delay of a pending run is over."""
    queue: QueueView | UnsetType = UNSET
    deadline_at: str | UnsetType = UNSET
    """When its timeout is over."""
    schedule_id: str | UnsetType = UNSET
    scheduled_at: str | UnsetType = UNSET
    restarts: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class RunCounts(msgspec.Struct, kw_only=True, frozen=True):
    """How many runs have each status."""

    pending: int
    running: int
    completed: int
    failed: int
    cancelled: int


class RunPage(Shown, rename="camel", kw_only=True):
    """One page of `GET /runs`, newest first."""

    runs: list[RunView]
    next_cursor: str | None
    stream_cursor: str
    counts: RunCounts | UnsetType = UNSET
    """Of all runs, or of the workflow that was asked for, whatever status was. Absent where a tag
    or a time was asked for: nobody counts those."""


class WorkflowView(Shown, rename="camel", kw_only=True):
    """What `GET /workflows` says of one workflow. Schemas are JSON Schema 2020-12 objects."""

    id: str
    description: str | None
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    events: tuple[str, ...] = ()
    schedule: str | None = None
    pace: WorkflowPace | UnsetType = UNSET
    """How fast its runs come and go: where one workflow is asked for."""


class RunEvent(msgspec.Struct, frozen=True):
    """One event of a run's stream. `id` is 0 for events that are not journaled."""

    id: int
    event: EventName
    data: bytes
    """JSON."""
    lsn: int = 0

    def json(self) -> Any:
        """Return the decoded data."""
        return msgspec.json.decode(self.data)


def sse_frame(event: RunEvent) -> bytes:
    """Return the event as server-sent event bytes: JSON has no line break, so one data line."""
    if event.id:
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.event.encode(), event.data)
    return b"event: %b\ndata: %b\n\n" % (event.event.encode(), event.data)


def _step_view(call: CallState) -> StepView:
    view = StepView(name=call.name, status=call.status, key=call.key, kind=call.kind)
    if call.started_ms:
        view.started_at = rfc3339(call.started_ms)
    if call.kind == "step":
        view.attempts = max(call.attempt, 1)
    if call.event:
        view.event_id = call.event
    if call.child:
        view.child_run_id = call.child
    if call.cancelled:
        view.cancelled = True
    if call.status == "pending":
        if call.due:
            view.due_at = rfc3339(call.due)
        return view
    view.completed_at = rfc3339(call.ended_ms)
    if call.status == "completed":
        view.result = Raw(call.result or b"null")
    else:
        view.error = Raw(call_error(call))
    return view


def _child_view(call: CallState) -> ChildView:
    workflow = call.fn.removeprefix(f"{FN_CHILD}:")
    return ChildView(run_id=call.child, workflow_id=workflow, key=call.key, awaited=call.awaited)


def call_error(call: CallState) -> bytes:
    """Return the public error object of a failed call."""
    if call.timed_out:
        return _timed_out(call.name)
    return public_error(call.error or b"{}")


def run_view(  # noqa: C901  one member after the other
    state: RunState, live_state: RunViewState | None = None, *, steps: bool = True, reason: str = ""
) -> RunView:
    """Return the run as the API shows it. `live_state` is what only the supervisor knows."""
    start = state.started
    view = RunView(
        id=state.id,
        workflow_id=state.workflow,
        status=state.status,
        input=Raw(state.input),
        created_at=rfc3339(state.created_ms),
        updated_at=rfc3339(state.updated_ms),
        state=live_state or derived_state(state),
    )
    if steps:
        view.steps = [_step_view(call) for call in state.calls.values()]
        if children := [_child_view(c) for c in state.calls.values() if c.child]:
            view.children = children
    if start is not None and start.tags:
        view.tags = start.tags
    if start is not None and start.parent:
        view.parent_run_id = start.parent
        view.parent = ParentView(run_id=start.parent, key=start.parent_key or UNSET)
    if start is not None and start.lineage:
        view.lineage = msgspec.json.decode(start.lineage, type=Lineage)
    if state.deadline_ms or state.due or (start is not None and start.schedule):
        _add_times(view, state)
    if state.restarts:
        view.restarts = state.restarts
    if state.result is not None:
        view.result = Raw(state.result)
    if state.error is not None:
        view.error = Raw(public_error(state.error))
    if reason:
        view.reason = reason
    return view


def _add_times(view: RunView, state: RunState) -> None:
    """Say when the run was scheduled, when its delay is over and when its time is."""
    start = state.started
    if start is not None and start.schedule:
        view.schedule_id = start.schedule
        view.scheduled_at = rfc3339(start.scheduled)
    if state.due:
        view.due_at = rfc3339(state.due)
    if state.deadline_ms:
        view.deadline_at = rfc3339(state.deadline_ms)


def derived_state(state: RunState) -> RunViewState:
    """Return the finer state that the records alone give."""
    if state.paused:
        return "paused"
    if state.status != "running":
        return "queued" if state.status == "pending" else state.status
    if state.cancelling:
        return "cancelling"
    pending = state.pending_calls()
    if not pending or any(not call.waits for call in pending):
        return "active"
    kinds = {call.kind for call in pending}
    if kinds & {"event", "child"}:
        return "waiting"
    return "retrying" if "step" in kinds else "sleeping"


_encode = msgspec.json.Encoder().encode


def _timed_out(name: str) -> bytes:
    message = f"wait {name!r}: the event did not arrive in time"
    return _encode({"type": "EventTimeoutError", "message": message, "step": name})


def _public(error: Raw) -> Raw:
    return Raw(public_error(bytes(error)))


def event_of(record: Record, payloads: Mapping[int, bytes]) -> RunEvent | None:
    """Return the one event that the record makes on its run's stream, or `None`.

    It depends on nothing but the record and, for a wait, the payload it names: so any part of a
    history can be told without what came before.
    """
    told = _tell(record, payloads)
    if told is None:
        return None
    name, data = told
    return RunEvent(record.rs, name, _encode(data), record.lsn)


def passing_emit(name: str, data: bytes, step: str = "", attempt: int = 0) -> RunEvent:
    """Return the event of an emit that is not durable: it has no id and stands in no history."""
    told: dict[str, Any] = {"name": name, "data": Raw(data)}
    if step:
        told |= {"step": step, "attempt": attempt}
    return RunEvent(0, "emit", _encode(told))


def _tell(  # noqa: PLR0911, C901, PLR0912  a table
    record: Record, payloads: Mapping[int, bytes]
) -> tuple[EventName, Any] | None:
    match record:
        case rec.RunStarted():
            return "status", {"status": "pending" if record.due or record.held else "running"}
        case rec.RunReleased():
            return "status", {"status": "running"}
        case rec.RunPaused():
            return "status", {"status": _unbegun(pending=record.pending), "state": "paused"}
        case rec.RunResumed():
            return "status", {"status": _unbegun(pending=record.pending)}
        case rec.RunRetried():
            return "status", {"status": _unbegun(pending=record.held), "retry": True}
        case rec.RunRestarted():
            return "status", {"status": "running", "restarts": record.restarts}
        case rec.CancelRequested():
            return "status", {"status": "running", "state": "cancelling"}
        case rec.StepStarted():
            return _began(record, "step", attempt=record.attempt)
        case rec.SleepStarted():
            return _began(record, "sleep", dueAt=rfc3339(record.due))
        case rec.WaitStarted():
            return _began(record, "event", eventId=record.event)
        case rec.ChildStarted():
            return _began(record, "child", childRunId=record.child)
        case rec.NotifySent():
            return _ended(record.key, "notify", Raw(b"%d" % record.count))
        case rec.StepCompleted():
            return _ended(record.key, "step", record.result)
        case rec.StepFailed():
            return _failed(record.key, "step", _public(record.error))
        case rec.SleepEnded():
            return _ended(record.key, "sleep", Raw(b"null"))
        case rec.WaitResolved():
            return _ended(record.key, "event", Raw(payloads.get(record.payload, b"null")))
        case rec.WaitTimedOut():
            return _failed(record.key, "event", Raw(_timed_out(call_name(record.key))))
        case rec.ChildEnded():
            if record.error:
                return _failed(record.key, "child", _public(record.error))
            return _ended(record.key, "child", record.result)
        case rec.Emitted():
            return "emit", {"name": record.name, "data": record.data, **_emitter(record.key)}
        case rec.Progressed():
            data = {"done": record.done, "total": record.total, "message": record.message}
            return "progress", data
        case rec.RunCompleted():
            return "complete", {"status": "completed", "result": record.result}
        case rec.RunFailed():
            return "error", {"status": "failed", "error": _public(record.error)}
        case rec.RunCancelled():
            return "error", {"status": "cancelled", "error": _public(record.error)}
        case _:
            return None


def _emitter(key: str) -> dict[str, Any]:
    """Return the step and the attempt of an event that a step has emitted; the run's has none.

    Its key is the step's, `@`, the attempt, a point and how many the attempt had emitted by then.
    """
    step, _, place = key.rpartition("@")
    attempt, point, _ = place.partition(".")
    return {"step": step, "attempt": int(attempt)} if point and attempt.isdecimal() else {}


def _unbegun(*, pending: bool) -> RunStatus:
    return "pending" if pending else "running"


def _began(
    record: rec.StepStarted | rec.SleepStarted | rec.WaitStarted | rec.ChildStarted,
    kind: str,
    **more: Any,
) -> tuple[EventName, Any]:
    return "status", {
        "status": "running",
        "stepName": record.name,
        "key": record.key,
        "kind": kind,
        **more,
    }


def _ended(key: str, kind: str, result: Raw) -> tuple[EventName, Any]:
    return "step", {
        "name": call_name(key),
        "status": "completed",
        "result": result,
        "key": key,
        "kind": kind,
    }


def _failed(key: str, kind: str, error: Raw) -> tuple[EventName, Any]:
    return "step", {
        "name": call_name(key),
        "status": "failed",
        "error": error,
        "key": key,
        "kind": kind,
    }
