"""A soak: half the peak for an hour, memory and latency flat: `python -m benchmarks.soak`.

First the peak is found (64 in flight, some seconds); then runs come at half that rate. Each minute
gives its own figures: runs, p50, p99 and p99.9 of a run, resident memory, size of the directory.
The second half is held against the first. Finished runs are purged by a small byte limit, and
snapshots come often, so that everything that could grow has its turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.report import ROOT, data_directory, finish, percentile, surroundings
from benchmarks.scale import rss_bytes
from benchmarks.workload import INPUT, flow
from stepflow.cli.process import tune_gc
from stepflow.config import MIB, Settings
from stepflow.engine.local import LocalEngine

SETTINGS: Final = Settings(
    finished_bytes_max=32 * MIB, snapshot_wal_bytes=32 * MIB, snapshot_interval_s=60
)
BODY: Final = json.dumps(INPUT).encode()


async def run_once(running: LocalEngine, times_ms: list[float]) -> None:
    began = time.perf_counter()
    await running.wait(str(await running.trigger("w1", BODY)))
    times_ms.append((time.perf_counter() - began) * 1e3)


async def peak_per_s(running: LocalEngine, seconds: float) -> float:
    times: list[float] = []
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        while time.perf_counter() - began < seconds:
            await run_once(running, times)

    await asyncio.gather(*(one_after_the_other() for _ in range(64)))
    return len(times) / (time.perf_counter() - began)


async def minute(running: LocalEngine, rate: float, seconds: float) -> dict[str, float]:
    """Start runs at the rate, evenly; return what this stretch of time gave."""
    times: list[float] = []
    under_way: set[asyncio.Task[None]] = set()
    began, started = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(int(passed * rate) - started):
            task = asyncio.ensure_future(run_once(running, times))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            started += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*under_way)
    return {
        "runs": len(times),
        "p50_ms": round(percentile(times, 0.5), 2),
        "p99_ms": round(percentile(times, 0.99), 2),
        "p999_ms": round(percentile(times, 0.999), 2),
        "rss_mib": round(rss_bytes() / MIB, 1),
    }


def disk_mib(directory: Path) -> float:
    return round(sum(path.stat().st_size for path in directory.iterdir()) / MIB, 1)


async def measure(directory: Path, seconds: float, stretch: float) -> dict[str, Any]:
    running = LocalEngine(flow.registry, str(directory), settings=SETTINGS)
    await running.start()
    tune_gc()
    peak = await peak_per_s(running, min(10.0, stretch))
    rows = []
    for number in range(max(2, round(seconds / stretch))):
        row = await minute(running, peak / 2, stretch)
        row["disk_mib"] = disk_mib(directory)
        rows.append(row)
        print(f"{number + 1}: {row}", file=sys.stderr, flush=True)
    await running.stop()
    half = len(rows) // 2
    return {
        "peak_per_s": round(peak),
        "stretch_s": stretch,
        "stretches": rows,
        "second_half_to_first": {
            name: round(_mean(rows[half:], name) / _mean(rows[:half], name), 3)
            for name in ("p50_ms", "p99_ms", "rss_mib", "disk_mib")
        },
    }


def _mean(rows: list[dict[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench" / "soak.json")
    options = parser.parse_args()
    stretch = min(60.0, options.seconds / 4)
    with data_directory() as directory:
        figures = uvloop.run(measure(directory / "data", options.seconds, stretch))
    finish(surroundings() | figures, options.json)


if __name__ == "__main__":
    main()
