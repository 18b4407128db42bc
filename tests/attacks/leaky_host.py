"""A host that logs all it can: uvicorn's access log, everything at debug, a defect on demand."""

from __future__ import annotations

import logging
from typing import Any

from stepflow import Context, NonRetryableError, Stepflow

BOOM = "run_0000000000000000000bOOm"
SWEEP = "secrets-of-the-payload"

flow = Stepflow()


async def fail(text: str) -> None:
    raise NonRetryableError(f"no luck with {text}")


@flow.workflow("works", events=["go-{id}"])
async def works(ctx: Context, value: dict[str, Any]) -> Any:
    """Wait for an event, if asked to."""
    ctx.log.info("working on %s", value["id"])
    if value.get("waits"):
        return await ctx.wait_for_event("go", f"go-{value['id']}", timeout="1h")
    return value


@flow.workflow("fails")
async def fails(ctx: Context, value: Any) -> None:
    """Fail in a step, with a traceback."""
    await ctx.step("fail", fail, str(value))


_get_run = flow.engine.get_run


async def get_run(run_id: str) -> Any:
    if run_id == BOOM:
        raise RuntimeError("a defect, deep inside")
    return await _get_run(run_id)


flow.engine.get_run = get_run  # type: ignore[method-assign]

logging.basicConfig(level=logging.DEBUG)
app = flow.asgi()
