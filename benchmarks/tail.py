"""p99.9 of a trigger and of a step while everything else goes on, and the loop's longest stall.

Meanwhile, over and over: snapshots with compaction, runs put to sleep and woken, and 1,000
subscribers of one run that ticks. The same load without all that is the yardstick, in the same
process: the ratio says what the rest costs. One process, one loop, `serve`'s collector settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.report import arguments, data_directory, finish, percentile, ratios, spread
from benchmarks.stalls import Stalls
from benchmarks.workload import INPUT, flow
from stepflow import Context  # noqa: TC001  its hint is read when the workflow is registered
from stepflow.cli.process import tune_gc
from stepflow.config import Settings
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IN_FLIGHT: Final = 16
PAUSE_S: Final = 0.005
SETTINGS: Final = Settings(passivate_after_s=0.2, snapshot_interval_s=1e9)
STEP_MS: Final[list[float]] = []
BODY: Final = json.dumps(INPUT).encode()


@flow.workflow("timed")
async def timed(ctx: Context, _: dict[str, str]) -> int:
    """Three steps; each one's milliseconds from asking to result are kept."""
    for _n in range(3):
        began = time.perf_counter()
        await ctx.step("step", nothing)
        STEP_MS.append((time.perf_counter() - began) * 1e3)
    return 3


async def nothing() -> None:
    pass


async def load(running: LocalEngine, seconds: float) -> list[float]:
    """Trigger runs at a steady pace; return each trigger's milliseconds."""
    triggers: list[float] = []
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        while (start := time.perf_counter()) - began < seconds:
            run_id = await running.trigger("timed", BODY)
            triggers.append((time.perf_counter() - start) * 1e3)
            await running.wait(str(run_id))
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))
    return triggers


class Subscribers:
    """So many readers of one run, each taking the bytes as a stream does."""

    def __init__(self, running: LocalEngine, run_id: str) -> None:
        self._running = running
        self._run_id = run_id
        self.seen = 0

    async def one(self) -> None:
        stream = await self._running.stream(self._run_id)
        try:
            while not stream.ended:
                self.seen += len(stream.read(32 * 1024))
                await stream.changed()
        finally:
            stream.close()


async def snapshots(running: LocalEngine) -> None:
    while True:
        await running.snapshot()
        await asyncio.sleep(0.1)


async def naps(running: LocalEngine) -> None:
    """Let runs fall asleep and wake them, a hundred at a time."""
    n = 0
    while True:
        bodies = [b'{"to":"n%d"}' % (n + i) for i in range(100)]
        ids = await running.trigger_many("addressee", bodies)
        await asyncio.sleep(0.3)
        await running.sup.passivate_idle()
        for i in range(100):
            await running.notify(f"letter-n{n + i}", b"1")
        await asyncio.gather(*(running.wait(str(id_)) for id_ in ids))
        n += 100


async def ticks(running: LocalEngine) -> None:
    while True:
        await running.notify("tick", b"1")
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def everything_else(running: LocalEngine, subscribers: int) -> AsyncIterator[None]:
    """Keep snapshots, sleep and wake, and a fan-out going."""
    ticker = str(await running.trigger("ticker", b"1000000"))
    readers = Subscribers(running, ticker)
    tasks = [asyncio.ensure_future(readers.one()) for _ in range(subscribers)]
    await asyncio.sleep(0.5)
    tasks += [asyncio.ensure_future(work(running)) for work in (snapshots, naps, ticks)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception):
                raise error
        await running.cancel(ticker)
    if not readers.seen:
        raise RuntimeError("no subscriber saw an event")


async def measure(directory: str, repeats: int, seconds: float, subscribers: int) -> dict[str, Any]:
    running = LocalEngine(flow.registry, directory, settings=SETTINGS)
    await running.start()
    tune_gc()
    await running.trigger_many("addressee", [b'{"to":"p%d"}' % n for n in range(1000)])
    figures: dict[str, list[float]] = {}

    async def take(name: str) -> None:
        STEP_MS.clear()
        stalls = Stalls()
        triggers = await load(running, seconds)
        figures.setdefault(f"{name}_stall_ms", []).append(stalls.stop())
        for what, values in (("trigger", triggers), ("step", STEP_MS)):
            for label, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
                figures.setdefault(f"{name}_{what}_{label}_ms", []).append(percentile(values, part))

    await take("warm")
    figures.clear()
    for _ in range(repeats):
        await take("alone")
        async with everything_else(running, subscribers):
            await take("busy")
    await running.stop()
    shown: dict[str, Any] = {name: spread(values, 2) for name, values in figures.items()}
    for what in ("trigger", "step"):
        shown[f"{what}_p999_busy_to_alone"] = ratios(
            figures[f"busy_{what}_p999_ms"], figures[f"alone_{what}_p999_ms"]
        )
    return shown


def main() -> None:
    options = arguments("The tail while snapshots, passivation and 1,000 subscribers go on")
    seconds, subscribers = (1.0, 50) if options.quick else (15.0, 1000)
    with data_directory() as directory:
        figures = uvloop.run(
            measure(str(directory / "data"), options.repeats, seconds, subscribers)
        )
    finish({"subscribers": subscribers, "in_flight": IN_FLIGHT} | figures, options.json)


if __name__ == "__main__":
    main()
