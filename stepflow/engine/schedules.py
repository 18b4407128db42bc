"""Schedules as operators see them, and what they do to them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from stepflow.clock import rfc3339
from stepflow.engine.part import RECORD_BYTES, EnginePart
from stepflow.errors import InvalidInputError
from stepflow.model.schedules import BackfillRun, BackfillView, ScheduleView

if TYPE_CHECKING:
    from stepflow.authoring.schedule import Planned
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["ScheduleControl"]

_RUNS_SHOWN: Final = 100
_TIMES_MAX: Final = 100


class ScheduleControl(EnginePart):
    """Each answers when what it did, or what it shows, is durable."""

    async def list_schedules(self) -> list[ScheduleView]:
        sup = self.sup
        views = [self._schedule(sup, planned) for planned in sup.registry.schedules.values()]
        await sup.journal.durable(sup.journal.last_lsn)
        return views

    async def get_schedule(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        sup = self.sup
        planned = sup.schedules.planned(schedule_id)
        view = self._schedule(sup, planned)
        if times:
            at = max(sup.schedules.row(schedule_id).last, sup.time.now_ms())
            found: list[str] = []
            while len(found) < min(times, _TIMES_MAX) and (time := planned.times.after(at)):
                found.append(rfc3339(time))
                at = time
            view.next = found
        await sup.journal.durable(sup.journal.last_lsn)
        return view

    def _schedule(self, sup: Supervisor, planned: Planned) -> ScheduleView:
        row = sup.schedules.row(planned.id)
        live = sup.schedules.live.get(planned.id, {})
        view = ScheduleView(
            id=planned.id,
            workflow_id=planned.workflow,
            spec=planned.times.spec,
            state="paused" if row.paused else "active",
            catch_up=planned.schedule.catch_up,
            overlap=planned.schedule.overlap,
            live_run_ids=list(islice(live, _RUNS_SHOWN)),
            fired=row.fired,
            skipped=row.skipped,
        )
        due = sup.schedules.next_ms(planned)
        if due is not None:
            view.next_at = rfc3339(due)
        if row.run:
            view.last_run_id = row.run
            view.last_at = rfc3339(row.at)
        return view

    async def pause_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        return await self._set_paused(schedule_id, paused=True, by=by)

    async def resume_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        return await self._set_paused(schedule_id, paused=False, by=by)

    async def _set_paused(self, schedule_id: str, *, paused: bool, by: str) -> ScheduleView:
        sup = self._writable()
        sup.schedules.planned(schedule_id)
        sup.check_room(RECORD_BYTES)
        sup.schedules.pause(schedule_id, paused=paused, by=by)
        return await self.get_schedule(schedule_id)

    async def trigger_schedule(self, schedule_id: str, *, by: str = "") -> str:
        sup = self._writable()
        planned = sup.schedules.planned(schedule_id)
        sup.check_capacity(1, len(planned.body))
        sup.check_room(len(planned.body) + RECORD_BYTES)
        actor = sup.schedules.trigger(schedule_id, by)
        await sup.journal.durable(actor.start_lsn)
        return actor.id

    async def backfill_schedule(
        self, schedule_id: str, begin_ms: int, end_ms: int, *, dry_run: bool = False, by: str = ""
    ) -> BackfillView:
        sup = self._writable()
        planned = sup.schedules.planned(schedule_id)
        most = self.settings.batch_max
        if end_ms < begin_ms:
            message = "The backfill ends before it begins"
            raise InvalidInputError(message)
        times, existing = sup.schedules.missing(planned, begin_ms, end_ms, most + 1)
        if len(times) + existing > most:
            message = f"More than {most} times in one backfill: ask for a shorter range"
            raise InvalidInputError(message)
        runs = [BackfillRun(scheduled_at=rfc3339(at)) for at in times]
        if not dry_run and times:
            sup.check_capacity(len(times), len(times) * len(planned.body))
            sup.check_room(len(times) * (len(planned.body) + 1024) + RECORD_BYTES)
            actors = sup.schedules.backfill(planned, times, by)
            for run, actor in zip(runs, actors, strict=True):
                run.run_id = actor.id
        await sup.journal.durable(sup.journal.last_lsn)
        return BackfillView(runs=runs, existing=existing, dry_run=dry_run)
