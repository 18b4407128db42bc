"""Rules of durability, each broken once on purpose: the order check must find every one.

A rule is broken in the trace (an operation left out, moved, or a promise made earlier) or in the
code while the lives are recorded, or while the disks are recovered.
"""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stepflow.errors import JournalCorruptError
from stepflow.journal import compaction
from stepflow.journal.recovery import Recovery
from stepflow.journal.segment import SEGMENT_HEADER_BYTES, SegmentStock, segment_lsn
from stepflow.journal.snapshotting import SnapshotWriter
from tests.recovery.order_check import OrderCheck, Report
from tests.recovery.order_lives import record_lives

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stepflow.journal.disk import Disk, DiskFile
    from tests.recovery.traced_disk import Op

__all__ = ["BROKEN", "BrokenRule", "find"]

Trace = list["Op"]
_FRAMES_AT: Final = "wal-0"


@dataclass(frozen=True)
class BrokenRule:
    """One rule, broken."""

    name: str
    trace: Callable[[Trace], Trace] = list
    recording: Callable[[], AbstractContextManager[None]] = nullcontext
    checking: Callable[[], AbstractContextManager[None]] = nullcontext
    deep: bool = False


def find(rule: BrokenRule, seed: int = 1) -> Report:
    """Return what the order check says; its violations end with the first."""
    try:
        with rule.recording():
            trace = record_lives(seed)
    except JournalCorruptError as error:
        # The lives themselves come to a start that refuses.
        return Report(violations=[str(error)])
    with rule.checking():
        return OrderCheck(deep=rule.deep, first_only=True).run(rule.trace(trace))


# ---------------------------------------------------------------- in the trace


def _without(wrong: Callable[[Op, Op, Op], bool]) -> Callable[[Trace], Trace]:
    """Leave out the operations that this says yes to, asked with the one before and after."""

    def change(trace: Trace) -> Trace:
        around = zip([trace[0], *trace], trace, [*trace[1:], trace[-1]], strict=False)
        return [op for before, op, after in around if not wrong(before, op, after)]

    return change


def _is_commit(before: Op, op: Op, _after: Op) -> bool:
    """Whether this is the sync of a frame."""
    return op.kind == "sync" and before.kind == "write" and op.name.startswith(_FRAMES_AT)


def _names_segment(op: Op) -> bool:
    return op.kind == "rename" and segment_lsn(op.to) is not None


def _name_before_sync(trace: Trace) -> Trace:
    """Give a segment its name first, then sync its header."""
    changed = list(trace)
    for at, op in enumerate(trace):
        if _names_segment(op):
            sync = changed[at - 1]
            changed[at - 1 : at + 1] = [
                replace(op, promised=sync.promised, appended=sync.appended),
                replace(sync, name=op.to),
            ]
    return changed


def _told_before_sync(trace: Trace) -> Trace:
    """Say yes to the callers while the sync is still to come."""
    return [
        replace(op, promised=max(op.promised, after.promised)) if op.kind == "sync" else op
        for op, after in itertools.zip_longest(trace, trace[1:], fillvalue=trace[-1])
    ]


def _told_at_once(trace: Trace) -> Trace:
    """Say yes as soon as a record is appended."""
    return [replace(op, promised=op.appended) for op in trace]


def _every_third_commit(trace: Trace) -> Trace:
    numbers = itertools.count()

    def wrong(before: Op, op: Op, after: Op) -> bool:
        return _is_commit(before, op, after) and next(numbers) % 3 == 0

    return _without(wrong)(trace)


def _two_frames_a_sync(trace: Trace) -> Trace:
    """Write the next frame before the one before is synced, and promise nothing in between."""
    changed: Trace = []
    numbers, held = itertools.count(), 0
    for before, op in zip([trace[0], *trace], trace, strict=False):
        if _is_commit(before, op, op):
            if next(numbers) % 2 == 0:
                held = op.promised
                continue
            held = 0
        changed.append(replace(op, promised=min(op.promised, held)) if held else op)
    return changed


def _format_last(trace: Trace) -> Trace:
    """Make the first segment before FORMAT says whose it is."""
    first = next(at for at, op in enumerate(trace) if _names_segment(op))
    head = trace[: first + 2]
    about = [op for op in head if op.name.startswith("FORMAT") or op.to == "FORMAT"]
    return [*(op for op in head if op not in about), *about, *trace[first + 2 :]]


