"""A service with very many live runs: steps that are under way, and runs that sleep."""

from __future__ import annotations

import asyncio
from typing import Any

from stepflow import Context, Stepflow

flow = Stepflow()


async def never_ends() -> None:
    await asyncio.get_running_loop().create_future()


@flow.workflow("busy")
async def busy(ctx: Context, number: int) -> None:
    await ctx.step("work", never_ends)


@flow.workflow("sleeps")
async def sleeps(ctx: Context, number: int) -> None:
    await ctx.sleep("night", "1d")


@flow.workflow("echo")
async def echo(ctx: Context, value: Any) -> Any:
    return value
