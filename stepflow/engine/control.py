"""What operators do to runs: cancel, let go on, forget."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from stepflow.engine.part import RECORD_BYTES, EnginePart
from stepflow.errors import ConflictError, RunNotFoundError, UnavailableError
from stepflow.runtime import messages as msg

if TYPE_CHECKING:
    from stepflow.journal.suspects import Suspects
    from stepflow.model.views import RunView

__all__ = ["Control"]

_log = logging.getLogger("stepflow.engine")


class Control(EnginePart):
    """Each answers when what it did, or what it refuses for, is durable."""

    async def cancel(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        actor = await self._durable_run(run_id)
        if actor.finished:
            await self.sup.journal.durable(actor.lsn)
            message = f"Run {run_id} has ended: it is {actor.summary().status}"
            raise ConflictError(message)
        if self.sup.stopping:
            # The journal may be closed before the body has heard of it.
            message = "Stepflow is stopping"
            raise UnavailableError(message, retry_after_s=1)
        if not self.sup.journal.has_room(RECORD_BYTES + len(reason), reserve=True):
            message = f"{self.sup.journal.why_no_room}; not even a cancel can be recorded"
            raise UnavailableError(message, retry_after_s=5)
        actor.tell(msg.CancelAsked(by, reason))
        return await self._view(actor)

    async def resume(self, run_id: str, *, by: str = "") -> RunView:
        actor = await self._durable_run(run_id)
        sup = self._writable()
        releasable = sup.aside.get(run_id)
        if not releasable:
            await sup.journal.durable(actor.lsn)
            message = f"Run {run_id} was not set aside"
            if releasable is False:
                message = f"The records of run {run_id} cannot be applied: it can only be cancelled"
            raise ConflictError(message)
        if self._suspects is not None:
            await sup.journal.run_blocking(partial(self._forget, self._suspects, run_id))
        if run_id in sup.aside:
            # Not cancelled, nor released by another call, meanwhile.
            _log.warning("run %s was released%s", run_id, f" by {by}" if by else "")
            sup.release(actor)
        return await self._view(actor)

    @staticmethod
    def _forget(suspects: Suspects, run_id: str) -> None:
        """Forget what was counted of the run before its code gets a turn: it may die at once."""
        try:
            suspects.release(run_id)
        except OSError as error:
            message = f"The disk does not let the run be released: {error.strerror}"
            raise UnavailableError(message, retry_after_s=5) from error

    async def purge(self, run_id: str, *, by: str = "") -> None:
        actor = await self._durable_run(run_id)
        sup = self._writable()
        if not actor.finished:
            await sup.journal.durable(actor.lsn)
            message = f"Run {run_id} is live; cancel it first"
            raise ConflictError(message)
        sup.check_room(RECORD_BYTES)
        if sup.runs.get(run_id) is not actor:
            # Another purge was faster.
            await sup.journal.durable(sup.journal.last_lsn)
            raise RunNotFoundError
        await sup.journal.durable(sup.retention.purge(actor, by))
