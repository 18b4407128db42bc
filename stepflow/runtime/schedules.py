"""Starts runs when their schedules say so: each time once, however often the process dies.

A fire time is decided in one frame: the run's first record, and that every time up to this one is
decided. So a crash shows both or neither. The run's id follows from the schedule and the time: that
keeps a backfill from doing again what was done. Time is hybrid time: a clock that is set back fires
nothing twice, and over one that leaps forward the catch-up policy decides.

The rows (model/schedules.py) are told by records; which runs of a schedule live follows from them.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

from stepflow.errors import ApiError, ConflictError, NotFoundError
from stepflow.model import records as rec
from stepflow.model.ids import run_ids_of
from stepflow.model.schedules import ScheduleRow, ScheduleRows
from stepflow.runtime.messages import CancelAsked

if TYPE_CHECKING:
    from stepflow.authoring.schedule import Planned
    from stepflow.model.ids import RunId
    from stepflow.model.run import RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["SCHEDULE", "Schedules", "scheduled_id", "times_due"]

_log = logging.getLogger("stepflow.schedule")

SCHEDULE: Final = "@schedule"
"""Owner of this module's timers, in place of a run."""
_SMALL: Final = 4096
_AGAIN_MS: Final = 1000
_ON_TIME_MS: Final = 60_000
"""A time that is no older was not missed."""
_COUNTED_MAX: Final = 100
"""Of times that get no run, so many are counted."""


def scheduled_id(schedule_id: str, at: int) -> RunId:
    """Return the id of the run that a schedule starts for a time: always the same."""
    text = f"{schedule_id}\0{at}".encode()
    return run_ids_of(hashlib.sha512(text).digest())[0]


def times_due(planned: Planned, last: int, now: int) -> tuple[list[int], list[int]]:
    """Return the times that are decided now, and those of them that catching up gives a run."""
    schedule = planned.schedule
    count = schedule.catch_up_max if schedule.catch_up == "all" else 1
    known = planned.times.latest(last, now, max(count, _COUNTED_MAX))
    times = known[-count:]
    if schedule.catch_up == "skip":
        times = [at for at in times if now - at <= _ON_TIME_MS]
    return known, times


