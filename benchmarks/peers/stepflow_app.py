"""W1 on Stepflow, in process: `stepflow_app.py DIRECTORY`. The collector as `serve` has it."""

from __future__ import annotations

import sys

import uvloop
from contestant import INPUT, serve

from benchmarks.workload import flow
from stepflow.cli.process import tune_gc


async def one_run() -> object:
    run = await flow.trigger("w1", INPUT)
    return await run.result()


async def main() -> None:
    flow.use_data_dir(sys.argv[1])
    async with flow:
        tune_gc()
        await serve(one_run)


uvloop.run(main())
