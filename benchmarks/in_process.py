"""Runs of three steps a second, in process, at 1, 64 and 1,000 in flight.

Beside them, in turn and in the same process:

- the same workflow by a **bare loop** (bare_loop.py), an asyncio task a run or driven by `send`:
  what this shape costs in this language without anything that makes it a product;
- the disk's own rate: 4 KiB written to a preallocated file and `fdatasync`ed, over and over. One
  run at a time takes four syncs (design: effects wait, thoughts do not), that of a bare loop five;
  many in flight share theirs.

`cpu_us` is the process's CPU time a run, all threads: it says more than a rate where others use the
machine too.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Self

import uvloop

from benchmarks.bare_loop import VARIANTS, BareJournal
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
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable
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


class Figures:
    """What one of the loops did, repeat by repeat."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu_us: list[float] = []
        self.nbytes: list[float] = []

    def add(self, runs: int, took_s: float, cpu_s: float, nbytes: int) -> None:
        self.rates.append(runs / took_s)
        self.cpu_us.append(cpu_s / runs * 1e6)
        self.nbytes.append(nbytes / runs)


class Taken:
    """Wall and CPU time, and the bytes that a journal wrote, while it is entered."""

    def __init__(self, figures: Figures, written: Callable[[], int]) -> None:
        self._figures = figures
        self._written = written
        self.runs = 0

    def __enter__(self) -> Self:
        self._bytes = self._written()
        self._cpu_s = time.process_time()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        took_s = time.perf_counter() - self._began
        cpu_s = time.process_time() - self._cpu_s
        self._figures.add(self.runs, took_s, cpu_s, self._written() - self._bytes)


async def measure(directory: Path, repeats: int, seconds: float) -> dict[str, Any]:
    figures = {(name, n): Figures() for n in IN_FLIGHT for name in ("ours", *VARIANTS)}
    p50: dict[int, list[float]] = {n: [] for n in IN_FLIGHT}
    p99: dict[int, list[float]] = {n: [] for n in IN_FLIGHT}
    syncs: list[float] = []
    async with flow:
        journal = _engine().sup.journal
        bare = BareJournal(directory / "bare")
        tune_gc()
        await runs_per_s(64, min(1.0, seconds))
        for _ in range(repeats):
            # In a thread: the engine's watchdog would tell of a loop that stands.
            syncs.append(await asyncio.to_thread(syncs_per_s, directory, seconds / 2))
            for n in IN_FLIGHT:
                with Taken(figures["ours", n], lambda: journal.stats().bytes_written) as taken:
                    _, times_ms = await runs_per_s(n, seconds)
                    taken.runs = len(times_ms)
                p50[n].append(percentile(times_ms, 0.5))
                p99[n].append(percentile(times_ms, 0.99))
                for name, run in VARIANTS.items():
                    with Taken(figures[name, n], lambda: bare.nbytes) as taken:
                        taken.runs = await run(bare, n, seconds)
        bare.close()
    shown: dict[str, Any] = {"syncs_per_s": spread(syncs)}
    for n in IN_FLIGHT:
        ours = figures["ours", n]
        shown[f"runs_per_s_{n}"] = (
            spread(ours.rates)
            | {"p50_ms": spread(p50[n], 2), "p99_ms": spread(p99[n], 2)}
            | {"cpu_us": spread(ours.cpu_us, 1), "bytes": spread(ours.nbytes)}
        )
        shown[f"runs_{n}_to_syncs"] = ratios(ours.rates, syncs)
        for name in VARIANTS:
            bare_runs = figures[name, n]
            shown[f"bare_{name}_per_s_{n}"] = spread(bare_runs.rates) | {
                "cpu_us": spread(bare_runs.cpu_us, 1),
                "bytes": spread(bare_runs.nbytes),
            }
            shown[f"runs_{n}_to_bare_{name}"] = ratios(ours.rates, bare_runs.rates)
            shown[f"runs_{n}_to_bare_{name}_by_cpu"] = ratios(bare_runs.cpu_us, ours.cpu_us)
    return shown


def _engine() -> LocalEngine:
    engine = flow.engine
    assert isinstance(engine, LocalEngine)
    return engine


def main() -> None:
    options = arguments("Runs of three steps in process beside a bare loop and the disk's syncs")
    seconds = 0.5 if options.quick else 6.0
    with data_directory() as directory:
        flow.use_data_dir(str(directory / "data"))
        figures = uvloop.run(measure(directory, options.repeats, seconds))
    facts = {"loop": "uvloop", "seconds_each": seconds, "gc": collector()}
    finish(facts | figures, options.json)


if __name__ == "__main__":
    main()
