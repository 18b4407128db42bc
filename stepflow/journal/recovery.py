"""From the files of a data directory to the records that hold.

The newest whole snapshot, then every record from its base on, in order. The rule for what is not a
whole frame, with the SFW code of its message:

====================================================== ======================== ======= ========
found                                                  done                     code    exit
====================================================== ======================== ======= ========
last segment: frames, then zeros                       start
last segment: frames, then a torn frame                copied aside, start      SFW101
the same behind a clean stop's record                  refused                  SFW201  65
last segment ends before its own length, no zeros left refused                  SFW210  65
last segment: last frame complete, checksum wrong      refused                  SFW202  65
bad frame, something written behind it                 refused                  SFW203  65
bad frame in an older segment                          refused                  SFW204  65
the same, and the snapshot makes it needless           start                    SFW107
a segment's header is damaged                          refused                  SFW205  65
a segment is missing, or not the follower of the one   refused                  SFW206  65
a file of another store                                refused                  SFW207  65
newest snapshot bad, the one before and its journal ok start, bad one aside     SFW103
no good snapshot, journal from LSN 1                   start                    SFW104
no good snapshot, journal begins later                 refused                  SFW208  65
snapshot mentions an LSN behind the journal's end      refused                  SFW201  65
FORMAT damaged or missing                              refused                  SFW211  65
written for a newer reader                             refused, nothing touched SFW301  65
a read or a sync fails                                 refused                  SFW209  74
a half-made file (`*.tmp`)                             removed                  SFW102
others may read our files                              rights taken away        SFW105
a line or record that makes no sense (`LeftOutError`)  copied aside, start      SFW403
====================================================== ======================== ======= ========

**What is read is synced first.** The page cache may show records that were never synced; served
and then lost in a power cut they would be a promise broken.

Blocking; nothing here knows threads or loops. `on_line` and `on_record` are called as it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from zlib import crc32

from stepflow.errors import JournalCorruptError
from stepflow.journal.disk import copy_bytes, is_full
from stepflow.journal.frame import Verdict, frame_records
from stepflow.journal.reader import SegmentReader
from stepflow.journal.segment import SegmentHeader, segment_lsn, segment_name
from stepflow.journal.snapshot import (
    BadSnapshotError,
    SnapshotInfo,
    read_snapshot,
    snapshot_lsn,
    verify_snapshot,
)
from stepflow.journal.store import Store, read_failed, refuse_newer
from stepflow.journal.system import CLOSE_PREFIX, is_system

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.journal.disk import Disk
    from stepflow.journal.frame import BadFrame
    from stepflow.journal.recent import Recent

__all__ = [
    "BROKEN",
    "LeftOutError",
    "Recovered",
    "Recovery",
    "RecoveryProgress",
    "tidy",
]

_FOLDED: Final = 4096
"""Recent records are taken in so many at a time."""

BROKEN: Final = "broken"
"""The folder of copies that are made before anything is cut."""


class LeftOutError(Exception):
    """Raised by `on_line` or `on_record`: it cannot be used. The message is for the operator.

    Empty when the same was said of another already.
    """


@dataclass(frozen=True, slots=True)
class RecoveryProgress:
    """How far recovery is."""

    phase: str
    """`waiting` for the lock, `snapshot`, or `journal`."""
    bytes_done: int
    bytes_total: int
    records: int
    message: str = ""


@dataclass(slots=True)
class Recovered:
    """What recovery found. The next record gets `lsn + 1`; its frame is chained to `chain`."""

    lsn: int = 0
    chain: int = 0
    clean: bool = True
    messages: list[str] = field(default_factory=list[str])
    records: int = 0
    lines: int = 0
    snapshots: list[SnapshotInfo] = field(default_factory=list[SnapshotInfo])
    """The good ones, oldest first."""
    trims: list[tuple[str, int]] = field(default_factory=list["tuple[str, int]"])
    """Segments and the ends of their last frames: cut there when the next segment exists."""
    aside: list[str] = field(default_factory=list[str])
    """Bad snapshots, to be moved to broken/."""
    recent: Recent | None = None
    """The last records, where they were asked for."""

    @property
    def base_lsn(self) -> int:
        """Where replay began."""
        return self.snapshots[-1].base_lsn if self.snapshots else 1


def _silent(_progress: RecoveryProgress) -> None:
    return


@dataclass(slots=True)
class Recovery:
    """One recovery. `read_only` looks without touching: no sync, no copy, no removal."""

    disk: Disk
    store: Store
    now_ms: int
    on_line: Callable[[int, bytes], None]
    on_record: Callable[[int, bytes], None]
    progress: Callable[[RecoveryProgress], None] = _silent
    read_only: bool = False
    recent: Recent | None = None
    """Where to keep the last records, from before the snapshot too."""
    found: Recovered = field(default_factory=Recovered)
    _names: list[str] = field(default_factory=list[str])
    _bytes_done: int = 0
    _bytes_total: int = 0
    _closed: bool = False
    """Whether the last record read is a clean stop's."""
    _bad_snapshots: bool = False
    _tails: list[tuple[str, bytes]] = field(default_factory=list["tuple[str, bytes]"])
    """Segments that end in a torn frame, and their bytes: copied before they are cut."""
    _left_out: list[tuple[int, bytes]] = field(default_factory=list["tuple[int, bytes]"])
    """What the callers could not use, with its LSN."""

    def run(self) -> Recovered:
        """Return what holds, having handed it over. Raises as the table in the module says."""
        try:
            self._names = [name for name in self.disk.listdir() if not name.endswith(".tmp")]
            self._restore_snapshot()
            self._read_journal()
            self._check_watermark()
            self._read_older()
            if not self.read_only:
                # Nothing was changed so far: whoever is refused finds the directory as it was.
                self._clear()
                self._copy_tails()
                self.disk.sync_dir()
        except OSError as error:
            raise read_failed(self.disk, error) from error
        found = self.found
        # A directory without a segment never ran: there is nothing that could be unclean.
        found.clean = self._closed or found.lsn == 0
        how = "clean" if found.clean else "after crash"
        found.messages.insert(0, f"recovered {how} lsn={found.lsn}")
        return found

    # ------------------------------------------------------------ files

    def _clear(self) -> None:
        for name in self.disk.listdir():
            if name.endswith(".tmp"):
                self.disk.unlink(name)
                self._say(f"SFW102 removed unfinished file {name}")
            elif _is_ours(name) and self.disk.tighten(name):
                self._say(f"SFW105 other users could read {name}: its mode is now 0600")

    def _segments(self) -> list[str]:
        return sorted(name for name in self._names if segment_lsn(name) is not None)

    # ------------------------------------------------------------ snapshot

    def _restore_snapshot(self) -> None:
        """Verify the last two snapshots and hand over the newest good one."""
        names = sorted(name for name in self._names if snapshot_lsn(name) is not None)
        good: list[SnapshotInfo] = []
        for name in reversed(names):
            info = self._verify(name)
            if info:
                good.append(info)
                break
        if good:
            # The one before is not read: it matters only when this one goes bad.
            self.found.snapshots = good
            self._load(good[0])
        if self._bad_snapshots:
            self._say_fallback(good)

    def _verify(self, name: str) -> SnapshotInfo | None:
        try:
            if not self.read_only:
                self.disk.forget(name)
            info = verify_snapshot(self.disk, name)
        except BadSnapshotError as error:
            self._bad_snapshots = True
            self.found.aside.append(name)
            self._say(f"SFW103 snapshot {error}; it is not used")
            return None
        refuse_newer(self.disk.path, name, info.min_reader)
        if info.store_id != self.store.store_id:
            raise self._foreign(name, info.store_id)
        return info

    def _load(self, info: SnapshotInfo) -> None:
        self._bytes_total = info.size
        self._tell("snapshot")
        read_snapshot(self.disk, info.name, self._take_line)
        self.found.lines = info.lines
        self._bytes_done = info.size
        self._tell("snapshot")

    def _take_line(self, lsn: int, value: bytes) -> None:
        try:
            self.on_line(lsn, value)
        except LeftOutError as error:
            self._leave_out(lsn, value, error)

    def _leave_out(self, lsn: int, data: bytes, error: LeftOutError) -> None:
        self._left_out.append((lsn, data))
        if text := str(error):
            self._say(f"{text}. A copy of it is in {BROKEN}/")

    def _say_fallback(self, good: list[SnapshotInfo]) -> None:
        if good:
            self._say(f"SFW103 using {good[0].name} and the journal from lsn {good[0].base_lsn}")
        elif self._first_lsn() == 1:
            self._say("SFW104 no snapshot is whole: using the journal from lsn 1")

    def _first_lsn(self) -> int | None:
        segments = self._segments()
        return segment_lsn(segments[0]) if segments else None

    # ------------------------------------------------------------ journal

    def _read_journal(self) -> None:
        """Read the segments from the base on, each bounded by the header of the next."""
        needed, headers = self._needed_segments(self.found.base_lsn)
        self._bytes_done = 0
        self._bytes_total = sum(self.disk.size(name) for name in needed)
        if headers:
            self.found.lsn = headers[0].first_lsn - 1
            self.found.chain = headers[0].chain
            if self.recent is not None:
                self.recent.begin(headers[0].first_lsn)
        for index, name in enumerate(needed):
            last = index == len(needed) - 1
            following = None if last else headers[index + 1]
            self._read_segment(name, headers[index], following)
        self._tell("journal")

    def _needed_segments(self, base: int) -> tuple[list[str], list[SegmentHeader]]:
        """Return the segments from the one that begins with `base` on, with their headers."""
        segments = self._segments()
        if not (segments or self.found.snapshots or self._bad_snapshots):
            return [], []
        # A snapshot's base is always the first LSN of a segment: rotation made it.
        if segment_name(base) not in segments:
            raise self._missing(base, segments)
        at = segments.index(segment_name(base))
        for name in segments[:at]:
            self._glance(name)
        return segments[at:], [self._header(name) for name in segments[at:]]

    def _missing(self, base: int, segments: list[str]) -> JournalCorruptError:
        first = segment_lsn(segments[0]) if segments else None
        begins = f"begins with lsn {first}" if first else "is not there"
        if self.found.snapshots:
            return self._corrupt(
                "SFW206",
                f"the journal of lsn {base} on is missing: the snapshot needs it, the journal "
                f"{begins}",
            )
        # No repair can help here, so none is named.
        return JournalCorruptError(
            "SFW208",
            f"no snapshot is whole, and the journal {begins}. Nothing was changed in "
            f"{self.disk.path}. Restore a backup; nothing in the directory can replace it",
        )

    def _glance(self, name: str) -> None:
        """Look at the header of a segment that the snapshot makes needless."""
        file = self.disk.open(name)
        try:
            sound = SegmentHeader.decode(file.pread(512, 0)) is not None
        finally:
            file.close()
        if not sound:
            self._say(f"SFW107 {name} is damaged; the snapshot makes it needless")

    def _header(self, name: str) -> SegmentHeader:
        file = self.disk.open(name)
        try:
            header = SegmentHeader.decode(file.pread(512, 0))
        finally:
            file.close()
        if header is None:
            raise self._corrupt("SFW205", f"the header of {name} is damaged", name, 0)
        refuse_newer(self.disk.path, name, header.min_reader)
        if header.store_id != self.store.store_id:
            raise self._foreign(name, header.store_id)
        if header.first_lsn != segment_lsn(name):
            message = f"{name} holds the journal from lsn {header.first_lsn}: it was renamed"
            raise self._corrupt("SFW206", message, name, 0)
        return header

    def _read_segment(
        self, name: str, header: SegmentHeader, following: SegmentHeader | None
    ) -> None:
        if not self.read_only:
            # First the sync, then the read past the cache: what is seen is what the disk has.
            self.disk.sync(name)
            self.disk.forget(name)
        data = self.disk.read(name)
        bound = following.first_lsn - 1 if following else None
        reader = SegmentReader(data, header, bound)
        self._hand_over(reader, name)
        self.found.lsn = reader.lsn
        self.found.chain = reader.chain
        if following:
            self._check_sealed(reader, name, following)
        else:
            self._check_last(reader, name)
        if reader.lsn >= header.first_lsn and len(data) > reader.offset:
            self.found.trims.append((name, reader.offset))

    def _hand_over(self, reader: SegmentReader, name: str) -> None:
        data = reader.data
        for frame in reader:
            try:
                records = frame_records(data, frame)
            except ValueError as error:
                raise self._corrupt("SFW202", f"{name}: {error}", name, frame.offset) from error
            for lsn, record in enumerate(records, frame.first_lsn):
                if is_system(record):
                    self._closed = record.startswith(CLOSE_PREFIX)
                    continue
                self._closed = False
                try:
                    self.on_record(lsn, record)
                except LeftOutError as error:
                    self._leave_out(lsn, record, error)
            if self.recent is not None:
                self.recent.keep((records,))
                if frame.last_lsn % _FOLDED < frame.count:
                    self.recent.fold()
            self.found.records += len(records)
            self._tell("journal", frame.end)
        self._bytes_done += len(data)

    def _read_older(self) -> None:
        """Go back behind the snapshot for what the streams may still be asked for.

        Nothing else rests on these segments: where one is gone or damaged the streams begin later.
        """
        recent = self.found.recent = self.recent
        if recent is not None:
            recent.fold()
        base = self.found.base_lsn
        older = [name for name in self._segments() if (segment_lsn(name) or 0) < base]
        while recent is not None and older and recent.takes_older:
            more = self._older(older.pop(), recent)
            if more is None:
                return
            recent.put_before(more)

    def _older(self, name: str, recent: Recent) -> Recent | None:
        """Return the records of the segment, if they reach to the first that is kept."""
        data = self.disk.read(name)
        header = SegmentHeader.decode(data)
        if header is None or header.store_id != self.store.store_id:
            return None
        more = recent.like(header.first_lsn)
        for frame in SegmentReader(data, header, recent.first_lsn - 1):
            try:
                records = frame_records(data, frame)
            except ValueError:
                return None
            more.keep((records,))
            more.fold()
        return more if more.next_lsn == recent.first_lsn else None

    def _check_sealed(self, reader: SegmentReader, name: str, following: SegmentHeader) -> None:
        """A segment with a follower must reach exactly to it; what lies behind was dropped."""
        if reader.lsn == following.first_lsn - 1 and reader.chain == following.chain:
            return
        bad = reader.ending()
        if (
            bad.verdict is Verdict.UNUSED
            or (bad.verdict is Verdict.CUT and bad.offset == len(reader.data))
            or reader.lsn >= following.first_lsn - 1
        ):
            message = (
                f"the journal of lsn {reader.lsn + 1} to {following.first_lsn - 1} is missing "
                f"between {name} and lsn {following.first_lsn}"
            )
            raise self._corrupt("SFW206", message, name, bad.offset)
        message = (
            f"damage at {name}@{bad.offset} after lsn {reader.lsn}; good data goes on with lsn "
            f"{following.first_lsn}"
        )
        raise self._corrupt("SFW204", message, name, bad.offset)

    def _check_last(self, reader: SegmentReader, name: str) -> None:
        """Decide on what follows the last good frame of the last segment."""
        bad = reader.ending()
        match bad.verdict:
            case Verdict.UNUSED:
                return
            case Verdict.CUT:
                self._check_cut(reader, name, bad)
            case Verdict.TORN:
                self._drop_tail(reader, name, bad)
            case Verdict.ROT:
                message = (
                    f"damage in the last frame, {name}@{bad.offset} after lsn {reader.lsn}: "
                    f"{bad.reason}, and no power cut leaves it so"
                )
                raise self._corrupt("SFW202", message, name, bad.offset)
            case _:  # Verdict.MIDDLE
                good = f"good data after it from @{bad.later} (lsn {bad.later_lsn})"
                other = f"other data after it from @{bad.later}, damaged too"
                message = (
                    f"damage at {name}@{bad.offset} after lsn {reader.lsn}, "
                    f"{good if bad.later_lsn else other}"
                )
                raise self._corrupt("SFW203", message, name, bad.offset)

    def _check_cut(self, reader: SegmentReader, name: str, bad: BadFrame) -> None:
        size = len(reader.data)
        at_the_end = bad.offset == size
        # Filled to its last byte; or shorter, and a clean stop says that nothing followed.
        if at_the_end and (size >= reader.header.size or self._closed):
            return
        message = (
            f"{name} was made with {reader.header.size} bytes and has {size}: it was cut, and what "
            f"followed lsn {reader.lsn} may have been acknowledged"
        )
        raise self._corrupt("SFW210", message, name, bad.offset)

    def _drop_tail(self, reader: SegmentReader, name: str, bad: BadFrame) -> None:
        if self._closed:
            message = (
                f"the journal was closed at lsn {reader.lsn}, and {name}@{bad.offset} has data "
                "behind that"
            )
            raise self._corrupt("SFW201", message, name, bad.offset)
        torn = reader.data.rstrip(b"\0")
        self._say(
            f"SFW101 torn tail: dropped {len(torn) - bad.offset} unacknowledged bytes at "
            f"{name}@{bad.offset} after lsn {reader.lsn} ({bad.reason}; normal after power loss)"
        )
        self._tails.append((name, torn))

    def _copy_tails(self) -> None:
        for name, data in self._tails:
            if not self._copy_aside(f"{name}.{self.now_ms}", data):
                # Nor is it cut later: the next segment's header says where this one ends.
                self.found.trims = [trim for trim in self.found.trims if trim[0] != name]
        if self._left_out:
            data = b"".join(value + b"\n" for _, value in self._left_out)
            # The same at every start until the next snapshot: one copy will do.
            name = f"left-out-{self._left_out[0][0]:020d}-{crc32(data):08x}.jsonl"
            if name not in self.disk.listdir(BROKEN):
                self._copy_aside(name, data)

    def _copy_aside(self, name: str, data: bytes) -> bool:
        copy = f"{BROKEN}/{name}"
        try:
            self.disk.mkdir(BROKEN)
            copy_bytes(self.disk, copy, data)
            self.disk.sync_dir(BROKEN)
        except OSError as error:
            if not is_full(error):
                raise
            self._say(f"SFW101 no room for a copy in {copy}: what it is of is left as it is")
            return False
        return True

    # ------------------------------------------------------------ end

    def _check_watermark(self) -> None:
        """Refuse a journal that ends before an LSN that a snapshot proves durable."""
        for info in self.found.snapshots:
            if info.end_lsn > self.found.lsn:
                message = (
                    f"the journal ends at lsn {self.found.lsn}, but {info.name} includes lsn "
                    f"{info.end_lsn}: the disk has lost data that was synced"
                )
                raise self._corrupt("SFW201", message, info.name)

    def _tell(self, phase: str, ahead: int = 0) -> None:
        self.progress(
            RecoveryProgress(phase, self._bytes_done + ahead, self._bytes_total, self.found.records)
        )

    def _say(self, message: str) -> None:
        self.found.messages.append(message)

    def _foreign(self, name: str, store_id: int) -> JournalCorruptError:
        message = f"{name} belongs to store {store_id:016x}, this directory is {self.store.hex_id}"
        return self._corrupt("SFW207", message, name, 0)

    def _corrupt(
        self, code: str, message: str, name: str = "", offset: int | None = None
    ) -> JournalCorruptError:
        return JournalCorruptError(
            code,
            f"{message}. Nothing was changed in {self.disk.path}. Restore a backup, or look with "
            f"`stepflow verify {self.disk.path}` and cut with `stepflow repair {self.disk.path}`",
            name,
            offset,
        )


def tidy(disk: Disk, found: Recovered, now_ms: int) -> None:
    """Cut what recovery dropped; done when the next segment exists, so that none is the last."""
    for name, end in found.trims:
        file = disk.open(name)
        try:
            file.truncate(end)
        finally:
            file.close()
    if found.aside:
        disk.mkdir(BROKEN)
        for name in found.aside:
            disk.rename(name, f"{BROKEN}/{name}.{now_ms}")
        disk.sync_dir()
        disk.sync_dir(BROKEN)


def _is_ours(name: str) -> bool:
    return segment_lsn(name) is not None or snapshot_lsn(name) is not None
