"""What `GET /system` shows: the whole service at one moment, with the rates of the last minute."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from stepflow.clock import rfc3339
from stepflow.engine.figures import Figures, retention_hours
from stepflow.engine.memory import memory
from stepflow.journal.opening import version
from stepflow.model.system import (
    CommitFigures,
    JournalFigures,
    LoopFigures,
    RunFigures,
    SnapshotFigures,
    StreamFigures,
    SystemView,
    WorkflowPace,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.runtime.pace import Moment
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["System"]

_P50: Final = 0.5
_P99: Final = 0.99

_version = cache(version)


class System(Figures):
    """Figures, put together for people."""

    async def system(self) -> SystemView:
        sup = self.sup
        now = sup.pace.now()
        return SystemView(
            state=self.state,
            timestamp=rfc3339(self.clock.wall_ms()),
            uptime_s=round(self.clock.monotonic_s() - sup.started_s, 3),
            recovery_s=round(self._recovered_s, 3),
            version=_version(),
            runs=_runs(sup, now),
            journal=self._journal(sup, now),
            snapshot=self._snapshot(sup, now),
            loop=self._loop(),
            streams=_streams(sup),
            memory=memory(),
            timers=len(sup.timers),
            event_waiters=len(sup.waiters),
            zombies=sup.zombies + sup.steps.zombies,
            missing_workflows=sorted(sup.missing),
            workflows=[
                _pace(sup, now, workflow.id, (workflow.id, *workflow.options.aliases))
                for workflow in self.registry.all()
            ],
        )

    async def workflow_pace(self, workflow_id: str) -> WorkflowPace:
        workflow = self._workflow(workflow_id)
        names = (workflow.id, *workflow.options.aliases)
        return _pace(self.sup, self.sup.pace.now(), workflow.id, names)

    def _journal(self, sup: Supervisor, now: Moment) -> JournalFigures:
        stats, pace = now.journal, sup.pace
        before, passed_s = pace.before, _passed_s(sup, now)
        return JournalFigures(
            store_id=sup.journal.store_id,
            durable_lsn=stats.durable_lsn,
            queued_bytes=stats.queued_bytes,
            segments=stats.segments,
            segment_bytes=stats.segment_bytes,
            bytes_written=stats.bytes_written,
            bytes_per_s=_rate(stats.bytes_written - before.journal.bytes_written, passed_s),
            room_bytes=stats.room_bytes,
            read_only=stats.read_only,
            hangs_s=round(self._hangs_s, 1),
            commits=CommitFigures(
                per_s=_rate(stats.syncs - before.journal.syncs, passed_s),
                p50_s=pace.commit_quantile(now, _P50),
                p99_s=pace.commit_quantile(now, _P99),
                last_s=stats.sync_seconds_last,
                max_s=stats.sync_seconds_max,
            ),
        )

    def _snapshot(self, sup: Supervisor, now: Moment) -> SnapshotFigures:
        stats = now.journal
        created_ms = stats.snapshot_created_ms
        return SnapshotFigures(
            lsn=stats.snapshot_lsn,
            bytes=stats.snapshot_bytes,
            created_at=rfc3339(created_ms) if created_ms else None,
            age_s=self._snapshot_age_s(sup, stats),
            journal_bytes_since=stats.bytes_since_snapshot,
            failures=self._snapshotter.failures if self._snapshotter else 0,
        )

    def _loop(self) -> LoopFigures | None:
        watchdog = self._watchdog
        if watchdog is None:
            return None
        return LoopFigures(
            lag_s=watchdog.lag_s,
            lag_max_s=watchdog.lag_s_max,
            blocked_total=watchdog.blocked_total,
            blocked_max_s=watchdog.blocked_s_max,
        )


def _runs(sup: Supervisor, now: Moment) -> RunFigures:
    before, passed_s = sup.pace.before, _passed_s(sup, now)
    return RunFigures(
        live=sup.live,
        active=len(sup.active),
        queued=len(sup.admission.queued),
        quarantined=len(sup.aside),
        known=len(sup.runs),
        finished=len(sup.retention),
        live_bytes=sup.recorder.live_bytes,
        finished_bytes=sup.retention.bytes,
        parked_bytes=sup.runs.parked_bytes,
        started_per_s=_rate(now.started_total - before.started_total, passed_s),
        ended_per_s=_rate(now.ended_total - before.ended_total, passed_s),
        retention_hours=round(retention_hours(sup), 2),
    )


def _streams(sup: Supervisor) -> StreamFigures:
    recent = sup.journal.recent
    return StreamFigures(
        of_runs=sup.hub.subscribers,
        of_all=sup.hub.firehose.readers,
        kept_events=recent.count(),
        kept_bytes=recent.nbytes,
        kept_since=sup.hub.firehose.cursor(recent.first_lsn - 1),
    )


def _pace(sup: Supervisor, now: Moment, workflow_id: str, names: Sequence[str]) -> WorkflowPace:
    before, passed_s = sup.pace.before, _passed_s(sup, now)
    queued = sup.admission.waiting

    def ended_per_s(status: str) -> float:
        keys = [(name, status) for name in names]
        more = sum(now.ended.get(key, 0) - before.ended.get(key, 0) for key in keys)
        return _rate(more, passed_s)

    started = now.started.get(workflow_id, 0) - before.started.get(workflow_id, 0)
    latencies = sup.pace.latencies(names)
    return WorkflowPace(
        workflow_id=workflow_id,
        live=sum(sup.live_by[name] for name in names),
        queued=sum(queued[name] for name in names),
        started_per_s=_rate(started, passed_s),
        completed_per_s=ended_per_s("completed"),
        failed_per_s=ended_per_s("failed"),
        cancelled_per_s=ended_per_s("cancelled"),
        window_s=round(passed_s, 3),
        latency_p50_s=_quantile(latencies, _P50),
        latency_p99_s=_quantile(latencies, _P99),
        sampled=len(latencies),
    )


def _passed_s(sup: Supervisor, now: Moment) -> float:
    """Return over how long the rates are taken: a second at least."""
    return max(now.at_s - sup.pace.before.at_s, 1.0)


def _rate(count: float, passed_s: float) -> float:
    return round(count / passed_s, 3)


def _quantile(values: Sequence[float], share: float) -> float | None:
    return values[min(int(len(values) * share), len(values) - 1)] if values else None
