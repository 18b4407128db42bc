"""The FORMAT file: which store this directory is, and who can read it.

`{"store_id": "<16 hex digits>", "format": 1, "min_reader": 1, "created_by": "0.1.0"}`
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from stepflow.errors import DiskFailedError, JournalCorruptError
from stepflow.journal.disk import replace_file
from stepflow.journal.segment import (
    FORMAT,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    segment_lsn,
)
from stepflow.journal.snapshot import snapshot_lsn

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.journal.disk import Disk

__all__ = [
    "FORMAT_FILE",
    "Store",
    "create_store",
    "read_failed",
    "read_store",
    "refuse_newer",
    "refuse_newer_files",
    "write_store",
]

FORMAT_FILE: Final = "FORMAT"


@dataclass(frozen=True, slots=True)
class Store:
    """What FORMAT says."""

    store_id: int
    format: int
    min_reader: int
    created_by: str

    @property
    def hex_id(self) -> str:
        """The store's id as it is shown."""
        return f"{self.store_id:016x}"


def read_store(disk: Disk) -> Store | None:
    """Return what FORMAT says; None for a directory that has no data yet.

    Raises `JournalCorruptError`: SFW301 for a directory of a newer version, SFW211 for a FORMAT
    that is damaged or missing beside data.
    """
    names = disk.listdir()
    if FORMAT_FILE not in names:
        if any(segment_lsn(n) is not None or snapshot_lsn(n) is not None for n in names):
            raise _damaged(disk, "is missing beside journal files")
        return None
    try:
        fields = cast("dict[str, Any]", json.loads(disk.read(FORMAT_FILE)))
        store = Store(
            int(fields["store_id"], 16),
            int(fields["format"]),
            int(fields["min_reader"]),
            str(fields["created_by"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(disk, "cannot be read") from error
    refuse_newer(disk.path, FORMAT_FILE, store.min_reader, store.created_by)
    return store


def create_store(disk: Disk, entropy: Callable[[int], bytes], version: str) -> Store:
    """Write FORMAT for a new store, durably, and return it."""
    store = Store(int.from_bytes(entropy(8), "big"), FORMAT, FORMAT, version)
    write_store(disk, store)
    return store


def write_store(disk: Disk, store: Store) -> None:
    """Write FORMAT, all or nothing."""
    text = {
        "store_id": store.hex_id,
        "format": store.format,
        "min_reader": store.min_reader,
        "created_by": store.created_by,
    }
    replace_file(disk, FORMAT_FILE, json.dumps(text).encode() + b"\n")


def refuse_newer(path: str, name: str, min_reader: int, created_by: str = "?") -> None:
    """Raise SFW301 when a file needs a newer reader than this one."""
    if min_reader <= FORMAT:
        return
    message = (
        f"{path}/{name} was written by version {created_by} and needs a reader of format "
        f"{min_reader} or later; this build reads format {FORMAT}. Start the newer version. "
        "Nothing was changed"
    )
    raise JournalCorruptError("SFW301", message, name)


def refuse_newer_files(disk: Disk) -> None:
    """Raise SFW301 when FORMAT or any segment needs a newer reader; nothing is touched.

    A version that writes what older ones cannot read raises FORMAT's `min_reader` before it does.
    A snapshot's first line has no checksum of its own and is believed with the whole file only.
    Raises `DiskFailedError` when something cannot be read.
    """
    try:
        _refuse_newer_files(disk)
    except OSError as error:
        raise read_failed(disk, error) from error


def read_failed(disk: Disk, error: OSError) -> DiskFailedError:
    """Return the error of a start that the disk does not let read."""
    return DiskFailedError(
        f"SFW209 reading {disk.path} failed: {error}. Nothing was changed; check the disk"
    )


def _refuse_newer_files(disk: Disk) -> None:
    names = disk.listdir()
    try:
        read_store(disk)
    except JournalCorruptError as error:
        # What else is wrong is recovery's to say.
        if error.code == "SFW301":
            raise
    for name in names:
        if segment_lsn(name) is None:
            continue
        try:
            file = disk.open(name)
        except FileNotFoundError:
            # A server runs, and its compaction was quicker.
            continue
        try:
            header = SegmentHeader.decode(file.pread(SEGMENT_HEADER_BYTES, 0))
        finally:
            file.close()
        if header is not None:
            refuse_newer(disk.path, name, header.min_reader)


def _damaged(disk: Disk, what: str) -> JournalCorruptError:
    message = (
        f"{disk.path}/{FORMAT_FILE} {what}. Nothing was changed. Restore it from a backup, or run "
        f"`stepflow repair {disk.path}`, which writes it anew from the journal's own headers; a "
        "backup without it was not finished: take another"
    )
    return JournalCorruptError("SFW211", message, FORMAT_FILE)
