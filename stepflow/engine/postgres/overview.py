"""`GET /system` and the pace of a workflow: rows of all processes, added up, with what tables hold.

Latencies are merged from what each process tells of its own: up to fifty of each, which stand for
all that it has seen lately. What takes long to count is counted again after twenty times as long.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from stepflow.clock import rfc3339
from stepflow.engine.postgres.part import ClusterPart
from stepflow.engine.postgres.presence import SILENT_S, PaceTold, Told, look_at
from stepflow.journal.stats import COMMIT_BOUNDS_S
from stepflow.model.system import (
    CommitFigures,
    JournalFigures,
    MemoryFigures,
    ProcessFigures,
    RunFigures,
    SnapshotFigures,
    StreamFigures,
    SystemView,
    WorkflowPace,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepflow.engine.postgres.presence import Presence, Starts

__all__ = ["Overview", "quantile_of"]

_P50: Final = 0.5
_P99: Final = 0.99
_PROCESSES: Final = """
select process, role, version, host, pid, (extract(epoch from started_at) * 1000)::bigint,
       (extract(epoch from seen_at) * 1000)::bigint, figures
  from stepflow.processes
 where seen_at > clock_timestamp() - make_interval(secs => %s)
 order by started_at, process"""
_LIVE: Final = """
select workflow, condition = 'quarantined', count(*) from stepflow.runs
 where status in ('pending', 'running') group by 1, 2"""
_QUEUED: Final = """
select workflow, sum(length)::bigint from stepflow.lanes where length > 0 group by workflow"""
_TABLES: Final = """
select (select count(*) from stepflow.runs),
       (select count(*) from stepflow.waits),
       pg_total_relation_size('stepflow.records') + pg_total_relation_size('stepflow.payloads'),
       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint,
       (select coalesce(sum(bytes), 0)::bigint from stepflow.runs where ended_ms is not null)"""
_AGAIN: Final = 20
_AGAIN_MIN_S: Final = 2.0


class Row(NamedTuple):
    """One process that is up."""

    id: str
    role: str
    version: str
    host: str
    pid: int
    started_ms: int
    seen_ms: int
    told: Told


class Tables(NamedTuple):
    """What was counted in the database."""

    runs: int
    waits: int
    nbytes: int
    lsn: int
    finished_bytes: int


class Live(NamedTuple):
    """The runs that have not ended."""

    by_workflow: Counter[str]
    queued: Counter[str]
    """Of these, such as wait for a limit."""
    quarantined: int


class Overview(ClusterPart):
    """Any process answers these for all of them."""

    starts: Starts
    _presence: Presence | None
    _tables: tuple[float, Tables] | None
    """What was counted last, and until when it is good."""

    def _look(self) -> Told:
        """Return the figures of this process."""
        presence = self._presence
        uptime_s = 0.0 if presence is None else presence.uptime_s
        self.starts.look()
        return look_at(self.state, uptime_s, self.streams, self.starts, self._worker)

    async def system(self) -> SystemView:
        database = self.database
        rows = await self._processes()
        live = await self._live()
        tables = await self._counted()
        told = [row.told for row in rows]
        first = min((row.started_ms for row in rows), default=self.clock.wall_ms())
        rss = [one.rss_bytes for one in told if one.rss_bytes is not None]
        rss_max = [one.rss_max_bytes for one in told if one.rss_max_bytes is not None]
        paces = _paces(told)
        return SystemView(
            state=self.state,
            timestamp=rfc3339(self.clock.wall_ms()),
            uptime_s=round(max(self.clock.wall_ms() - first, 0) / 1000, 3),
            recovery_s=0.0,
            version=self._presence.version if self._presence is not None else "",
            runs=_runs(told, paces, live, tables),
            journal=_journal(told, tables, database.store_id),
            snapshot=SnapshotFigures(
                lsn=0, bytes=0, created_at=None, age_s=0.0, journal_bytes_since=0, failures=0
            ),
            loop=None,
            streams=StreamFigures(
                of_runs=sum(one.streams_of_runs for one in told),
                of_all=sum(one.streams_of_all for one in told),
                kept_events=0,
                kept_bytes=0,
                kept_since=f"{database.store_id}-0.0",
            ),
            memory=MemoryFigures(
                rss_bytes=sum(rss) if rss else None, rss_max_bytes=sum(rss_max) if rss_max else None
            ),
            timers=sum(one.timers for one in told),
            event_waiters=tables.waits,
            zombies=sum(one.zombies for one in told),
            missing_workflows=sorted({name for one in told for name in one.missing}),
            workflows=[
                _workflow(workflow.id, (workflow.id, *workflow.options.aliases), paces, live, told)
                for workflow in self.registry.all()
            ],
            processes=[_process(row) for row in rows],
        )

    async def workflow_pace(self, workflow_id: str) -> WorkflowPace:
        workflow = self._workflow(workflow_id)
        names = (workflow.id, *workflow.options.aliases)
        told = [row.told for row in await self._processes()]
        return _workflow(workflow.id, names, _paces(told), await self._live(), told)

    async def _processes(self) -> list[Row]:
        """Return those that are up; this one as it is now."""
        own = self._presence
        found: list[Row] = []
        for row in await self.database.rows(_PROCESSES, SILENT_S):
            if own is None or row[0] != own.id:
                told = msgspec.json.decode(bytes(row[7]), type=Told)
                found.append(Row._make((*row[:7], told)))
        if own is not None:
            now_ms = self.clock.wall_ms()
            found.append(
                Row(
                    own.id,
                    own.role,
                    own.version,
                    own.host,
                    own.pid,
                    own.began_ms,
                    now_ms,
                    self._look(),
                )
            )
        return sorted(found, key=lambda row: (row.started_ms, row.id))

    async def _live(self) -> Live:
        by_workflow: Counter[str] = Counter()
        quarantined = 0
        for workflow, aside, count in await self.database.rows(_LIVE):
            by_workflow[workflow] += count
            quarantined += count if aside else 0
        queued = Counter(dict(await self.database.rows(_QUEUED)))
        return Live(by_workflow, queued, quarantined)

    async def _counted(self) -> Tables:
        began_s = self.clock.monotonic_s()
        if self._tables is None or began_s >= self._tables[0]:
            rows = await self.database.rows(_TABLES)
            now_s = self.clock.monotonic_s()
            again_s = max(_AGAIN * (now_s - began_s), _AGAIN_MIN_S)
            self._tables = now_s + again_s, Tables(*map(int, rows[0]))
        return self._tables[1]


def _runs(
    told: Sequence[Told], paces: dict[str, PaceTold], live: Live, tables: Tables
) -> RunFigures:
    count = live.by_workflow.total()
    ended = sum(
        pace.completed_per_s + pace.failed_per_s + pace.cancelled_per_s for pace in paces.values()
    )
    return RunFigures(
        live=count,
        active=sum(one.runs_active for one in told),
        queued=live.queued.total(),
        quarantined=live.quarantined,
        known=max(tables.runs, count),
        finished=max(tables.runs - count, 0),
        live_bytes=sum(one.live_bytes for one in told),
        finished_bytes=tables.finished_bytes,
        parked_bytes=sum(one.parked_bytes for one in told),
        started_per_s=round(sum(pace.started_per_s for pace in paces.values()), 3),
        ended_per_s=round(ended, 3),
        retention_hours=0.0,
    )


def _journal(told: Sequence[Told], tables: Tables, store_id: str) -> JournalFigures:
    commits = [sum(column) for column in zip(*(o.commits for o in told if o.commits), strict=True)]
    return JournalFigures(
        store_id=store_id,
        durable_lsn=tables.lsn,
        queued_bytes=sum(one.queued_bytes for one in told),
        segments=0,
        segment_bytes=tables.nbytes,
        bytes_written=sum(one.bytes_written for one in told),
        bytes_per_s=round(sum(one.bytes_per_s for one in told), 3),
        room_bytes=0,
        read_only=any(one.read_only for one in told),
        hangs_s=round(max((one.hangs_s for one in told), default=0.0), 1),
        commits=CommitFigures(
            per_s=round(sum(one.commits_per_s for one in told), 3),
            p50_s=_bound(commits, _P50),
            p99_s=_bound(commits, _P99),
            last_s=max((one.commit_last_s for one in told), default=0.0),
            max_s=max((one.commit_max_s for one in told), default=0.0),
        ),
    )


def _bound(counts: Sequence[int], share: float) -> float | None:
    """Return how long so large a share of the commits took at most."""
    wanted, seen = sum(counts) * share, 0
    for bound, count in zip(COMMIT_BOUNDS_S, counts, strict=False):
        seen += count
        if wanted and seen >= wanted:
            return bound
    return None


def _process(row: Row) -> ProcessFigures:
    told = row.told
    return ProcessFigures(
        id=row.id,
        role=row.role,
        state=told.state,
        version=row.version,
        host=row.host,
        pid=row.pid,
        started_at=rfc3339(row.started_ms),
        seen_at=rfc3339(row.seen_ms),
        claims_held=told.claims_held,
        claims_lost=told.claims_lost,
        runs_taken_over=told.taken_over,
        runs_active=told.runs_active,
        steps_running=told.steps_running,
        streams=told.streams_of_runs + told.streams_of_all,
        commits_per_s=round(told.commits_per_s, 3),
        commit_max_s=told.commit_max_s,
        rss_bytes=told.rss_bytes,
    )


def _paces(told: Iterable[Told]) -> dict[str, PaceTold]:
    """Return rates by workflow, added up."""
    paces: defaultdict[str, PaceTold] = defaultdict(PaceTold)
    for one in told:
        for name, pace in one.paces.items():
            total = paces[name]
            total.started_per_s += pace.started_per_s
            total.completed_per_s += pace.completed_per_s
            total.failed_per_s += pace.failed_per_s
            total.cancelled_per_s += pace.cancelled_per_s
    return paces


def _workflow(
    workflow_id: str,
    names: Sequence[str],
    paces: dict[str, PaceTold],
    live: Live,
    told: Sequence[Told],
) -> WorkflowPace:
    rates = [paces[name] for name in names if name in paces]
    samples = [one.paces[name] for one in told for name in names if name in one.paces]
    return WorkflowPace(
        workflow_id=workflow_id,
        live=sum(live.by_workflow[name] for name in names),
        queued=sum(live.queued[name] for name in names),
        started_per_s=round(sum(rate.started_per_s for rate in rates), 3),
        completed_per_s=round(sum(rate.completed_per_s for rate in rates), 3),
        failed_per_s=round(sum(rate.failed_per_s for rate in rates), 3),
        cancelled_per_s=round(sum(rate.cancelled_per_s for rate in rates), 3),
        window_s=round(max((one.window_s for one in told), default=1.0), 3),
        latency_p50_s=quantile_of(samples, _P50),
        latency_p99_s=quantile_of(samples, _P99),
        sampled=sum(sample.sampled for sample in samples),
    )


def quantile_of(samples: Iterable[PaceTold], share: float) -> float | None:
    """Return the latency under which that share of all runs was, each standing for its like."""
    weighed: list[tuple[float, Any]] = sorted(
        (value, sample.sampled / len(sample.latencies))
        for sample in samples
        for value in sample.latencies
    )
    wanted, seen = share * sum(weight for _, weight in weighed), 0.0
    for value, weight in weighed:
        seen += weight
        if seen > wanted:
            return value
    return weighed[-1][0] if weighed else None
