"""The journal as the runtime sees it: append now, hear later that it is durable.

::

    append ──► gather ──► (two passes of the loop) ──► writer thread: one frame, one sync
                 ▲                                          │
                 └── while it syncs, the next batch gathers │ one wake-up of the loop
    release, in LSN order ◄── durable_lsn, on_commit ◄──────┘

Nothing tunes the batch: the sync in flight is the window in which the next one gathers. The two
passes let the code that one release wakes append before the next batch is closed, so that whatever
was woken together is synced together. Lazy records start no sync; they go with the next strict one
or after `lazy_delay_s`.

All methods are called on the loop's thread. A failed write or sync ends the journal for good.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from stepflow.clock import next_pass
from stepflow.config import MEMORY
from stepflow.errors import DiskFailedError, OutcomeUnknownError, UnavailableError
from stepflow.journal.background import (
    Background,
    InlineBackground,
    InlineWriter,
    ThreadBackground,
    Writing,
)
from stepflow.journal.disk import RealDisk
from stepflow.journal.frame import RECORD_OVERHEAD
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.opening import (
    Opening,
    RecoveryReport,
    Throttle,
    lock_directory,
    make_root,
    report_of,
    version,
)
from stepflow.journal.recent import Recent
from stepflow.journal.recovery import Recovered, RecoveryProgress, tidy
from stepflow.journal.release import Patience, Releases, call_isolated
from stepflow.journal.segment import segment_lsn
from stepflow.journal.snapshot import SnapshotFile, SnapshotInfo, snapshot_lsn
from stepflow.journal.snapshotting import SnapshotWriter
from stepflow.journal.space import RETRY_FULL_S, Space
from stepflow.journal.stalls import Stalls
from stepflow.journal.stats import Counters, JournalStats
from stepflow.journal.system import system_record
from stepflow.journal.writer import Batch, Committed, JournalWriter, NoRoomError, WriterThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings
    from stepflow.journal.disk import Disk, DiskLock
    from stepflow.journal.store import Store

__all__ = [
    "Journal",
    "JournalStats",
    "RecoveryProgress",
    "RecoveryReport",
    "SnapshotWriter",
    "open_journal",
]

_log: Final = logging.getLogger("stepflow.journal")
_FOLD_SLICE: Final = 512
_HUNG_END_S: Final = 1.0
"""A disk that was given up gets so long to let the threads end."""


class Journal:
    """One open journal. Made by `open_journal`."""

    __slots__ = (
        # More than thirty: without slots each would be looked up in a dict of its own.
        "__dict__",  # for tests that put something in the place of a method
        "_background",
        "_busy",
        "_clock",
        "_closing",
        "_counters",
        "_disk",
        "_flush_is_due",
        "_flying_bytes",
        "_groups",
        "_hung",
        "_keep",
        "_lazy_timer",
        "_lock",
        "_loop",
        "_over",
        "_patience",
        "_queued_bytes",
        "_releases",
        "_retry_timer",
        "_rotations",
        "_settings",
        "_shut",
        "_space",
        "_stalls",
        "_start_lsn",
        "_starting",
        "_stopped",
        "_store",
        "_taken_lsn",
        "_writer",
        "_writing",
        "durable_lsn",
        "failed",
        "last_ts_ms",
        "next_lsn",
        "on_commit",
        "on_fatal",
        "on_room",
        "recent",
        "strict_lsn",
    )

    def __init__(  # noqa: PLR0913  it is made in one place, by name
        self,
        disk: Disk,
        settings: Settings,
        clock: Clock,
        *,
        lock: DiskLock,
        store: Store,
        found: Recovered,
        free_bytes: int,
        background: Background,
        threads: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._disk = disk
        self._settings = settings
        self._clock = clock
        self._lock = lock
        self._background = background
        self._space = Space(
            disk,
            settings,
            clock,
            background,
            free_bytes=free_bytes,
            broke=self._space_broke,
            came_back=self._room_came_back,
        )
        self._writing: Writing = WriterThread(self._loop) if threads else InlineWriter(self._loop)
        self._writer = JournalWriter(
            self._space.stock,
            clock,
            store_id=store.store_id,
            next_lsn=found.lsn + 1,
            chain=found.chain,
            first_size=settings.segment_bytes_first,
            max_size=settings.segment_bytes_max,
        )
        self._store = store

        self.next_lsn = found.lsn + 1
        """LSN that the next appended record gets."""
        self.durable_lsn = found.lsn
        """The highest LSN on disk."""
        self.last_ts_ms = 0
        """Time of the last record, for the caller to keep."""
        self.recent = Recent(0, 0) if found.recent is None else found.recent
        """The last durable records."""
        self._keep = self.recent.keep
        self.failed: BaseException | None = None
        """Why the journal is dead, if it is."""
        self.on_commit: Callable[[int], None] | None = None
        self.on_fatal: Callable[[BaseException], None] | None = None
        self.on_room: Callable[[], None] | None = None

        self._groups: list[Sequence[bytes]] = []
        self._queued_bytes = 0
        """Appended and not yet on disk, what the writer has at hand included."""
        self._flying_bytes = 0
        self._taken_lsn = found.lsn
        self.strict_lsn = found.lsn
        """Records up to this one start a sync; later ones are lazy so far."""
        self._busy = False
        self._flush_is_due = False
        self._lazy_timer: TimerHandle | None = None
        self._retry_timer: TimerHandle | None = None
        self._closing = False
        self._shut = False
        """It takes no more: closing, or over."""
        self._stopped = False
        self._over: BaseException | None = None
        self._starting: asyncio.Future[None] | None = None
        self._start_lsn = found.lsn + 1
        self._hung = False
        self._stalls = Stalls(clock, settings, hold=self._space.hold, dead=self._dead)
        self._releases = Releases()
        self._patience = Patience(clock, settings.outcome_wait_s)
        self._rotations: list[asyncio.Future[int]] = []
        self._counters = Counters(found.snapshots[-1] if found.snapshots else None)

    # ------------------------------------------------------------ append

    @property
    def last_lsn(self) -> int:
        """LSN of the last appended record."""
        return self.next_lsn - 1

    @property
    def store_id(self) -> str:
        """The store's id, 16 hex digits."""
        return self._store.hex_id

    def append(self, records: Sequence[bytes], *, strict: bool = True) -> int:
        """Queue one group, all or nothing on disk; return the LSN of its last record.

        Each record already carries its LSN: the first one's is `next_lsn`. A strict group starts a
        sync soon; a lazy one rides with the next strict one. Raises `UnavailableError` when the
        journal has failed or is closed, before anything is queued.
        """
        if self._shut:
            raise self._unavailable()
        count = len(records)
        last = self.next_lsn + count - 1
        self.next_lsn = last + 1
        self._groups.append(tuple(records))
        nbytes = len(records[0]) if count == 1 else sum(map(len, records))
        self._queued_bytes += nbytes + RECORD_OVERHEAD * count
        if strict:
            self.strict_lsn = last
            if not (self._flush_is_due or self._busy):
                self._flush_soon()
        elif self._lazy_timer is None:
            self._lazy_timer = self._clock.call_later(
                self._settings.lazy_delay_s, self._lazy_is_due
            )
        return last

    def hurry(self, lsn: int) -> None:
        """Make lazy records up to `lsn` strict: somebody waits for them."""
        lsn = min(lsn, self.next_lsn - 1)
        if lsn <= self.strict_lsn:
            return
        self.strict_lsn = lsn
        if not (self._flush_is_due or self._busy):
            self._flush_soon()

    def when_durable(self, lsn: int, callback: Callable[[BaseException | None], None]) -> None:
        """Call on the loop when `lsn` is on disk, in LSN order; with the error if it never is."""
        if lsn > self.durable_lsn and self._over is None:
            self._releases.add(lsn, callback)
        else:
            self._loop.call_soon(callback, None if lsn <= self.durable_lsn else self._over)

    async def durable(self, lsn: int) -> None:
        """Return when `lsn` is on disk, or everything before the record of this start.

        That record is the journal's own: no answer rests on it, and on a full disk it waits for
        room. Raises `OutcomeUnknownError` when the journal fails, or after `outcome_wait_s`.
        """
        if lsn <= self.durable_lsn or lsn == self._start_lsn == self.durable_lsn + 1:
            return
        if self._over is not None:
            raise OutcomeUnknownError
        if lsn > self.strict_lsn:
            self.hurry(lsn)
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._releases.add(lsn, partial(_outcome, waiter))
        self._patience.add(waiter)
        await waiter

    # ------------------------------------------------------------ flush

    def _flush_soon(self) -> None:
        self._flush_is_due = True
        self._loop.call_soon(self._loop.call_soon, self._flush)

    def _lazy_is_due(self) -> None:
        self._lazy_timer = None
        self.hurry(self.next_lsn - 1)

    def _flush(self) -> None:
        """Hand the writer what has gathered, if it is idle."""
        self._flush_is_due = False
        if self._busy or self._over is not None or self.strict_lsn <= self._taken_lsn:
            return
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        self._busy = True
        self._submit(self._take())

    def _take(self) -> Batch:
        groups = self._groups
        size = self._queued_bytes  # the writer is idle: nothing of it is at hand
        if size <= self._settings.frame_bytes_max:
            self._groups = []
        else:
            count, size = _fill(groups, self._settings.frame_bytes_max)
            self._groups = groups[count:]
            groups = groups[:count]
            # Lazy records among the rest have lost their timer: they go with the next batch.
            self.strict_lsn = self.next_lsn - 1
        self._flying_bytes = size
        records = sum(map(len, groups))
        batch = Batch(self._taken_lsn + 1, records, size, groups)
        self._taken_lsn = batch.last_lsn
        return batch

    def _submit(self, batch: Batch) -> None:
        self._writing.submit(partial(self._commit, batch))

    def _commit(self, batch: Batch) -> Callable[[], None]:
        """Runs in the writer's thread."""
        try:
            done = self._writer.commit(batch)
        except NoRoomError as error:
            return partial(self._no_room, batch, error)
        except BaseException as error:  # noqa: BLE001  whatever it is, the writer is over
            return partial(self._broke, error)
        return partial(self._committed, batch, done)

    def _committed(self, batch: Batch, done: Committed) -> None:
        """The batch is on disk: count, tell, release, and see to the next one."""
        if self._over is not None:
            return
        self._busy = False
        self._queued_bytes -= self._flying_bytes
        self._flying_bytes = 0
        self.durable_lsn = done.durable_lsn
        self._keep(batch.groups)
        self._counters.committed(done)
        if done.sync_s > self._settings.sync_slow_s:
            _log.warning("slow disk: a sync of %d bytes took %.1f s", done.bytes, done.sync_s)
        if self.on_commit is not None:
            call_isolated(self.on_commit, done.durable_lsn)
        self._releases.release(done.durable_lsn)
        self._patience.tidy()
        self._after(done)

    def _after(self, done: Committed) -> None:
        self._counters.writing(done)
        if self._rotations and not self._busy:
            self._busy = True
            self._writing.submit(self._rotate)
        elif self.strict_lsn > self._taken_lsn and not (self._flush_is_due or self._busy):
            self._flush_soon()
        self._space.note(done, self._queued_bytes)

    # ------------------------------------------------------------ the end of it

    def _broke(self, error: BaseException) -> None:
        """A write or a sync failed. Nothing is tried again; all who wait are told."""
        if self._over is not None:
            return
        self.failed = error
        _log.critical("%s", error)
        self._end(error)
        if self.on_fatal is not None:
            call_isolated(self.on_fatal, error)

    def _space_broke(self, error: BaseException) -> None:
        self._broke(DiskFailedError(f"making the next segment failed: {error!r}"))

    def look(self) -> float:
        """Return for how many seconds the disk has not answered. Asked once a second."""
        if self._over is not None:
            return 0.0
        waits_for_disk = self._busy and not self._space.stuck
        return self._stalls.look((self._taken_lsn, self.durable_lsn) if waits_for_disk else None)

    async def fold(self) -> None:
        """Fold what was written into `recent`, a slice in each pass of the loop. Once a second.

        The oldest records go with it, thousands that nobody has touched for long.
        """
        while self.recent.fold_some(_FOLD_SLICE):
            await next_pass()

    @property
    def slow(self) -> bool:
        """Whether the disk has not answered for longer than a slow sync takes."""
        return self._stalls.slow

    @property
    def stalled(self) -> bool:
        """Whether the disk has not answered for so long that nothing new is decided."""
        return self._stalls.held

    @property
    def why_no_room(self) -> str:
        """What to say to whoever `has_room` refuses."""
        if self._shut:
            return "Stepflow is stopping"
        if self._stalls.held:
            return "The disk does not answer: read-only until it does"
        return "The disk is full: read-only until there is room"

    def _dead(self, seconds: float) -> None:
        """The disk has not answered for so long that it is given up."""
        self._hung = True
        self._broke(
            DiskFailedError(
                f"a sync has not come back for {seconds:.0f} s; what is on disk is unknown, so "
                "nothing more is written. Check the disk, then start again: recovery decides what "
                "was saved"
            )
        )

    def _end(self, error: BaseException) -> None:
        """Nothing more will be written: drop what is queued, tell those who wait."""
        self._over = error
        self._shut = True
        self._space.shut()
        for timer in (self._lazy_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        self._groups = []
        self._releases.fail(error)
        self._patience.tidy()
        self._fail_rotations(error)

    def _must_be_open(self) -> None:
        if self._closing or self._over is not None:
            raise self._unavailable()

    def _unavailable(self) -> UnavailableError:
        why = "it was stopped" if self.failed is None else str(self.failed)
        return UnavailableError(f"the journal is closed: {why}")

    async def close(self, *, clean: bool = True) -> None:
        """Write what is queued and the clean stop's record, then end. `clean=False` drops it all.

        When the disk is full or has failed nothing more can be written; the journal ends all the
        same, and the next start says that it was not clean.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            if clean and self._over is None:
                await self._finish()
        finally:
            await self._stop()

    async def _finish(self) -> None:
        """Write what is queued and the record of a clean stop, if the disk lets us."""
        lsn = self.append([self._system("close")])
        self._closing = self._shut = True
        self._space.shut()
        if self._space.stuck:
            self._end(self._unavailable())
        try:
            await self.durable(lsn)
        except OutcomeUnknownError:
            _log.warning("the journal was not closed cleanly", exc_info=True)

    async def _stop(self) -> None:
        self._closing = self._shut = True
        if self._over is None:
            self._end(self._unavailable())
        ending = asyncio.ensure_future(self._end_threads())
        limit_s = _HUNG_END_S if self._hung else self._settings.outcome_wait_s
        done, _ = await asyncio.wait([ending], timeout=limit_s)
        if done:
            ending.result()
        else:
            # The lock stays with the process: a thread of it may still write.
            _log.critical("the disk does not answer: the journal's threads are left behind")
            ending.cancel()
        self._background.stop(wait=bool(done))

    async def _end_threads(self) -> None:
        await self._background.run(self._writing.stop)
        await self._space.close()
        await self._background.run(self._let_go)

    async def abandon(self) -> None:
        """End as a killed process would: nothing that is queued is written."""
        await self.close(clean=False)

    def _let_go(self) -> None:
        self._writer.close()
        try:
            self._space.stock.discard()
        except OSError:
            _log.warning("could not remove the prepared segment", exc_info=True)
        self._lock.release()

    async def run_blocking(self, work: Callable[[], None]) -> None:
        """Return when `work` on other files of the directory is done, off the loop."""
        await self._background.run(work)

    def _system(self, kind: str, **extra: int | str) -> bytes:
        ts_ms = max(self.last_ts_ms, self._clock.wall_ms())
        return system_record(kind, self.next_lsn, ts_ms, **extra)

    # ------------------------------------------------------------ room

    def has_room(self, nbytes: int, *, reserve: bool = False) -> bool:
        """Say whether a record of `nbytes` may be decided; `reserve` may use the last of the room.

        After a False `on_room` is called when it is worth asking again.
        """
        queued = self._queued_bytes
        return nbytes + queued <= self._space.fits or self._space.has_room(
            nbytes, queued, reserve=reserve
        )

    def _no_room(self, batch: Batch, error: BaseException) -> None:
        """The writer met a full disk: the same batch is tried again, nothing is acknowledged."""
        if self._over is not None:
            return
        self._space.lost(error)
        self._fail_rotations(_no_room_for_snapshot(error))
        if self._closing:
            # A stop does not wait for room.
            self._end(error)
            return
        self._retry_timer = self._clock.call_later(RETRY_FULL_S, partial(self._submit, batch))
        if self._starting is not None:
            _settle(self._starting, None)

    def _room_came_back(self) -> None:
        if self.on_room is not None:
            call_isolated(_ignoring(self.on_room), None)

    # ------------------------------------------------------------ snapshots

    async def rotate(self) -> int:
        """Begin a new segment; return its first LSN, the base of the snapshot to be written.

        All records below the base are applied already, so a state that is encoded from now on
        includes them. Raises `UnavailableError` when there is no room for a segment.
        """
        self._must_be_open()
        # Made ahead in the background, the writer does not have to make it.
        await self._space.make_ready()
        self._must_be_open()
        if self._space.stuck:
            raise _no_room_for_snapshot("records wait for room already")
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._rotations.append(waiter)
        if not self._busy:
            self._busy = True
            self._writing.submit(self._rotate)
        return await waiter

    def _rotate(self) -> Callable[[], None]:
        """Runs in the writer's thread."""
        try:
            done = self._writer.rotate()
        except NoRoomError as error:
            return partial(self._not_rotated, error)
        except BaseException as error:  # noqa: BLE001  whatever it is, the writer is over
            return partial(self._broke, error)
        return partial(self._rotated, done)

    def _rotated(self, done: Committed) -> None:
        if self._over is not None:
            return
        self._busy = False
        waiters, self._rotations = self._rotations, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(done.base_lsn)
        self._after(done)

    def _not_rotated(self, error: BaseException) -> None:
        if self._over is not None:
            return
        self._busy = False
        self._fail_rotations(_no_room_for_snapshot(error))
        if self.strict_lsn > self._taken_lsn:
            self._flush_soon()

    def _fail_rotations(self, error: BaseException) -> None:
        waiters, self._rotations = self._rotations, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def open_snapshot(self, base_lsn: int, created_ms: int) -> SnapshotWriter:
        """Return a writer for the snapshot with the base that `rotate` returned."""
        file = SnapshotFile(self._disk, base_lsn, created_ms, self._store.store_id)
        return SnapshotWriter(self, self._background, self._disk, file)

    def snapshot_done(self, info: SnapshotInfo, removed: Sequence[tuple[str, int]]) -> None:
        """Take note of a verified snapshot and of what compaction removed. For SnapshotWriter."""
        self._counters.snapshot_done(info, removed)
        if self._over is None and not self._closing:
            record = self._system("snapshot", base=info.base_lsn, end=info.end_lsn)
            self.append([record], strict=False)

    def stats(self) -> JournalStats:
        """Return the present figures."""
        return self._counters.stats(
            durable_lsn=self.durable_lsn,
            last_lsn=self.last_lsn,
            queued=self._queued_bytes,
            room=self._space.bytes,
            read_only=self._space.read_only,
        )

    # ------------------------------------------------------------ start

    async def begin(self, found: Recovered) -> None:
        """Write the start's record into a new segment, then cut what recovery dropped.

        Without room it returns all the same: the journal is then read-only until there is room.
        """
        self._counters.found(await self._background.run(self._survey), found.base_lsn)
        self._starting = self._loop.create_future()
        lsn = self.append([self._system("open", version=version())])
        self.when_durable(lsn, partial(_settle, self._starting))
        await self._starting
        self._starting = None
        if self.durable_lsn >= lsn:
            await self._background.run(partial(self._tidy, found))

    def _tidy(self, found: Recovered) -> None:
        try:
            tidy(self._disk, found, self._clock.wall_ms())
        except OSError:
            # Nothing rests on it: the next segment's header says where the one before ends.
            _log.warning("old journal files could not be cut", exc_info=True)

    def _survey(self) -> list[tuple[str, int]]:
        return [
            (name, self._disk.size(name))
            for name in self._disk.listdir()
            if segment_lsn(name) is not None or snapshot_lsn(name) is not None
        ]


async def open_journal(  # noqa: PLR0913  all but the first are options
    data_dir: str,
    *,
    settings: Settings,
    clock: Clock,
    on_line: Callable[[int, bytes], None],
    on_record: Callable[[int, bytes], None],
    disk: Disk | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    progress: Callable[[RecoveryProgress], None] | None = None,
    threads: bool = True,
) -> tuple[Journal, RecoveryReport]:
    """Lock the directory, recover what it holds, and return the journal, ready to append.

    `on_line(lsn, json)` gets every line of the newest whole snapshot, `on_record(lsn, json)` then
    every record from its base on; both are called in another thread. `threads=False` does all file
    work on the loop, for simulations. Raises `DataDirLockedError`, `JournalCorruptError` or
    `DiskFailedError`; an exception of a callback comes through.
    """
    if disk is None:
        disk = MemoryDisk() if data_dir == MEMORY else RealDisk(data_dir)
    background: Background = ThreadBackground() if threads else InlineBackground()
    tell = Throttle(clock, progress)
    lock: DiskLock | None = None
    try:
        await background.run(partial(make_root, disk))
        lock = await lock_directory(disk, clock, settings.lock_wait_s, tell.waiting)
        job = Opening(disk, settings, clock, entropy, on_line, on_record, tell)
        store, found, free = await background.run(job.run)
    except BaseException:
        if lock is not None:
            lock.release()
        background.stop()
        raise
    journal = Journal(
        disk,
        settings,
        clock,
        lock=lock,
        store=store,
        found=found,
        free_bytes=free,
        background=background,
        threads=threads,
    )
    try:
        await journal.begin(found)
    except BaseException:
        await journal.close(clean=False)
        raise
    return journal, report_of(found)


def _fill(groups: Sequence[Sequence[bytes]], limit: int) -> tuple[int, int]:
    """Return how many groups fit into a frame of `limit` bytes, at least one, and their size."""
    total = 0
    for count, group in enumerate(groups):
        size = sum(map(len, group)) + RECORD_OVERHEAD * len(group)
        if count and total + size > limit:
            return count, total
        total += size
    return len(groups), total


def _no_room_for_snapshot(why: object) -> UnavailableError:
    return UnavailableError(f"no room for a snapshot's segment: {why}")


def _settle(waiter: asyncio.Future[None], error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)


def _outcome(waiter: asyncio.Future[None], error: BaseException | None) -> None:
    _settle(waiter, None if error is None else OutcomeUnknownError())


def _ignoring(callback: Callable[[], None]) -> Callable[[None], None]:
    return lambda _nothing: callback()
