"""`ctx.restart`: a run ends its history and goes on with a fresh one, under the same id.

One record does it, and is whole in itself; what came before it is forgotten in memory at once and
on disk with the next snapshots. So a run that goes on for ever costs what one round of it costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from stepflow.model import records as rec
from stepflow.runtime.children import cancel_child
from stepflow.runtime.ending import end_cancelled

if TYPE_CHECKING:
    from stepflow.runtime import messages as msg
    from stepflow.runtime.actor import RunActor

__all__ = ["restart_asked"]


def restart_asked(actor: RunActor, message: msg.RestartAsked) -> None:
    """Record the restart; what the body had under way is given up, and it begins anew."""
    session, state, sup = message.session, actor.state, actor.sup
    start = state.started
    if session is not actor.session or session.fenced or state.finished or start is None:
        return
    if state.cancelling:
        # There is nothing to go on with: to restart is to have cleaned up.
        end_cancelled(actor)
        return
    pending = state.pending_calls()
    if actor.feed is not None:
        actor.feed.begins_anew()
    session.fence()
    with sup.recorder.group():
        actor.record(
            rec.RunRestarted,
            crit=True,
            input=Raw(message.body),
            restarts=state.restarts + 1,
            started=Raw(state.start_data),
            events=message.events,
            kept=state.kept_events(),
            deadline=state.deadline_ms,
            released=state.released_lsn,
            acts=state.carried_acts(),
        )
        for call in pending:
            if call.kind == "event":
                sup.waiters.unwait(call.event, actor.id)
            elif call.kind == "child":
                cancel_child(actor, call, "the parent run has begun anew")
    sup.waiters.undeclare(start.events, actor.id)
    sup.waiters.declare(message.events, actor.id)
    sup.replay(actor)
