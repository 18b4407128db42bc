"""Planted bugs: each breaks one rule of the core, from outside, and must be found.

A broken part says whenever it runs, so that a bug whose code is never reached cannot pass for one
that was not found, nor the other way round. Here stand those of the journal; `planted_answers` has
those of what callers are told and `planted_runs` those of what happens to runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from stepflow.journal import compaction
from stepflow.journal.api import Journal
from stepflow.journal.recovery import Recovery
from stepflow.journal.segment import SegmentStock, segment_lsn
from stepflow.journal.snapshot import SnapshotFile, snapshot_lsn
from stepflow.journal.snapshotting import SnapshotWriter
from stepflow.journal.writer import JournalWriter, NoRoomError
from tests.sim.patching import attribute, replaced

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from stepflow.journal.writer import Batch, Committed

__all__ = ["BUGS", "Bug", "planted"]


@dataclass(slots=True)
class Bug:
    """A rule to be broken: `with bug.enter():` it is."""

    name: str
    focus: str
    """What the seeds are about that find it soonest."""
    enter: Callable[[], AbstractContextManager[Any]]
    executed: int = 0
    """How often its broken code ran."""

    def ran(self) -> None:
        """Say that the broken code runs."""
        self.executed += 1


Ran = Callable[[], None]
BUGS: Final[dict[str, Bug]] = {}


def planted(focus: str = "") -> Callable[[Callable[[Ran], Any]], Any]:
    """Enter a bug under its function's name; it calls its argument when its broken code runs."""

    def enter(break_it: Callable[[Ran], Any]) -> Any:
        name = break_it.__name__.replace("_", "-")
        bug = BUGS[name] = Bug(name, focus, lambda: break_it(bug.ran))
        return break_it

    return enter


class _Skips:
    """A disk or a file that does everything but one thing."""

    def __init__(self, inner: Any, name: str, ran: Ran) -> None:
        self._inner = inner
        self._name = name
        self._ran = ran

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            return self._skip
        return getattr(self._inner, name)

    def _skip(self, *_: Any) -> None:
        self._ran()


@contextmanager
def without(owner: Any, part: str, name: str, ran: Ran) -> Generator[None]:
    """Let `owner.part` skip its method `name` inside the block."""
    real: Any = getattr(owner, part)
    setattr(owner, part, _Skips(real, name, ran))
    try:
        yield
    finally:
        setattr(owner, part, real)


def method_without(
    cls: Any, method: str, part: str, name: str, ran: Ran
) -> AbstractContextManager[None]:
    """Let a method of the class run while `part` of its object skips `name`."""
    real = attribute(cls, method)

    def broken(self: Any, *args: Any) -> Any:
        with without(self, part, name, ran):
            return real(self, *args)

    return replaced(cls, method, broken)


# ---------------------------------------------------------------- the writer


@planted()
def acknowledge_before_sync(ran: Ran) -> Any:
    """A frame that is written and not synced is reported."""

    def sync(self: JournalWriter, segment: Any) -> float:
        ran()
        return 0.0

    return replaced(JournalWriter, "_sync", sync)


@planted("failing disk")
def sync_error_ignored(ran: Ran) -> Any:
    """A sync that failed is taken for one that did not."""

    def sync(self: JournalWriter, segment: Any) -> float:
        try:
            segment.file.fdatasync()
        except OSError:
            ran()
        return 0.0

    return replaced(JournalWriter, "_sync", sync)


@planted("failing disk")
def sync_tried_again(ran: Ran) -> Any:
    """A sync that failed is tried again, and succeeds: the kernel has marked the pages clean."""

    def sync(self: JournalWriter, segment: Any) -> float:
        try:
            segment.file.fdatasync()
        except OSError:
            ran()
            segment.file.fdatasync()
        return 0.0

    return replaced(JournalWriter, "_sync", sync)


@planted("full disk")
def full_disk_acknowledged(ran: Ran) -> Any:
    """A batch for which there was no room is reported as written."""
    commit = JournalWriter.commit

    def broken(self: Any, batch: Batch) -> Committed:
        try:
            return commit(self, batch)
        except NoRoomError:
            ran()
            if self._segment is None:
                raise
            self._next_lsn += batch.count
            self._frame = None
            report: Committed = self._report()
            return report

    return replaced(JournalWriter, "commit", broken)


@planted()
def groups_cut_apart(ran: Ran) -> Any:
    """Records that belong together go into frames of their own."""
    append = Journal.append

    def broken(self: Journal, records: Sequence[bytes], *, strict: bool = True) -> int:
        if len(records) > 1:
            ran()
        return [append(self, (record,), strict=strict) for record in records][-1]

    return replaced(Journal, "append", broken)


