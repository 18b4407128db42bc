"""The ceiling: W1 by a bare loop, which is what its shape costs in Python with nothing else.

A coroutine a run, JSON records, group commit in a writer thread; the start, each result and the end
are synced, each before what comes after it: five syncs a run. No actors, no replay, no retries, no
timeouts, no hub, no snapshots, no checks, no threads for steps. Frames, preallocated file and
`fdatasync` are those of the product; so is the size of what a run writes, nearly.

Two variants:

- **task**: an asyncio task a run and a future a record, as ordinary asyncio code would have it;
- **send**: the coroutine is driven by `send` from the commit's callback, without task or future.
  Ordinary bodies could not use it: `asyncio.timeout`, `TaskGroup`, `current_task` need a task.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from benchmarks.workload import INPUT, small
from stepflow.journal.frame import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path

__all__ = ["VARIANTS", "BareJournal"]

FILE_BYTES: Final = 64 * 1024 * 1024


class BareJournal:
    """Records gathered while the last batch syncs; one frame, one sync, one wake-up a batch."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        path.write_bytes(bytes(FILE_BYTES))
        self._file = os.open(path, os.O_WRONLY)
        os.fsync(self._file)
        self._offset = 0
        self._crc = 0
        self._lsn = 0
        self._records: list[bytes] = []
        self._waiting: list[Callable[[], None]] = []
        self._busy = False
        self._queue: queue.SimpleQueue[tuple[list[bytes], int, list[Callable[[], None]]] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()
        self.nbytes = 0
        self.syncs = 0

    def append(self, record: dict[str, Any], durable: Callable[[], None]) -> None:
        """Queue a record; `durable` is called when it is on disk."""
        self._lsn += 1
        record["lsn"] = self._lsn
        record["ts"] = time.time_ns() // 1_000_000
        self._records.append(orjson.dumps(record))
        self._waiting.append(durable)
        if not self._busy:
            self._busy = True
            # Two passes, as the product: who was woken together is synced together.
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _flush(self) -> None:
        records, waiting = self._records, self._waiting
        if not records:
            self._busy = False
            return
        self._records, self._waiting = [], []
        self._queue.put((records, self._lsn - len(records) + 1, waiting))

    def _write(self) -> None:
        while (work := self._queue.get()) is not None:
            records, first, waiting = work
            frame, self._crc = encode_frame(records, first, self._crc)
            if self._offset + len(frame) > FILE_BYTES:
                self._offset = 0
            os.pwrite(self._file, frame, self._offset)
            os.fdatasync(self._file)
            self._offset += len(frame)
            self.nbytes += len(frame)
            self.syncs += 1
            self._loop.call_soon_threadsafe(self._committed, waiting)

    def _committed(self, waiting: list[Callable[[], None]]) -> None:
        for durable in waiting:
            durable()
        self._loop.call_soon(self._loop.call_soon, self._flush)

    def close(self) -> None:
        """End the thread and remove the file."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._file)
        self._path.unlink()


# ------------------------------------------------------------------- a run


class Run:
    """What both variants know of a run: its id and how many records it has."""

    __slots__ = ("append", "id", "rs")

    def __init__(self, append: Callable[[dict[str, Any]], Any]) -> None:
        self.append = append
        self.id = "run_" + os.urandom(12).hex()
        self.rs = 0

    def record(self, kind: str, **fields: Any) -> Any:
        """Return what to await until the record is on disk."""
        self.rs += 1
        return self.append({"t": kind, "lsn": 0, "r": self.id, "rs": self.rs, "ts": 0} | fields)

    async def step(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Run the function; return its decoded result when it is on disk."""
        result = await fn(*args)
        data = orjson.dumps(result)
        await self.record(
            "step.completed",
            key=f"{name}#1",
            name=name,
            fn=fn.__qualname__,
            args=args,
            attempt=1,
            solo=True,
            result=orjson.Fragment(data),
        )
        return orjson.loads(data)


async def w1(run: Run, user: dict[str, str]) -> Any:
    """W1, as benchmarks.workload has it, with its start and its end recorded."""
    await run.record("run.started", workflow="w1", input=user)
    await run.step("first", small, user["userId"])
    await run.step("second", small, user["email"])
    result = await run.step("third", small, "done")
    await run.record("run.completed", result=result)
    return result


# ------------------------------------------------------------------- a task a run


async def by_task(journal: BareJournal, in_flight: int, seconds: float) -> int:
    """Return how many runs ended in so many seconds."""
    loop = asyncio.get_running_loop()

    def append(record: dict[str, Any]) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = loop.create_future()
        journal.append(record, lambda: waiter.set_result(None))
        return waiter

    done = 0
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await asyncio.create_task(w1(Run(append), INPUT))
            done += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return done


# ------------------------------------------------------------------- driven by send


class _Durable:
    """Awaited: the run goes on when the record is on disk."""

    __slots__ = ("_record",)

    def __init__(self, record: dict[str, Any]) -> None:
        self._record = record

    def __await__(self) -> Generator[dict[str, Any], None, None]:
        yield self._record


class _Driver:
    """Drives one run after the other."""

    __slots__ = ("_coro", "_crew")

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew
        self._coro: Coroutine[Any, Any, Any] = w1(Run(_Durable), INPUT)

    def go_on(self) -> None:
        """Send what it waited for; begin the next run when this one has ended."""
        while True:
            try:
                record = self._coro.send(None)
            except StopIteration:
                if not self._crew.another():
                    return
                self._coro = w1(Run(_Durable), INPUT)
            else:
                self._crew.journal.append(record, self.go_on)
                return


class _Crew:
    """So many drivers, until the time is over."""

    def __init__(self, journal: BareJournal, in_flight: int, seconds: float) -> None:
        self.journal = journal
        self.done = 0
        self._left = in_flight
        self._until = time.perf_counter() + seconds
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for _ in range(in_flight):
            _Driver(self).go_on()

    def another(self) -> bool:
        """Count a run; say whether there is time for another one."""
        self.done += 1
        if time.perf_counter() < self._until:
            return True
        self._left -= 1
        if not self._left:
            self.over.set_result(None)
        return False


async def by_send(journal: BareJournal, in_flight: int, seconds: float) -> int:
    """Return how many runs ended in so many seconds."""
    crew = _Crew(journal, in_flight, seconds)
    await crew.over
    return crew.done


VARIANTS: Final = {"task": by_task, "send": by_send}
