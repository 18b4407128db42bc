"""Runs of three steps a second, in process, at 1, 64 and 1,000 in flight.

Beside them, in turn, the disk's own rate: 4 KiB written to a preallocated file and `fdatasync`ed,
over and over. One run at a time takes four syncs (design: effects wait, thoughts do not), so a
quarter of that rate is the most that one in flight can reach; many in flight share their syncs.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.report import (
    arguments,
    collector,
    data_directory,
    finish,
    percentile,
    ratios,
    spread,
)
from benchmarks.workload import INPUT, flow
from stepflow.cli.process import tune_gc

if TYPE_CHECKING:
    from pathlib import Path

IN_FLIGHT = (1, 64, 1000)
BLOCK = 4096
FILE_BYTES = 16 * 1024 * 1024


def syncs_per_s(directory: Path, seconds: float) -> float:
    """Return how often a second the disk makes 4 KiB durable."""
    path = directory / "syncs"
    path.write_bytes(b"\0" * FILE_BYTES)
    file = os.open(path, os.O_WRONLY)
    os.fsync(file)
    block, count, offset = os.urandom(BLOCK), 0, 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        os.pwrite(file, block, offset)
        os.fdatasync(file)
        offset = (offset + BLOCK) % FILE_BYTES
        count += 1
    took = time.perf_counter() - began
    os.close(file)
    path.unlink()
    return count / took


async def runs_per_s(in_flight: int, seconds: float) -> tuple[float, list[float]]:
    """Keep so many runs in flight; return runs a second and each one's milliseconds."""
    times_ms: list[float] = []
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        while (start := time.perf_counter()) - began < seconds:
            run = await flow.trigger("w1", INPUT)
            await run.result()
            times_ms.append((time.perf_counter() - start) * 1e3)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return len(times_ms) / (time.perf_counter() - began), times_ms


async def measure(directory: Path, repeats: int, seconds: float) -> dict[str, Any]:
    rates: dict[int, list[float]] = {n: [] for n in IN_FLIGHT}
    p50: dict[int, list[float]] = {n: [] for n in IN_FLIGHT}
    p99: dict[int, list[float]] = {n: [] for n in IN_FLIGHT}
    syncs: list[float] = []
    async with flow:
        tune_gc()
        await runs_per_s(64, min(1.0, seconds))
        for _ in range(repeats):
            syncs.append(syncs_per_s(directory, seconds / 2))
            for n in IN_FLIGHT:
                rate, times_ms = await runs_per_s(n, seconds)
                rates[n].append(rate)
                p50[n].append(percentile(times_ms, 0.5))
                p99[n].append(percentile(times_ms, 0.99))
    shown: dict[str, Any] = {
        f"runs_per_s_{n}": spread(rates[n])
        | {"p50_ms": spread(p50[n], 2), "p99_ms": spread(p99[n], 2)}
        for n in IN_FLIGHT
    }
    shown["syncs_per_s"] = spread(syncs)
    shown |= {f"runs_{n}_to_syncs": ratios(rates[n], syncs) for n in IN_FLIGHT}
    return shown


def main() -> None:
    options = arguments("Runs of three steps in process beside the disk's syncs")
    seconds = 0.5 if options.quick else 6.0
    with data_directory() as directory:
        flow.use_data_dir(str(directory / "data"))
        figures = uvloop.run(measure(directory, options.repeats, seconds))
    facts = {"loop": "uvloop", "seconds_each": seconds, "gc": collector()}
    finish(facts | figures, options.json)


if __name__ == "__main__":
    main()
