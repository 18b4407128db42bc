"""Planted bugs of what is forgotten: each breaks one rule of retention and must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.runtime import retention
from stepflow.runtime.idempotency import IdempotencyKeys
from stepflow.runtime.recorder import Recorder
from stepflow.runtime.retention import RETENTION, Retention
from tests.sim.patching import attribute, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KEPT_BUGS", "KEPT_FOCUS"]

KEPT_BUGS: Final[dict[str, Callable[[], Any]]] = {}
KEPT_FOCUS: Final = {
    "the-age-counts-from-the-start": ("aged", "wait"),
    "a-failed-run-goes-with-the-completed": ("aged", "wait"),
    "after-a-restart-the-newest-go": ("counted",),
    "the-number-is-not-kept": ("counted",),
    "the-bytes-of-those-that-went-count-on": ("sized",),
    "one-more-than-all-may-be-goes": ("plain",),
    "a-retried-run-is-forgotten-as-ended": ("aged", "retry", "wait"),
    "a-sweep-writes-nothing": ("counted", "look"),
    "a-key-outlives-its-run": ("counted", "again", "look"),
}
"""What the seeds are about that find a bug soonest."""


def planted(break_it: Callable[[], Any]) -> Callable[[], Any]:
    KEPT_BUGS[break_it.__name__.replace("_", "-")] = break_it
    return break_it


@planted
def the_age_counts_from_the_start() -> Any:
    real: Any = attribute(retention, "ended_of")

    def broken(run_id: str, run: Any) -> Any:
        # As if it had been at rest for as long as it ran.
        row = real(run_id, run)
        return msgspec.structs.replace(row, ended_ms=row.ended_ms - 15_000)

    return replaced(retention, "ended_of", broken)


@planted
def a_failed_run_goes_with_the_completed() -> Any:
    real: Any = attribute(Retention, "_limits")

    def broken(self: Any, own: Any) -> Any:
        limits = real(self, own)
        return limits._replace(failed_ms=limits.completed_ms)

    return replaced(Retention, "_limits", broken)


@planted
def after_a_restart_the_newest_go() -> Any:
    def broken(self: Any, rows: Any) -> None:
        for row in sorted(rows, key=lambda row: -row.lsn):
            self._add(msgspec.structs.replace(row, lsn=-row.lsn))

    return replaced(Retention, "adopt", broken)


@planted
def the_number_is_not_kept() -> Any:
    real: Any = attribute(Retention, "_limits")

    def broken(self: Any, own: Any) -> Any:
        return real(self, own)._replace(runs_max=None)

    return replaced(Retention, "_limits", broken)


@planted
def the_bytes_of_those_that_went_count_on() -> Any:
    real: Any = attribute(Retention, "_forget")

    def broken(self: Any, row: Any) -> None:
        real(self, row)
        self.tables[row.workflow].bytes += row.size

    return replaced(Retention, "_forget", broken)


@planted
def one_more_than_all_may_be_goes() -> Any:
    real: Any = attribute(Retention, "_add")

    def broken(self: Any, row: Any) -> Any:
        # What comes counts for ever.
        self.runs += 1
        return real(self, row)

    return replaced(Retention, "_add", broken)


@planted
def a_retried_run_is_forgotten_as_ended() -> Any:
    return replaced(Retention, "revived", lambda self, actor: None)


@planted
def a_sweep_writes_nothing() -> Any:
    real: Any = attribute(Recorder, "write_purge")

    def broken(self: Any, run_id: str, rs: int, by: str, **options: Any) -> int:
        if by == RETENTION:
            return int(self.journal.last_lsn)
        return int(real(self, run_id, rs, by, **options))

    return replaced(Recorder, "write_purge", broken)


@planted
def a_key_outlives_its_run() -> Any:
    return replaced(IdempotencyKeys, "remove", lambda self, summary, run_id: None)
