"""Child runs: started by a parent's call, told of its cancel, and telling it how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from stepflow.errors import WorkflowNotFoundError
from stepflow.model import records as rec
from stepflow.runtime import messages as msg

if TYPE_CHECKING:
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.calls import ChildAsk
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["cancel_child", "cancel_children", "ended_child", "give_up_child", "start_child"]
__all__ += ["tell_parent"]

_GIVEN_UP = "the parent run no longer waits for it"


def start_child(parent: RunActor, ask: ChildAsk, call: CallState | None) -> None:
    """Start a child and record it with its parent in one frame."""
    sup = parent.sup
    if call is not None and call.status == "pending" and call.child:
        # Started before a restart: its end is told by its own actor, or was missed.
        if call.cancelled:
            # The body gave it up, and before it does so again it waits for the same child.
            _record_child(parent, ask, call.child)
        child = sup.runs.get(call.child)
        if child is None and sup.elsewhere is not None:
            sup.elsewhere.look_for(parent.id, ask.key, call.child)
        elif child is None or child.finished:
            tell_parent(sup, parent.id, ask.key, call.child)
        return
    workflow = sup.registry.get(ask.workflow)
    if workflow is None:
        message = f"Workflow {ask.workflow!r} is not registered"
        raise WorkflowNotFoundError(message)
    with sup.recorder.group():
        child_id = sup.new_run_id()
        _record_child(parent, ask, child_id)
        events = workflow.event_ids(ask.body)
        sup.start_run(
            workflow,
            ask.body,
            run_id=child_id,
            events=events,
            by=f"run:{parent.id}",
            parent=parent.id,
            parent_key=ask.key if ask.awaited else "",
        )
    if not ask.awaited and parent.session is not None:
        parent.session.gate.recorded(parent.state.calls[ask.key])


def _record_child(parent: RunActor, ask: ChildAsk, child_id: str) -> None:
    parent.sup.recorder.write(
        parent,
        rec.ChildStarted,
        key=ask.key,
        name=ask.name,
        workflow=ask.workflow,
        child=child_id,
        args=ask.args,
        solo=parent.session is not None and parent.session.gate.solo,
        awaited=ask.awaited,
        group=ask.group,
    )


def give_up_child(parent: RunActor, call: CallState) -> None:
    """The body no longer waits for the child: nobody would hear of its end, so it is cancelled."""
    with parent.sup.recorder.group():
        parent.record(rec.CallCancelled, key=call.key)
        cancel_child(parent, call)


def cancel_child(
    parent: RunActor, call: CallState, reason: str = _GIVEN_UP, *, force: bool = False
) -> None:
    """Cancel the child of the call, if it lives."""
    if not call.child:
        return
    child = parent.sup.runs.get(call.child)
    asked = msg.CancelAsked(f"run:{parent.id}", reason, force)
    if child is not None and not child.finished:
        child.tell(asked)
    elif child is None and parent.sup.elsewhere is not None:
        parent.sup.elsewhere.tell(parent.id, call.child, asked)


def cancel_children(parent: RunActor, pending: list[CallState]) -> None:
    """A cancel, or the end, of a run reaches the children that it awaits."""
    reason = "the parent run has ended" if parent.finished else "the parent run was cancelled"
    for call in pending:
        if call.kind == "child":
            cancel_child(parent, call, reason)


def tell_parent(sup: Supervisor, parent_id: str, key: str, child_id: str) -> None:
    """Tell the parent how its awaited child ended; a child that has gone was purged."""
    parent = sup.runs.get(parent_id)
    if parent is None and sup.elsewhere is None:
        return
    child = sup.runs.get(child_id)
    told = ended_child(key, child_id, child.state if child is not None else None)
    if parent is not None:
        parent.tell(told)
    elif sup.elsewhere is not None:
        sup.elsewhere.tell(child_id, parent_id, told)


def ended_child(key: str, child_id: str, state: RunState | None) -> msg.ChildFinished:
    """Return what a parent hears of a child that has ended, or that has gone."""
    if state is not None and state.result is not None:
        return msg.ChildFinished(key, child_id, Raw(state.result), rec.NOTHING)
    error = state.error if state is not None else None
    lost = b'{"type":"RunNotFoundError","message":"the child run was purged"}'
    return msg.ChildFinished(key, child_id, rec.NOTHING, Raw(error or lost))
