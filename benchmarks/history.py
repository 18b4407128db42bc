"""Long histories: a run with 100,000 steps, and a run woken 100,000 times; each one as cheap.

CPU time of a step (of a wake-up) in each tenth of the history, and the last tenth over the first:
near 1 means that the history costs nothing. A run that was put to sleep must replay its history
when it is woken; `replay_us_a_record` is what that takes, once, at the end.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import uvloop

from benchmarks.report import arguments, data_directory, finish
from benchmarks.workload import flow
from stepflow.cli.process import tune_gc
from stepflow.config import MIB, Settings
from stepflow.engine.local import LocalEngine

SETTINGS: Final = Settings(run_bytes_max=1024 * MIB, snapshot_interval_s=1e9)
TENTHS: Final = 10


async def until(running: LocalEngine, run_id: str, calls: int) -> None:
    """Wait until the run has made so many calls."""
    while len(running.sup.get(run_id).peek().calls) < calls:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.001)


async def steps(running: LocalEngine, count: int) -> list[float]:
    """Return each tenth's microseconds of CPU time a step."""
    run_id = str(await running.trigger("long", b"%d" % count))
    rows = []
    for tenth in range(1, TENTHS + 1):
        began = time.process_time()
        await until(running, run_id, count * tenth // TENTHS)
        rows.append((time.process_time() - began) * TENTHS / count * 1e6)
    await running.wait(run_id)
    return rows


async def wakes(running: LocalEngine, count: int) -> tuple[list[float], float]:
    """Return each tenth's microseconds a wake-up, and those of a record's replay."""
    run_id = str(await running.trigger("ticker", b"%d" % (count + 1)))
    rows = []
    for _ in range(TENTHS):
        began = time.process_time()
        for _n in range(count // TENTHS):
            await running.notify("tick", b"1", run_id=run_id)
        await until(running, run_id, 1)
        rows.append((time.process_time() - began) * TENTHS / count * 1e6)
    actor = running.sup.get(run_id)
    while len(actor.state.calls) <= count:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.01)
    await actor.suspend()
    began = time.process_time()
    await running.notify("tick", b"1", run_id=run_id)
    await running.wait(run_id)
    return rows, (time.process_time() - began) / count * 1e6


async def measure(directory: str, count: int) -> dict[str, Any]:
    running = LocalEngine(flow.registry, directory, settings=SETTINGS)
    await running.start()
    tune_gc()
    step_us = await steps(running, count)
    wake_us, replay_us = await wakes(running, count)
    await running.stop()
    return {
        "count": count,
        "step_us": [round(value, 1) for value in step_us],
        "step_last_tenth_to_first": round(step_us[-1] / step_us[0], 2),
        "wake_us": [round(value, 1) for value in wake_us],
        "wake_last_tenth_to_first": round(wake_us[-1] / wake_us[0], 2),
        "replay_us_a_record": round(replay_us, 1),
    }


def main() -> None:
    options = arguments("A run with 100,000 steps, and one woken 100,000 times")
    with data_directory() as directory:
        count = 2_000 if options.quick else 100_000
        figures = uvloop.run(measure(str(directory / "data"), count))
    finish(figures, options.json)


if __name__ == "__main__":
    main()
