"""Drop what no restore point needs.

Two restore points always exist: the newest snapshot with the journal from its base, and the one
before with the journal from *its* base. Before there are two snapshots the second is the journal
from LSN 1, so nothing is dropped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from stepflow.journal.segment import segment_lsn
from stepflow.journal.snapshot import snapshot_lsn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.journal.disk import Disk

__all__ = ["compact", "no_longer_needed"]

_RESTORE_POINTS: Final = 2


def no_longer_needed(names: Sequence[str]) -> list[str]:
    """Return the names that only restore points before the last two need, snapshots first."""
    bases = sorted(base for name in names if (base := snapshot_lsn(name)) is not None)
    if len(bases) < _RESTORE_POINTS:
        return []
    oldest = bases[-_RESTORE_POINTS]
    snapshots = [n for n in names if (b := snapshot_lsn(n)) is not None and b < oldest]
    segments = sorted(n for n in names if segment_lsn(n) is not None)
    # A segment reaches up to the next one's first LSN; the last one is the writer's.
    covered = [
        name for name, successor in pairwise(segments) if (segment_lsn(successor) or 0) <= oldest
    ]
    return [*sorted(snapshots), *covered]


def compact(disk: Disk) -> list[tuple[str, int]]:
    """Remove what is no longer needed; return names and sizes. Raises `OSError`."""
    removed = [(name, disk.size(name)) for name in no_longer_needed(disk.listdir())]
    for name, _ in removed:
        disk.unlink(name)
    if removed:
        disk.sync_dir()
    return removed
