"""The disk behind one small interface, so that tests can put another one in its place.

A `Disk` is one directory. Names are relative to it (`wal-….log`, `broken/wal-….log.17`).
`RealDisk` is the operating system's; `memory.MemoryDisk` makes the same calls on memory. Errors are
`OSError`s with their `errno`, from both.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "SECTOR",
    "Disk",
    "DiskFile",
    "DiskLock",
    "RealDisk",
    "SyncFailedError",
    "copy_bytes",
    "is_full",
    "replace_file",
    "write_all",
]

SECTOR: Final = 512
"""What a disk writes as a whole, or not at all."""

_FILE_MODE: Final = 0o600
_DIR_MODE: Final = 0o700
_WIDER: Final = 0o077
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFile(Protocol):
    """An open file. Used by one thread at a time."""

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write some of `data` at `offset`; return how much, as `os.pwrite` does."""
        ...

    def pread(self, size: int, offset: int) -> bytes:
        """Return at most `size` bytes from `offset`; empty at the end of the file."""
        ...

    def fdatasync(self) -> None:
        """Return when the contents and the length are on disk."""
        ...

    def fsync(self) -> None:
        """Return when contents, length and metadata are on disk."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def close(self) -> None:
        """Give the handle back. Syncs nothing."""
        ...


class DiskLock(Protocol):
    """An exclusive lock that ends with the process at the latest."""

    def describe(self, text: bytes) -> None:
        """Make `text` the lock file's contents: for messages only, the lock itself decides."""
        ...

    def release(self) -> None:
        """Give the lock back; harmless a second time."""
        ...


class Disk(Protocol):
    """One directory and what the journal does in it."""

    @property
    def path(self) -> str:
        """The directory, for messages."""
        ...

    def make_root(self) -> None:
        """Make the directory, mode 0700, if it is not there, and sync its parent."""
        ...

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """Open for reading and writing; `create` makes it anew, mode 0600, or empties it."""
        ...

    def read(self, name: str) -> bytes:
        """Return the whole file."""
        ...

    def forget(self, name: str) -> None:
        """Drop the file's clean pages from the cache: the next read asks the disk."""
        ...

    def sync(self, name: str) -> None:
        """Return when the named file's contents are on disk."""
        ...

    def size(self, name: str) -> int:
        """Return the file's length; raise `FileNotFoundError` when it is not there."""
        ...

    def listdir(self, folder: str = "") -> list[str]:
        """Return the sorted names in the directory or one of its folders; none: empty."""
        ...

    def is_folder(self, name: str) -> bool:
        """Say whether the name is a folder's."""
        ...

    def mkdir(self, folder: str) -> None:
        """Make a folder, mode 0700; harmless when it is there."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename, over an existing file too."""
        ...

    def unlink(self, name: str) -> None:
        """Remove the name."""
        ...

    def sync_dir(self, folder: str = "") -> None:
        """Return when the directory's entries are on disk."""
        ...

    def allocate(self, name: str, size: int) -> None:
        """Make a file that holds `size` bytes of space, whatever they contain."""
        ...

    def free_bytes(self) -> int:
        """Return how many bytes the disk still has for us."""
        ...

    def tighten(self, name: str) -> bool:
        """Take other users' rights on the file away; say whether they had any."""
        ...

    def try_lock(self, name: str) -> DiskLock | None:
        """Take the lock of file `name`, or return None at once when another has it."""
        ...


class SyncFailedError(OSError):
    """A sync failed that must not be tried again, whatever its `errno`."""


def is_full(error: OSError) -> bool:
    """Say whether the error means that there is no room, not that the disk is broken."""
    return error.errno in _FULL and not isinstance(error, SyncFailedError)


def write_all(file: DiskFile, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, going on after short writes."""
    done = file.pwrite(data, offset)
    while done < len(data):
        more = file.pwrite(data[done:], offset + done)
        if more <= 0:
            raise OSError(errno.EIO, "a write of a file wrote nothing")
        done += more


def replace_file(disk: Disk, name: str, data: bytes) -> None:
    """Make `data` the contents of `name`, durably and all or nothing."""
    folder, _, _ = name.rpartition("/")
    copy_bytes(disk, f"{name}.tmp", data)
    disk.rename(f"{name}.tmp", name)
    disk.sync_dir(folder)


def copy_bytes(disk: Disk, name: str, data: bytes) -> None:
    """Write a new file and sync its contents; its name is durable after `sync_dir`."""
    file = disk.open(name, create=True)
    try:
        if data:
            write_all(file, data, 0)
        file.fsync()
    finally:
        file.close()


class _RealFile:
    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pwrite(self, data: bytes, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def fdatasync(self) -> None:
        _fdatasync(self._fd)

    def fsync(self) -> None:
        os.fsync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


# macOS has no fdatasync; there fsync is the nearest thing Python offers.
_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class _RealLock:
    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def describe(self, text: bytes) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealDisk:
    """A directory of the operating system."""

    __slots__ = ("_root",)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)

    @property
    def path(self) -> str:
        return str(self._root)

    def make_root(self) -> None:
        if self._root.is_dir():
            return
        self._root.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
        _sync_directory(self._root.parent)

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_TRUNC
        return _RealFile(os.open(self._root / name, flags, _FILE_MODE))

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def forget(self, name: str) -> None:
        if not hasattr(os, "posix_fadvise"):  # pragma: no cover  macOS
            return
        fd = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def sync(self, name: str) -> None:
        fd = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def size(self, name: str) -> int:
        return (self._root / name).stat().st_size

    def listdir(self, folder: str = "") -> list[str]:
        try:
            return sorted(os.listdir(self._root / folder))  # noqa: PTH208  names are all we need
        except FileNotFoundError:
            return []

    def is_folder(self, name: str) -> bool:
        return (self._root / name).is_dir()

    def mkdir(self, folder: str) -> None:
        (self._root / folder).mkdir(mode=_DIR_MODE, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        (self._root / old).replace(self._root / new)

    def unlink(self, name: str) -> None:
        (self._root / name).unlink()

    def sync_dir(self, folder: str = "") -> None:
        _sync_directory(self._root / folder)

    def allocate(self, name: str, size: int) -> None:
        fd = os.open(self._root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size)
            else:  # pragma: no cover  macOS
                os.pwrite(fd, bytes(size), 0)
        finally:
            os.close(fd)

    def free_bytes(self) -> int:
        stat = os.statvfs(self._root)
        return stat.f_bavail * stat.f_frsize

    def tighten(self, name: str) -> bool:
        path = self._root / name
        mode = path.stat().st_mode & 0o777
        if not mode & _WIDER:
            return False
        path.chmod(mode & ~_WIDER)
        return True

    def try_lock(self, name: str) -> DiskLock | None:
        fd = os.open(self._root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return _RealLock(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
