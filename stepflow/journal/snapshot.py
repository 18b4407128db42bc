"""A snapshot: all states in one file of JSON lines, whole or worthless.

::

    snap-00000000000000000042.jsonl    named after its base: replay begins with that LSN
    {"k":"head","fmt":1,"min_reader":1,"store":"…","base":42,"created":…}
    {"k":"row","lsn":57,"v":<the caller's JSON>}     lsn: the last record that the line includes
    …
    {"k":"sum","n":9000,"crc":…}                     after each MiB: locates damage
    {"k":"foot","lines":…,"bytes":…,"end_lsn":…,"sha256":"…"}

It is written while runs go on, so a line may include records from behind the base; replay applies
to each row only what is newer. The foot is not parsed but computed again and compared byte by
byte; a file is valid only if it ends with exactly that line. `end_lsn` is the highest `lsn` of all
lines: a log that ends before it has lost what was on disk.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from zlib import crc32

from stepflow.journal.disk import is_full, write_all
from stepflow.journal.segment import FORMAT, give_up_reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stepflow.journal.disk import Disk, DiskFile

__all__ = [
    "BadSnapshotError",
    "SnapshotFile",
    "SnapshotInfo",
    "read_snapshot",
    "snapshot_lsn",
    "snapshot_name",
    "verify_snapshot",
]

_NAME: Final = re.compile(r"snap-(\d{20})\.jsonl")
_ROW: Final = re.compile(rb'\{"k":"row","lsn":(\d+),"v":')
_SUM_EVERY: Final = 1024 * 1024
_CHUNK: Final = 1024 * 1024
_SYNC_EVERY: Final = 8 * 1024 * 1024


class BadSnapshotError(Exception):
    """The file is not a whole snapshot; the message says where it stops being one."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a verified snapshot says of itself."""

    name: str
    base_lsn: int
    end_lsn: int
    lines: int
    size: int
    created_ms: int
    store_id: int
    min_reader: int


def snapshot_name(base_lsn: int) -> str:
    """Return the file name of the snapshot whose replay begins with `base_lsn`."""
    return f"snap-{base_lsn:020d}.jsonl"


def snapshot_lsn(name: str) -> int | None:
    """Return the base in a snapshot's file name, None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(slots=True)
class _Totals:
    """What writer and reader count alike, line by line."""

    base_lsn: int
    lines: int = 0
    size: int = 0
    end_lsn: int = 0
    sha: Any = field(default_factory=hashlib.sha256)
    crc: int = 0
    since_sum: int = 0

    def add(self, data: bytes) -> None:
        self.sha.update(data)
        self.crc = crc32(data, self.crc)
        self.size += len(data)
        self.since_sum += len(data)

    def count_row(self, lsn: int) -> None:
        self.lines += 1
        self.end_lsn = max(self.end_lsn, lsn)

    def sum_line(self) -> bytes:
        return b'{"k":"sum","n":%d,"crc":%d}\n' % (self.lines, self.crc)

    def foot_line(self) -> bytes:
        return b'{"k":"foot","lines":%d,"bytes":%d,"end_lsn":%d,"sha256":"%s"}\n' % (
            self.lines,
            self.size,
            self.end_lsn,
            self.sha.hexdigest().encode(),
        )

    def info(
        self, name: str, size: int, created_ms: int, store_id: int, *, min_reader: int
    ) -> SnapshotInfo:
        return SnapshotInfo(
            name, self.base_lsn, self.end_lsn, self.lines, size, created_ms, store_id, min_reader
        )


class SnapshotFile:
    """Writes one snapshot to `….tmp`. Blocking; used by one thread at a time."""

    def __init__(self, disk: Disk, base_lsn: int, created_ms: int, store_id: int) -> None:
        self.name = snapshot_name(base_lsn)
        self.tmp = f"{self.name}.tmp"
        self._disk = disk
        self._totals = _Totals(base_lsn)
        self._offset = 0
        self._unsynced = 0
        self._created_ms = created_ms
        self._store_id = store_id
        self._foot = b""
        self._file: DiskFile | None = None

    @property
    def end_lsn(self) -> int:
        """The highest LSN that any line includes."""
        return self._totals.end_lsn

    def write(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Append lines. Raises `OSError`."""
        totals = self._totals
        parts = self._begin() if self._file is None else []
        size = sum(map(len, parts))
        for lsn, value in lines:
            line = b'{"k":"row","lsn":%d,"v":%s}\n' % (lsn, value)
            parts.append(line)
            size += len(line)
            totals.count_row(lsn)
            if totals.since_sum + size >= _SUM_EVERY:
                self._put_block(b"".join(parts))
                self._put_sum()
                parts, size = [], 0
        self._put_block(b"".join(parts))

    def seal(self) -> None:
        """Write the foot and sync: the contents are durable, the name is not final yet."""
        self.write(())
        self._put_sum()
        self._foot = self._totals.foot_line()
        self._put(self._foot)
        file = self._open_file()
        file.fsync()
        file.close()

    def publish(self) -> None:
        """Give the file its name, durably."""
        self._disk.rename(self.tmp, self.name)
        self._disk.sync_dir()

    def read_back(self) -> SnapshotInfo:
        """Read the named file from the disk and compare it with what was written.

        Raises `BadSnapshotError` or `OSError`.
        """
        self._disk.forget(self.name)
        body_bytes = self._offset - len(self._foot)
        file = self._disk.open(self.name)
        try:
            sha = hashlib.sha256()
            for offset in range(0, body_bytes, _CHUNK):
                sha.update(file.pread(min(_CHUNK, body_bytes - offset), offset))
            foot = file.pread(len(self._foot) + 1, body_bytes)
        finally:
            file.close()
        if foot != self._foot or sha.digest() != self._totals.sha.digest():
            raise BadSnapshotError(f"{self.name}: read back, it is not what was written")
        return self._totals.info(
            self.name, self._offset, self._created_ms, self._store_id, min_reader=FORMAT
        )

    def abandon(self) -> None:
        """Remove what was written."""
        if self._file is not None:
            self._file.close()
            if self.tmp in self._disk.listdir():
                self._disk.unlink(self.tmp)

    def _begin(self) -> list[bytes]:
        self._file = self._disk.open(self.tmp, create=True)
        return [_head_line(self._totals.base_lsn, self._created_ms, self._store_id)]

    def _put_block(self, block: bytes) -> None:
        # Hashed in one go: that lets other threads run, a line at a time would not.
        self._totals.add(block)
        self._put(block)

    def _put_sum(self) -> None:
        self._put_block(self._totals.sum_line())
        self._totals.since_sum = 0

    def _open_file(self) -> DiskFile:
        assert self._file is not None
        return self._file

    def _put(self, data: bytes) -> None:
        if not data:
            return
        file = self._open_file()
        try:
            write_all(file, data, self._offset)
        except OSError as error:
            # A snapshot frees space in the end: it may have what was put aside.
            if not (is_full(error) and give_up_reserve(self._disk)):
                raise
            write_all(file, data, self._offset)
        self._offset += len(data)
        self._unsynced += len(data)
        # Many small syncs: one giant one at the end would hold up the writer's.
        if self._unsynced >= _SYNC_EVERY:
            file.fdatasync()
            self._unsynced = 0


