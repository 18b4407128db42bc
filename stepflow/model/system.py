"""What operators see of the service as a whole: the JSON of `GET /system`. PURE."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "CommitFigures",
    "JournalFigures",
    "LoopFigures",
    "MemoryFigures",
    "ProcessFigures",
    "RunFigures",
    "SnapshotFigures",
    "StreamFigures",
    "SystemView",
    "WorkflowPace",
]


class _Figures(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """The base of all of them: camelCase on the wire."""


class WorkflowPace(_Figures, frozen=True):
    """How fast a workflow's runs come and go, over the last minutes."""

    workflow_id: str
    live: int
    """Runs that have not ended."""
    queued: int
    """Of these, such as wait for a limit."""
    started_per_s: float
    completed_per_s: float
    failed_per_s: float
    cancelled_per_s: float
    window_s: float
    """Over how many seconds these rates were taken."""
    latency_p50_s: float | None
    """From a run's creation to its end, of the last runs that ended; null where none has."""
    latency_p99_s: float | None
    sampled: int
    """From how many runs the latencies are."""


class RunFigures(_Figures, frozen=True):
    """All runs there are."""

    live: int
    active: int
    """With a task; the others wait and need none."""
    queued: int
    quarantined: int
    known: int
    finished: int
    live_bytes: int
    finished_bytes: int
    parked_bytes: int
    started_per_s: float
    ended_per_s: float
    retention_hours: float
    """For how long finished runs are kept at the present rate; 0: not known yet."""


class CommitFigures(_Figures, frozen=True):
    """Encoding, writing and syncing a group commit, over the last minute."""

    per_s: float
    p50_s: float | None
    """Upper bound of the bucket; null where there was none, or it took longer than the last."""
    p99_s: float | None
    last_s: float
    """The last sync alone."""
    max_s: float
    """The slowest sync since the start."""


class JournalFigures(_Figures, frozen=True):
    """The journal on disk."""

    store_id: str
    durable_lsn: int
    queued_bytes: int
    segments: int
    segment_bytes: int
    bytes_written: int
    bytes_per_s: float
    room_bytes: int
    read_only: bool
    hangs_s: float
    """For how long the disk has not answered."""
    commits: CommitFigures


class SnapshotFigures(_Figures, frozen=True):
    """The newest snapshot."""

    lsn: int
    """0: there is none yet."""
    bytes: int
    created_at: str | None
    age_s: float
    journal_bytes_since: int
    failures: int
    """In a row."""


class LoopFigures(_Figures, frozen=True):
    """How long the event loop took to answer."""

    lag_s: float
    lag_max_s: float
    blocked_total: int
    blocked_max_s: float


class StreamFigures(_Figures, frozen=True):
    """Open streams, and what `/stream` may still be asked for."""

    of_runs: int
    of_all: int
    kept_events: int
    kept_bytes: int
    kept_since: str
    """The cursor before the oldest that is kept."""


class MemoryFigures(_Figures, frozen=True):
    """The process."""

    rss_bytes: int | None
    """Null where the system does not say."""
    rss_max_bytes: int | None


class ProcessFigures(_Figures, frozen=True):
    """One of several processes on a database, as it was when it was last heard of."""

    id: str
    role: str
    """`all`, `worker` or `api`."""
    state: str
    version: str
    host: str
    pid: int
    started_at: str
    seen_at: str
    """Last heard of; one that is silent for three beats is not listed."""
    claims_held: int
    """Runs that it alone may write at the moment."""
    claims_lost: int
    runs_taken_over: int
    """Of workers that had died; like the line above, since its start."""
    runs_active: int
    steps_running: int
    streams: int
    commits_per_s: float
    commit_max_s: float
    rss_bytes: int | None


class SystemView(_Figures, frozen=True):
    """The service at one moment."""

    state: str
    timestamp: str
    uptime_s: float
    recovery_s: float
    """How long the last start took until it served."""
    version: str
    runs: RunFigures
    journal: JournalFigures
    snapshot: SnapshotFigures
    loop: LoopFigures | None
    """Null where nobody watches it (`STEPFLOW_LOOP_BLOCKED_S=0`)."""
    streams: StreamFigures
    memory: MemoryFigures
    timers: int
    event_waiters: int
    zombies: int
    missing_workflows: list[str]
    workflows: list[WorkflowPace]
    processes: list[ProcessFigures] | UnsetType = UNSET
    """All that are up, oldest first, where there may be several: what is above adds them up."""