# ---------------------------------------------------------------- segments


@planted()
def no_directory_sync(ran: Ran) -> Any:
    """A new segment's name is not synced before it is written."""
    return method_without(SegmentStock, "_name", "_disk", "sync_dir", ran)


@planted()
def segment_used_again(ran: Ran) -> Any:
    """A new segment is made of an old one's bytes, not of zeros."""
    write_zeros: Any = vars(SegmentStock)["_write_zeros"]

    def broken(self: Any, size: int) -> Any:
        file = write_zeros(self, size)
        disk = self._disk
        old = [name for name in disk.listdir() if segment_lsn(name) is not None]
        if old:
            ran()
            data = disk.read(old[0])[:size]
            while data:
                written = file.pwrite(data, size - len(data))
                data = data[written:]
            file.fsync()
        return file

    return replaced(SegmentStock, "_write_zeros", broken)


@planted()
def header_not_synced(ran: Ran) -> Any:
    """A segment gets its name before its header is on disk."""
    name: Any = vars(SegmentStock)["_name"]

    def broken(self: SegmentStock, file: Any, header: Any) -> Any:
        segment = name(self, _Skips(file, "fsync", ran), header)
        segment.file = file
        return segment

    return replaced(SegmentStock, "_name", broken)


# ---------------------------------------------------------------- recovery


@planted("failing disk")
def no_sync_before_serving(ran: Ran) -> Any:
    """Recovery shows what it read from the cache and does not sync it."""
    return method_without(Recovery, "run", "disk", "sync", ran)


@planted()
def lsn_given_twice(ran: Ran) -> Any:
    """The first record after a start gets the LSN of the last one before it."""
    run = Recovery.run

    def broken(self: Recovery) -> Any:
        found = run(self)
        if found.lsn > 0:
            ran()
            found.lsn -= 1
        return found

    return replaced(Recovery, "run", broken)


# ---------------------------------------------------------------- snapshots


@planted("snapshot")
def snapshot_ahead_of_the_journal(ran: Ran) -> Any:
    """A snapshot gets its name before the records that its lines include are on disk."""
    finish: Any = SnapshotWriter.finish

    async def broken(self: Any) -> None:
        self._journal = _Hasty(self._journal, ran)
        await finish(self)

    return replaced(SnapshotWriter, "finish", broken)


class _Hasty:
    """A journal that calls everything durable."""

    def __init__(self, journal: Any, ran: Ran) -> None:
        self._journal = journal
        self._ran = ran

    async def durable(self, lsn: int) -> None:
        del lsn
        self._ran()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


@planted()
def snapshot_not_synced(ran: Ran) -> Any:
    """A snapshot gets its name before its contents are on disk."""
    seal = SnapshotFile.seal

    def broken(self: Any) -> None:
        self.write(())
        self._file = _Skips(self._file, "fsync", ran)
        seal(self)

    return replaced(SnapshotFile, "seal", broken)


@planted("snapshot")
def snapshot_name_not_synced(ran: Ran) -> Any:
    """What older snapshots need is dropped before the only one's name is on disk."""
    stack = ExitStack()
    stack.enter_context(replaced(compaction, "_RESTORE_POINTS", 1))
    stack.enter_context(method_without(SnapshotFile, "publish", "_disk", "sync_dir", ran))
    return stack


@planted("snapshot")
def too_much_compacted(ran: Ran) -> Any:
    """The segment goes too that the oldest restore point begins with."""

    no_longer_needed = compaction.no_longer_needed

    def broken(names: Sequence[str]) -> list[str]:
        needless = no_longer_needed(names)
        bases = sorted(base for name in names if (base := snapshot_lsn(name)) is not None)
        segments = sorted(name for name in names if segment_lsn(name) is not None)
        more = [
            name
            for name, after in pairwise(segments)
            if bases and (segment_lsn(name) or 0) <= bases[-1] < (segment_lsn(after) or 0)
        ]
        if more:
            ran()
        return list({*needless, *more})

    return replaced(compaction, "no_longer_needed", broken)


@planted("snapshot")
def compacted_before_the_snapshot(ran: Ran) -> Any:
    """What the snapshot makes needless is dropped before the snapshot has its name."""
    finish: Any = SnapshotWriter.finish

    async def broken(self: Any) -> None:
        disk = self._disk
        base = snapshot_lsn(self._file.name) or 0
        names = disk.listdir()
        older = [n for n in names if (snapshot_lsn(n) or segment_lsn(n) or base) < base]
        for name in older:
            ran()
            disk.unlink(name)
        await finish(self)

    return replaced(SnapshotWriter, "finish", broken)
