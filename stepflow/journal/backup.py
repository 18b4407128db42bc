"""Copy a data directory while a server runs.

First the snapshots, then the segments: what a snapshot includes was durable before it had its name,
so it is in the segments that are read afterwards. The last segment may be in the middle of a write:
its whole frames are copied, and no more. Compaction may take a file away meanwhile; then the copy
is begun again. FORMAT comes last, when all else is on disk: a copy that was cut short has none, and
does not start (SFW211).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.errors import ConfigurationError, DiskFailedError, JournalCorruptError
from stepflow.journal.disk import copy_bytes, replace_file
from stepflow.journal.lock import LOCK
from stepflow.journal.reader import SegmentReader
from stepflow.journal.segment import (
    RESERVE,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    segment_lsn,
)
from stepflow.journal.snapshot import snapshot_lsn
from stepflow.journal.store import FORMAT_FILE, refuse_newer_files
from stepflow.journal.verify import VerifyReport, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.journal.disk import Disk

__all__ = ["backup"]

_TRIES: Final = 5
_LEFT_OUT: Final = frozenset({LOCK, RESERVE, "marker", "sessions.json", FORMAT_FILE})
"""What belongs to one process on one machine, who is logged in there, and what is copied last."""


def backup(source: Disk, target: Disk) -> VerifyReport:
    """Copy `source` into the empty directory `target`, verify the copy and return the verdict.

    Takes no lock and writes nothing in `source`. Raises `ConfigurationError` when `target` is not
    empty, `JournalCorruptError` when the copy would not start, `DiskFailedError` when a disk fails.
    """
    try:
        _fill(source, target)
    except OSError as error:
        message = (
            f"SFW209 copying {source.path} to {target.path} failed: {error}. The copy is not to be "
            "used: mend the disk, or make room, and back up into a new directory"
        )
        raise DiskFailedError(message) from error
    report = verify(target)
    if not report.ok:
        raise JournalCorruptError("SFW212", f"the copy is not whole: {report.messages[-1]}")
    return report


def _fill(source: Disk, target: Disk) -> None:
    refuse_newer_files(source)
    target.make_root()
    if target.listdir():
        raise ConfigurationError(f"{target.path} is not empty: back up into a new directory")
    tries = 0
    while True:
        try:
            _copy(source, target)
        except FileNotFoundError:
            tries += 1
            if tries == _TRIES:
                raise
            _empty(target)
        else:
            return


def _copy(source: Disk, target: Disk) -> None:
    for name in source.listdir():
        if snapshot_lsn(name) is not None and name not in _LEFT_OUT:
            copy_bytes(target, name, source.read(name))
    names = [n for n in source.listdir() if _is_wanted(source, n)]
    segments = [n for n in names if segment_lsn(n) is not None]
    # The segments first: whatever was copied, a start finds them without FORMAT and refuses.
    for name in sorted(names, key=lambda name: (segment_lsn(name) is None, name)):
        data = source.read(name)
        copy_bytes(target, name, _whole_frames(data, name, segments))
    target.sync_dir()
    if FORMAT_FILE in source.listdir():
        replace_file(target, FORMAT_FILE, source.read(FORMAT_FILE))


def _is_wanted(source: Disk, name: str) -> bool:
    """Say whether a file belongs into the copy; folders (broken/) do not."""
    if name in _LEFT_OUT or name.endswith(".tmp") or snapshot_lsn(name) is not None:
        return False
    return not source.is_folder(name)


def _whole_frames(data: bytes, name: str, segments: Sequence[str]) -> bytes:
    """Return the bytes to keep of a file: of the last segment its whole frames."""
    if not segments or name != segments[-1]:
        return data
    header = SegmentHeader.decode(data)
    if header is None:
        return data
    reader = SegmentReader(data, header)
    for _ in reader:
        pass
    shorter = SegmentHeader(header.store_id, header.first_lsn, header.chain, reader.offset)
    return shorter.encode() + data[SEGMENT_HEADER_BYTES : reader.offset]


def _empty(target: Disk) -> None:
    for name in target.listdir():
        target.unlink(name)
