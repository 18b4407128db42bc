"""A disk that writes down what is done to it, for the exhaustive order check.

`TracedDisk` passes every call on to a `MemoryDisk` and appends an `Op` for each that changes
something or makes it durable. Files have numbers, so that a write through a handle is one to the
file, whatever its name is by then. With each operation stands what had been promised and appended
just before it: whoever looks at the disk between two operations knows what must be there.

`die_at` ends the process: from the operation that it says yes to, nothing is done any more.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stepflow.journal.memory import MemoryDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepflow.journal.disk import DiskFile, DiskLock

__all__ = ["History", "Image", "Op", "TracedDisk", "disk_of"]

Image = tuple[tuple[str, bytes], ...]
"""What is on a disk: names and contents, in the order of the names."""


@dataclass(slots=True)
class History:
    """What one life appended, with what it had read at its start: record by LSN."""

    records: dict[int, bytes] = field(default_factory=dict[int, bytes])
    number: int = 0


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. Which fields count depends on its kind.

    ======== ==================================================================
    create   name, inode
    write    inode, offset, data
    truncate inode, offset: the new length
    sync     inode; to: `read` when it is done before the file is read
    rename   name, to
    unlink   name
    mkdir    name
    sync_dir name: the folder
    reboot   image: the power was cut, and this was found; inode: the number of its first file
    ======== ==================================================================
    """

    kind: str
    name: str = ""
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    to: str = ""
    image: Image = ()
    promised: int = 0
    """The highest LSN that anyone had been told of, before this operation."""
    appended: int = 0
    """The highest LSN that had been given away, before this operation."""
    history: History = field(default_factory=History)


def disk_of(image: Image) -> MemoryDisk:
    """Return a disk on which exactly this is, all of it synced."""
    disk = MemoryDisk()
    for name, data in image:
        file = disk.open(name, create=True)
        file.pwrite(data, 0)
        file.fsync()
    for folder in {name.rpartition("/")[0] for name, _ in image}:
        disk.sync_dir(folder)
    return disk


class _TracedFile:
    def __init__(self, disk: TracedDisk, file: DiskFile, inode: int) -> None:
        self._disk = disk
        self._file = file
        self._inode = inode

    def _trace(self, kind: str, offset: int = 0, data: bytes = b"") -> None:
        self._disk.trace(Op(kind, self._disk.name_of(self._inode), self._inode, offset, data))

    def pwrite(self, data: bytes, offset: int) -> int:
        self._trace("write", offset, bytes(data))
        return self._file.pwrite(data, offset)

    def pread(self, size: int, offset: int) -> bytes:
        return self._file.pread(size, offset)

    def fdatasync(self) -> None:
        self._trace("sync")
        self._file.fdatasync()

    def fsync(self) -> None:
        self._trace("sync")
        self._file.fsync()

    def truncate(self, size: int) -> None:
        self._trace("truncate", size)
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


class TracedDisk:
    """A `Disk` in memory with a trace. The lock is left out: its file decides nothing."""

    def __init__(self, image: Image = (), numbers: Mapping[str, int] | None = None) -> None:
        self.ops: list[Op] = []
        self.history = History()
        self.promised: Callable[[], int] = lambda: 0
        self.appended = 0
        self.die_at: Callable[[Op], bool] = lambda _: False
        self.dead = False
        self._numbers = 0
        self._inodes: dict[str, int] = {}
        self._inner = MemoryDisk()
        self._load(image)
        if numbers:
            self._inodes = {name: numbers[name] for name, _ in image}
            self._numbers = max(numbers.values())

    def _load(self, image: Image) -> None:
        self._inner = disk_of(image)
        self._inodes = {}
        for name, _ in image:
            self._number(name)

    def reboot(self, image: Image) -> None:
        """Go on with what a power cut left."""
        first = self._numbers + 1
        self._load(image)
        self.dead = False
        self.die_at = lambda _: False
        self.trace(Op("reboot", inode=first, image=image))

    def revive(self) -> None:
        """Go on as after `kill -9`: what was written is seen, what was not synced is not."""
        self._inner = self._inner.process_kill()
        self.dead = False
        self.die_at = lambda _: False

    def name_of(self, inode: int) -> str:
        """Return the name that the file has now; empty when it has none."""
        return next((name for name, number in self._inodes.items() if number == inode), "")

    def trace(self, op: Op) -> None:
        """Take note of an operation that is about to be done."""
        self.dead = self.dead or self.die_at(op)
        if self.dead:
            raise OSError(errno.EIO, "the process is gone")
        promised, appended = self.promised(), self.appended
        self.ops.append(replace(op, promised=promised, appended=appended, history=self.history))

    def _number(self, name: str) -> int:
        self._numbers += 1
        self._inodes[name] = self._numbers
        return self._numbers

    # ------------------------------------------------------------ Disk

    @property
    def path(self) -> str:
        return ":traced:"

    def make_root(self) -> None:
        return

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        if create and name not in self._inodes:
            self.trace(Op("create", name, self._numbers + 1))
            self._number(name)
        elif create and self._inner.size(name):
            self.trace(Op("truncate", name, self._inodes[name], 0))
        file = self._inner.open(name, create=create)
        return _TracedFile(self, file, self._inodes[name])

    def read(self, name: str) -> bytes:
        return self._inner.read(name)

    def forget(self, name: str) -> None:
        return

    def sync(self, name: str) -> None:
        self.trace(Op("sync", name, self._inodes[name], to="read"))
        self._inner.sync(name)

    def size(self, name: str) -> int:
        return self._inner.size(name)

    def listdir(self, folder: str = "") -> list[str]:
        return self._inner.listdir(folder)

    def is_folder(self, name: str) -> bool:
        return self._inner.is_folder(name)

    def mkdir(self, folder: str) -> None:
        self.trace(Op("mkdir", folder))
        self._inner.mkdir(folder)

    def rename(self, old: str, new: str) -> None:
        self.trace(Op("rename", old, self._inodes[old], to=new))
        self._inner.rename(old, new)
        self._inodes[new] = self._inodes.pop(old)

    def unlink(self, name: str) -> None:
        if name in self._inodes:
            self.trace(Op("unlink", name, self._inodes[name]))
            del self._inodes[name]
        self._inner.unlink(name)

    def sync_dir(self, folder: str = "") -> None:
        self.trace(Op("sync_dir", folder))
        self._inner.sync_dir(folder)

    def allocate(self, name: str, size: int) -> None:
        self.trace(Op("create", name, self._numbers + 1))
        self._number(name)
        self._inner.allocate(name, size)

    def free_bytes(self) -> int:
        return self._inner.free_bytes()

    def tighten(self, name: str) -> bool:
        return self._inner.tighten(name)

    def try_lock(self, name: str) -> DiskLock | None:
        return self._inner.try_lock(name)
