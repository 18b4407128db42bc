"""What operators see of this process. What is counted over all of them is asked of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.clock import rfc3339
from stepflow.engine.figures import commit_histogram
from stepflow.engine.postgres.part import ClusterPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.engine.postgres.presence import Starts

__all__ = ["Figures"]


class Figures(ClusterPart):
    """Read without waiting for anything: of this process, not of the cluster."""

    starts: Starts

    def readiness(self) -> Mapping[str, object]:
        body: dict[str, object] = {"status": self.state, "timestamp": rfc3339(self.clock.wall_ms())}
        body["role"] = "api" if self._worker is None else "worker"
        if self._worker is not None:
            sup = self._worker.sup
            body["degraded"] = {
                "missingWorkflows": sorted(sup.missing),
                "quarantinedRuns": len(sup.aside),
                "databaseHangsS": round(self._worker.journal.look(), 1),
                "zombies": sup.zombies + sup.steps.zombies,
            }
        return body

    def metrics(self) -> Mapping[str, float]:
        if self._state in {"stopped", "failed"}:
            return {"stepflow_up": 0.0}
        figures: dict[str, float] = {
            "stepflow_up": 1.0,
            "stepflow_stream_subscribers": len(self.streams),
            "stepflow_runs_started_total": self.starts.total,
        }
        worker = self._worker
        if worker is not None:
            sup, stats = worker.sup, worker.journal.stats()
            figures |= {
                "stepflow_runs_live": sup.live,
                "stepflow_runs_active": len(sup.active),
                "stepflow_runs_quarantined": len(sup.aside),
                "stepflow_runs_live_bytes": sup.recorder.live_bytes,
                "stepflow_runs_started_total": self.starts.total + sup.started_total,
                "stepflow_runs_parked_bytes": sup.runs.parked_bytes,
                "stepflow_steps_running": sup.steps.running,
                "stepflow_step_zombies": sup.steps.zombies,
                "stepflow_step_threads": sup.steps.threads,
                "stepflow_steps_waiting_for_thread": sup.steps.waiting,
                "stepflow_step_retries_total": sup.steps.retried_total,
                "stepflow_steps_failed_total": sup.steps.failed_total,
                "stepflow_task_zombies": sup.zombies,
                "stepflow_timers": len(sup.timers),
                "stepflow_schedules": len(sup.registry.schedules),
                "stepflow_schedules_fired_total": worker.firing.fired_total,
                "stepflow_schedules_skipped_total": worker.firing.skipped_total,
                "stepflow_claims_held": len(worker.journal.holders),
                "stepflow_runs_purged_total": worker.retention.purged_total,
                "stepflow_claims_total": worker.claimed_total,
                "stepflow_claims_lost_total": worker.lost_total,
                "stepflow_runs_taken_over_total": worker.taken_over_total,
                "stepflow_commits_total": stats.syncs,
                "stepflow_commit_seconds_total": stats.sync_seconds_total,
                "stepflow_commit_seconds_max": stats.sync_seconds_max,
                "stepflow_commit_bytes_total": stats.bytes_written,
                # By the names of the local engine's journal, too: what draws them draws these.
                "stepflow_journal_bytes_written": stats.bytes_written,
                "stepflow_journal_queued_bytes": stats.queued_bytes,
                "stepflow_journal_read_only": float(stats.read_only),
                "stepflow_journal_hangs_seconds": worker.journal.look(),
                **commit_histogram(stats),
            }
            for status, count in sup.ended_total.items():
                figures[f"stepflow_runs_{status}_total"] = count
        return figures
