"""What the tests of damage share: images of directories, disks that stop at the N-th operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import BROKEN
from stepflow.journal.snapshot import SnapshotFile
from tests.journal_kit import Handmade, handmade, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stepflow.journal.disk import Disk

NOW_MS = 1_700_000_000_000

Files = dict[str, bytes]


class StoppedError(OSError):
    """The process was stopped here."""


def files_of(disk: Disk) -> Files:
    """Return every file of the directory and of broken/, by name."""
    found = {name: disk.read(name) for name in disk.listdir() if not disk.is_folder(name)}
    found.update({f"{BROKEN}/{name}": disk.read(f"{BROKEN}/{name}") for name in broken(disk)})
    return found


def broken(disk: Disk) -> list[str]:
    """Return the names in broken/."""
    return disk.listdir(BROKEN)


def tree_of(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return contents and mode of every file below a real directory: nothing else may change."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def disk_of(files: Files) -> MemoryDisk:
    """Return a disk that holds these files, synced."""
    disk = MemoryDisk()
    for name, data in files.items():
        write_file(disk, name, data)
        if "/" in name:
            disk.sync_dir(name.rpartition("/")[0])
    return disk


def stop_at(disk: MemoryDisk, number: int) -> None:
    """Let every operation from the `number`-th on fail, as if the process had died there."""
    count = 0

    def before(_operation: str, _name: str) -> None:
        nonlocal count
        count += 1
        if count >= number:
            raise StoppedError(5, "stopped")

    disk.before = before


def every_stop(
    files: Files, work: Callable[[MemoryDisk], None], keep: Callable[[], bool]
) -> Iterator[tuple[int, str, MemoryDisk]]:
    """Yield the number, the kind and the disk after a stop at each operation of `work` in turn.

    The kinds: `killed` leaves all that was written, `cut` what was synced and some of the rest.
    """
    for number in range(1, 100_000):
        disk = disk_of(files)
        stop_at(disk, number)
        try:
            work(disk)
        except OSError:
            stopped = True
        else:
            stopped = False
        disk.before = None
        yield number, "killed", disk.process_kill()
        yield number, "cut", disk.power_cut(keep)
        if not stopped:
            return


def snapshot_of(made: Handmade, base: int, lines: Sequence[tuple[int, bytes]]) -> str:
    """Write a snapshot as the journal does; return its name."""
    file = SnapshotFile(made.disk, base, 0, made.store.store_id)
    file.write(lines)
    file.seal()
    file.publish()
    return file.name


def long_journal() -> Handmade:
    """A store of four segments and two snapshots: lsn 1 to 12, snapshots at 4 and 7."""
    made = handmade(size=4096)
    for with_snapshot in (True, True, False):
        add_rows(made)
        base = made.rotate()
        if with_snapshot:
            snapshot_of(made, base, [(base - 1, b'"all up to here"')])
    add_rows(made)
    return made


def add_rows(made: Handmade, count: int = 3) -> None:
    """Add frames of one record."""
    for _ in range(count):
        made.add("d" * 60)
