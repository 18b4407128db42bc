"""A simulated disk: what a reader sees, and what a power cut would leave of it.

It is written apart from `stepflow.journal.memory`: a mistake there cannot hide itself here::

    pwrite, truncate ──► live content, and a list of writes that are not synced
    fsync, fdatasync ──► that list goes into the synced content
    rename, unlink … ──► live names, and a list of entries that are not synced
    sync_dir         ──► those entries go into the synced names

A **power cut** keeps what is synced, and of the rest each 512-byte sector and each entry, or not.
A **kill** keeps all. Both can come at the N-th operation, before it, in its middle or after it.
`EIO` comes once, at the N-th operation; after a failed sync the pages count as clean, though the
disk may have only some of them. `full` makes whatever needs more space fail, while it is set.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from stepflow.journal.disk import DiskFile, DiskLock

__all__ = ["Dead", "SimDisk"]

SECTOR: Final = 512
PLENTY: Final = 1 << 30
_UNHASHED: Final = frozenset({"LOCK"})


class Dead(BaseException):
    """The process is gone: no operation of it reaches the disk any more."""


@dataclass(slots=True, eq=False)
class _File:
    """The contents that a name means."""

    live: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    writes: list[tuple[int, bytes | None]] = field(default_factory=list["tuple[int, bytes | None]"])
    """Not synced yet, oldest first: bytes at an offset, or a cut to a size."""
    reserved: int = 0

    def put(self, data: bytes, offset: int) -> None:
        _write(self.live, data, offset)
        self.writes.append((offset, data))

    def cut(self, size: int) -> None:
        _cut(self.live, size)
        self.writes.append((size, None))

    def sync(self) -> None:
        for offset, data in self.writes:
            if data is None:
                _cut(self.synced, offset)
            else:
                _write(self.synced, data, offset)
        self.writes.clear()

    def lose(self, keep: Callable[[], bool]) -> None:
        """Put what `keep` chooses of the unsynced sectors into the synced content, drop the rest.

        A sector that was written several times has one of its versions: a later one holds what the
        earlier ones wrote.
        """
        stopped: set[int] = set()
        for offset, data in self.writes:
            if data is None:
                if keep():
                    _cut(self.synced, offset)
                continue
            begin = 0
            while begin < len(data):
                sector, into = divmod(offset + begin, SECTOR)
                end = begin + SECTOR - into
                if sector not in stopped and keep():
                    _write(self.synced, data[begin:end], offset + begin)
                else:
                    stopped.add(sector)
                begin = end
        self.writes.clear()


def _write(image: bytearray, data: bytes, offset: int) -> None:
    if offset > len(image):
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def _cut(image: bytearray, size: int) -> None:
    del image[size:]
    image.extend(bytes(size - len(image)))


_Change = tuple[tuple[str, _File | None], ...]
"""Names that now mean these files; all of it reaches the disk, or none."""


def _apply(names: dict[str, _File], change: _Change) -> None:
    for name, file in change:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


class _Handle:
    """An open file of one process."""

    __slots__ = ("_disk", "_file", "_life", "_name")

    def __init__(self, disk: SimDisk, name: str, file: _File) -> None:
        self._disk = disk
        self._name = name
        self._file = file
        self._life = disk.life

    def _does(self, operation: str) -> None:
        if self._life != self._disk.life:
            raise Dead
        self._disk.does(operation, self._name)

    def pwrite(self, data: bytes, offset: int) -> int:
        self._does("pwrite")
        size = self._disk.fits(offset, len(data), offset + len(data) - len(self._file.live))
        self._file.put(bytes(data[:size]), offset)
        self._disk.done()
        return size

    def pread(self, size: int, offset: int) -> bytes:
        self._does("pread")
        return bytes(self._file.live[offset : offset + size])

    def fdatasync(self) -> None:
        self._sync("fdatasync")

    def fsync(self) -> None:
        self._sync("fsync")

    def _sync(self, operation: str) -> None:
        if self._life != self._disk.life:
            raise Dead
        self._disk.sync_file(operation, self._name, self._file)

    def truncate(self, size: int) -> None:
        self._does("truncate")
        self._file.cut(size)
        self._disk.done()

    def close(self) -> None:
        return


class _Lock:
    __slots__ = ("_disk", "_life")

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._life = disk.life

    def describe(self, text: bytes) -> None:
        """Keep nothing: the text names a process, and must not differ between two runs."""

    def release(self) -> None:
        if self._life == self._disk.life:
            self._disk.locked = False


class SimDisk:
    """One directory. Satisfies `stepflow.journal.disk.Disk`; used by one thread."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.names: dict[str, _File] = {}
        self._synced_names: dict[str, _File] = {}
        self._entries: list[tuple[frozenset[str], _Change]] = []
        self.locked = False
        self.full = False
        self.short_writes = 0.0
        """How many writes out of one do not write all they were given."""
        self.life = 0
        """Handles of an earlier life are dead."""
        self.operations = 0
        """In this life: reads do not count."""
        self.die_at = 0
        """At which of the operations that `die_on` names, all unless it does; 0: none."""
        self._last = False
        """Whether the operation at hand is the one."""
        self.die_on = ""
        self.die_when: str = "before"
        """`before` the operation, `after` it, or with it half done."""
        self.fail_at = 0
        self.failed: list[str] = []
        """The operations of this life that failed with `EIO`."""
        self.dead = False
        self.on_death: Callable[[], None] | None = None
        self.trace: list[str] | None = None

    # ------------------------------------------------------------ accidents

    def begin_life(self) -> None:
        """A new process has the disk."""
        self.life += 1
        self.operations = 0
        self.locked = False
        self.dead = False
        self.die_at = self.fail_at = 0
        self._last = False
        self.full = False
        self.failed = []

    def power_cut(self, chance: float) -> None:
        """Keep what is synced and, with this `chance` each, what is not."""
        dice = self._dice.random

        def keep() -> bool:
            return dice() < chance

        for _, change in self._entries:
            if keep():
                _apply(self._synced_names, change)
        self._entries.clear()
        self.names = dict(self._synced_names)
        seen: set[int] = set()
        for file in self.names.values():
            if id(file) in seen:
                continue
            seen.add(id(file))
            file.lose(keep)
            file.live = bytearray(file.synced)

    def _die(self) -> None:
        self.dead = True
        if self.on_death is not None:
            self.on_death()

    # ------------------------------------------------------------ one operation

    def does(self, operation: str, name: str) -> None:
        """Count an operation and let happen what is planned for it."""
        if self.dead:
            raise Dead
        if operation in _READS:
            return
        self.operations += 1
        if self.trace is not None:
            self.trace.append(f"{operation} {name}")
        if self.die_at and self.die_on in {"", operation}:
            self.die_at -= 1
            self._last = not self.die_at
        if self._last and self.die_when == "before":
            self._die()
            raise Dead
        if self.operations == self.fail_at:
            self.failed.append(f"{operation} {name}")
            raise OSError(errno.EIO, "Input/output error", name)

    def done(self) -> None:
        """The operation is done: the process may end here."""
        if self._last:
            self._die()
            raise Dead

    def sync_file(self, operation: str, name: str, file: _File) -> None:
        """Sync a file, or fail to."""
        try:
            self.does(operation, name)
        except OSError:
            # The pages count as clean, though the disk may have some of them only.
            file.lose(lambda: self._dice.random() < 0.5)
            raise
        if self._last and self.die_when == "half":
            self._die()
            raise Dead
        file.sync()
        self.done()

    def fits(self, offset: int, size: int, more: int) -> int:
        """Return how many of `size` bytes are written, of which `more` make the file longer."""
        if more > 0 and self.full:
            if size > more:
                # What lies within the file has its place already.
                return size - more
            raise OSError(errno.ENOSPC, "No space left on device")
        short = self.short_writes and self._dice.random() < self.short_writes
        if short or (self._last and self.die_when == "half"):
            # A write of a file is cut where a sector ends, or is done.
            first = SECTOR - offset % SECTOR
            return min(size, first + SECTOR * self._dice.randrange(4))
        return size

    def _change(self, *change: tuple[str, _File | None]) -> None:
        folders = frozenset(name.rpartition("/")[0] for name, _ in change)
        _apply(self.names, change)
        self._entries.append((folders, change))

    def _find(self, name: str) -> _File:
        file = self.names.get(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return file

    # ------------------------------------------------------------ Disk

    @property
    def path(self) -> str:
        return ":simulated:"

    def make_root(self) -> None:
        self.does("make_root", "")

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        self.does("create" if create else "open", name)
        if create:
            if name not in self.names:
                if self.full:
                    raise OSError(errno.ENOSPC, "No space left on device", name)
                self._change((name, _File()))
            elif self.names[name].live:
                self.names[name].cut(0)
            self.done()
        return _Handle(self, name, self._find(name))

    def read(self, name: str) -> bytes:
        self.does("read", name)
        return bytes(self._find(name).live)

    def forget(self, name: str) -> None:
        self.does("read", name)
        file = self._find(name)
        if not file.writes:
            # After a failed sync a clean page may hold what the disk has not.
            file.live = bytearray(file.synced)

    def sync(self, name: str) -> None:
        self.sync_file("sync", name, self._find(name))

    def size(self, name: str) -> int:
        file = self._find(name)
        return max(len(file.live), file.reserved)

    def listdir(self, folder: str = "") -> list[str]:
        self.does("read", folder)
        parts = (name.rpartition("/") for name in self.names)
        return sorted(last for where, _, last in parts if where == folder)

    def is_folder(self, name: str) -> bool:
        return any(known.startswith(f"{name}/") for known in self.names)

    def mkdir(self, folder: str) -> None:
        self.does("mkdir", folder)

    def rename(self, old: str, new: str) -> None:
        self.does("rename", new)
        self._change((old, None), (new, self._find(old)))
        self.done()

    def unlink(self, name: str) -> None:
        self.does("unlink", name)
        self._find(name)
        self._change((name, None))
        self.done()

    def sync_dir(self, folder: str = "") -> None:
        self.does("sync_dir", folder)
        for folders, change in self._entries:
            if folder in folders:
                _apply(self._synced_names, change)
        self._entries = [row for row in self._entries if folder not in row[0]]
        self.done()

    def allocate(self, name: str, size: int) -> None:
        self.does("allocate", name)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        if name not in self.names:
            self._change((name, _File()))
        self._find(name).reserved = size
        self.done()

    def free_bytes(self) -> int:
        return 0 if self.full else PLENTY

    def tighten(self, name: str) -> bool:
        del name
        return False

    def try_lock(self, name: str) -> DiskLock | None:
        self.does("lock", name)
        if self.locked:
            return None
        if name not in self.names:
            self._change((name, _File()))
        self.locked = True
        return _Lock(self)

    # ------------------------------------------------------------ for the digest

    def digest(self, into: Any) -> None:
        """Feed names and contents, live and synced."""
        for name in sorted(self.names):
            if name not in _UNHASHED:
                file = self.names[name]
                into.update(name.encode() + b"\0%d\0" % len(file.live))
                into.update(file.live)
                into.update(file.synced)


_READS: Final = frozenset({"read", "pread", "open"})
