"""A run that failed or was cancelled goes on from where it failed, under its own id.

What the retry takes back is decided in retrying.py and stands in its record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.model import records as rec
from stepflow.runtime.retrying import taken_back

if TYPE_CHECKING:
    from stepflow.runtime import messages as msg
    from stepflow.runtime.actor import RunActor

__all__ = ["retry_asked"]


def retry_asked(actor: RunActor, message: msg.RetryAsked) -> None:
    """Record the retry and let the body go on."""
    state = actor.state
    if state.status not in {"failed", "cancelled"}:
        return
    back = taken_back(state)
    nbytes = state.nbytes
    actor.act(
        rec.RunRetried,
        crit=True,
        by=message.by,
        reason=message.reason,
        again=back.again,
        forget=back.forget,
        held=actor.sup.admission.limits(state.workflow),
    )
    actor.sup.run_revived(actor, nbytes)
    actor.activate()
