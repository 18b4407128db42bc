"""Planted bugs of limits and schedules: each breaks one of their rules and must be found."""

from __future__ import annotations

import random
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from stepflow.authoring import schedule
from stepflow.model.ids import run_ids_of
from stepflow.model.rates import Rates
from stepflow.runtime import admission, schedules
from stepflow.runtime.admission import Admission
from stepflow.runtime.recorder import Recorder
from stepflow.runtime.schedules import Schedules
from tests.sim.patching import replaced

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ADMISSION_BUGS", "ADMISSION_FOCUS"]

ADMISSION_BUGS: Final[dict[str, Callable[[], Any]]] = {}
ADMISSION_FOCUS: Final = {
    "a-cancelled-runs-slot-is-kept": ("limited", "cancel"),
    "admitted-before-the-sync": ("limited", "crash"),
    "the-autumn-hour-fires-twice": ("autumn",),
    "a-rate-forgets-over-a-restart": ("rated",),
    "a-rate-knows-only-runs-that-are-kept": ("rated", "purge"),
}
"""What the seeds are about that find a bug soonest."""


def planted(break_it: Callable[[], Any]) -> Callable[[], Any]:
    ADMISSION_BUGS[break_it.__name__.replace("_", "-")] = break_it
    return break_it


@planted
def a_cancelled_runs_slot_is_kept() -> Any:
    freed: Any = Admission.freed

    def broken(self: Any, run_id: str) -> None:
        if self._sup.runs.status(run_id) != "cancelled":
            freed(self, run_id)

    return replaced(Admission, "freed", broken)


@planted
def slots_are_forgotten_at_a_start() -> Any:
    found: Any = Admission.found

    def broken(self: Any, actor: Any) -> None:
        if actor.state.status == "pending":
            found(self, actor)

    return replaced(Admission, "found", broken)


@planted
def admitted_before_the_sync() -> Any:
    write: Any = Recorder.write

    def broken(self: Any, actor: Any, kind: Any, /, **options: Any) -> Any:
        before = actor.strict_lsn
        record = write(self, actor, kind, **options)
        if kind.__name__ == "RunReleased":
            actor.strict_lsn = before
            actor.activate()
        return record

    return replaced(Recorder, "write", broken)


@planted
def the_last_one_goes_first() -> Any:
    def broken(rows: list[Any], row: Any) -> None:
        rows.insert(0, row)

    return replaced(admission, "insort", broken)


@planted
def a_rate_forgets_over_a_restart() -> Any:
    opened: Any = Admission.open

    def broken(self: Any, _: Any) -> None:
        opened(self, Rates())

    return replaced(Admission, "open", broken)


@planted
def a_rate_knows_only_runs_that_are_kept() -> Any:
    opened: Any = Admission.open

    def broken(self: Any, rates: Rates) -> None:
        runs = [self._sup.runs[run_id].peek() for run_id in self._sup.runs]
        kept = {state.released_lsn or state.started.lsn for state in runs}
        for row in rates.rows.values():
            if row.lsn not in kept:
                row.times.clear()
        opened(self, rates)

    return replaced(Admission, "open", broken)


@planted
def a_time_fires_twice_after_a_restart() -> Any:
    opened: Any = Schedules.open
    dice = random.Random(1)

    def broken(self: Any, rows: Any) -> None:
        for row in rows.rows.values():
            row.last -= 120_000
        with replaced(schedules, "scheduled_id", lambda *_: run_ids_of(dice.randbytes(64))[0]):
            opened(self, rows)

    stack = replaced(Schedules, "open", broken)
    return _Both(
        stack, replaced(schedules, "scheduled_id", lambda *_: run_ids_of(dice.randbytes(64))[0])
    )


@planted
def a_time_is_decided_and_its_run_is_not_there() -> Any:
    def broken(self: Any, planned: Any, at: int) -> str:
        return "run_0000000000000000000000"

    return replaced(Schedules, "_start", broken)


@planted
def the_autumn_hour_fires_twice() -> Any:
    def broken(self: Any, ms: int) -> int | None:
        # With seconds it does not know what summer time does.
        start = datetime.fromtimestamp(ms // 1000, ZoneInfo(self.tz))
        for when in CronSim(f"0 {self.line}", start):
            found = int(when.timestamp()) * 1000
            if found > ms:
                return found
        return None

    return replaced(schedule._Cron, "after", broken)


class _Both:
    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __enter__(self) -> None:
        for part in self._parts:
            part.__enter__()

    def __exit__(self, *error: object) -> None:
        for part in reversed(self._parts):
            part.__exit__(*error)
