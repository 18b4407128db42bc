"""The ceiling: W1 as a coroutine, JSON records and one group commit, and nothing else.

A task a run, a future a step, a writer thread that writes what has gathered to a preallocated file
and syncs it; each step's result, the start and the end are durable before anything goes on: five
syncs a run. No actors, retries, streams, snapshots or checks.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
from typing import Any

import uvloop
from contestant import INPUT, serve

from stepflow.cli.process import tune_gc

FILE_BYTES = 64 * 1024 * 1024


class Log:
    """Records go in, their futures come back once they are on disk."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.posix_fallocate(self._file, 0, FILE_BYTES)
        os.fsync(self._file)
        self._offset = 0
        self._loop = asyncio.get_running_loop()
        self._records: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._busy = False
        self._batches: queue.SimpleQueue[tuple[list[bytes], list[asyncio.Future[None]]]]
        self._batches = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def append(self, record: dict[str, Any]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        if not self._records and not self._busy:
            # What else this pass of the loop brings shares the sync.
            self._loop.call_soon(self._hand_over)
        self._records.append(json.dumps(record).encode())
        self._waiting.append(done)
        return done

    def _hand_over(self) -> None:
        self._busy = True
        self._batches.put((self._records, self._waiting))
        self._records, self._waiting = [], []

    def _write(self) -> None:
        while True:
            records, waiting = self._batches.get()
            batch = b"\n".join(records) + b"\n"
            if self._offset + len(batch) > FILE_BYTES:
                self._offset = 0
            self._offset += os.pwrite(self._file, batch, self._offset)
            os.fdatasync(self._file)
            self._loop.call_soon_threadsafe(self._release, waiting)

    def _release(self, waiting: list[asyncio.Future[None]]) -> None:
        self._busy = False
        if self._records:
            self._hand_over()
        for future in waiting:
            future.set_result(None)


async def small(what: str) -> dict[str, object]:
    return {"ok": True, "what": what}


async def main() -> None:
    log, number = Log(sys.argv[1]), 0
    tune_gc()

    async def step(run: int, name: str, what: str) -> dict[str, object]:
        result = await small(what)
        await log.append({"run": run, "step": name, "result": result})
        return result

    async def w1(run: int, user: dict[str, str]) -> object:
        await step(run, "first", user["userId"])
        await step(run, "second", user["email"])
        result = await step(run, "third", "done")
        await log.append({"run": run, "end": result})
        return result

    async def one_run() -> object:
        nonlocal number
        number += 1
        await log.append({"run": number, "workflow": "w1", "input": INPUT})
        return await asyncio.create_task(w1(number, INPUT))

    await serve(one_run)


uvloop.run(main())
