"""`ctx.first`: the record that ends one of several calls gives the others up, in the same turn.

So none of them can take an event, or record a result, that came later; and which one has won is
known from the records alone, whether the body was awake or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.runtime.calls import FirstWait, RunAsk, StepAsk
from stepflow.runtime.children import cancel_child

if TYPE_CHECKING:
    from stepflow.model.run import CallState
    from stepflow.runtime.actor import RunActor

__all__ = ["drop_losers"]


def drop_losers(actor: RunActor, won: CallState) -> None:
    """`won` has its result: stop what runs of the calls that were given up by that."""
    session = actor.session
    if session is not None and not session.fenced:
        ask = session.gate.started_ask(won.key)
        if isinstance(ask, RunAsk) and isinstance(ask.wait, FirstWait):
            ask.wait.decided = True
            others = [other for other in ask.wait.asks if other is not ask]
            session.gate.drop(others)
            for other in others:
                if isinstance(other, StepAsk):
                    actor.sup.steps.cancel(session, other)
    for call in actor.state.losers(won):
        if call.kind == "event":
            actor.sup.waiters.unwait(call.event, actor.id)
        elif call.kind == "child":
            cancel_child(actor, call)
