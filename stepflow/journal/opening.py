"""What happens before there is a journal: make the directory, lock it, recover what it holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stepflow.errors import DiskFailedError
from stepflow.journal.disk import is_full
from stepflow.journal.lock import acquire_lock
from stepflow.journal.moved import refuse_moved
from stepflow.journal.recent import Recent
from stepflow.journal.recovery import Recovered, Recovery, RecoveryProgress
from stepflow.journal.space import fill_reserve
from stepflow.journal.store import (
    Store,
    create_store,
    read_failed,
    read_store,
    refuse_newer_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.journal.disk import Disk, DiskLock

__all__ = [
    "Opening",
    "RecoveryReport",
    "Throttle",
    "lock_directory",
    "make_root",
    "report_of",
    "version",
]

_log: Final = logging.getLogger("stepflow.journal")
_PROGRESS_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a start found. `messages` are the lines for the operator, with their SFW codes."""

    clean: bool
    lsn: int
    records: int
    lines: int
    snapshot_base: int | None
    messages: list[str]


@dataclass(frozen=True, slots=True)
class Opening:
    """What is done under the lock before there is a journal. Blocking."""

    disk: Disk
    settings: Settings
    clock: Clock
    entropy: Callable[[int], bytes]
    on_line: Callable[[int, bytes], None]
    on_record: Callable[[int, bytes], None]
    tell: Callable[[RecoveryProgress], None]

    def run(self) -> tuple[Store, Recovered, int]:
        """Return the store, what recovery found, and the disk's free bytes.

        Raises `ConfigurationError` for a directory whose runs go on elsewhere.
        """
        self._refuse_moved()
        store = self._store()
        settings = self.settings
        found = Recovery(
            self.disk,
            store,
            self.clock.wall_ms(),
            self.on_line,
            self.on_record,
            self.tell,
            recent=Recent(settings.stream_kept_events, settings.stream_kept_bytes),
        ).run()
        return store, found, self._free_bytes()

    def _refuse_moved(self) -> None:
        try:
            refuse_moved(self.disk)
        except OSError as error:
            raise read_failed(self.disk, error) from error

    def _store(self) -> Store:
        try:
            store = read_store(self.disk)
            return store or create_store(self.disk, self.entropy, version())
        except OSError as error:
            raise read_failed(self.disk, error) from error

    def _free_bytes(self) -> int:
        try:
            return fill_reserve(self.disk, self.settings)
        except OSError as error:
            if is_full(error):
                return 0
            raise DiskFailedError(f"making the reserve file failed: {error}") from error


class Throttle:
    """Passes progress on once a second, and each change of phase."""

    def __init__(self, clock: Clock, progress: Callable[[RecoveryProgress], None] | None) -> None:
        self._clock = clock
        self._progress = progress
        self._phase = ""
        self._told_s = 0.0

    def __call__(self, progress: RecoveryProgress) -> None:
        now_s = self._clock.monotonic_s()
        if self._progress is None or (
            progress.phase == self._phase and now_s - self._told_s < _PROGRESS_S
        ):
            return
        self._phase = progress.phase
        self._told_s = now_s
        self._progress(progress)

    def waiting(self, message: str) -> None:
        """Tell that another process has the directory."""
        _log.warning("%s", message)
        self(RecoveryProgress("waiting", 0, 0, 0, message))


def make_root(disk: Disk) -> None:
    """Make the data directory. Raises `DiskFailedError`."""
    try:
        disk.make_root()
    except OSError as error:
        raise DiskFailedError(f"cannot make the data directory {disk.path}: {error}") from error


async def lock_directory(
    disk: Disk, clock: Clock, wait_s: float, waiting: Callable[[str], None]
) -> DiskLock:
    """Return the lock. Raises `DataDirLockedError`, or `DiskFailedError` where none can be had.

    Raises `JournalCorruptError` for a newer version's directory, before the lock's file is written.
    """
    try:
        refuse_newer_files(disk)
        return await acquire_lock(disk, clock, wait_s, waiting)
    except OSError as error:
        raise DiskFailedError(f"cannot lock the data directory {disk.path}: {error}") from error


def report_of(found: Recovered) -> RecoveryReport:
    """Return what recovery found, as the caller of `open_journal` sees it."""
    return RecoveryReport(
        clean=found.clean,
        lsn=found.lsn,
        records=found.records,
        lines=found.lines,
        snapshot_base=found.snapshots[-1].base_lsn if found.snapshots else None,
        messages=list(found.messages),
    )


def version() -> str:
    """Return this build's version, for the records of starts."""
    # Imported here: it brings the email package, 10 ms that only a start needs.
    from importlib import metadata  # noqa: PLC0415

    try:
        return metadata.version("stepflow")
    except metadata.PackageNotFoundError:
        return "0"
