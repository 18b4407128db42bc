"""The directory's lock is the lease: one process at a time writes a data directory.

`flock` decides, never the text in the file: that is for the message to the one who is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any, Final, cast

from stepflow.clock import rfc3339
from stepflow.errors import DataDirLockedError
from stepflow.journal.disk import is_full

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import Clock
    from stepflow.journal.disk import Disk, DiskLock

__all__ = ["LOCK", "acquire_lock", "lock_holder"]

LOCK: Final = "LOCK"
_POLL_S: Final = 0.1


async def acquire_lock(
    disk: Disk, clock: Clock, wait_s: float, waiting: Callable[[str], None]
) -> DiskLock:
    """Return the directory's lock, waiting for it up to `wait_s`.

    `waiting` is told once whose it is. Raises `DataDirLockedError` when the time is over.
    """
    deadline_s = clock.monotonic_s() + wait_s
    told = False
    while (lock := disk.try_lock(LOCK)) is None:
        pid, since = lock_holder(disk)
        if clock.monotonic_s() >= deadline_s:
            raise DataDirLockedError(disk.path, pid, since)
        if not told:
            told = True
            waiting(f"waiting for the data directory {disk.path}: pid {pid} has it since {since}")
        await _pause(clock)
    text = {"pid": os.getpid(), "started": rfc3339(clock.wall_ms())}
    try:
        lock.describe(json.dumps(text).encode() + b"\n")
    except OSError as error:
        # The text is for messages only: a full disk is served, to read.
        if not is_full(error):
            lock.release()
            raise
    return lock


def lock_holder(disk: Disk) -> tuple[int | None, str | None]:
    """Return the pid and the start time that the lock file names."""
    try:
        fields: Any = json.loads(disk.read(LOCK))
        holder = cast("dict[str, Any]", fields)
        return int(holder["pid"]), str(holder["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


async def _pause(clock: Clock) -> None:
    passed = asyncio.Event()
    timer = clock.call_later(_POLL_S, passed.set)
    try:
        await passed.wait()
    finally:
        timer.cancel()
