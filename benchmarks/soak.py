"""A soak: half the peak for an hour, memory and latency flat: `python -m benchmarks.soak`.

First the peak is found (64 in flight, the median of three short stretches); then runs of three
steps are due at half that rate, evenly. Beside them, each second, some runs that sleep, some that
wait for an event and get it, and a reader of one run's stream. Finished runs are purged by a small
limit in bytes, and snapshots come often, so that everything that could grow has its turn.

Each minute gives its own figures: runs, p50, p99 and p99.9 of a run, the loop's longest stall (and
the longest by its own processor time, which others on the machine do not stretch), the process's
processor time a run, resident memory, the directory's size, the machine's load. A run's time counts
from when it was due, so a stall shows in all that were due meanwhile. On a machine that others use,
what cannot be started because too many are under way is counted as `held_back` and does not pile
up.

What has been measured is written to `--json` after each minute: an end before the hour keeps it.
`flat` says what to read: the slope of memory over the last three quarters, and the last quarter of
p50, p99 and processor time over the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.histogram import Histogram
from benchmarks.report import WORK, collector, data_directory, finish, surroundings
from benchmarks.scale import rss_bytes
from benchmarks.stalls import Stalls
from benchmarks.workload import INPUT, flow
from stepflow.cli.process import tune_gc
from stepflow.config import MIB, Settings
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Coroutine

SETTINGS: Final = Settings(
    finished_bytes_max=32 * MIB,
    snapshot_wal_bytes=32 * MIB,
    snapshot_interval_s=60,
    passivate_after_s=0.5,
)
BODY: Final = json.dumps(INPUT).encode()
UNDER_WAY_MAX: Final = 512
BESIDE_EACH_S: Final = 10
"""So many sleepers and so many waiters are started each second."""
MINUTE_S: Final = 60.0

Row = dict[str, float]


class Load:
    """Starts runs when they are due, and keeps what they took."""

    def __init__(self, running: LocalEngine) -> None:
        self._running = running
        self._tasks: set[asyncio.Task[None]] = set()
        self._letters = 0
        self.times = Histogram()
        self.held_back = 0
        self.beside = 0

    async def one(self, due: float) -> None:
        await self._running.wait(str(await self._running.trigger("w1", BODY)))
        self.times.add((time.perf_counter() - due) * 1e3)

    async def peak_per_s(self, seconds: float) -> float:
        """Return runs a second with 64 in flight."""
        began, before = time.perf_counter(), self.times.count

        async def one_after_the_other() -> None:
            while (now := time.perf_counter()) - began < seconds:
                await self.one(now)

        await asyncio.gather(*(one_after_the_other() for _ in range(64)))
        return (self.times.count - before) / (time.perf_counter() - began)

    async def at(self, rate: float, seconds: float) -> None:
        """Start so many a second, evenly, and return when all have ended."""
        began, due, next_beside = time.perf_counter(), 0, 0.0
        while (passed := time.perf_counter() - began) < seconds:
            while due < int(passed * rate):
                due += 1
                if len(self._tasks) < UNDER_WAY_MAX:
                    self._start(self.one(began + due / rate))
                else:
                    self.held_back += 1
            if passed >= next_beside:
                next_beside += 1.0
                self._start(self._others())
            await asyncio.sleep(0.001)
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _others(self) -> None:
        """Let some runs sleep, some wait for an event and get it, and read one's stream."""
        first = self._letters
        self._letters += BESIDE_EACH_S
        letters = range(first, self._letters)
        running = self._running
        ids = await running.trigger_many("addressee", [b'{"to":"%d"}' % n for n in letters])
        ids += await running.trigger_many("sleeper", [b"1"] * BESIDE_EACH_S)
        reader = asyncio.ensure_future(self._read(str(ids[0])))
        await asyncio.sleep(1.0)
        for n in letters:
            await running.notify(f"letter-{n}", b'"hello"')
        for id_ in ids:
            await running.wait(str(id_))
        await reader
        self.beside += len(ids)

    async def _read(self, run_id: str) -> None:
        stream = await self._running.stream(run_id)
        try:
            while not stream.ended:
                stream.read(32 * 1024)
                await stream.changed()
        finally:
            stream.close()


