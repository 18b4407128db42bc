"""Write a snapshot while runs go on, step by step so that a cut at any of them loses nothing.

1. lines to `….tmp`; 2. foot and sync; 3. wait until the journal is durable up to the highest LSN
in any line; 4. rename, sync the directory; 5. read it back and verify; 6. log that it exists;
7. only now drop what only older restore points need.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from stepflow.journal.compaction import compact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.journal.background import Background
    from stepflow.journal.disk import Disk
    from stepflow.journal.snapshot import SnapshotFile, SnapshotInfo

__all__ = ["SnapshotWriter"]

_log: Final = logging.getLogger("stepflow.journal")


class _Journal(Protocol):
    """What a snapshot needs of its journal."""

    async def durable(self, lsn: int) -> None:
        """Return when `lsn` is on disk."""

    def snapshot_done(self, info: SnapshotInfo, removed: Sequence[tuple[str, int]]) -> None:
        """Take note."""


class SnapshotWriter:
    """One snapshot in the making. All file work is done in the background."""

    def __init__(
        self, journal: _Journal, background: Background, disk: Disk, file: SnapshotFile
    ) -> None:
        self._journal = journal
        self._background = background
        self._disk = disk
        self._file = file

    async def write(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Append lines: the LSN each includes, and its JSON without a newline.

        Raises `OSError`; then `abort`, the journal is as it was.
        """
        await self._background.run(partial(self._file.write, lines))

    async def finish(self) -> None:
        """Return when the snapshot is a restore point and what it replaces is gone.

        Raises `OSError`, `BadSnapshotError` or `OutcomeUnknownError`; then `abort`.
        """
        await self._background.run(self._file.seal)
        await self._journal.durable(self._file.end_lsn)
        info = await self._background.run(self._publish)
        self._journal.snapshot_done(info, await self._background.run(self._compact))

    async def abort(self) -> None:
        """Remove what was written; harmless after `finish`."""
        await self._background.run(self._file.abandon)

    def _publish(self) -> SnapshotInfo:
        self._file.publish()
        return self._file.read_back()

    def _compact(self) -> list[tuple[str, int]]:
        """Drop what is no longer needed; a failure keeps it, and costs only space."""
        try:
            return compact(self._disk)
        except OSError:
            _log.warning("old journal files could not be removed", exc_info=True)
            return []
