"""The one writer: a batch is one frame, one write, one sync.

`JournalWriter` is the plain part: it blocks, knows no thread and no loop, and can be driven from
anywhere, a simulation's loop included. `WriterThread` gives it a thread of its own: work goes in
through a queue, each result comes back to the loop with one wake-up.

Only this file writes journal bytes. What can go wrong:

- `NoRoomError`: the disk is full and nothing was acknowledged. The same batch can be committed
  again later: it goes to the same place in the same segment.
- any other error: the state of the file is unknown. The writer never touches it again.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.errors import DiskFailedError
from stepflow.journal.disk import is_full, write_all
from stepflow.journal.frame import encode_frame
from stepflow.journal.segment import SEGMENT_HEADER_BYTES, Segment, SegmentHeader, SegmentStock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from stepflow.clock import Clock

__all__ = ["Batch", "Committed", "JournalWriter", "NoRoomError", "WriterThread"]

_DOUBLE: Final = 2


class NoRoomError(Exception):
    """The disk is full; nothing of the batch was acknowledged, it can be tried again."""


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Groups of records that become one frame. `size` counts their bytes with prefixes."""

    first_lsn: int
    count: int
    size: int
    groups: Sequence[Sequence[bytes]]

    @property
    def last_lsn(self) -> int:
        """LSN of the last record."""
        return self.first_lsn + self.count - 1


class Committed(msgspec.Struct, frozen=True):
    """What the writer reports after a batch or a rotation."""

    durable_lsn: int
    segment: str
    segment_size: int
    segment_left: int
    next_size: int
    base_lsn: int = 0
    bytes: int = 0
    sync_s: float = 0.0
    commit_s: float = 0.0
    """Encoding, writing and syncing it."""


class JournalWriter:
    """Writes frames into segments. Blocking; used by one thread at a time."""

    def __init__(
        self,
        stock: SegmentStock,
        clock: Clock,
        *,
        store_id: int,
        next_lsn: int,
        chain: int,
        first_size: int,
        max_size: int,
    ) -> None:
        self._stock = stock
        self._clock = clock
        self._store_id = store_id
        self._next_lsn = next_lsn
        self._chain = chain
        self._next_size = first_size
        self._max_size = max_size
        self._segment: Segment | None = None
        self._frame: tuple[Batch, bytes, int] | None = None
        self._broken: BaseException | None = None

    def commit(self, batch: Batch) -> Committed:
        """Return when the batch is on disk. Raises `NoRoomError` or `DiskFailedError`."""
        if batch.first_lsn != self._next_lsn:
            raise self._break(
                ValueError(f"batch begins with lsn {batch.first_lsn}, not {self._next_lsn}")
            )
        self._check()
        began_s = self._clock.monotonic_s()
        frame, crc = self._encode(batch)
        try:
            segment = self._segment_for(len(frame))
            write_all(segment.file, frame, segment.offset)
        except OSError as error:
            raise self._no_room_or_broken(error) from error
        wrote_s = self._clock.monotonic_s()
        synced_s = self._sync(segment)
        segment.offset += len(frame)
        self._next_lsn += batch.count
        self._chain = crc
        self._frame = None
        return self._report(
            bytes_=len(frame), sync_s=synced_s - wrote_s, commit_s=synced_s - began_s
        )

    def rotate(self) -> Committed:
        """Begin a new segment, so that a snapshot has a base; its first LSN is `base_lsn`."""
        self._check()
        try:
            if self._segment is None or not self._segment.empty:
                self._begin_segment(0)
        except OSError as error:
            raise self._no_room_or_broken(error) from error
        return self._report(base_lsn=self._next_lsn)

    def close(self) -> None:
        """Give the file back. What was committed is on disk already."""
        if self._segment is not None:
            self._segment.file.close()
            self._segment = None

    def _check(self) -> None:
        if self._broken is not None:
            raise DiskFailedError(str(self._broken)) from self._broken

    def _encode(self, batch: Batch) -> tuple[bytes, int]:
        """Return the batch's frame; a batch that is tried again gets the same bytes."""
        if self._frame is None or self._frame[0] is not batch:
            records = list(chain.from_iterable(batch.groups))
            self._frame = batch, *encode_frame(records, batch.first_lsn, self._chain)
        return self._frame[1], self._frame[2]

    def _segment_for(self, size: int) -> Segment:
        if self._segment is None or self._segment.left < size:
            return self._begin_segment(size)
        return self._segment

    def _begin_segment(self, frame_size: int) -> Segment:
        size = max(self._next_size, SEGMENT_HEADER_BYTES + frame_size)
        header = SegmentHeader(self._store_id, self._next_lsn, self._chain, size)
        segment = self._stock.name_next(header)
        if self._segment is not None:
            self._seal(self._segment)
        self._segment = segment
        self._next_size = min(max(segment.size, self._next_size) * _DOUBLE, self._max_size)
        return segment

    def _seal(self, segment: Segment) -> None:
        """Cut what was not used: the next segment is durable, so nothing rests on these zeros."""
        with contextlib.suppress(OSError):
            segment.file.truncate(segment.offset)
        segment.file.close()

    def _sync(self, segment: Segment) -> float:
        """Return when it was on disk."""
        try:
            segment.file.fdatasync()
        except BaseException as error:
            # Never again: the kernel may have marked the pages clean, so that a second sync
            # reports a success that is none.
            raise self._break(error) from error
        return self._clock.monotonic_s()

    def _no_room_or_broken(self, error: OSError) -> Exception:
        if is_full(error):
            return NoRoomError(str(error))
        return self._break(error)

    def _break(self, error: BaseException) -> DiskFailedError:
        self._broken = error
        where = self._segment.name if self._segment else "the next segment"
        return DiskFailedError(
            f"writing {where} failed: {error!r}; what is on disk is unknown, so nothing more is "
            "written. Check the disk, then start again: recovery decides what was saved"
        )

    def _report(
        self, *, base_lsn: int = 0, bytes_: int = 0, sync_s: float = 0.0, commit_s: float = 0.0
    ) -> Committed:
        segment = self._segment
        assert segment is not None
        return Committed(
            self._next_lsn - 1,
            segment.name,
            segment.size,
            segment.left,
            self._next_size,
            base_lsn,
            bytes_,
            sync_s,
            commit_s,
        )


class WriterThread:
    """Runs the writer's work in one thread, in order, and reports to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[Callable[[], Callable[[], None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="stepflow-journal", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Callable[[], None]]) -> None:
        """Run `work` in the thread, then what it returns on the loop."""
        self._queue.put(work)

    def stop(self) -> None:
        """End the thread after the work it has, and wait for it."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            report = work()
            try:
                self._loop.call_soon_threadsafe(report)
            except RuntimeError:
                # The loop is closed: the process is going, and nobody waits any more.
                return
