r"""A segment: a file of frames, made of real zeros before it has a name.

::

    wal-00000000000000000042.log       named after the LSN of its first record
      0    header, 512 bytes: magic, format, store, first LSN, chain, size, checksum
      512  frames, each at a multiple of 32
      …    zeros up to the size

It is made in two steps. **Prepare**, ahead of time and in another thread: `wal-next.tmp`, zeros
written (unwritten extents would cost a journal commit of the file system at each sync), synced.
**Name**, when the writer needs it: header, sync, rename, sync of the directory. So a file with a
segment's name always has its whole length and its header on disk; one that has not was damaged.
Segments are never written again after a restart and never used twice.
"""

from __future__ import annotations

import contextlib
import re
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from stepflow.journal.disk import SyncFailedError, is_full, write_all

if TYPE_CHECKING:
    from stepflow.journal.disk import Disk, DiskFile

__all__ = [
    "FORMAT",
    "RESERVE",
    "SEGMENT_HEADER_BYTES",
    "Segment",
    "SegmentHeader",
    "SegmentStock",
    "give_up_reserve",
    "segment_lsn",
    "segment_name",
]

FORMAT: Final = 1
"""The on-disk format this build writes, and the newest it reads."""
SEGMENT_HEADER_BYTES: Final = 512
RESERVE: Final = "RESERVE"
"""Space set aside while there is some, given up when there is none."""

_MAGIC: Final = b"SFWAL\0\x01\n"
_FIELDS: Final = struct.Struct("<8sHHIQQIQ")
_U32: Final = struct.Struct("<I")
_CRC_AT: Final = SEGMENT_HEADER_BYTES - 4
_NAME: Final = re.compile(r"wal-(\d{20})\.log")
_NEXT: Final = "wal-next.tmp"
_CHUNK: Final = 1024 * 1024
_PAGE: Final = 4096
_SYNC_EVERY: Final = 8 * _CHUNK


def segment_name(first_lsn: int) -> str:
    """Return the file name of the segment that begins with `first_lsn`."""
    return f"wal-{first_lsn:020d}.log"


def segment_lsn(name: str) -> int | None:
    """Return the LSN in a segment's file name, None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first 512 bytes. `chain` is the crc of the frame before, whatever segment it is in."""

    store_id: int
    first_lsn: int
    chain: int
    size: int
    format: int = FORMAT
    min_reader: int = FORMAT

    def encode(self) -> bytes:
        """Return the 512 bytes."""
        fields = _FIELDS.pack(
            _MAGIC,
            self.format,
            self.min_reader,
            0,
            self.store_id,
            self.first_lsn,
            self.chain,
            self.size,
        )
        body = fields.ljust(_CRC_AT, b"\0")
        return body + _U32.pack(crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> SegmentHeader | None:
        """Return the header at the start of `data`, None when it is not whole."""
        if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(_MAGIC):
            return None
        if crc32(data[:_CRC_AT]) != _U32.unpack_from(data, _CRC_AT)[0]:
            return None
        _, fmt, min_reader, _, store_id, first_lsn, chain, size = _FIELDS.unpack_from(data)
        return cls(store_id, first_lsn, chain, size, fmt, min_reader)


@dataclass(slots=True)
class Segment:
    """The open segment of the writer."""

    name: str
    file: DiskFile
    first_lsn: int
    size: int
    offset: int = SEGMENT_HEADER_BYTES

    @property
    def left(self) -> int:
        """Bytes that still fit."""
        return self.size - self.offset

    @property
    def empty(self) -> bool:
        """Whether no frame was written yet."""
        return self.offset == SEGMENT_HEADER_BYTES


class SegmentStock:
    """At most one prepared segment, shared by the thread that makes it and the writer's.

    When the disk is full the reserve file is given up before `ENOSPC` is raised.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._mutex = threading.Lock()
        self._ready: tuple[DiskFile, int] | None = None

    @property
    def ready_bytes(self) -> int:
        """Size of the prepared segment, 0 when there is none."""
        ready = self._ready
        return ready[1] if ready else 0

    def prepare(self, size: int) -> None:
        """Make a segment of at least `size` bytes ready, if none is. Raises `OSError`."""
        with self._mutex:
            if self._ready is None:
                self._ready = self._make(size)

    def name_next(self, header: SegmentHeader) -> Segment:
        """Return a new segment of at least `header.size` bytes, durable under its name."""
        with self._mutex:
            ready, self._ready = self._ready, None
            if ready and ready[1] < header.size:
                ready[0].close()
                ready = None
            file, size = ready or self._make(header.size)
            return self._name(
                file, SegmentHeader(header.store_id, header.first_lsn, header.chain, size)
            )

    def discard(self) -> None:
        """Remove the prepared segment at a clean end."""
        with self._mutex:
            ready, self._ready = self._ready, None
            if ready:
                ready[0].close()
                self._disk.unlink(_NEXT)

    def _name(self, file: DiskFile, header: SegmentHeader) -> Segment:
        name = segment_name(header.first_lsn)
        try:
            write_all(file, header.encode(), 0)
            file.fsync()
            self._disk.rename(_NEXT, name)
        except OSError:
            self._drop(file)
            raise
        try:
            self._disk.sync_dir()
        except OSError as error:
            # The name may be on disk or not: writing on could leave records in a lost file.
            file.close()
            raise SyncFailedError(
                error.errno, f"syncing the name {name} failed: {error}"
            ) from error
        return Segment(name, file, header.first_lsn, header.size)

    def _make(self, size: int) -> tuple[DiskFile, int]:
        size = -(-size // _PAGE) * _PAGE
        try:
            return self._write_zeros(size), size
        except OSError as error:
            if not (is_full(error) and give_up_reserve(self._disk)):
                raise
        return self._write_zeros(size), size

    def _write_zeros(self, size: int) -> DiskFile:
        file = self._disk.open(_NEXT, create=True)
        try:
            zeros = bytes(min(size, _CHUNK))
            for offset in range(0, size, _CHUNK):
                write_all(file, zeros[: size - offset], offset)
                # Many small syncs: one of 64 MiB would hold up the writer's own.
                if offset and offset % _SYNC_EVERY == 0:
                    file.fdatasync()
            file.fsync()
        except OSError:
            self._drop(file)
            raise
        return file

    def _drop(self, file: DiskFile) -> None:
        """Remove a half-made segment."""
        file.close()
        with contextlib.suppress(OSError):
            self._disk.unlink(_NEXT)


def give_up_reserve(disk: Disk) -> bool:
    """Remove the reserve file; say whether there was one."""
    try:
        disk.unlink(RESERVE)
        disk.sync_dir()
    except FileNotFoundError:
        return False
    return True