def _sealed_early(trace: Trace) -> Trace:
    """Cut an old segment's end before the next one has its name."""
    changed: Trace = []
    for op in trace:
        changed.append(op)
        if op.kind != "truncate" or segment_lsn(op.name) is None:
            continue
        named = next((i for i in range(len(changed) - 1, 0, -1) if _names_segment(changed[i])), 0)
        if len(changed) - named <= 4:
            cut = changed.pop()
            next_op = changed[named - 2]
            facts = {"promised": next_op.promised, "appended": next_op.appended}
            changed.insert(named - 2, replace(cut, **facts))  # type: ignore[arg-type]
    return changed


# ---------------------------------------------------------------- in the code


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Generator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _one_restore_point() -> AbstractContextManager[None]:
    return _patched(compaction, "_RESTORE_POINTS", 1)


def _dropped_too_soon() -> AbstractContextManager[None]:
    """Drop what the new snapshot replaces before it has its name."""

    async def finish(self: Any) -> None:
        self._file.seal()
        await self._journal.durable(self._file.end_lsn)
        with _one_restore_point():
            needless = compaction.no_longer_needed([*self._disk.listdir(), self._file.name])
        for name in needless:
            self._disk.unlink(name)
        self._disk.sync_dir()
        self._journal.snapshot_done(self._publish(), [])

    return _patched(SnapshotWriter, "finish", finish)


def _segments_too_far() -> AbstractContextManager[None]:
    """Keep the snapshot before the last, but not the journal that it needs."""
    whole = compaction.no_longer_needed

    def needless(names: list[str]) -> list[str]:
        with _one_restore_point():
            far = whole(names)
        segments = [name for name in far if segment_lsn(name) is not None]
        snapshots = [name for name in whole(names) if segment_lsn(name) is None]
        return [*snapshots, *segments]

    return _patched(compaction, "no_longer_needed", needless)


def _named_before_durable() -> AbstractContextManager[None]:
    """Name a snapshot whose lines include records that are not on disk yet."""

    async def finish(self: Any) -> None:
        self._file.seal()
        self._journal.snapshot_done(self._publish(), self._compact())

    return _patched(SnapshotWriter, "finish", finish)


def _reused_segment() -> AbstractContextManager[None]:
    """Make the next segment of an old one, with its old bytes."""
    make: Any = vars(SegmentStock)["_write_zeros"]

    def recycle(self: Any, size: int) -> DiskFile:
        disk: Disk = self._disk
        file: DiskFile = make(self, size)
        old = [name for name in disk.listdir() if segment_lsn(name) is not None]
        if old:
            file.pwrite(disk.read(old[0])[SEGMENT_HEADER_BYTES:size], SEGMENT_HEADER_BYTES)
            file.fsync()
        return file

    return _patched(SegmentStock, "_write_zeros", recycle)


def _no_copy_aside() -> AbstractContextManager[None]:
    def nothing(*_: object) -> None:
        return

    return _patched(Recovery, "_copy_aside", nothing)


BROKEN: Final = (
    BrokenRule("no directory is synced", _without(lambda _, op, __: op.kind == "sync_dir")),
    BrokenRule(
        "a segment gets its name before its header is synced",
        _without(lambda _, op, after: op.kind == "sync" and _names_segment(after)),
    ),
    BrokenRule("a segment's sync comes after its name", _name_before_sync),
    BrokenRule("acknowledged before the sync", _told_before_sync),
    BrokenRule("acknowledged before the write", _told_at_once),
    BrokenRule("every third commit has no sync", _every_third_commit),
    BrokenRule("two frames share a sync", _two_frames_a_sync),
    BrokenRule(
        "a snapshot gets its name without a sync",
        _without(lambda _, op, __: op.kind == "sync" and op.name.startswith("snap-")),
    ),
    BrokenRule(
        "FORMAT gets its name without a sync",
        _without(lambda _, op, __: op.kind == "sync" and op.name.startswith("FORMAT")),
    ),
    BrokenRule("FORMAT comes after the first segment", _format_last),
    BrokenRule(
        "a start serves what it read without a sync",
        _without(lambda _, op, __: op.kind == "sync" and op.to == "read"),
    ),
    BrokenRule("an old segment is cut before the next has its name", _sealed_early),
    BrokenRule("only one restore point is kept", recording=_one_restore_point),
    BrokenRule("old files go before the snapshot has its name", recording=_dropped_too_soon),
    BrokenRule("the journal of the older restore point goes", recording=_segments_too_far),
    BrokenRule("a snapshot's lines are not durable", recording=_named_before_durable),
    BrokenRule("a segment is used twice", recording=_reused_segment),
    BrokenRule("a torn tail is cut without a copy", checking=_no_copy_aside, deep=True),
)
"""Each must be found."""
