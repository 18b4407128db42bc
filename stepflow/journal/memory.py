"""A disk in memory that knows what a power cut takes away.

It keeps what is **live** (what a reader sees) apart from what is **synced** (what a power cut
leaves): file contents by 512-byte sector, directory entries one by one. `power_cut` makes the disk
that a machine would find afterwards, `process_kill` the one after `kill -9`.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepflow.journal.disk import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from stepflow.journal.disk import DiskFile, DiskLock

__all__ = ["MemoryDisk"]


@dataclass(slots=True)
class _Inode:
    """One file: what readers see, what a power cut leaves, and the writes between the two."""

    live: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(
        default_factory=list["tuple[int, bytes | None]"]
    )
    reserved: int = 0

    def write(self, data: bytes, offset: int) -> None:
        _put(self.live, data, offset)
        self.unsynced.append((offset, data))

    def cut(self, size: int) -> None:
        _resize(self.live, size)
        self.unsynced.append((size, None))

    def sync(self) -> None:
        for offset, data in self.unsynced:
            if data is None:
                _resize(self.synced, offset)
            else:
                _put(self.synced, data, offset)
        self.unsynced.clear()

    def after_power_cut(self, keep: Callable[[], bool]) -> _Inode:
        """Return the file with those unsynced sectors and cuts that `keep` chooses."""
        image = bytearray(self.synced)
        for offset, data in self.unsynced:
            if data is None:
                if keep():
                    _resize(image, offset)
                continue
            for start, piece in _sectors(offset, data):
                if keep():
                    _put(image, piece, start)
        return _Inode(bytearray(image), image)

    def copy(self) -> _Inode:
        return _Inode(
            bytearray(self.live), bytearray(self.synced), list(self.unsynced), self.reserved
        )


def _put(image: bytearray, data: bytes, offset: int) -> None:
    if offset > len(image):
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def _resize(image: bytearray, size: int) -> None:
    del image[size:]
    image.extend(bytes(size - len(image)))


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    """Return the pieces of a write that a disk writes as a whole."""
    pieces: list[tuple[int, bytes]] = []
    start = 0
    while start < len(data):
        stop = start + SECTOR - (offset + start) % SECTOR
        pieces.append((offset + start, data[start:stop]))
        start = stop
    return pieces


@dataclass(frozen=True, slots=True)
class _Entry:
    """A change of a directory that is not synced: these names now mean these files."""

    folders: frozenset[str]
    names: tuple[tuple[str, _Inode | None], ...]

    def apply(self, names: dict[str, _Inode]) -> None:
        for name, inode in self.names:
            if inode is None:
                names.pop(name, None)
            else:
                names[name] = inode


class _MemoryFile:
    __slots__ = ("_disk", "_inode", "_name")

    def __init__(self, disk: MemoryDisk, name: str, inode: _Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode

    def pwrite(self, data: bytes, offset: int) -> int:
        with self._disk.doing("pwrite", self._name):
            self._disk.claim(offset + len(data) - len(self._inode.live))
            self._inode.write(bytes(data), offset)
        return len(data)

    def pread(self, size: int, offset: int) -> bytes:
        with self._disk.doing("pread", self._name):
            return bytes(self._inode.live[offset : offset + size])

    def fdatasync(self) -> None:
        with self._disk.doing("fdatasync", self._name):
            self._inode.sync()

    def fsync(self) -> None:
        with self._disk.doing("fsync", self._name):
            self._inode.sync()

    def truncate(self, size: int) -> None:
        with self._disk.doing("truncate", self._name):
            self._inode.cut(size)

    def close(self) -> None:
        return


class _MemoryLock:
    __slots__ = ("_disk", "_inode", "_name")

    def __init__(self, disk: MemoryDisk, name: str, inode: _Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode

    def describe(self, text: bytes) -> None:
        self._inode.cut(0)
        self._inode.write(text, 0)

    def release(self) -> None:
        self._disk.unlock(self._name)


class MemoryDisk:
    """A disk in memory. Safe for threads.

    `capacity` is its size in bytes; more is `ENOSPC`. `before(operation, name)` is called before
    each operation and may raise an `OSError` in its place; `after` when it is done.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.before: Callable[[str, str], None] | None = None
        self.after: Callable[[str, str], None] | None = None
        self._names: dict[str, _Inode] = {}
        self._synced_names: dict[str, _Inode] = {}
        self._entries: list[_Entry] = []
        self._locked: set[str] = set()
        self._mutex = threading.RLock()

    @property
    def path(self) -> str:
        return ":memory:"

    # ------------------------------------------------------------ accidents

    def power_cut(self, keep: Callable[[], bool] = lambda: False) -> MemoryDisk:
        """Return the disk as found after a power cut.

        What was synced is there. `keep` is asked once for each unsynced sector and once for each
        unsynced directory entry whether the disk had written it already.
        """
        with self._mutex:
            names = dict(self._synced_names)
            for entry in self._entries:
                if keep():
                    entry.apply(names)
            images: dict[int, _Inode] = {}
            for inode in names.values():
                if id(inode) not in images:
                    images[id(inode)] = inode.after_power_cut(keep)
            return self._reborn({name: images[id(inode)] for name, inode in names.items()}, [])

    def process_kill(self) -> MemoryDisk:
        """Return the disk as found after `kill -9`: all writes are seen, synced is what was."""
        with self._mutex:
            copies: dict[int, _Inode] = {}

            def twin(inode: _Inode | None) -> _Inode | None:
                if inode is None:
                    return None
                return copies.setdefault(id(inode), inode.copy())

            names = {name: twin(inode) for name, inode in self._synced_names.items()}
            entries = [
                _Entry(e.folders, tuple((name, twin(inode)) for name, inode in e.names))
                for e in self._entries
            ]
            return self._reborn({n: i for n, i in names.items() if i is not None}, entries)

    def damaged(self, changes: Mapping[str, bytes | None]) -> MemoryDisk:
        """Return a disk like this one but for some files; None: it is not there. All is synced."""
        with self._mutex:
            names = {name: inode.copy() for name, inode in self._names.items()}
        for name, data in changes.items():
            names.pop(name, None)
            if data is not None:
                names[name] = _Inode(bytearray(data), bytearray(data))
        return self._reborn(names, [])

    def _reborn(self, synced: dict[str, _Inode], entries: list[_Entry]) -> MemoryDisk:
        disk = MemoryDisk(capacity=self.capacity)
        disk._synced_names = synced
        disk._names = dict(synced)
        disk._entries = entries
        for entry in entries:
            entry.apply(disk._names)
        return disk

    # ------------------------------------------------------------ for our files

    @contextlib.contextmanager
    def doing(self, operation: str, name: str) -> Generator[None]:
        """Hold the disk for one operation, with the test's hooks around it."""
        with self._mutex:
            if self.before is not None:
                self.before(operation, name)
            yield
            if self.after is not None:
                self.after(operation, name)

    def claim(self, more: int) -> None:
        """Raise `ENOSPC` when the disk has not `more` bytes left."""
        if self.capacity is not None and more > 0 and more > self.free_bytes():
            raise OSError(errno.ENOSPC, "No space left on device")

    def unlock(self, name: str) -> None:
        """Let another take the lock."""
        with self._mutex:
            self._locked.discard(name)

    def _change(self, *names: tuple[str, _Inode | None]) -> None:
        folders = frozenset(name.rpartition("/")[0] for name, _ in names)
        entry = _Entry(folders, names)
        entry.apply(self._names)
        self._entries.append(entry)

    def _inode(self, name: str) -> _Inode:
        try:
            return self._names[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name) from None

    # ------------------------------------------------------------ Disk

    def make_root(self) -> None:
        return

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        with self.doing("open", name):
            if create and name not in self._names:
                self._change((name, _Inode()))
            inode = self._inode(name)
            if create and inode.live:
                inode.cut(0)
            return _MemoryFile(self, name, inode)

    def forget(self, name: str) -> None:
        """Do nothing: there is no cache."""

    def read(self, name: str) -> bytes:
        with self.doing("read", name):
            return bytes(self._inode(name).live)

    def sync(self, name: str) -> None:
        with self.doing("fsync", name):
            self._inode(name).sync()

    def size(self, name: str) -> int:
        with self._mutex:
            inode = self._inode(name)
            return max(len(inode.live), inode.reserved)

    def listdir(self, folder: str = "") -> list[str]:
        with self.doing("listdir", folder):
            return sorted(
                name.rpartition("/")[2] for name in self._names if name.rpartition("/")[0] == folder
            )

    def is_folder(self, name: str) -> bool:
        with self._mutex:
            return any(known.startswith(f"{name}/") for known in self._names)

    def mkdir(self, folder: str) -> None:
        """Do nothing: a folder is there as soon as a file is in it, and is never lost."""

    def rename(self, old: str, new: str) -> None:
        with self.doing("rename", new):
            self._change((old, None), (new, self._inode(old)))

    def unlink(self, name: str) -> None:
        with self.doing("unlink", name):
            self._inode(name)
            self._change((name, None))

    def sync_dir(self, folder: str = "") -> None:
        with self.doing("sync_dir", folder):
            for entry in self._entries:
                if folder in entry.folders:
                    entry.apply(self._synced_names)
            self._entries = [e for e in self._entries if folder not in e.folders]

    def allocate(self, name: str, size: int) -> None:
        with self.doing("allocate", name):
            self.claim(size)
            if name not in self._names:
                self._change((name, _Inode()))
            self._inode(name).reserved = size

    def free_bytes(self) -> int:
        with self._mutex:
            if self.capacity is None:
                return 1 << 40
            used = sum(max(len(i.live), i.reserved) for i in self._names.values())
            return max(0, self.capacity - used)

    def tighten(self, name: str) -> bool:  # noqa: ARG002  memory has no other users
        return False

    def try_lock(self, name: str) -> DiskLock | None:
        with self._mutex:
            if name in self._locked:
                return None
            if name not in self._names:
                self._change((name, _Inode()))
            self._locked.add(name)
            return _MemoryLock(self, name, self._inode(name))
