"""The service that the crash test kills: `python -m tests.recovery.crash_app PORT`.

Each step says on a side channel when it runs, so that a checker outside can tell a step that ran
again from one that did not. The journal is not asked. With `SLOW_WRITE_S` every write to the
journal is late by so much.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from stepflow import Context, RetryPolicy, Stepflow, current_step
from stepflow.web.server import Server, make_config
from tests.recovery.crash_workflows import register_race

if TYPE_CHECKING:
    from uvicorn._types import ASGIApplication

flow = Stepflow()
register_race(flow)
_LOG = os.open(os.environ["STEP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


_pwrite: Any = os.pwrite
_SLOW_WRITE_S = float(os.environ.get("SLOW_WRITE_S", "0"))


def _slow_pwrite(descriptor: int, data: bytes, offset: int) -> int:
    """Write late: the time in which something could be told that is not written yet is wide.

    The journal's threads alone: the loop writes a few bytes of its own, its marks.
    """
    if threading.current_thread() is not threading.main_thread():
        time.sleep(_SLOW_WRITE_S)
    written: int = _pwrite(descriptor, data, offset)
    return written


if _SLOW_WRITE_S:
    os.pwrite = _slow_pwrite  # type: ignore[assignment]


def _ran() -> None:
    info = current_step()
    line = f"{time.monotonic():.6f} {info.run_id} {info.key} {info.attempt}\n"
    os.write(_LOG, line.encode())


async def double(n: int) -> int:
    _ran()
    return n * 2


def square(n: int) -> int:
    _ran()
    return n * n


async def shaky(n: int) -> int:
    _ran()
    if current_step().attempt == 1:
        message = "the first attempt fails"
        raise ValueError(message)
    return n + 1


_QUICKLY = RetryPolicy(initial=0.02, max_delay=0.05)


@flow.workflow("mixed", events=["go-{id}"])
async def mixed(ctx: Context, job: dict[str, Any]) -> int:
    n: int = job["n"]
    first = await ctx.step("double", double, n)

    async def branch(k: int) -> int:
        if k % 2:
            await ctx.sleep("nap", 0.01 * k)
        return await ctx.step("square", square, k)

    squares = await asyncio.gather(*(branch(k) for k in range(4)))
    mapped = await ctx.map("each", double, range(5), limit=2)
    shook = await ctx.step("shaky", shaky, n, retry=_QUICKLY)
    await ctx.sleep("pause", 0.05)
    payload = await ctx.wait_for_event("go", f"go-{job['id']}", timeout="1h", type=int)
    last = await ctx.step("last", double, payload)
    return first + sum(squares) + sum(mapped) + shook + last


@flow.workflow("tiny")
async def tiny(ctx: Context, n: int) -> int:
    return await ctx.step("double", double, n)


@flow.workflow("inbox", events=["mail-{id}"])
async def inbox(ctx: Context, box: dict[str, str]) -> list[Any]:
    letters: list[Any] = []
    while not letters or letters[-1] != "end":
        letters.append(await ctx.wait_for_event("mail", f"mail-{box['id']}", timeout=None))
    return letters


@flow.workflow("held")
async def held(ctx: Context, n: int) -> None:
    while True:
        await ctx.step("tick", double, n)
        await ctx.sleep("nap", 0.05)


def main() -> int:
    app = cast("ASGIApplication", flow.asgi())
    config = make_config(app, flow.settings, port=int(sys.argv[1]), log_level="error")
    return Server(config, begin_shutdown=flow.begin_shutdown).run_to_end()


if __name__ == "__main__":
    sys.exit(main())
