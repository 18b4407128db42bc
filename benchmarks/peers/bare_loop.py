"""The ceiling: W1 by `benchmarks/bare_loop.py`, a task a run: `bare_loop.py FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from contestant import INPUT, serve

from benchmarks.bare_loop import BareJournal, Run, w1
from stepflow.cli.process import tune_gc

if TYPE_CHECKING:
    from asyncio import Future


async def main() -> None:
    journal = BareJournal(Path(sys.argv[1]))
    loop = asyncio.get_running_loop()
    tune_gc()

    def append(record: dict[str, Any]) -> Future[None]:
        durable: Future[None] = loop.create_future()
        journal.append(record, lambda: durable.set_result(None))
        return durable

    async def one_run() -> object:
        return await asyncio.create_task(w1(Run(append), INPUT))

    await serve(one_run)


uvloop.run(main())
