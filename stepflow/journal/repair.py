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
    SegmentStock,
    segment_lsn,
    segment_name,
)
from stepflow.journal.snapshot import (
    BadSnapshotError,
    SnapshotFile,
    SnapshotInfo,
    read_snapshot,
    snapshot_lsn,
    verify_snapshot,
)
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

_HOPELESS: Final = frozenset({"SFW208", "SFW301"})
"""What nothing in the directory can mend, or nobody but a newer version may."""
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
        rounds = len(self._disk.listdir()) + 2
        while (error := self._ask()) is not None:
            if not rounds:
                raise error
            rounds -= 1
            self._mend(error)
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
        if error.code in _HOPELESS:
            raise error
        if error.code == "SFW211":
            self._write_format(error)
        elif snapshot_lsn(name) is not None:
            self._move_aside(name)
        elif segment_lsn(name) is not None and error.code in _CUT and error.offset:
            self._cut(name, error.offset)
        elif segment_lsn(name) is not None:
            self._drop_from(name)
        else:
            # The journal behind the newest whole snapshot is missing: that alone names no file.
            self._begin_behind(self._newest_snapshot())

    def _newest_snapshot(self) -> SnapshotInfo:
        """Return the newest snapshot that is whole, as recovery found it."""
        names = reversed([n for n in self._disk.listdir() if snapshot_lsn(n) is not None])
        return next(filter(None, map(self._whole, names)))

    def _whole(self, name: str) -> SnapshotInfo | None:
        try:
            return verify_snapshot(self._disk, name)
        except BadSnapshotError:
            return None

    def _begin_behind(self, info: SnapshotInfo) -> None:
        """Begin the journal anew behind a snapshot whose own segment is missing.

        It has more than the one before could reach. Where its lines include records from behind its
        base it is written again with a base behind them all.
        """
        base = max(info.base_lsn, info.end_lsn + 1)
        self._drop_after(segment_name(info.base_lsn))
        if base > info.base_lsn:
            lines: list[tuple[int, bytes]] = []
            read_snapshot(self._disk, info.name, lambda lsn, value: lines.append((lsn, value)))
            file = SnapshotFile(self._disk, base, info.created_ms, info.store_id)
            file.write(lines)
            file.seal()
            file.publish()
            self._done.append(f"wrote {info.name} again as {file.name}")
        header = SegmentHeader(info.store_id, base, 0, SEGMENT_HEADER_BYTES)
        segment = SegmentStock(self._disk).name_next(header)
        segment.file.close()
        self._done.append(f"began the journal anew at lsn {base}, behind {info.name}")

    def _cut(self, name: str, offset: int) -> None:
        """Keep the segment's frames before `offset`, and no segment behind it."""
        data = self._disk.read(name)
        header = SegmentHeader.decode(data)
        # Recovery read the header and came as far as `offset`.
        assert header is not None
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
            elif snapshot_lsn(name) is not None and (info := self._whole(name)) is not None:
                refuse_newer(self._disk.path, name, info.min_reader)
                return info.store_id
        return None


def _ignore(_lsn: int, _data: bytes) -> None:
    return
