"""W1 on DBOS, in process: `dbos_app.py URL`, a SQLite or PostgreSQL one."""

from __future__ import annotations

import asyncio
import sys

from contestant import INPUT, serve
from dbos import DBOS


@DBOS.step()
async def small(what: str) -> dict[str, object]:
    return {"ok": True, "what": what}


@DBOS.workflow()
async def w1(user: dict[str, str]) -> dict[str, object]:
    await small(user["userId"])
    await small(user["email"])
    return await small("done")


@DBOS.workflow()
async def long(steps: int) -> dict[str, object]:
    for _ in range(steps - 1):
        await small("again")
    return await small("done")


async def one_run() -> object:
    handle = await DBOS.start_workflow_async(w1, INPUT)
    return await handle.get_result()


async def many_steps(count: int) -> object:
    handle = await DBOS.start_workflow_async(long, count)
    return await handle.get_result()


async def main() -> None:
    DBOS(
        config={"name": "peer-w1", "system_database_url": sys.argv[1], "console_log_level": "ERROR"}
    )
    DBOS.launch()
    await serve(one_run, many_steps)
    DBOS.destroy()


asyncio.run(main())
