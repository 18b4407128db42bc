"""What the journal counts: for /metrics, and for the one who decides when to write a snapshot."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepflow.journal.segment import segment_lsn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepflow.journal.snapshot import SnapshotInfo
    from stepflow.journal.writer import Committed

__all__ = ["COMMIT_BOUNDS_S", "Counters", "JournalStats"]

COMMIT_BOUNDS_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Commits are counted by how long they took: up to each of these, and longer."""


@dataclass(frozen=True, slots=True)
class JournalStats:
    """The figures of one moment."""

    durable_lsn: int
    last_lsn: int
    queued_bytes: int
    segments: int
    segment_bytes: int
    bytes_since_snapshot: int
    bytes_written: int
    syncs: int
    sync_seconds_total: float
    sync_seconds_last: float
    sync_seconds_max: float
    snapshots: int
    snapshot_lsn: int
    snapshot_bytes: int
    snapshot_created_ms: int
    room_bytes: int
    read_only: bool
    commits: tuple[int, ...]
    """How many took up to each of `COMMIT_BOUNDS_S` and more than the one before, then the rest."""
    commit_seconds_total: float


@dataclass(slots=True)
class Counters:
    """Counts as it goes."""

    snapshot: SnapshotInfo | None = None
    syncs: int = 0
    sync_s_total: float = 0.0
    sync_s_last: float = 0.0
    sync_s_max: float = 0.0
    bytes_written: int = 0
    bytes_since_snapshot: int = 0
    segments: int = 0
    segment_bytes: int = 0
    snapshots: int = 0
    commits: list[int] = field(default_factory=lambda: [0] * (len(COMMIT_BOUNDS_S) + 1))
    commit_s_total: float = 0.0
    _segment: str = ""
    _segment_left: int = 0

    def found(self, files: Iterable[tuple[str, int]], base_lsn: int) -> None:
        """Count the files that were there at the start, with their sizes."""
        for name, size in files:
            first_lsn = segment_lsn(name)
            if first_lsn is None:
                self.snapshots += 1
                continue
            self.segments += 1
            self.segment_bytes += size
            if first_lsn >= base_lsn:
                self.bytes_since_snapshot += size

    def committed(self, done: Committed) -> None:
        """Count a batch."""
        self.commits[bisect_left(COMMIT_BOUNDS_S, done.commit_s)] += 1
        self.commit_s_total += done.commit_s
        self.syncs += 1
        self.sync_s_last = sync_s = done.sync_s
        self.sync_s_total += sync_s
        if sync_s > self.sync_s_max:  # noqa: PLR1730  at each commit
            self.sync_s_max = sync_s
        self.bytes_written += done.bytes
        self.bytes_since_snapshot += done.bytes

    def writing(self, done: Committed) -> None:
        """Take note of the segment that is written now."""
        if done.segment != self._segment:
            # The one before was cut to what it holds.
            self.segment_bytes += done.segment_size - self._segment_left
            self.segments += 1
            self._segment = done.segment
        self._segment_left = done.segment_left

    def snapshot_done(self, info: SnapshotInfo, removed: Iterable[tuple[str, int]]) -> None:
        """Count a snapshot, and what went because of it."""
        self.snapshot = info
        self.bytes_since_snapshot = 0
        self.snapshots += 1
        for name, size in removed:
            if segment_lsn(name) is None:
                self.snapshots -= 1
            else:
                self.segments -= 1
                self.segment_bytes -= size

    def stats(
        self, *, durable_lsn: int, last_lsn: int, queued: int, room: int, read_only: bool
    ) -> JournalStats:
        """Return the figures, with those that the caller knows."""
        snapshot = self.snapshot
        return JournalStats(
            durable_lsn=durable_lsn,
            last_lsn=last_lsn,
            queued_bytes=queued,
            segments=self.segments,
            segment_bytes=self.segment_bytes,
            bytes_since_snapshot=self.bytes_since_snapshot,
            bytes_written=self.bytes_written,
            syncs=self.syncs,
            sync_seconds_total=self.sync_s_total,
            sync_seconds_last=self.sync_s_last,
            sync_seconds_max=self.sync_s_max,
            snapshots=self.snapshots,
            snapshot_lsn=snapshot.base_lsn if snapshot else 0,
            snapshot_bytes=snapshot.size if snapshot else 0,
            snapshot_created_ms=snapshot.created_ms if snapshot else 0,
            room_bytes=room,
            read_only=read_only,
            commits=tuple(self.commits),
            commit_seconds_total=self.commit_s_total,
        )
