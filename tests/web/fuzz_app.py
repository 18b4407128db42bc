"""What schemathesis and generated clients are let loose on: workflows that take any JSON value."""

from __future__ import annotations

import os
from typing import Any

from stepflow import Context, Stepflow
from stepflow.config import MEMORY, Settings

os.environ.setdefault("STEPFLOW_API_KEYS", "fuzz-key-0123456789")

# A stream of all runs has no end of its own, and a caller that reads to the end would wait for it.
flow = Stepflow(MEMORY, settings=Settings(stream_age_s=0.2))


@flow.workflow("welcome-user")
async def welcome(ctx: Context, value: Any) -> Any:
    return value


@flow.workflow("waits", events=["paid-1042"])
async def waits(ctx: Context, value: Any) -> Any:
    # It gives up soon: a stream that stays open would hold a caller that reads to the end.
    return await ctx.wait_for_event("paid", "paid-1042", timeout="500ms", default=None)


app = flow.asgi()
