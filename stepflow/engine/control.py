"""What operators do to runs: cancel, pause, resume, retry, forget.

Each is decided in one turn against the run as it is then, and answered when what was recorded, or
what it is refused for, is durable. Who did it, when and why stands in the run's own records.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from stepflow.engine.part import RECORD_BYTES, EnginePart, check_reason
from stepflow.errors import ConflictError, RunNotFoundError, UnavailableError
from stepflow.model import records as rec
from stepflow.runtime import messages as msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.journal.suspects import Suspects
    from stepflow.model.views import RunView
    from stepflow.runtime.actor import RunActor

__all__ = ["Control"]

_log = logging.getLogger("stepflow.engine")


class Control(EnginePart):
    """What `POST /runs/{runId}/…` and `DELETE` ask for."""

    async def cancel(
        self, run_id: str, *, by: str = "", reason: str = "", force: bool = False
    ) -> RunView:
        act = partial(self._cancel, by=by, reason=reason, force=force)
        return await self._view(await self._act(run_id, reason, act))

    async def pause(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        act = partial(self._pause, by=by, reason=reason)
        return await self._view(await self._act(run_id, reason, act))

    async def resume(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        actor = await self._durable_run(run_id)
        if self._writable().aside.get(run_id):
            check_reason(reason)
            await self._release(actor, by, reason)
        else:
            await self._act(run_id, reason, partial(self._resume, by=by, reason=reason))
        return await self._view(actor)

    async def retry(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        actor = await self._durable_run(run_id)
        # Those who wait for its end hear of that first.
        await self.sup.journal.durable(actor.lsn)
        await self._act(run_id, reason, partial(self._retry, by=by, reason=reason))
        return await self._view(actor)

    async def purge(self, run_id: str, *, by: str = "", reason: str = "") -> None:
        await self._act(run_id, reason, partial(self._purge, by=by, reason=reason))
        await self.sup.journal.durable(self.sup.journal.last_lsn)

    async def _act(self, run_id: str, reason: str, act: Callable[[RunActor], object]) -> RunActor:
        """Do it to the run; what it is refused for is durable when that is raised."""
        actor = await self._durable_run(run_id)
        check_reason(reason)
        try:
            act(actor)
        except (ConflictError, RunNotFoundError):
            # The run's last record, or that it was purged.
            lsn = self.sup.journal.last_lsn if actor.purged else actor.lsn
            await self.sup.journal.durable(lsn)
            raise
        return actor

    # ------------------------------------------------------------ decided in one turn

    def _cancel(self, actor: RunActor, *, by: str, reason: str, force: bool) -> None:
        if actor.finished:
            raise _ended(actor)
        sup = self.sup
        if sup.stopping:
            # The journal may be closed before the body has heard of it.
            message = "Stepflow is stopping"
            raise UnavailableError(message, retry_after_s=1)
        if not sup.journal.has_room(RECORD_BYTES + len(reason), reserve=True):
            message = f"{sup.journal.why_no_room}; not even a cancel can be recorded"
            raise UnavailableError(message, retry_after_s=5)
        actor.tell(msg.CancelAsked(by, reason, force))

    def _pause(self, actor: RunActor, *, by: str, reason: str) -> None:
        sup = self._writable()
        if actor.finished:
            raise _ended(actor)
        state = actor.peek()
        if state.cancelling:
            message = f"Run {actor.id} is being cancelled: it cannot be paused any more"
            raise ConflictError(message)
        if state.paused:
            message = f"Run {actor.id} is paused already"
            raise ConflictError(message)
        sup.check_room(RECORD_BYTES + len(reason))
        _tell(actor, msg.PauseAsked(by, reason))

    def _resume(self, actor: RunActor, *, by: str, reason: str) -> None:
        sup = self._writable()
        if sup.aside.get(actor.id) is False:
            message = f"The records of run {actor.id} cannot be applied: it can only be cancelled"
            raise ConflictError(message)
        if not actor.peek().paused:
            message = f"Run {actor.id} was not set aside, nor is it paused: it is {actor.status}"
            raise ConflictError(message)
        sup.check_room(RECORD_BYTES + len(reason))
        _tell(actor, msg.ResumeAsked(by, reason))

    async def _release(self, actor: RunActor, by: str, reason: str) -> None:
        """Let a run that was set aside go on; what was counted against it is forgotten first."""
        sup = self._writable()
        sup.check_room(RECORD_BYTES + len(reason))
        if self._suspects is not None:
            await sup.journal.run_blocking(partial(_forget, self._suspects, actor.id))
        if not sup.aside.get(actor.id):
            # Cancelled, or released by another call, meanwhile.
            return
        _log.warning("run %s was released%s", actor.id, f" by {by}" if by else "")
        actor.act(
            rec.RunResumed,
            crit=True,
            by=by,
            reason=reason,
            pending=actor.status == "pending",
            aside=True,
        )
        sup.release(actor)

    def _retry(self, actor: RunActor, *, by: str, reason: str) -> None:
        sup = self._writable()
        if actor.purged:
            raise RunNotFoundError
        status = actor.status
        if status not in {"failed", "cancelled"}:
            hint = "; fork it to run it again" if status == "completed" else ""
            message = f"Run {actor.id} is {status}: only a failed or cancelled run is retried{hint}"
            raise ConflictError(message)
        if actor.peek().failure:
            message = f"The records of run {actor.id} cannot be applied: it cannot be retried"
            raise ConflictError(message)
        sup.check_capacity(1, actor.peek().nbytes)
        sup.check_room(RECORD_BYTES + len(reason))
        _tell(actor, msg.RetryAsked(by, reason))

    def _purge(self, actor: RunActor, *, by: str, reason: str) -> int:
        sup = self._writable()
        if not actor.finished:
            message = f"Run {actor.id} is live; cancel it first"
            raise ConflictError(message)
        sup.check_room(RECORD_BYTES)
        if actor.purged:
            # Another purge was faster.
            raise RunNotFoundError
        return sup.retention.purge(actor, by, reason)


def _ended(actor: RunActor) -> ConflictError:
    return ConflictError(f"Run {actor.id} has ended: it is {actor.status}")


def _tell(actor: RunActor, message: msg.Message) -> None:
    """Have the actor decide now. One that starts anew after a failure of its own would not."""
    before = actor.lsn
    actor.tell(message)
    if actor.lsn == before:
        text = f"Run {actor.id} is being restarted; try again"
        raise UnavailableError(text, retry_after_s=1)


def _forget(suspects: Suspects, run_id: str) -> None:
    """Forget what was counted of the run before its code gets a turn: it may die at once."""
    try:
        suspects.release(run_id)
    except OSError as error:
        message = f"The disk does not let the run be released: {error.strerror}"
        raise UnavailableError(message, retry_after_s=5) from error