def verify_snapshot(disk: Disk, name: str) -> SnapshotInfo:
    """Return what the snapshot says when all of it is right.

    Raises `BadSnapshotError`, or `OSError` when it cannot be read.
    """
    return _read(disk, name, _nothing)


def read_snapshot(disk: Disk, name: str, on_line: Callable[[int, bytes], None]) -> SnapshotInfo:
    """Hand each line to `on_line(lsn, json)`; the file was verified before."""
    return _read(disk, name, on_line)


def _nothing(_lsn: int, _value: bytes) -> None:
    return


def _read(disk: Disk, name: str, on_line: Callable[[int, bytes], None]) -> SnapshotInfo:
    lines = _lines(disk, name)
    head = next(lines, b"")
    fields = _parse_head(name, head)
    totals = _Totals(fields["base"])
    totals.add(head)
    foot = b""
    for line in lines:
        if foot:
            raise BadSnapshotError(f"{name}: data after its last line")
        row = _ROW.match(line)
        if row and line.endswith(b"}\n"):
            lsn = int(row[1])
            totals.add(line)
            totals.count_row(lsn)
            on_line(lsn, line[row.end() : -2])
        elif line == totals.sum_line():
            totals.add(line)
            totals.since_sum = 0
        elif line == totals.foot_line():
            foot = line
        else:
            raise BadSnapshotError(f"{name}@{totals.size}: damaged after {totals.lines} lines")
    if not foot:
        raise BadSnapshotError(f"{name}@{totals.size}: its last line is missing")
    return totals.info(
        name,
        totals.size + len(foot),
        fields["created"],
        int(fields["store"], 16),
        min_reader=fields["min_reader"],
    )


def _head_line(base_lsn: int, created_ms: int, store_id: int) -> bytes:
    return b'{"k":"head","fmt":%d,"min_reader":%d,"store":"%016x","base":%d,"created":%d}\n' % (
        FORMAT,
        FORMAT,
        store_id,
        base_lsn,
        created_ms,
    )


def _parse_head(name: str, line: bytes) -> dict[str, Any]:
    try:
        fields = cast("dict[str, Any]", json.loads(line))
        sound = (
            fields["k"] == "head"
            and isinstance(fields["base"], int)
            and isinstance(fields["created"], int)
            and isinstance(fields["min_reader"], int)
            and int(fields["store"], 16) >= 0
            and line.endswith(b"\n")
        )
    except (ValueError, KeyError, TypeError):
        sound = False
        fields = {}
    if not sound or snapshot_name(fields["base"]) != name.removesuffix(".tmp"):
        raise BadSnapshotError(f"{name}@0: damaged first line")
    return fields


def _lines(disk: Disk, name: str) -> Iterator[bytes]:
    """Yield the file's lines, each with its newline; the last one perhaps without."""
    file = disk.open(name)
    try:
        offset = 0
        begun: list[bytes] = []
        while chunk := file.pread(_CHUNK, offset):
            offset += len(chunk)
            first, *others = chunk.split(b"\n")
            begun.append(first)
            if others:
                yield b"".join(begun) + b"\n"
                for line in others[:-1]:
                    yield line + b"\n"
                begun = [others[-1]]
        if rest := b"".join(begun):
            yield rest
    finally:
        file.close()
