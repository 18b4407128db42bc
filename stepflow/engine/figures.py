"""What operators see of the whole engine: readiness and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.clock import rfc3339
from stepflow.engine.part import EnginePart
from stepflow.journal.stats import COMMIT_BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.clock import Clock
    from stepflow.journal.api import RecoveryProgress
    from stepflow.journal.stats import JournalStats
    from stepflow.runtime.snapshotter import Snapshotter
    from stepflow.runtime.supervisor import Supervisor
    from stepflow.runtime.watchdog import Watchdog

__all__ = ["Figures", "commit_histogram", "retention_hours"]


class Figures(EnginePart):
    """Numbers and states, read without waiting for anything."""

    clock: Clock
    progress: RecoveryProgress | None
    _snapshotter: Snapshotter | None
    _watchdog: Watchdog | None
    _hangs_s: float
    _recovered_s: float
    checked: Mapping[str, object] | None

    def readiness(self) -> Mapping[str, object]:
        body: dict[str, object] = {"status": self.state, "timestamp": rfc3339(self.clock.wall_ms())}
        if self.progress is not None and self._state == "starting":
            body["recovered"] = self.progress.records
        sup = self._sup
        if sup is not None:
            body["degraded"] = {
                "missingWorkflows": sorted(sup.missing),
                "quarantinedRuns": len(sup.aside),
                "diskHangsS": round(self._hangs_s, 1),
                "zombies": sup.zombies + sup.steps.zombies,
                "stepThreads": self._step_threads(sup),
                "snapshotFailures": self._snapshotter.failures if self._snapshotter else 0,
            }
        if self.checked is not None:
            body["check"] = self.checked
        return body

    def metrics(self) -> Mapping[str, float]:
        sup = self._sup
        if sup is None or self._state == "failed":
            return {"stepflow_up": 0.0}
        stats = sup.journal.stats()
        figures: dict[str, float] = {
            "stepflow_up": 1.0,
            "stepflow_runs_live": sup.live,
            "stepflow_runs_active": len(sup.active),
            "stepflow_runs_quarantined": len(sup.aside),
            "stepflow_runs_queued": len(sup.admission.queued),
            "stepflow_runs_holding_slots": len(sup.admission.seats),
            "stepflow_runs_admitted_total": sup.admission.admitted_total,
            "stepflow_schedules": len(sup.registry.schedules),
            "stepflow_schedules_fired_total": sup.schedules.fired_total,
            "stepflow_schedules_skipped_total": sup.schedules.skipped_total,
            "stepflow_runs_known": len(sup.runs),
            "stepflow_runs_live_bytes": sup.recorder.live_bytes,
            "stepflow_runs_parked_bytes": sup.runs.parked_bytes,
            "stepflow_recovery_seconds": self._recovered_s,
            "stepflow_runs_finished": len(sup.retention),
            "stepflow_runs_finished_bytes": sup.retention.bytes,
            "stepflow_runs_started_total": sup.started_total,
            "stepflow_runs_purged_total": sup.retention.purged_total,
            "stepflow_events_delivered_total": sup.delivery.delivered_total,
            "stepflow_event_waiters": len(sup.waiters),
            "stepflow_timers": len(sup.timers),
            "stepflow_steps_running": sup.steps.running,
            "stepflow_step_zombies": sup.steps.zombies,
            "stepflow_step_threads": sup.steps.threads,
            "stepflow_steps_waiting_for_thread": sup.steps.waiting,
            "stepflow_step_retries_total": sup.steps.retried_total,
            "stepflow_steps_failed_total": sup.steps.failed_total,
            "stepflow_runs_missing_workflow": sum(map(len, sup.missing.values())),
            "stepflow_task_zombies": sup.zombies,
            "stepflow_stream_subscribers": sup.hub.subscribers,
            "stepflow_stream_all_subscribers": sup.hub.firehose.readers,
            "stepflow_idempotency_keys": len(sup.idempotency),
            "stepflow_retention_hours": retention_hours(sup),
        }
        for status, count in sup.ended_total.items():
            figures[f"stepflow_runs_{status}_total"] = count
        figures["stepflow_journal_hangs_seconds"] = self._hangs_s
        if self._watchdog is not None:
            figures["stepflow_loop_blocked_total"] = self._watchdog.blocked_total
            figures["stepflow_loop_blocked_seconds_max"] = self._watchdog.blocked_s_max
            figures["stepflow_loop_lag_seconds"] = self._watchdog.lag_s
            figures["stepflow_loop_lag_seconds_max"] = self._watchdog.lag_s_max
        figures["stepflow_journal_snapshot_age_seconds"] = self._snapshot_age_s(sup, stats)
        for name in stats.__slots__:
            if not name.startswith("commit"):
                figures[f"stepflow_journal_{name}"] = float(getattr(stats, name))
        return {**figures, **commit_histogram(stats), **_by_workflow(sup)}

    def _step_threads(self, sup: Supervisor) -> dict[str, object]:
        """Return how the pool of sync steps stands. Anybody may read it: it names no run."""
        steps = sup.steps
        oldest = next((z.since_ms for z in steps.zombie_list(1)), None)
        return {
            "limit": steps.threads,
            "waiting": steps.waiting,
            "zombies": steps.zombies,
            "zombiesSince": None if oldest is None else rfc3339(oldest),
        }

    def _snapshot_age_s(self, sup: Supervisor, stats: JournalStats) -> float:
        """Return how old the newest snapshot is; where there is none, how long this has run."""
        if stats.snapshot_created_ms:
            return max(0, sup.time.now_ms() - stats.snapshot_created_ms) / 1000
        return self.clock.monotonic_s() - sup.started_s


def commit_histogram(stats: JournalStats) -> dict[str, float]:
    """Return the histogram of commits as Prometheus counts: each bucket with those below it."""
    name, count = "stepflow_journal_commit_seconds", 0
    figures: dict[str, float] = {}
    for bound, more in zip((*map(str, COMMIT_BOUNDS_S), "+Inf"), stats.commits, strict=True):
        count += more
        figures[f'{name}_bucket{{le="{bound}"}}'] = count
    figures[f"{name}_count"] = count
    figures[f"{name}_sum"] = stats.commit_seconds_total
    return figures


def _by_workflow(sup: Supervisor) -> dict[str, float]:
    """Return the figures of each workflow that is registered: no caller can add to their number."""
    figures: dict[str, float] = {}
    queued = sup.admission.waiting
    for workflow in sup.registry.all():
        label = f'workflow="{workflow.id}"'
        names = (workflow.id, *workflow.options.aliases)
        figures[f"stepflow_workflow_runs_live{{{label}}}"] = sum(sup.live_by[n] for n in names)
        figures[f"stepflow_workflow_runs_queued{{{label}}}"] = sum(queued[n] for n in names)
        figures[f"stepflow_workflow_runs_started_total{{{label}}}"] = sup.started_by[workflow.id]
        for status in sup.ended_total:
            place = f'stepflow_workflow_runs_ended_total{{{label},status="{status}"}}'
            figures[place] = sum(sup.ended_by[n, status] for n in names)
    return figures


def retention_hours(sup: Supervisor) -> float:
    """Return for how many hours finished runs are kept at the rate since the start; 0: unknown."""
    return sup.retention.horizon_s(max(sup.clock.monotonic_s() - sup.started_s, 1.0)) / 3600
