"""`POST /runs/bulk`: one act on all runs that a filter takes, so many a call.

A call walks the runs from its cursor on, newest first, in slices. A slice is one transaction: each
run gets its letter, or is refused for itself. What has come of the letters is waited for at the
end, for all of them together and not for long: they are durable, and a run whose worker has not
read its letter then is acted on as soon as one has it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Raw

from stepflow.engine.bulk import ACTS_ON, told_of
from stepflow.engine.listing import decode_cursor, encode_cursor
from stepflow.engine.part import check_reason
from stepflow.engine.postgres.acts import ACTS, act_columns, purged
from stepflow.engine.postgres.history import load
from stepflow.engine.postgres.inbox import act_letter, cancel_letter
from stepflow.engine.postgres.part import ClusterPart
from stepflow.engine.protocol import BulkReport, BulkSkipped
from stepflow.errors import (
    ApiError,
    ConflictError,
    InvalidInputError,
    OutcomeUnknownError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.model.codec import encode
from stepflow.model.records import BulkActed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from stepflow.engine.protocol import BulkAction, RunFilter
    from stepflow.model.run import RunState

__all__ = ["ClusterBulk"]

_log: Final = logging.getLogger("stepflow.postgres")
_SLICE: Final = 50
_SETTLE_S: Final = 2.0
_PLACE: Final[dict[str, Any]] = {"lsn": 0, "r": "", "rs": 0}
"""Of an act that is no record of a journal here."""
_CANDIDATES: Final = """
select run_id, seq, workflow, condition, exists (
         select 1 from stepflow.inbox i where i.run_id = r.run_id and i.kind = 'cancel')
  from stepflow.runs r
 where seq < %(before)s
   and status = any(%(status)s::text[])
   and (%(workflow)s = '' or workflow = %(workflow)s)
   and (%(tag)s = '' or %(tag)s = any(tags))
   and (%(after_ms)s = 0 or created_ms > %(after_ms)s)
   and (%(before_ms)s = 0 or created_ms < %(before_ms)s)
   and (%(ids)s::text[] is null or run_id = any(%(ids)s::text[]))
 order by seq desc limit %(limit)s"""
_ACT: Final = "select run, letter, refused, why from stepflow.act_on(%s, %s::text[], %s)"
_UNREAD: Final = """
select 1 from unnest(%s::text[], %s::bigint[]) as p(run_id, n)
  join stepflow.inbox i using (run_id, n) join stepflow.runs r using (run_id)
 where r.task_id is not null limit 1"""


class _Candidate(NamedTuple):
    """A run that the filter takes and the action is for."""

    run_id: str
    seq: int
    workflow: str
    error: ApiError | None
    """What the action is refused with, as far as that is known before it is tried."""


class ClusterBulk(ClusterPart):
    """Bulk actions, by letters."""

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
        # Refused before anything is asked, where it stops or does not run.
        _ = self.database if dry_run else self.writable
        check_reason(reason)
        if where.takes_all:
            message = "A bulk action needs a filter: a status, a workflow, a tag, a time or ids"
            raise InvalidInputError(message)
        most = min(limit or self.settings.bulk_max, self.settings.bulk_max)
        last, more = decode_cursor(cursor) if cursor else 1 << 62, False
        letter = act_letter(by, reason)
        if action == "cancel":
            letter = cancel_letter(by, reason, force=force)
        done: dict[str, int] = {}
        skipped: list[BulkSkipped] = []
        async for found in self._walk(action, where, last):
            left = most - len(done) - len(skipped)
            chosen, more = found[:left], len(found) > left
            willing = {one.run_id: one.workflow for one in chosen if one.error is None}
            try:
                taken, refused = (
                    (dict.fromkeys(willing, 0), {})
                    if dry_run
                    else await self._act(action, willing, letter, by=by, reason=reason)
                )
            except (UnavailableError, OutcomeUnknownError):
                if not done:
                    raise
                # It stops, or the database has gone: what is done is done, the cursor goes on from
                # there. Of runs that were acted on all the same it leaves out those that are so.
                more = True
                break
            for one in chosen:
                error = one.error or refused.get(one.run_id)
                if error is None:
                    done[one.run_id] = taken[one.run_id]
                else:
                    skipped.append(BulkSkipped(one.run_id, error.message, error.code))
                last = one.seq
            if more:
                break
        if done and not dry_run:
            told = Raw(encode(told_of(where)))
            act = BulkActed(
                **_PLACE,
                ts=self.clock.wall_ms(),
                action=action,
                filter=told,
                done=len(done),
                skipped=len(skipped),
                by=by,
                reason=reason,
            )
            skipped += await self._concluded(act, action, done)
        return BulkReport(
            action=action,
            dry_run=dry_run,
            matched=len(done) + len(skipped),
            run_ids=list(done),
            skipped=skipped,
            next_cursor=encode_cursor(last) if more else None,
        )

    async def _walk(
        self, action: BulkAction, where: RunFilter, before: int
    ) -> AsyncGenerator[list[_Candidate]]:
        """Yield slices of the runs that the filter takes and the action is for, newest first."""
        asked = {
            "status": sorted(ACTS_ON[action] & (where.status or ACTS_ON[action])),
            "workflow": where.workflow_id,
            "tag": where.tag,
            "after_ms": where.created_after_ms,
            "before_ms": where.created_before_ms,
            "ids": sorted(where.ids) or None,
            "limit": _SLICE,
        }
        while True:
            async with self.database.connection() as conn:
                page = await conn.execute(_CANDIDATES.encode(), {**asked, "before": before})
                rows = await page.fetchall()
            states: dict[str, RunState] = {}
            if action not in {"cancel", "purge"}:
                states = await load(self.database, [row[0] for row in rows])
            yield [one for one in (_meant(action, row, states) for row in rows) if one is not None]
            if len(rows) < _SLICE:
                return
            before = rows[-1][1]

    async def _act(
        self,
        action: BulkAction,
        runs: Mapping[str, str],
        letter: bytes,
        *,
        by: str = "",
        reason: str = "",
    ) -> tuple[dict[str, int], dict[str, ApiError]]:
        """Do it to runs, each with its workflow, in one transaction.

        Return their letters, and who was refused.
        """
        taken: dict[str, int] = {}
        refused: dict[str, ApiError] = {}
        if not runs:
            return taken, refused
        async with self.writable.connection() as conn, conn.transaction():
            acted = await conn.execute(_ACT.encode(), (action, list(runs), letter))
            for run_id, n, state, status in await acted.fetchall():
                if state:
                    refused[run_id] = _refusal(action, run_id, state, status)
                else:
                    taken[run_id] = n or 0
            if action == "purge" and taken:
                now_ms = self.clock.wall_ms()
                acts = (purged(one, runs[one], now_ms, by=by, reason=reason) for one in taken)
                await conn.execute(ACTS, act_columns(*acts))
        return taken, refused

    async def _concluded(
        self, act: BulkActed, action: BulkAction, done: dict[str, int]
    ) -> list[BulkSkipped]:
        """Write the act, and wait for what comes of it; return those that it came too late for."""
        try:
            await self.database.act(ACTS.decode(), *act_columns(act))
            return await self._settled(action, done)
        except (UnavailableError, OutcomeUnknownError) as error:
            # What was done to each run is durable, and is in the audit by itself.
            _log.warning("a bulk action was not told of, or not looked at: %s", error.message)
            return []

    async def _settled(self, action: BulkAction, done: dict[str, int]) -> list[BulkSkipped]:
        """Wait for what comes of the letters; take those out that came too late, and return them.

        A run that no worker has read its letter to yet counts as done: it is written down.
        """
        letters = {run_id: n for run_id, n in done.items() if n}
        until_s = self.clock.monotonic_s() + _SETTLE_S
        with self.bell.hear("") as ear:
            while letters:
                ear.clear()
                unread = await self.database.rows(_UNREAD, [*letters], [*letters.values()])
                left_s = until_s - self.clock.monotonic_s()
                if not unread or left_s <= 0:
                    break
                await ear.wait(min(left_s, self.poll_s))
        late: list[BulkSkipped] = []
        if action in {"cancel", "pause"}:
            rows = await self.database.rows(
                """select run_id, status from stepflow.runs
                    where run_id = any(%s) and status in ('completed', 'failed')""",
                list(letters),
            )
            for run_id, status in rows:
                error = _refusal(action, run_id, "SF409", status)
                late.append(BulkSkipped(run_id, error.message, error.code))
                del done[run_id]
        return late


def _meant(
    action: BulkAction, row: tuple[Any, ...], states: Mapping[str, RunState]
) -> _Candidate | None:
    """Return the run, with what it would be refused with; None when it is so already."""
    run_id, seq, workflow, condition, cancelled = row
    if action in {"cancel", "purge"}:
        return _Candidate(run_id, seq, workflow, None)
    state = states.get(run_id)
    if state is None:
        # Purged meanwhile.
        return None
    message = ""
    if action == "retry":
        if state.failure:
            message = f"The records of run {run_id} cannot be applied: it cannot be retried"
    else:
        aside = condition == "quarantined" and not state.failure
        if (state.paused or aside) != (action == "resume"):
            return None
        if aside:
            message = f"Run {run_id} was set aside: let it go on by itself"
        elif action == "pause" and (state.cancelling or cancelled):
            message = f"Run {run_id} is being cancelled: it cannot be paused any more"
    return _Candidate(run_id, seq, workflow, ConflictError(message) if message else None)


def _refusal(action: BulkAction, run_id: str, state: str, status: str) -> ApiError:
    """Return what the act alone would have been refused with."""
    if state == "SF404":
        return RunNotFoundError()
    if action == "purge":
        return ConflictError(f"Run {run_id} is live; cancel it first")
    if action == "retry":
        return ConflictError(f"Run {run_id} is {status}: only a failed or cancelled run is retried")
    return ConflictError(f"Run {run_id} has ended: it is {status}")
