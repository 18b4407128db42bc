"""W1 on Absurd: `absurd_app.py URL`. Workers poll in the same process, callers poll for results.

A client has one connection, so callers and workers have some each; the poll interval is the
shortest that still leaves the database room.
"""

from __future__ import annotations

import asyncio
import sys

from absurd_sdk import AsyncAbsurd
from contestant import INPUT, serve

WORKERS = 8
CALLERS = 8


async def small(what: str) -> dict[str, object]:
    return {"ok": True, "what": what}


def client() -> AsyncAbsurd:
    app = AsyncAbsurd(sys.argv[1])

    @app.register_task("w1")
    async def w1(user: dict[str, str], ctx: object) -> dict[str, object]:
        await ctx.step("first", lambda: small(user["userId"]))
        await ctx.step("second", lambda: small(user["email"]))
        return await ctx.step("third", lambda: small("done"))

    @app.register_task("long")
    async def long(steps: int, ctx: object) -> dict[str, object]:
        for n in range(steps - 1):
            await ctx.step(f"step-{n}", lambda: small("again"))
        return await ctx.step("last", lambda: small("done"))

    return app


async def main() -> None:
    callers = [client() for _ in range(CALLERS)]
    await callers[0].create_queue()
    workers = [client() for _ in range(WORKERS)]
    tasks = [
        asyncio.create_task(worker.start_worker(f"w{n}", concurrency=16, poll_interval=0.005))
        for n, worker in enumerate(workers)
    ]
    turn = 0

    async def run(task: str, given: object) -> object:
        nonlocal turn
        caller = callers[turn % CALLERS]
        turn += 1
        spawned = await caller.spawn(task, given)
        return (await caller.await_task_result(spawned["task_id"])).result

    await serve(lambda: run("w1", INPUT), lambda count: run("long", count))
    for worker in workers:
        worker.stop_worker()
    await asyncio.gather(*tasks)


asyncio.run(main())
