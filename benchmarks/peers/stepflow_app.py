"""W1 on Stepflow, in process: `stepflow_app.py DIRECTORY`. The collector as `serve` has it.

With `STEPFLOW_DATABASE_URL` it is the engine on PostgreSQL, and with `STEPFLOW_ROLE=api` other
processes run what it starts.
"""

from __future__ import annotations

import sys

import uvloop
from contestant import DONE, INPUT, serve

from benchmarks.workload import flow
from stepflow.cli.process import tune_gc


async def one_run() -> object:
    run = await flow.trigger("w1", INPUT)
    return await run.result()


async def many_steps(count: int) -> object:
    run = await flow.trigger("long", count)
    return DONE if await run.result() == count else None


async def main() -> None:
    flow.use_data_dir(sys.argv[1])
    async with flow:
        tune_gc()
        await serve(one_run, many_steps)


uvloop.run(main())
