"""What one more costs, from a thousand waiting runs to a million: a curve, and bytes a run.

Each size is a process of its own on a directory of its own. It makes so many runs that wait for an
event of their own (with a timeout, so each has a timer too), lets them give up their tasks, and
takes, a thousand of each: CPU time of one more run, step, waiter of a shared event, timer and
subscriber, of one woken run and of one found by id; memory a run beside its payload; one snapshot
of all while runs are started, with the loop's longest stall meanwhile, beside that of the same work
without a snapshot; and, in a fresh process, recovery until the engine serves. CPU time is taken
since it is what noise leaves alone; the curve is flat when a row's does not grow with the size.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.report import ROOT, arguments, data_directory, finish
from benchmarks.stalls import Stalls
from benchmarks.workload import flow
from stepflow.cli.process import tune_gc
from stepflow.config import Settings
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.errors import ApiError

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
QUICK: Final = (1_000, 4_000)
ONE_MORE: Final = 1_000
SUBSCRIBERS_MAX: Final = 10_000
_AT_ONCE: Final = 1_000
_AT_WORK: Final = 8
SETTINGS: Final = Settings(
    passivate_after_s=0.2,
    live_runs_max=2_000_000,
    snapshot_interval_s=1e9,
    snapshot_wal_bytes=2**62,
)


def engine(directory: str) -> LocalEngine:
    return LocalEngine(flow.registry, directory, settings=SETTINGS)


def rss_bytes() -> int:
    """Return this process's resident memory, without its shared pages."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def payload(n: int) -> bytes:
    return b'{"to":"%d"}' % n


async def asleep(running: LocalEngine) -> None:
    """Wait until no run has a task."""
    while running.sup.active:
        await running.sup.passivate_idle()
        await asyncio.sleep(0.05)


async def make(running: LocalEngine, first: int, count: int) -> None:
    for begin in range(first, first + count, _AT_ONCE):
        bodies = [payload(n) for n in range(begin, min(begin + _AT_ONCE, first + count))]
        await running.trigger_many("addressee", bodies)
        while len(running.sup.active) > 5 * _AT_ONCE:
            await running.sup.passivate_idle()
            await asyncio.sleep(0.01)
    await asleep(running)


async def fill(directory: str, size: int) -> dict[str, float]:
    """Make so many waiting runs and take the figures that need them."""
    running = engine(directory)
    await running.start()
    await make(running, 10_000_000, 200)
    tune_gc()
    gc.collect()
    before = rss_bytes()
    began = time.perf_counter()
    await make(running, 0, size)
    made_s = time.perf_counter() - began
    gc.collect()
    seen = {
        "bytes_a_run": (rss_bytes() - before) / size - len(payload(size)),
        "made_per_s": size / made_s,
    }
    seen |= await one_more(running, size)
    seen |= await snapshot(running)
    seen["records"] = running.sup.journal.last_lsn
    return seen


async def snapshot(running: LocalEngine) -> dict[str, float]:
    """Write one while work goes on; return its seconds, and the loop's stalls with and without."""

    async def work(until: asyncio.Event) -> None:
        while not until.is_set():
            await running.wait(str(await running.trigger("w1", b'{"userId":"u","email":"e"}')))

    async def stalls(until: asyncio.Event) -> Stalls:
        watch = Stalls()
        await asyncio.gather(*(work(until) for _ in range(_AT_WORK)))
        watch.stop()
        return watch

    over = asyncio.Event()
    began = time.perf_counter()
    watched = asyncio.ensure_future(stalls(over))
    await running.snapshot()
    took = time.perf_counter() - began
    over.set()
    during = await watched
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(max(1.0, took), over.set)
    without = await stalls(over)
    return {
        "snapshot_s": took,
        "snapshot_stall_ms": during.longest_ms,
        "snapshot_stall_cpu_ms": during.longest_cpu_ms,
        "stall_without_ms": without.longest_ms,
        "stall_without_cpu_ms": without.longest_cpu_ms,
    }


