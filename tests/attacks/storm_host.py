"""A run that goes on by itself for a while and says something all the time."""

from __future__ import annotations

from stepflow import Context, Stepflow

flow = Stepflow()


async def tick(number: int) -> int:
    return number


@flow.workflow("ticks")
async def ticks(ctx: Context, count: int) -> int:
    """Tick so many times, ten times a second."""
    for number in range(count):
        await ctx.step("tick", tick, number)
        await ctx.sleep("rest", "100ms")
    return count