class Schedules:
    """All schedules of the registered workflows."""

    __slots__ = ("_armed", "_opened", "_sup", "fired_total", "live", "rows", "skipped_total")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._armed: dict[str, int] = {}
        self._opened = False
        self.rows = ScheduleRows()
        self.live: dict[str, dict[str, None]] = {}
        """By schedule: its runs that have not ended, oldest first."""
        self.fired_total = 0
        self.skipped_total = 0

    # ------------------------------------------------------------ what there is

    def planned(self, schedule_id: str) -> Planned:
        """Return the schedule, or raise `NotFoundError`."""
        planned = self._sup.registry.schedules.get(schedule_id)
        if planned is None:
            message = f"There is no schedule {schedule_id!r}"
            raise NotFoundError(message)
        return planned

    def row(self, schedule_id: str) -> ScheduleRow:
        """Return what is known of the schedule."""
        return self.rows.rows.get(schedule_id) or ScheduleRow(schedule_id)

    def next_ms(self, planned: Planned) -> int | None:
        """Return when it fires next; None when it is paused, or never again."""
        row = self.row(planned.id)
        return None if row.paused else planned.times.after(row.last)

    def entered(self, state: RunState) -> None:
        """A run lives that may be a schedule's."""
        start = state.started
        if start is not None and start.schedule:
            self.live.setdefault(start.schedule, {})[state.id] = None

    def ended(self, run_id: str, schedule_id: str) -> None:
        """A run of the schedule has ended."""
        runs = self.live.get(schedule_id)
        if runs is not None:
            runs.pop(run_id, None)
            if not runs:
                del self.live[schedule_id]

    # ------------------------------------------------------------ recovery and deploys

    def open(self, rows: ScheduleRows) -> None:
        """Begin with what recovery found: from now on schedules fire."""
        self.rows = rows
        self._opened = True
        self.refresh()

    def refresh(self) -> None:
        """Compare what is registered with what was known, record what changed, set the timers."""
        sup = self._sup
        if not self._opened or sup.stopping:
            return
        planned = sup.registry.schedules
        changed = [(p.id, p.times.spec) for p in planned.values()]
        changed += [(row.id, "") for row in self.rows.rows.values() if row.id not in planned]
        changed = [(key, spec) for key, spec in changed if self.row(key).spec != spec]
        if changed and not sup.journal.has_room(_SMALL + 256 * len(changed)):
            return
        with sup.recorder.group():
            for schedule_id, spec in changed:
                self._write(rec.ScheduleSet, schedule=schedule_id, spec=spec)
        for each in planned.values():
            self._arm(each)

    def go_on(self) -> None:
        """There is room on the disk again."""
        self.refresh()

    def _write(self, kind: type[Any], **fields: Any) -> int:
        record = self._sup.recorder.write_schedule(kind, **fields)
        self.rows.take(record)
        if isinstance(record, rec.SchedulePaused):
            self._sup.note_act(record)
        return int(record.lsn)

    def _arm(self, planned: Planned) -> None:
        due = self.next_ms(planned)
        if due is not None and self._armed.get(planned.id) != due:
            self._armed[planned.id] = due
            self._sup.timers.add(due, SCHEDULE, planned.id)

    # ------------------------------------------------------------ firing

    def timer_fired(self, schedule_id: str, due_ms: int) -> None:
        """A time has come, or a second try at one."""
        planned = self._sup.registry.schedules.get(schedule_id)
        if planned is None or self._armed.get(schedule_id) != due_ms:
            return
        del self._armed[schedule_id]
        if self._sup.stopping:
            return
        if self.row(schedule_id).paused:
            return
        try:
            self._fire(planned)
        except ApiError as error:
            _log.warning("schedule %r: not yet: %s", schedule_id, error.message)
            again = self._sup.time.now_ms() + _AGAIN_MS
            self._armed[schedule_id] = again
            self._sup.timers.add(again, SCHEDULE, schedule_id)
            return
        self._arm(planned)

    def _fire(self, planned: Planned) -> None:
        """Decide every time that is due, in one frame. Raises `ApiError` with nothing done."""
        sup = self._sup
        now = sup.time.now_ms()
        row = self.row(planned.id)
        known, times = times_due(planned, row.last, now)
        if not known:
            return
        sup.check_capacity(len(times), len(planned.body) * len(times))
        sup.check_room(len(times) * (len(planned.body) + _SMALL) + _SMALL)
        skipped = len(known) - len(times)
        if skipped:
            _log.warning("schedule %r: %d times passed without a run", planned.id, skipped)
        with sup.recorder.group():
            for at in times:
                run_id = self._start(planned, at)
                missed = skipped + (not run_id)
                self._write(
                    rec.ScheduleFired, schedule=planned.id, at=at, run=run_id, skipped=missed
                )
                self.skipped_total += missed
                skipped = 0
            if skipped:
                self.skipped_total += skipped
                self._write(rec.ScheduleFired, schedule=planned.id, at=known[-1], skipped=skipped)

    def _start(self, planned: Planned, at: int) -> str:
        """Start the run of a time, as the overlap policy says; return its id, or an empty text."""
        run_id = scheduled_id(planned.id, at)
        if run_id in self._sup.runs:
            # A backfill was here before.
            return ""
        live = self.live.get(planned.id, {})
        overlap = planned.schedule.overlap
        if live and overlap == "skip":
            _log.warning("schedule %r: skipped, run %s is under way", planned.id, next(iter(live)))
            return ""
        if overlap == "queue" and len(live) > planned.schedule.catch_up_max:
            _log.warning("schedule %r: skipped, %d runs wait already", planned.id, len(live))
            return ""
        if overlap == "cancel":
            self._cancel_live(planned)
        self.start(planned, at, run_id=run_id, by=f"schedule:{planned.id}")
        return run_id

    def _cancel_live(self, planned: Planned) -> None:
        for other in list(self.live.get(planned.id, {})):
            actor = self._sup.runs.get(other)
            if actor is not None and not actor.finished:
                by = f"schedule:{planned.id}"
                actor.tell(CancelAsked(by, "the schedule's next run is due"))

    def start(self, planned: Planned, at: int, *, run_id: RunId | None, by: str) -> RunActor:
        """Start a run of the schedule."""
        sup = self._sup
        workflow = sup.workflow(planned.workflow)
        assert workflow is not None
        more: dict[str, Any] = {"schedule": planned.id, "scheduled": at}
        if planned.schedule.overlap in {"queue", "cancel"}:
            more["exclusive"] = f"schedule {planned.id}"
        actor = sup.start_run(
            workflow,
            planned.body,
            run_id=run_id,
            events=workflow.event_ids(planned.body),
            by=by,
            **more,
        )
        self.entered(actor.state)
        self.fired_total += 1
        return actor

    # ------------------------------------------------------------ what operators do

    def pause(self, schedule_id: str, *, paused: bool, by: str) -> None:
        """Pause the schedule, or let it go on from now; harmless twice."""
        planned = self.planned(schedule_id)
        if self.row(schedule_id).paused != paused:
            self._write(rec.SchedulePaused, schedule=schedule_id, paused=paused, by=by)
            self._armed.pop(schedule_id, None)
        self._arm(planned)

    def trigger(self, schedule_id: str, by: str) -> RunActor:
        """Start a run now. Raises `ConflictError` where one is under way and none may overlap."""
        planned = self.planned(schedule_id)
        live = self.live.get(schedule_id, {})
        if live and planned.schedule.overlap == "skip":
            message = (
                f"Run {next(iter(live))} of schedule {schedule_id!r} is under way, and it starts "
                'none beside it (overlap="skip")'
            )
            raise ConflictError(message)
        with self._sup.recorder.group():
            if planned.schedule.overlap == "cancel":
                self._cancel_live(planned)
            return self.start(planned, self._sup.time.now_ms(), run_id=None, by=by)

    def missing(self, planned: Planned, begin: int, end: int, count: int) -> tuple[list[int], int]:
        """Return the times in a range that have no run, and how many have one."""
        times = planned.times.latest(begin - 1, end, count)
        missing = [at for at in times if scheduled_id(planned.id, at) not in self._sup.runs]
        return missing, len(times) - len(missing)

    def backfill(self, planned: Planned, times: list[int], by: str) -> list[RunActor]:
        """Start the runs of these times, in one frame."""
        with self._sup.recorder.group():
            return [
                self.start(planned, at, run_id=scheduled_id(planned.id, at), by=by) for at in times
            ]

    def lines(self) -> list[tuple[int, bytes]]:
        """Return the rows of a snapshot."""
        return [(row.lsn, row.line()) for row in self.rows.rows.values()]