def disk_mib(directory: Path) -> float:
    total = 0
    for path in directory.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # compaction took it meanwhile
            continue
    return round(total / MIB, 1)


def flatness(rows: list[Row], stretch_s: float) -> dict[str, float]:
    """Return how flat the stretches are: a slope of memory, and last quarter over first."""
    quarter = len(rows) // 4
    if not quarter:
        return {}
    last = [row["rss_mib"] for row in rows[quarter:]]
    hours = [n * stretch_s / 3600 for n in range(len(last))]
    slope = statistics.linear_regression(hours, last).slope
    flat = {
        "rss_slope_mib_an_hour": round(slope, 2),
        "rss_slope_percent_an_hour": round(100 * slope / statistics.fmean(last), 2),
    }
    for name in ("p50_ms", "p99_ms", "p999_ms", "cpu_us_a_run", "rss_mib", "disk_mib"):
        ends, starts = ([row[name] for row in part] for part in (rows[-quarter:], rows[:quarter]))
        flat[f"{name}_last_quarter_to_first"] = round(
            statistics.median(ends) / statistics.median(starts), 3
        )
    return flat


async def measure(directory: Path, seconds: float, stretch_s: float, to: Path) -> dict[str, Any]:
    running = LocalEngine(flow.registry, str(directory), settings=SETTINGS)
    await running.start()
    tune_gc()
    load = Load(running)
    peak = statistics.median([await load.peak_per_s(min(5.0, stretch_s / 3)) for _ in range(3)])
    rows: list[Row] = []
    figures = surroundings() | {
        "peak_per_s": round(peak),
        "rate_per_s": round(peak / 2),
        "beside_each_s": 2 * BESIDE_EACH_S,
        "stretch_s": stretch_s,
        "gc": collector(),
        "stretches": rows,
        "flat": {},
    }
    for number in range(max(4, round(seconds / stretch_s))):
        load.times, load.held_back, load.beside = Histogram(), 0, 0
        stalls = Stalls()
        cpu_s = time.process_time()
        await load.at(peak / 2, stretch_s)
        cpu_s = time.process_time() - cpu_s
        row = {
            "runs": load.times.count,
            "held_back": load.held_back,
            "beside": load.beside,
            "p50_ms": round(load.times.percentile(0.5), 3),
            "p99_ms": round(load.times.percentile(0.99), 3),
            "p999_ms": round(load.times.percentile(0.999), 3),
            "cpu_us_a_run": round(cpu_s * 1e6 / max(load.times.count, 1), 1),
            "stall_ms": round(stalls.stop(), 2),
            "stall_cpu_ms": round(stalls.longest_cpu_ms, 2),
            "rss_mib": round(rss_bytes() / MIB, 2),
            "disk_mib": disk_mib(directory),
            "load": round(os.getloadavg()[0], 2),
        }
        rows.append(row)
        figures["flat"] = flatness(rows, stretch_s)
        _write(figures, to)
        print(f"{number + 1}: {row}", file=sys.stderr, flush=True)
    await running.stop()
    return figures


def _write(figures: dict[str, Any], to: Path) -> None:
    """Replace the file, so that whoever reads it finds it whole."""
    to.parent.mkdir(parents=True, exist_ok=True)
    new = to.with_name(f"{to.name}.new")
    new.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    new.replace(to)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--quick", action="store_true", help="four stretches of a second")
    parser.add_argument("--repeats", type=int, default=1, help="nothing: a soak has stretches")
    parser.add_argument("--json", type=Path, default=WORK / "soak.json")
    options = parser.parse_args()
    seconds = 4.0 if options.quick else options.seconds
    stretch_s = min(MINUTE_S, seconds / 4)
    with data_directory() as directory:
        figures = uvloop.run(measure(directory / "data", seconds, stretch_s, options.json))
    finish(figures, options.json)


if __name__ == "__main__":
    main()
