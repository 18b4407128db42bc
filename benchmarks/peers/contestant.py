"""What each contestant does when told to: keep runs in flight for some seconds, say how it went.

Standard library only: it runs in the peers' environment too. One line of JSON comes in
(`{"in_flight": 64, "seconds": 5}`), one goes out (`{"runs", "seconds", "p50_ms", "p99_ms"}`). With
`"steps": 20` it is runs of so many steps, of those who have a workflow for that.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

INPUT = {"userId": "user_123", "email": "user@example.com"}
"""W1's input, the same for all."""
DONE = {"ok": True, "what": "done"}
"""What W1's last step returns."""


def expected(result: object) -> bool:
    """Tell whether W1's last step's result came back."""
    return result == DONE


async def serve(
    one_run: Callable[[], Awaitable[object]],
    many_steps: Callable[[int], Awaitable[object]] | None = None,
) -> None:
    """Answer the lines of standard input until it ends.

    `one_run` starts a run of W1 and awaits it, `many_steps` one of so many steps, which gives what
    W1 gives.
    """
    loop = asyncio.get_running_loop()
    for _ in range(3):
        _must_be_right(await one_run())
    _say({"ready": True})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        run = one_run
        if "steps" in order:
            if many_steps is None:
                raise RuntimeError("no workflow of so many steps")
            run = partial(many_steps, int(order["steps"]))
        _say(await _measure(run, int(order["in_flight"]), float(order["seconds"])))


async def _measure(
    one_run: Callable[[], Awaitable[object]], in_flight: int, seconds: float
) -> dict[str, float]:
    times_ms: list[float] = []
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        while (start := time.perf_counter()) - began < seconds:
            _must_be_right(await one_run())
            times_ms.append((time.perf_counter() - start) * 1e3)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    took = time.perf_counter() - began
    times_ms.sort()
    return {
        "runs": len(times_ms),
        "seconds": took,
        "p50_ms": times_ms[len(times_ms) // 2],
        "p99_ms": times_ms[min(len(times_ms) - 1, int(len(times_ms) * 0.99))],
    }


def _must_be_right(result: object) -> None:
    if not expected(result):
        raise RuntimeError(f"W1 gave {result!r}")


def _say(what: dict[str, object] | dict[str, float]) -> None:
    print(json.dumps(what), flush=True)
