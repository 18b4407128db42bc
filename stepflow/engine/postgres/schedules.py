"""Schedules as operators see them, and what they do to them: any process answers.

What is shown is the row, which is of the code that was started last, and the policies of the code
that answers. Whoever changes something has the row's lock, as whoever fires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepflow.clock import HybridTime, rfc3339
from stepflow.engine.postgres.acts import ACTS, act_columns
from stepflow.engine.postgres.firing import Starter, live_runs, row_of
from stepflow.engine.postgres.inbox import text
from stepflow.engine.postgres.part import ClusterPart
from stepflow.errors import ConflictError, InvalidInputError, NotFoundError
from stepflow.model.records import SchedulePaused
from stepflow.model.schedules import BackfillRun, BackfillView, ScheduleRow, ScheduleView
from stepflow.runtime.schedules import scheduled_id

if TYPE_CHECKING:
    import psycopg

    from stepflow.authoring.schedule import Planned
    from stepflow.engine.postgres.presence import Starts
    from stepflow.engine.postgres.traced import Spans
    from stepflow.entropy import Entropy

__all__ = ["ScheduleControl"]

_RUNS_SHOWN: Final = 100
_TIMES_MAX: Final = 100
_ROWS: Final = "select * from stepflow.schedules where id = any(%s)"
_LIVE: Final = """
select s.id, r.run_id from unnest(%s::text[]) as s(id), lateral (
  select run_id from stepflow.runs
   where schedule = s.id and status in ('pending', 'running') order by seq limit %s) r"""
_MAKE: Final = b"""
insert into stepflow.schedules (id, workflow, spec, last_ms)
values (%s, %s, %s, stepflow.now_ms()) on conflict (id) do nothing"""
_LOCK: Final = b"""
select stepflow.now_ms() from stepflow.schedules where id = %s for update"""
_PAUSE: Final = b"""
update stepflow.schedules
   set paused = %s, last_ms = greatest(last_ms, stepflow.now_ms()) where id = %s"""


class ScheduleControl(ClusterPart):
    """Each answers when what it did is committed."""

    _time: HybridTime
    starts: Starts
    _entropy: Entropy
    _spans: Spans

    def _planned(self, schedule_id: str) -> Planned:
        planned = self.registry.schedules.get(schedule_id)
        if planned is None:
            message = f"There is no schedule {schedule_id!r}"
            raise NotFoundError(message)
        return planned

    @property
    def _starter(self) -> Starter:
        return Starter(self.registry, self._time, self._entropy, self._spans, self.starts.note)

    async def list_schedules(self) -> list[ScheduleView]:
        return await self._views(list(self.registry.schedules.values()))

    async def get_schedule(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        planned = self._planned(schedule_id)
        (view,) = await self._views([planned])
        if times:
            rows = await self.database.rows(
                """select greatest(stepflow.now_ms(), coalesce(
                     (select last_ms from stepflow.schedules where id = %s), 0))""",
                text(schedule_id),
            )
            at = int(rows[0][0])
            found: list[str] = []
            while len(found) < min(times, _TIMES_MAX) and (time := planned.times.after(at)):
                found.append(rfc3339(time))
                at = time
            view.next = found
        return view

    async def _views(self, planned: list[Planned]) -> list[ScheduleView]:
        ids = [text(each.id) for each in planned]
        rows = {row[0]: row_of(row) for row in await self.database.rows(_ROWS, ids)}
        live: dict[str, list[str]] = {}
        for schedule_id, run_id in await self.database.rows(_LIVE, ids, _RUNS_SHOWN):
            live.setdefault(schedule_id, []).append(run_id)
        return [self._schedule(each, rows.get(each.id), live.get(each.id, [])) for each in planned]

    def _schedule(self, planned: Planned, row: ScheduleRow | None, live: list[str]) -> ScheduleView:
        if row is None:
            # No worker with it was ever started.
            row = ScheduleRow(planned.id, 0, planned.times.spec, self.clock.wall_ms())
        view = ScheduleView(
            id=planned.id,
            workflow_id=planned.workflow,
            spec=row.spec or planned.times.spec,
            state="paused" if row.paused else "active",
            catch_up=planned.schedule.catch_up,
            overlap=planned.schedule.overlap,
            live_run_ids=live,
            fired=row.fired,
            skipped=row.skipped,
        )
        # Of another code's times this one knows nothing.
        due = planned.times.after(row.last) if row.spec == planned.times.spec else None
        if due is not None and not row.paused:
            view.next_at = rfc3339(due)
        if row.run:
            view.last_run_id = row.run
            view.last_at = rfc3339(row.at)
        return view

    async def _lock(self, conn: psycopg.AsyncConnection[Any], planned: Planned) -> int:
        """Take the schedule's row, whatever it says; return what time it is."""
        key = text(planned.id)
        await conn.execute(_MAKE, (key, planned.workflow, planned.times.spec))
        found = await conn.execute(_LOCK, (key,))
        row = await found.fetchone()
        assert row is not None
        return int(row[0])

    async def pause_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        return await self._set_paused(schedule_id, paused=True, by=by)

    async def resume_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        return await self._set_paused(schedule_id, paused=False, by=by)

    async def _set_paused(self, schedule_id: str, *, paused: bool, by: str) -> ScheduleView:
        planned = self._planned(schedule_id)
        now_ms = self.clock.wall_ms()
        async with self.writable.connection() as conn, conn.transaction():
            await self._lock(conn, planned)
            changed = await conn.execute(
                _PAUSE + b" and paused <> %s", (paused, text(schedule_id), paused)
            )
            if changed.rowcount:
                act = SchedulePaused(
                    lsn=0, r="", rs=0, ts=now_ms, schedule=schedule_id, paused=paused, by=by
                )
                await conn.execute(ACTS, act_columns(act))
                await conn.execute(b"select pg_notify('stepflow_timed', '')")
        return await self.get_schedule(schedule_id)

    async def trigger_schedule(self, schedule_id: str, *, by: str = "") -> str:
        planned = self._planned(schedule_id)
        starter = self._starter
        async with starter.transaction(self.writable) as (conn, spans):
            now = await self._lock(conn, planned)
            live = await live_runs(conn, planned)
            if live and planned.schedule.overlap == "skip":
                message = (
                    f"Run {live[0]} of schedule {schedule_id!r} is under way, and it starts "
                    'none beside it (overlap="skip")'
                )
                raise ConflictError(message)
            if planned.schedule.overlap == "cancel":
                await starter.cancel_live(conn, planned, live)
            return await starter.start(conn, spans, planned, now, by=by)

    async def backfill_schedule(
        self, schedule_id: str, begin_ms: int, end_ms: int, *, dry_run: bool = False, by: str = ""
    ) -> BackfillView:
        planned = self._planned(schedule_id)
        most = self.settings.batch_max
        if end_ms < begin_ms:
            message = "The backfill ends before it begins"
            raise InvalidInputError(message)
        times = planned.times.latest(begin_ms - 1, end_ms, most + 1)
        if len(times) > most:
            message = f"More than {most} times in one backfill: ask for a shorter range"
            raise InvalidInputError(message)
        ids = {at: scheduled_id(planned.id, at) for at in times}
        database = self.database if dry_run else self.writable
        starter = self._starter
        async with starter.transaction(database) as (conn, spans):
            if not dry_run:
                await self._lock(conn, planned)
            found = await conn.execute(
                b"select run_id from stepflow.runs where run_id = any(%s)", (list(ids.values()),)
            )
            taken = {row[0] for row in await found.fetchall()}
            missing = {at: run_id for at, run_id in ids.items() if run_id not in taken}
            runs = [BackfillRun(scheduled_at=rfc3339(at)) for at in missing]
            if not dry_run:
                for run, (at, run_id) in zip(runs, missing.items(), strict=True):
                    run.run_id = await starter.start(conn, spans, planned, at, by=by, run_id=run_id)
        return BackfillView(runs=runs, existing=len(taken), dry_run=dry_run)
