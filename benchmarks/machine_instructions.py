"""How many of the processor's instructions a run and a trigger take: C counts too.

benchmarks/instructions.py counts bytecode, to which a store in an object, a dict merged for `**`
and an encoder's whole work are one instruction each. This counts what the processor does for a run
of three steps, by callgrind: all on one loop (uvloop), a disk in memory, a clock that stands still,
no collector. The same figure to a thousandth, however busy the machine is. It is no time: a cache
miss counts like any other. Beside a run the same workflow by a bare loop; beside a trigger by HTTP,
with the whole run behind it, a bare Starlette echo (benchmarks/http_instructions.py).

Needs valgrind and a C compiler; says so where they are not. The profiles stay in `build/bench`:
`callgrind_annotate --tree=caller build/bench/ours-64.callgrind`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks import http_instructions as over_http
from benchmarks.bare_loop import BareJournal, Run, w1
from benchmarks.instructions import WARM_RUNS, StillClock, one_after_the_other, together
from benchmarks.report import ROOT, WORK, arguments, finish
from benchmarks.servers import KEY, echo_app
from benchmarks.workload import INPUT, flow
from stepflow import Stepflow
from stepflow.config import MEMORY, Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.frame import encode_frame
from stepflow.journal.memory import MemoryDisk
from stepflow.web.server import make_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepflow.engine.protocol import Engine

IN_FLIGHT: Final = (1, 64, 1000)
RUNS: Final = 640
SHIM: Final = """
#include <valgrind/callgrind.h>
void count(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop(void) { CALLGRIND_STOP_INSTRUMENTATION; }
"""
NEEDS: Final = "valgrind with its headers, and a C compiler"


# ------------------------------------------------------------------- inside callgrind


class InlineJournal(BareJournal):
    """The bare loop's journal with neither thread nor file: frames are made and dropped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._crc = self._lsn = 0
        self._records = []
        self._waiting = []
        self._busy = False

    def _flush(self) -> None:
        records, waiting = self._records, self._waiting
        if not records:
            self._busy = False
            return
        self._records, self._waiting = [], []
        _, self._crc = encode_frame(records, self._lsn - len(records) + 1, self._crc)
        self._loop.call_soon(self._committed, waiting)


class Counter:
    """Counts while it is entered."""

    def __init__(self, shim: str) -> None:
        self._shim = ctypes.CDLL(shim)

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._shim.count()

    def __exit__(self, *_: object) -> None:
        self._shim.stop()


async def ours(counter: Counter, in_flight: int, runs: int) -> None:
    # Settings of the environment must not show in the figures.
    engine: Engine = LocalEngine(
        flow.registry,
        MEMORY,
        settings=Settings(),
        clock=StillClock(),
        disk=MemoryDisk(),
        threads=False,
    )
    counted = Stepflow(MEMORY, engine=engine)
    counted.registry = flow.registry
    async with counted:
        await together(counted, in_flight, max(WARM_RUNS, in_flight))
        with counter:
            await together(counted, in_flight, runs)


async def bare(counter: Counter, in_flight: int, runs: int) -> None:
    loop, journal = asyncio.get_running_loop(), InlineJournal()

    def append(record: dict[str, Any]) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = loop.create_future()
        journal.append(record, lambda: waiter.set_result(None))
        return waiter

    async def one_after_the_other(count: int) -> None:
        for _ in range(count):
            await asyncio.create_task(w1(Run(append), INPUT))

    async def all_of(count: int) -> None:
        each = count // in_flight
        await asyncio.gather(*(one_after_the_other(each) for _ in range(in_flight)))

    await all_of(max(WARM_RUNS, in_flight))
    with counter:
        await all_of(runs)


async def trigger(counter: Counter, connections: int, requests: int) -> None:
    bench = over_http.Bench(requests)
    async with bench.flow:
        await one_after_the_other(bench.flow, WARM_RUNS)
        app: Any = bench.flow.asgi()
        asked = over_http.request("POST", "/trigger/w1", over_http.BODY)
        async with over_http.connected(make_config(app, Settings())) as lines:
            await over_http.together(lines, asked, connections * 8)
            await bench.idle()
            with counter:
                await over_http.together(lines, asked, requests)
                await bench.idle()


async def echo(counter: Counter, connections: int, requests: int) -> None:
    asked = over_http.request("POST", "/echo", over_http.BODY)
    async with over_http.connected(over_http.bare(echo_app())) as lines:
        await over_http.together(lines, asked, connections * 8)
        with counter:
            await over_http.together(lines, asked, requests)


KINDS: Final[dict[str, Callable[..., Any]]] = {
    "ours": ours,
    "bare": bare,
    "trigger": trigger,
    "echo": echo,
}


# ------------------------------------------------------------------- outside


def make_shim(directory: Path) -> Path | None:
    """Return a library that switches the counting, or `None` where it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or shutil.which("valgrind") is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    source, library = directory / "counting.c", directory / "counting.so"
    source.write_text(SHIM, encoding="utf-8")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
    made = subprocess.run(command, check=False, capture_output=True)
    return None if made.returncode else library


def counted(shim: Path, kind: str, in_flight: int) -> int:
    """Return how many instructions a run takes."""
    runs = max(RUNS, 2 * in_flight) // in_flight * in_flight
    profile = WORK / f"{kind}-{in_flight}.callgrind"
    command = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={profile}",
        sys.executable,
        *("-m", "benchmarks.machine_instructions"),
        *("--inside", str(shim), kind, str(in_flight), str(runs)),
    ]
    environment = {"PATH": os.defpath, "PYTHONHASHSEED": "1", "STEPFLOW_API_KEYS": KEY}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1]) // runs


def main() -> None:
    options = arguments("The processor's instructions a run, beside a bare loop")
    shim = make_shim(WORK)
    if shim is None:
        print(f"not measured: needs {NEEDS}", file=sys.stderr)
        finish({"needs": NEEDS}, options.json)
        return
    figures: dict[str, Any] = {}
    for in_flight in IN_FLIGHT[1:2] if options.quick else IN_FLIGHT:
        run, bound = (counted(shim, kind, in_flight) for kind in ("ours", "bare"))
        figures[f"instructions_{in_flight}"] = run
        figures[f"bare_instructions_{in_flight}"] = bound
        figures[f"bare_to_ours_{in_flight}"] = round(bound / run, 3)
    for kind in () if options.quick else ("trigger", "echo"):
        figures[f"{kind}_instructions"] = counted(shim, kind, over_http.CONNECTIONS)
    finish(figures, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _, _, path, kind_, in_flight_, runs_ = sys.argv
        uvloop.run(KINDS[kind_](Counter(path), int(in_flight_), int(runs_)))
    else:
        main()