async def one_more(running: LocalEngine, size: int) -> dict[str, float]:
    """Return microseconds of CPU time of one more of each."""
    seen: dict[str, float] = {}

    def took(name: str, began: float, count: int) -> None:
        seen[f"{name}_us"] = (time.process_time() - began) / count * 1e6

    count = min(ONE_MORE, size)
    began = time.process_time()
    await make(running, 20_000_000, count)
    took("run", began, count)
    ids = [
        str(id_)
        for id_ in await running.trigger_many("addressee", [payload(n) for n in range(-count, 0)])
    ]
    await asleep(running)
    began = time.process_time()
    for id_ in ids:
        await running.get_run(id_)
    took("get", began, count)
    began = time.process_time()
    for n in range(-count, 0, 100):
        await asyncio.gather(
            *(running.notify(f"letter-{m}", b'"hello"') for m in range(n, min(0, n + 100)))
        )
    await asyncio.gather(*(running.wait(id_) for id_ in ids))
    took("wake", began, count)
    began = time.process_time()
    await running.wait(str(await running.trigger("long", b"%d" % count)))
    took("step", began, count)
    began = time.process_time()
    await ended(running, await waiting(running, count))
    took("waiter", began, count)
    began = time.process_time()
    await ended(running, await running.trigger_many("sleeper", [b"1"] * count))
    took("timer", began, count)
    took("subscriber", *await subscribers(running, min(size, SUBSCRIBERS_MAX)))
    return seen


async def waiting(running: LocalEngine, count: int) -> list[str | ApiError]:
    """Make runs that wait for one event, and send it."""
    ids = await running.trigger_many("shared", [b'{"userId":"u"}'] * count)
    while running.sup.delivery.count("shared", None) < count:  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.01)
    if await running.notify("shared", b"1") != count:
        raise RuntimeError("an event did not reach all that wait for it")
    return ids


async def ended(running: LocalEngine, ids: Sequence[str | ApiError]) -> None:
    await asyncio.gather(*(running.wait(str(id_)) for id_ in ids))


async def subscribers(running: LocalEngine, count: int) -> tuple[float, int]:
    """Let so many follow one run from its start to its end; return when that began, and count."""
    run_id = str(await running.trigger("ticker", b"1"))

    async def follow() -> None:
        stream = await running.stream(run_id)
        try:
            while not stream.ended:
                stream.read(32 * 1024)
                await stream.changed()
        finally:
            stream.close()

    began = time.process_time()
    readers = [asyncio.ensure_future(follow()) for _ in range(count)]
    await asyncio.sleep(0)
    await running.notify("tick", b"1", run_id=run_id)
    await asyncio.gather(*readers)
    return began, count


async def recover(directory: str) -> dict[str, float]:
    running = engine(directory)
    began = time.perf_counter()
    await running.start()
    return {"recovery_s": time.perf_counter() - began}


def in_a_process(what: str, directory: Path, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale", what, str(directory), str(size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout))


def measure(size: int) -> dict[str, float]:
    with data_directory() as directory:
        seen = in_a_process("fill", directory / "data", size)
        seen |= in_a_process("recover", directory / "data", size)
    seen["recovered_runs_per_s"] = size / seen["recovery_s"]
    shown = ", ".join(f"{name} {value:,.1f}" for name, value in seen.items())
    print(f"{size:>9,} runs: {shown}", file=sys.stderr, flush=True)
    return {name: round(value, 2) for name, value in seen.items()}


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] in {"fill", "recover"}:
        _child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        return
    options = arguments("One more of each, from a thousand waiting runs to a million")
    sizes = QUICK if options.quick else SIZES
    figures: dict[str, Any] = {f"{size}": measure(size) for size in sizes}
    finish(
        {"sizes": figures, "gc": "as serve has it", "payload": payload(0).decode()}, options.json
    )


def _child(what: str, directory: str, size: int) -> None:
    seen = uvloop.run(fill(directory, size) if what == "fill" else recover(directory))
    print(json.dumps(seen), flush=True)
    # What a clean stop of so many runs takes is not measured here.
    os._exit(0)


if __name__ == "__main__":
    main()
