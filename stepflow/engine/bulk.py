"""`POST /runs/bulk`: one act on all runs that a filter takes, so many a call.

A call walks the runs from its cursor on, newest first, in slices. Each run is decided on by itself,
as for the act alone, and bears its own record of who did it; one more record says what was asked
for, and one wait makes all of it durable. Whoever was cut off goes on with the cursor, or begins
anew: what is done already is in another state and is left out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Raw

from stepflow.clock import next_pass, rfc3339
from stepflow.engine.control import Control
from stepflow.engine.listing import decode_cursor, encode_cursor, matches
from stepflow.engine.part import check_reason
from stepflow.engine.protocol import BulkReport, BulkSkipped
from stepflow.errors import ApiError, ConflictError, InvalidInputError, UnavailableError
from stepflow.model.codec import encode
from stepflow.model.run import FINISHED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepflow.engine.protocol import BulkAction, RunFilter
    from stepflow.model.run import RunStatus
    from stepflow.runtime.actor import RunActor

__all__ = ["ACTS_ON", "Bulk", "told_of"]

_SLICE: Final = 50
_WALK_SLICE: Final = 2000
_LIVE: Final[frozenset[RunStatus]] = frozenset({"pending", "running"})
ACTS_ON: Final[dict[BulkAction, frozenset[str]]] = {
    "cancel": frozenset(_LIVE),
    "pause": frozenset(_LIVE),
    "resume": frozenset(_LIVE),
    "retry": frozenset({"failed", "cancelled"}),
    "purge": frozenset(FINISHED),
}
"""In which status an action may do something."""


class Bulk(Control):
    """Bulk actions over `Control`'s own."""

    async def bulk(
        self,
        action: BulkAction,
        where: RunFilter,
        *,
        dry_run: bool = False,
        force: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        by: str = "",
        reason: str = "",
    ) -> BulkReport:
        sup = self.sup if dry_run else self._writable()
        check_reason(reason)
        if where.takes_all:
            message = "A bulk action needs a filter: a status, a workflow, a tag, a time or ids"
            raise InvalidInputError(message)
        most = min(limit or self.settings.bulk_max, self.settings.bulk_max)
        before = decode_cursor(cursor) if cursor else sup.journal.next_lsn
        act = partial(self._do, action, force=force, by=by, reason=reason, dry=dry_run)
        done: list[str] = []
        skipped: list[BulkSkipped] = []
        last, more = before, False
        async for lsn, run_id in self._walk(before, action, where):
            if len(done) + len(skipped) == most:
                more = True
                break
            try:
                act(sup.runs[run_id])
                done.append(run_id)
            except UnavailableError:
                if not done:
                    raise
                # It stops, or its disk is full: what is done is done, the cursor goes on.
                more = True
                break
            except ApiError as error:
                skipped.append(BulkSkipped(run_id, error.message, error.code))
            last = lsn
            if (len(done) + len(skipped)) % _SLICE == 0:
                await next_pass()
        if done and not dry_run:
            told = Raw(encode(told_of(where)))
            count = len(done)
            sup.recorder.write_bulk(
                action=action, filter=told, done=count, skipped=len(skipped), by=by, reason=reason
            )
        await sup.journal.durable(sup.journal.last_lsn)
        return BulkReport(
            action=action,
            dry_run=dry_run,
            matched=len(done) + len(skipped),
            run_ids=done,
            skipped=skipped,
            next_cursor=encode_cursor(last) if more else None,
        )

    async def _walk(
        self, before: int, action: BulkAction, where: RunFilter
    ) -> AsyncIterator[tuple[int, str]]:
        """Yield the runs that the action is for, newest first, with the LSN of their start."""
        order = self.sup.runs.order
        for seen, index in enumerate(range(order.before(before) - 1, -1, -1), 1):
            if seen % _WALK_SLICE == 0:
                await next_pass()
            lsn, run_id = order.at(index)
            if self._is_for(action, run_id, where) and self.sup.runs.stands_at(run_id, lsn):
                yield lsn, run_id

    def _is_for(self, action: BulkAction, run_id: str, where: RunFilter) -> bool:
        """Whether the filter takes the run, and the action may do something to it."""
        sup = self.sup
        status = sup.runs.status(run_id)
        if status not in ACTS_ON[action] or (where.status and status not in where.status):
            return False
        summary = sup.runs.summary(run_id)
        if summary is None or not matches(run_id, summary, where):
            return False
        if action not in {"pause", "resume"}:
            return True
        # Those that are so already are left out: a call that is made again goes on.
        actor = sup.runs[run_id]
        paused = actor.peek().paused or bool(sup.aside.get(run_id))
        return paused == (action == "resume")

    def _do(
        self, action: BulkAction, actor: RunActor, *, force: bool, by: str, reason: str, dry: bool
    ) -> None:
        """Act on the run, or look whether that could be done. Raises what it is refused with."""
        match action:
            case "resume" if self.sup.aside.get(actor.id):
                message = f"Run {actor.id} was set aside: let it go on by itself"
                raise ConflictError(message)
            case _ if dry:
                self._would(action, actor)
            case "cancel":
                self._cancel(actor, by=by, reason=reason, force=force)
            case "pause":
                self._pause(actor, by=by, reason=reason)
            case "resume":
                self._resume(actor, by=by, reason=reason)
            case "retry":
                self._retry(actor, by=by, reason=reason)
            case "purge":
                self._purge(actor, by=by, reason=reason)

    def _would(self, action: BulkAction, actor: RunActor) -> None:
        """Raise what the action would be refused with, as far as the run itself is the reason."""
        state = actor.peek()
        if action == "pause" and state.cancelling:
            message = f"Run {actor.id} is being cancelled: it cannot be paused any more"
            raise ConflictError(message)
        if action == "retry" and state.failure:
            message = f"The records of run {actor.id} cannot be applied: it cannot be retried"
            raise ConflictError(message)


def told_of(where: RunFilter) -> dict[str, object]:
    """Return the filter as the audit keeps it: ids are counted, not listed."""
    told: dict[str, object] = {}
    if where.status:
        told["status"] = sorted(where.status)
    if where.workflow_id:
        told["workflowId"] = where.workflow_id
    if where.tag:
        told["tag"] = where.tag
    if where.created_after_ms:
        told["createdAfter"] = rfc3339(where.created_after_ms)
    if where.created_before_ms:
        told["createdBefore"] = rfc3339(where.created_before_ms)
    if where.ids:
        told["ids"] = len(where.ids)
    return told
