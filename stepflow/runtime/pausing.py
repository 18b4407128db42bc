"""A run is held before its next effect, and let go on.

A paused run keeps its timers, its waits and the steps that run already: what comes of them is
recorded, and the body hears of it when the run is resumed. Nothing new begins: no step, no attempt,
no sleep, no child, no event, and not the run's end. Its task is given up when no step of it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.model import records as rec
from stepflow.runtime import messages as msg
from stepflow.runtime.calls import HeldWait
from stepflow.runtime.ending import RELEASE_TIMER

if TYPE_CHECKING:
    from stepflow.runtime.actor import RunActor

__all__ = ["let_go_on", "pause_asked", "resume_asked"]


def pause_asked(actor: RunActor, message: msg.PauseAsked) -> None:
    """Record the pause and hold the body."""
    state = actor.state
    if state.finished or state.cancelling or state.paused:
        return
    pending = state.status == "pending"
    actor.act(rec.RunPaused, crit=True, by=message.by, reason=message.reason, pending=pending)
    if pending:
        # Resumed, it has its old place again.
        actor.sup.admission.leave(actor.id)
    session = actor.session
    if session is not None and not session.fenced:
        session.hold()
    elif session is None:
        actor.pack()


def resume_asked(actor: RunActor, message: msg.ResumeAsked) -> None:
    """Record that the run goes on, and let it."""
    state = actor.state
    if not state.paused:
        return
    pending = state.status == "pending"
    actor.act(rec.RunResumed, crit=True, by=message.by, reason=message.reason, pending=pending)
    if pending:
        # Its delay may be over by now.
        actor.sup.timers.add(state.due, actor.id, RELEASE_TIMER)
    elif actor.session is None:
        actor.activate()
    else:
        let_go_on(actor)


def let_go_on(actor: RunActor) -> None:
    """Let the body of an active run hear and do what was held back."""
    session = actor.session
    if session is None or session.held is None:
        return
    if session.fenced:
        session.missed = True
        return
    asked, session.held = session.held, None
    for asks in asked:
        actor.tell(msg.CallsAsked(session, asks))
    for call in actor.state.pending_calls():
        if call.due:
            # What was due meanwhile has begun nothing.
            actor.sup.timers.add(call.due, actor.id, call.key)
    for wait in list(session.waits):
        if isinstance(wait, HeldWait):
            wait.let_go_on()
    session.gate.release()
