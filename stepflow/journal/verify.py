"""Look at a data directory without touching it: is it whole, and what is in it?

The verdict is recovery's own, with nothing synced, copied or removed. On top of it everything that
a start would not read is read too: older snapshots, older segments. A server may be running; then
what is still being written can look unfinished, so a bad verdict is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from stepflow.errors import DiskFailedError, JournalCorruptError, OperatorError
from stepflow.journal.frame import frame_records
from stepflow.journal.reader import SegmentReader
from stepflow.journal.recovery import Recovery
from stepflow.journal.segment import SegmentHeader, segment_lsn, segment_name
from stepflow.journal.snapshot import (
    BadSnapshotError,
    read_snapshot,
    snapshot_lsn,
    verify_snapshot,
)
from stepflow.journal.store import read_store, refuse_newer_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepflow.journal.disk import Disk

__all__ = ["VerifyReport", "dump", "dump_snapshot", "verify"]

_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The verdict. `exit_code` is 0 when a start would succeed and nothing is damaged."""

    ok: bool
    lsn: int
    records: int
    segments: int
    snapshots: int
    messages: list[str] = field(default_factory=list[str])
    exit_code: int = 0


def verify(disk: Disk) -> VerifyReport:
    """Check every file of the journal and say what a start would do."""
    for _ in range(_TRIES - 1):
        report = _verify(disk)
        if report.ok:
            return report
    return _verify(disk)


def dump(disk: Disk, from_lsn: int = 1) -> Iterator[tuple[int, bytes]]:
    """Yield LSN and JSON of every record that is there, from `from_lsn` on, in order.

    Ends with `JournalCorruptError` where the journal is damaged, or a newer version's.
    """
    refuse_newer_files(disk)
    segments = _names(disk, segment_lsn)
    for index, name in enumerate(segments):
        following = segments[index + 1] if index + 1 < len(segments) else None
        last_lsn = (segment_lsn(following) or 0) - 1 if following else None
        if last_lsn is None or last_lsn >= from_lsn:
            yield from _segment_records(disk, name, last_lsn, from_lsn)


def dump_snapshot(disk: Disk, on_line: Callable[[int, bytes], None]) -> str | None:
    """Hand over the newest whole snapshot's lines; return its name, None when there is none.

    Raises `JournalCorruptError` for a newer version's directory.
    """
    refuse_newer_files(disk)
    for name in reversed(_names(disk, snapshot_lsn)):
        try:
            verify_snapshot(disk, name)
        except BadSnapshotError:
            continue
        read_snapshot(disk, name, on_line)
        return name
    return None


def _segment_records(
    disk: Disk, name: str, last_lsn: int | None, from_lsn: int
) -> Iterator[tuple[int, bytes]]:
    data = disk.read(name)
    header = SegmentHeader.decode(data)
    if header is None:
        raise JournalCorruptError("SFW205", f"the header of {name} is damaged", name, 0)
    reader = SegmentReader(data, header, last_lsn)
    for frame in reader:
        for lsn, record in enumerate(frame_records(data, frame), frame.first_lsn):
            if lsn >= from_lsn:
                yield lsn, record
    if last_lsn is not None and reader.lsn < last_lsn:
        bad = reader.ending()
        message = f"damage at {name}@{bad.offset} after lsn {reader.lsn}: {bad.reason}"
        raise JournalCorruptError("SFW204", message, name, bad.offset)


def _verify(disk: Disk) -> VerifyReport:
    segments: list[str] = []
    snapshots: list[str] = []
    lsn = records = exit_code = 0
    messages: list[str] = []
    try:
        segments, snapshots = _names(disk, segment_lsn), _names(disk, snapshot_lsn)
        store = read_store(disk)
        if store is None:
            return VerifyReport(ok=True, lsn=0, records=0, segments=0, snapshots=0)
        found = Recovery(disk, store, 0, _ignore, _ignore, read_only=True).run()
        lsn, records, base = found.lsn, found.records, found.base_lsn
        messages += found.messages
        bad = [*found.aside, *_bad_older(disk, segments, snapshots, base, messages)]
        exit_code = JournalCorruptError.exit_code if bad else 0
    except OperatorError as error:
        messages.append(str(error))
        exit_code = error.exit_code
    except OSError as error:
        messages.append(f"SFW209 reading {disk.path} failed: {error}")
        exit_code = DiskFailedError.exit_code
    return VerifyReport(
        ok=exit_code == 0,
        lsn=lsn,
        records=records,
        segments=len(segments),
        snapshots=len(snapshots),
        messages=messages,
        exit_code=exit_code,
    )


def _bad_older(
    disk: Disk, segments: list[str], snapshots: list[str], base: int, messages: list[str]
) -> list[str]:
    """Read what the start did not need; return what is damaged, and say so."""
    bad: list[str] = []
    for name, following in pairwise(segments):
        if name < segment_name(base):
            try:
                for _ in _segment_records(disk, name, (segment_lsn(following) or 0) - 1, 0):
                    pass
            except (JournalCorruptError, ValueError) as error:
                messages.append(f"SFW107 {error}; the newest snapshot makes it needless")
                bad.append(name)
    for name in snapshots[:-1]:
        try:
            verify_snapshot(disk, name)
        except BadSnapshotError as error:
            messages.append(f"SFW103 snapshot {error}; a newer one is used")
            bad.append(name)
    return bad


def _names(disk: Disk, lsn_of: Callable[[str], int | None]) -> list[str]:
    return [name for name in disk.listdir() if lsn_of(name) is not None]


def _ignore(_lsn: int, _data: bytes) -> None:
    return
