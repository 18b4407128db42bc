"""The service whose directories are damaged: `stepflow serve tests/damage/app.py`."""

from __future__ import annotations

from typing import Any

from stepflow import Context, Settings, Stepflow

KIB = 1024
SETTINGS = Settings(
    segment_bytes_first=16 * KIB,
    segment_bytes_max=64 * KIB,
    frame_bytes_max=16 * KIB,
    room_reserve_bytes=4 * KIB,
    reserve_file_bytes=32 * KIB,
    free_bytes_min=0,
    lock_wait_s=0.0,
)


def register(flow: Stepflow) -> Stepflow:
    """Give the flow the workflows of the damaged directories."""

    async def add(a: int, b: int) -> int:
        return a + b

    @flow.workflow("adds")
    async def adds(ctx: Context, n: int) -> int:
        first = await ctx.step("first", add, n, 1)
        return await ctx.step("second", add, first, 1)

    @flow.workflow("waits")
    async def waits(ctx: Context, event: str) -> list[Any]:
        n = await ctx.step("before", add, 1, 1)
        return [n, await ctx.wait_for_event("wait", event, timeout=None)]

    return flow


flow = register(Stepflow())
