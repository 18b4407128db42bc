"""Make a damaged data directory start again, at the price of what is damaged.

Recovery is asked what it refuses; that one thing is cut or moved to broken/; then it is asked
again, until it starts or there is nothing left to cut. Nothing is deleted: whatever leaves the
directory lies in broken/ afterwards. What a newer version wrote is not touched at all. Run it on a
directory that no server has.

It may be interrupted anywhere. A file is copied and the copy synced before it is cut; and what
stands behind a damaged segment is taken away last to first, so that a start is refused, and another
`repair` goes on, until all is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.errors import DataDirLockedError, DiskFailedError, JournalCorruptError
from stepflow.journal.disk import copy_bytes, replace_file
from stepflow.journal.lock import LOCK, lock_holder
from stepflow.journal.recovery import BROKEN, Recovery
from stepflow.journal.segment import (
    FORMAT,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    segment_lsn,
)
from stepflow.journal.snapshot import BadSnapshotError, snapshot_lsn, verify_snapshot
from stepflow.journal.store import (
    FORMAT_FILE,
    Store,
    read_store,
    refuse_newer,
    refuse_newer_files,
    write_store,
)

if TYPE_CHECKING:
    from stepflow.journal.disk import Disk

__all__ = ["repair"]

_CUT: Final = frozenset({"SFW201", "SFW202", "SFW203", "SFW204", "SFW206", "SFW210"})


def repair(disk: Disk, now_ms: int) -> list[str]:
    """Cut what keeps the directory from starting; return what was done, a line each.

    An empty list: nothing had to be done. Raises `DataDirLockedError` while a server runs, the
    `JournalCorruptError` that nothing can be done about, and `DiskFailedError` when the disk fails.
    """
    try:
        refuse_newer_files(disk)
        lock = disk.try_lock(LOCK)
        if lock is None:
            raise DataDirLockedError(disk.path, *lock_holder(disk))
        try:
            return _Repair(disk, now_ms).run()
        finally:
            lock.release()
    except OSError as error:
        message = (
            f"SFW209 repairing {disk.path} failed: {error}. What was cut so far is whole in "
            f"{BROKEN}/; mend the disk, or make room, and repair again"
        )
        raise DiskFailedError(message) from error


class _Repair:
    def __init__(self, disk: Disk, now_ms: int) -> None:
        self._disk = disk
        self._now_ms = now_ms
        self._done: list[str] = []

    def run(self) -> list[str]:
        # Each round takes at least one thing away, so there are no more rounds than files.
        for _ in range(len(self._disk.listdir()) + 2):
            error = self._ask()
            if error is None:
                return self._done
            self._mend(error)
        error = self._ask()
        if error is not None:
            raise error
        return self._done

    def _ask(self) -> JournalCorruptError | None:
        try:
            store = read_store(self._disk)
            if store is not None:
                Recovery(self._disk, store, self._now_ms, _ignore, _ignore, read_only=True).run()
        except JournalCorruptError as error:
            return error
        return None

    def _mend(self, error: JournalCorruptError) -> None:
        name = error.path
        if error.code == "SFW301":
            raise error
        if error.code == "SFW211":
            self._write_format(error)
        elif snapshot_lsn(name) is not None:
            self._move_aside(name)
        elif segment_lsn(name) is not None and error.code in _CUT and error.offset:
            self._cut(name, error.offset)
        elif segment_lsn(name) is not None:
            self._drop_from(name)
        elif snapshots := [n for n in self._disk.listdir() if snapshot_lsn(n) is not None]:
            # The journal behind the newest snapshot is missing: try the one before.
            self._move_aside(snapshots[-1])
        else:
            raise error

    def _cut(self, name: str, offset: int) -> None:
        """Keep the segment's frames before `offset`, and no segment behind it."""
        data = self._disk.read(name)
        header = SegmentHeader.decode(data)
        if header is None or offset < SEGMENT_HEADER_BYTES:
            self._drop_from(name)
            return
        self._make_broken()
        copy = self._broken(name)
        copy_bytes(self._disk, copy, data)
        self._disk.sync_dir(BROKEN)
        shorter = SegmentHeader(header.store_id, header.first_lsn, header.chain, offset)
        kept = data[SEGMENT_HEADER_BYTES:offset]
        replace_file(self._disk, name, shorter.encode() + kept)
        self._done.append(f"cut {name} at byte {offset}; a copy is in {copy}")
        self._drop_after(name)

    def _drop_from(self, name: str) -> None:
        self._drop_after(name)
        self._move_aside(name)

    def _drop_after(self, name: str) -> None:
        """Move later segments aside, the last one first."""
        names = [n for n in self._disk.listdir() if segment_lsn(n) is not None and n > name]
        for later in reversed(names):
            self._move_aside(later)

    def _move_aside(self, name: str) -> None:
        self._make_broken()
        aside = self._broken(name)
        self._disk.rename(name, aside)
        # First where it is, then where it is no longer.
        self._disk.sync_dir(BROKEN)
        self._disk.sync_dir()
        self._done.append(f"moved {name} to {aside}")

    def _make_broken(self) -> None:
        self._disk.mkdir(BROKEN)
        self._disk.sync_dir()

    def _broken(self, name: str) -> str:
        """Return a name in broken/ that is not taken."""
        taken = self._disk.listdir(BROKEN)
        number = self._now_ms
        while f"{name}.{number}" in taken:
            number += 1
        return f"{BROKEN}/{name}.{number}"

    def _write_format(self, error: JournalCorruptError) -> None:
        store_id = self._store_id()
        if store_id is None:
            raise error
        if FORMAT_FILE in self._disk.listdir():
            self._move_aside(FORMAT_FILE)
        write_store(self._disk, Store(store_id, FORMAT, FORMAT, "repair"))
        self._done.append(f"wrote {FORMAT_FILE} for store {store_id:016x}")

    def _store_id(self) -> int | None:
        """Return the store's id as the first whole header or snapshot says it."""
        for name in self._disk.listdir():
            if segment_lsn(name) is not None:
                header = SegmentHeader.decode(self._disk.read(name))
                if header is not None:
                    return header.store_id
            elif snapshot_lsn(name) is not None:
                try:
                    info = verify_snapshot(self._disk, name)
                except BadSnapshotError:
                    continue
                refuse_newer(self._disk.path, name, info.min_reader)
                return info.store_id
        return None


def _ignore(_lsn: int, _data: bytes) -> None:
    return
