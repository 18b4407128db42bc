"""How much Python a run costs: bytecode instructions and calls per W1 run, by function.

Rates on a shared machine say more about the machine than about the code. This counts what the
interpreter does for a run of three steps, trigger to result, with everything on one loop (asyncio's
own, so that its Python counts too), a disk in memory and a clock that stands still: the same figure
every time. It sees Python alone: C (uvloop, msgspec, orjson, the sync itself) counts as the one
instruction that calls it, and other versions of CPython compile to other instructions.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks.report import ROOT, arguments, finish
from benchmarks.workload import INPUT, flow
from stepflow import Stepflow
from stepflow.config import MEMORY, Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.memory import MemoryDisk

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from stepflow.clock import TimerHandle
    from stepflow.engine.protocol import Engine

IN_FLIGHT: Final = (1, 64)
WARM_RUNS: Final = 1_100
"""So many that each further run packs an ended one, as in a service that has run for a while."""
SHOWN: Final = 40


class Never:
    """A timer of a clock that stands still."""

    def cancel(self) -> None:
        return


class StillClock:
    """A clock that stands still: no timer fires, so that nothing depends on the machine's speed."""

    def wall_ms(self) -> int:
        return 1_800_000_000_000

    def monotonic_s(self) -> float:
        return 1_000.0

    def call_later(
        self, delay_s: float, callback: Callable[[], None], *, coarse: bool = False
    ) -> TimerHandle:
        del delay_s, callback, coarse
        return Never()


class Count:
    """Counts instructions and calls by code object, while it is entered."""

    def __init__(self) -> None:
        self.instructions: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        # Not None: whoever measures coverage would see nothing of what follows in this process.
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "call":
            self.calls[frame.f_code] += 1
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "opcode":
            self.instructions[frame.f_code] += 1
        return self._stepped


async def one_after_the_other(counted: Stepflow, runs: int) -> None:
    for _ in range(runs):
        run = await counted.trigger("w1", INPUT)
        await run.result()


async def together(counted: Stepflow, in_flight: int, runs: int) -> None:
    """Start `runs` runs, so many in flight, and wait for them."""
    await asyncio.gather(
        *(one_after_the_other(counted, runs // in_flight) for _ in range(in_flight))
    )


async def measure(in_flight: int, runs: int) -> dict[str, Any]:
    """Return what a run costs with so many in flight."""
    # Settings of the environment must not show in the figures.
    engine = LocalEngine(
        flow.registry,
        MEMORY,
        settings=Settings(),
        clock=StillClock(),
        disk=MemoryDisk(),
        threads=False,
    )
    as_engine: Engine = engine
    counted = Stepflow(MEMORY, engine=as_engine)
    counted.registry = flow.registry
    async with counted:
        await together(counted, in_flight, WARM_RUNS)
        with Count() as count:
            await together(counted, in_flight, runs)
    return figures_of(count, runs)


def figures_of(count: Count, runs: int) -> dict[str, Any]:
    """Return instructions and calls a run, and by function."""
    by_function = [
        {
            "function": _name(code),
            "instructions": round(number / runs, 1),
            "calls": round(count.calls[code] / runs, 2),
        }
        for code, number in count.instructions.most_common(SHOWN)
    ]
    return {
        "instructions": round(count.instructions.total() / runs),
        "calls": round(count.calls.total() / runs),
        "by_function": by_function,
    }


def _name(code: CodeType) -> str:
    path = Path(code.co_filename)
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
    return f"{where}:{code.co_qualname}"


def main() -> None:
    options = arguments("Bytecode instructions and calls per run of three steps")
    runs = 64 if options.quick else 256
    figures: dict[str, Any] = {"implementation": sys.implementation.name, "runs": runs}
    for n in IN_FLIGHT:
        found = asyncio.run(measure(n, runs))
        figures[f"instructions_per_run_{n}"] = found["instructions"]
        figures[f"calls_per_run_{n}"] = found["calls"]
        if n == max(IN_FLIGHT):
            figures["by_function"] = found["by_function"]
    finish(figures, options.json)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
