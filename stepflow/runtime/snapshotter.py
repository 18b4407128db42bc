"""Writes a snapshot now and then, while runs go on.

Rotate first: everything from the new segment's first LSN on will be replayed over the snapshot.
Then walk the runs in slices; each line is the run as it is at that moment and bears its LSN. Runs
started after the rotation may be left out, runs purged meanwhile leave a tombstone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stepflow.clock import next_pass

if TYPE_CHECKING:
    from stepflow.journal.api import SnapshotWriter
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Snapshotter"]

_log = logging.getLogger("stepflow.snapshot")

_SLICE_BYTES = 256 * 1024
"""So many bytes of lines end a slice: large runs are packed fewer at a time."""
_AGAIN_S = 60.0
_AGAIN_MAX_S = 3600.0


class Snapshotter:
    """At most one snapshot at a time."""

    __slots__ = ("_busy", "_last_s", "_sup", "failures")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._busy = False
        self._last_s = sup.clock.monotonic_s()
        self.failures = 0

    def is_due(self) -> bool:
        """Whether the journal since the last snapshot is long, or old, enough."""
        stats = self._sup.journal.stats()
        settings = self._sup.settings
        if self._busy or not stats.bytes_since_snapshot or self._waits():
            return False
        if stats.bytes_since_snapshot >= max(settings.snapshot_wal_bytes, stats.snapshot_bytes):
            return True
        return self._sup.clock.monotonic_s() - self._last_s >= settings.snapshot_interval_s

    def _waits(self) -> bool:
        """Whether the last one failed a short while ago: each try costs a new segment."""
        if not self.failures:
            return False
        pause_s = min(_AGAIN_S * 2.0 ** (self.failures - 1), _AGAIN_MAX_S)
        return self._sup.clock.monotonic_s() - self._last_s < pause_s

    async def run(self) -> bool:
        """Write one snapshot; say whether it stands. A failure leaves the journal as it is."""
        if self._busy:
            return False
        self._busy = True
        self._sup.gone = {}
        try:
            base = await self._sup.journal.rotate()
            writer = self._sup.journal.open_snapshot(base, self._sup.time.now_ms())
            try:
                await self._write(writer)
                await writer.finish()
            except BaseException:
                await writer.abort()
                raise
        except Exception:  # noqa: BLE001  the journal is whole: the engine goes on without it
            self.failures += 1
            _log.exception("the snapshot failed; the journal is kept")
            return False
        finally:
            self._busy = False
            self._sup.gone = None
            self._last_s = self._sup.clock.monotonic_s()
        self.failures = 0
        return True

    async def _write(self, writer: SnapshotWriter) -> None:
        sup = self._sup
        for lines in sup.runs.slices(sup.settings.snapshot_slice_runs, _SLICE_BYTES):
            await writer.write(lines)
            await next_pass()
        tombs = [
            (lsn, b'{"k":"gone","id":"%b","lsn":%d}' % (run_id.encode(), lsn))
            for run_id, lsn in (sup.gone or {}).items()
        ]
        await writer.write(
            [*tombs, *sup.admission.lines(), *sup.audit.lines(), *sup.schedules.lines()]
        )
