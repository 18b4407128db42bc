"""p99.9 of a trigger and of a step while everything else goes on, and the loop's longest stall.

A steady load of runs of three steps, the same each time:

- **alone**: nothing else, the yardstick;
- **busy**: over and over, snapshots with compaction, runs put to sleep and woken, and 1,000
  subscribers of one run that ticks;
- **recovering**: right after a killed engine's directory was recovered, while its runs, all in the
  middle of a step, are woken and run on.

A trigger's time counts from when it was due, so a stall shows in all that were due meanwhile; the
pace itself is a millisecond fine. One process, one loop, `serve`'s collector settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.histogram import Histogram
from benchmarks.report import ROOT, arguments, collector, data_directory, finish, ratios, spread
from benchmarks.stalls import Stalls
from benchmarks.workload import INPUT, flow
from stepflow import Context  # noqa: TC001  its hint is read when the workflow is registered
from stepflow.cli.process import tune_gc
from stepflow.config import Settings
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RATE: Final = 500
UNDER_WAY_MAX: Final = 2_000
SETTINGS: Final = Settings(passivate_after_s=0.2, snapshot_interval_s=1e9)
BODY: Final = json.dumps(INPUT).encode()
EDGES_MS: Final = tuple(round(0.05 * 1.5**n, 4) for n in range(26))
PARTS: Final = (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
_ADDRESS: Final = count()
_AT_ONCE: Final = 500


class Times:
    """Where the steps of the load leave what they took."""

    step = Histogram()


@flow.workflow("timed")
async def timed(ctx: Context, _: dict[str, str]) -> int:
    """Three steps; each one's milliseconds from asking to result are kept."""
    for _n in range(3):
        began = time.perf_counter()
        await ctx.step("step", nothing)
        Times.step.add((time.perf_counter() - began) * 1e3)
    return 3


async def nothing() -> None:
    pass


@flow.workflow("killed")
async def killed(ctx: Context, _: int) -> int:
    """A step that is done, and one in whose middle the process is killed the first time."""
    await ctx.step("first", nothing)
    await ctx.step("second", held)
    return 2


HOLD: Final = asyncio.Event()
HOLD.set()


async def held() -> None:
    await HOLD.wait()


async def load(running: LocalEngine, seconds: float) -> Histogram:
    """Trigger runs at a steady pace; return each trigger's milliseconds from when it was due."""
    times = Histogram()
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        run_id = await running.trigger("timed", BODY)
        times.add((time.perf_counter() - due) * 1e3)
        await running.wait(str(run_id))

    began, started = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        while started < int(passed * RATE) and len(tasks) < UNDER_WAY_MAX:
            started += 1
            task = asyncio.ensure_future(one(began + started / RATE))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    while tasks:
        await asyncio.gather(*tasks)
    return times


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
    while True:
        letters = [f"n{next(_ADDRESS)}" for _ in range(100)]
        bodies = [b'{"to":"%s"}' % letter.encode() for letter in letters]
        ids = await running.trigger_many("addressee", bodies)
        await asyncio.sleep(0.3)
        await running.sup.passivate_idle()
        for letter in letters:
            await running.notify(f"letter-{letter}", b"1")
        await asyncio.gather(*(running.wait(str(id_)) for id_ in ids))


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


async def fill(directory: str, runs: int) -> None:
    """Make a directory of runs that are all in the middle of a step, and die without a word."""
    HOLD.clear()
    running = LocalEngine(flow.registry, directory, settings=SETTINGS)
    await running.start()
    for begin in range(0, runs, _AT_ONCE):
        await running.trigger_many("killed", [b"1"] * min(_AT_ONCE, runs - begin))
    await asyncio.sleep(1.0)  # the first steps' results go to the disk
    os._exit(0)


class Measured:
    """Histograms of all repeats, and each repeat's percentiles."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {}
        self.counts: dict[str, list[int]] = {}

    async def take(self, name: str, running: LocalEngine, seconds: float) -> None:
        Times.step = Histogram()
        stalls = Stalls()
        triggers = await load(running, seconds)
        self.figures.setdefault(f"{name}_stall_ms", []).append(stalls.stop())
        self.figures.setdefault(f"{name}_stall_cpu_ms", []).append(stalls.longest_cpu_ms)
        for what, values in (("trigger", triggers), ("step", Times.step)):
            for label, part in PARTS:
                place = f"{name}_{what}_{label}_ms"
                self.figures.setdefault(place, []).append(values.percentile(part))
            kept = self.counts.setdefault(f"{name}_{what}_counts", [0] * (len(EDGES_MS) + 1))
            for n, more in enumerate(values.coarse(EDGES_MS)):
                kept[n] += more

    def shown(self) -> dict[str, Any]:
        seen = self.figures
        shown: dict[str, Any] = {name: spread(values, 2) for name, values in seen.items()}
        for what in ("trigger_p999", "step_p999"):
            for how in ("busy", "recovering"):
                shown[f"{what}_{how}_to_alone"] = ratios(
                    seen[f"{how}_{what}_ms"], seen[f"alone_{what}_ms"]
                )
        for how in ("busy", "recovering"):
            for place in ("stall", "stall_cpu"):
                shown[f"{place}_{how}_to_alone"] = ratios(
                    seen[f"{how}_{place}_ms"], seen[f"alone_{place}_ms"]
                )
        return shown | {"edges_ms": EDGES_MS} | self.counts


async def recovering(measured: Measured, made: Path, seconds: float) -> None:
    """Recover a copy of the killed engine's directory, and measure while its runs go on."""
    copy = made.with_name("copy")
    shutil.copytree(made, copy)
    running = LocalEngine(flow.registry, str(copy), settings=SETTINGS)
    await running.start()
    await measured.take("recovering", running, seconds)
    await running.stop()
    shutil.rmtree(copy)


async def measure(
    directory: Path, repeats: int, seconds: float, recovering_s: float, subscribers: int
) -> dict[str, Any]:
    running = LocalEngine(flow.registry, str(directory / "data"), settings=SETTINGS)
    await running.start()
    tune_gc()
    await running.trigger_many("addressee", [b'{"to":"p%d"}' % n for n in range(1000)])
    await Measured().take("warm", running, min(2.0, seconds))
    measured = Measured()
    for _ in range(repeats):
        await measured.take("alone", running, seconds)
        async with everything_else(running, subscribers):
            await measured.take("busy", running, seconds)
        await recovering(measured, directory / "made", recovering_s)
    await running.stop()
    return measured.shown()


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "fill":
        uvloop.run(fill(sys.argv[2], int(sys.argv[3])))
    options = arguments("The tail while snapshots, passivation and 1,000 subscribers go on")
    seconds, recovering_s, subscribers = (1.0, 0.5, 50) if options.quick else (15.0, 4.0, 1000)
    runs = round(SETTINGS.wakes_per_second * recovering_s)
    with data_directory() as directory:
        command = [sys.executable, "-m", "benchmarks.tail", "fill", str(directory / "made")]
        subprocess.run([*command, str(runs)], cwd=ROOT, check=True)
        figures = uvloop.run(
            measure(directory, options.repeats, seconds, recovering_s, subscribers)
        )
    facts = {"subscribers": subscribers, "rate_per_s": RATE, "recovered_runs": runs}
    finish(facts | {"gc": collector()} | figures, options.json)


if __name__ == "__main__":
    main()
