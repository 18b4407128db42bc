"""What the journal's tests share: a clock that stands still, journals made by hand, openings."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stepflow.config import Settings
from stepflow.journal.api import Journal, RecoveryReport, open_journal
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import Recovered, Recovery
from stepflow.journal.segment import SegmentStock
from stepflow.journal.store import Store, create_store, read_store
from stepflow.journal.writer import Batch, JournalWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.journal.disk import Disk

KIB = 1024
SMALL = Settings(
    segment_bytes_first=16 * KIB,
    segment_bytes_max=64 * KIB,
    frame_bytes_max=16 * KIB,
    room_reserve_bytes=4 * KIB,
    reserve_file_bytes=32 * KIB,
    free_bytes_min=8 * KIB,
)


class StillClock:
    """Time moves when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self.now_s + delay_s, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move time on and call what is due."""
        self.now_s += seconds
        while self._timers and self._timers[0][0] <= self.now_s:
            heapq.heappop(self._timers)[2].fire()


@dataclass(slots=True)
class _Timer:
    callback: Callable[[], None] | None

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        if self.callback is not None:
            self.callback()


def record(lsn: int, text: str = "") -> bytes:
    """A record as a caller would write it."""
    return json.dumps({"t": "x", "lsn": lsn, "d": text}).encode()


def records(first_lsn: int, count: int, text: str = "") -> list[bytes]:
    return [record(first_lsn + i, text) for i in range(count)]


# ---------------------------------------------------------------- without a loop


@dataclass
class Handmade:
    """A store on a disk, written by the plain writer: no thread, no loop, no system records."""

    disk: Disk
    store: Store
    writer: JournalWriter
    next_lsn: int = 1
    frames: list[tuple[str, int, int]] = field(default_factory=list)
    """Segment, end offset and last LSN of each frame."""

    def add(self, *texts: str) -> int:
        group = [record(self.next_lsn + i, text) for i, text in enumerate(texts)]
        return self.add_records(group)

    def add_records(self, group: Sequence[bytes]) -> int:
        size = sum(map(len, group))
        done = self.writer.commit(Batch(self.next_lsn, len(group), size, [group]))
        self.next_lsn += len(group)
        self.frames.append((done.segment, done.segment_size - done.segment_left, done.durable_lsn))
        return done.durable_lsn

    def rotate(self) -> int:
        return self.writer.rotate().base_lsn


def handmade(disk: Disk | None = None, *, size: int = 8 * KIB, store_id: int = 7) -> Handmade:
    disk = disk if disk is not None else MemoryDisk()
    store = create_store(disk, lambda n: store_id.to_bytes(n, "big"), "test")
    writer = JournalWriter(
        SegmentStock(disk),
        StillClock(),
        store_id=store.store_id,
        next_lsn=1,
        chain=0,
        first_size=size,
        max_size=4 * size,
    )
    return Handmade(disk, store, writer)


def recover(disk: Disk, *, read_only: bool = False) -> tuple[Recovered, dict[int, bytes]]:
    """Recover, and return what was found and the records by LSN."""
    store = read_store(disk)
    assert store is not None
    seen: dict[int, bytes] = {}

    def on_record(lsn: int, data: bytes) -> None:
        assert lsn not in seen
        seen[lsn] = data

    found = Recovery(
        disk, store, 1_700_000_000_000, lambda _lsn, _line: None, on_record, read_only=read_only
    ).run()
    return found, seen


def write_file(disk: Disk, name: str, data: bytes) -> None:
    """Make `data` the contents of a file, synced."""
    if name in disk.listdir():
        disk.unlink(name)
    file = disk.open(name, create=True)
    file.pwrite(data, 0)
    file.fsync()
    file.close()
    disk.sync_dir()


def flip(disk: Disk, name: str, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    data = bytearray(disk.read(name))
    data[offset] ^= 1 << bit
    write_file(disk, name, bytes(data))


# ---------------------------------------------------------------- with a loop


@dataclass
class Opened:
    journal: Journal
    report: RecoveryReport
    records: dict[int, bytes]
    lines: list[tuple[int, bytes]]

    def append(self, text: str = "", *, strict: bool = True) -> int:
        journal = self.journal
        return journal.append([record(journal.next_lsn, text)], strict=strict)


async def opened(
    disk: Disk,
    *,
    settings: Settings = SMALL,
    clock: Any = None,
    threads: bool = False,
    **changes: Any,
) -> Opened:
    """Open a journal, on the loop alone unless `threads`."""
    seen: dict[int, bytes] = {}
    lines: list[tuple[int, bytes]] = []
    journal, report = await open_journal(
        "unused",
        settings=replace(settings, **changes),
        clock=clock or StillClock(),
        disk=disk,
        on_line=lambda lsn, line: lines.append((lsn, line)),
        on_record=seen.__setitem__,
        threads=threads,
    )
    return Opened(journal, report, seen, lines)


async def passes(count: int = 12) -> None:
    """Let the loop go round some times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Trace:
    """Counts what is done on a MemoryDisk."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.operations: list[tuple[str, str]] = []
        disk.after = lambda operation, name: self.operations.append((operation, name))

    def count(self, operation: str) -> int:
        return sum(1 for done, _ in self.operations if done == operation)
