"""What operators see of the whole engine: readiness and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.clock import rfc3339
from stepflow.engine.part import EnginePart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.clock import Clock
    from stepflow.journal.api import RecoveryProgress
    from stepflow.runtime.snapshotter import Snapshotter
    from stepflow.runtime.supervisor import Supervisor
    from stepflow.runtime.watchdog import Watchdog

__all__ = ["Figures"]


class Figures(EnginePart):
    """Numbers and states, read without waiting for anything."""

    clock: Clock
    progress: RecoveryProgress | None
    _snapshotter: Snapshotter | None
    _watchdog: Watchdog | None
    _hangs_s: float

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
                "snapshotFailures": self._snapshotter.failures if self._snapshotter else 0,
            }
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
            "stepflow_runs_finished": len(sup.retention),
            "stepflow_runs_finished_bytes": sup.retention.bytes,
            "stepflow_runs_started_total": sup.started_total,
            "stepflow_runs_purged_total": sup.retention.purged_total,
            "stepflow_events_delivered_total": sup.delivery.delivered_total,
            "stepflow_event_waiters": len(sup.waiters),
            "stepflow_timers": len(sup.timers),
            "stepflow_steps_running": sup.steps.running,
            "stepflow_step_zombies": sup.steps.zombies,
            "stepflow_step_retries_total": sup.steps.retried_total,
            "stepflow_steps_failed_total": sup.steps.failed_total,
            "stepflow_runs_missing_workflow": sum(map(len, sup.missing.values())),
            "stepflow_task_zombies": sup.zombies,
            "stepflow_stream_subscribers": sup.hub.subscribers,
            "stepflow_idempotency_keys": len(sup.idempotency),
            "stepflow_retention_hours": _retention_hours(sup),
        }
        for status, count in sup.ended_total.items():
            figures[f"stepflow_runs_{status}_total"] = count
        figures["stepflow_journal_hangs_seconds"] = self._hangs_s
        if self._watchdog is not None:
            figures["stepflow_loop_blocked_total"] = self._watchdog.blocked_total
            figures["stepflow_loop_blocked_seconds_max"] = self._watchdog.blocked_s_max
        for name in stats.__slots__:
            figures[f"stepflow_journal_{name}"] = float(getattr(stats, name))
        return figures


def _retention_hours(sup: Supervisor) -> float:
    """Return for how many hours finished runs are kept at the rate since the start; 0: unknown."""
    return sup.retention.horizon_s(max(sup.clock.monotonic_s() - sup.started_s, 1.0)) / 3600
