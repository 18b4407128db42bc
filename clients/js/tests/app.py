"""The service that the JavaScript tests talk to: `stepflow serve` runs it."""

from __future__ import annotations

import asyncio
from typing import Any

from stepflow import Context, NonRetryableError, RetryPolicy, Stepflow

flow = Stepflow()


@flow.workflow("echo")
async def echo(ctx: Context, value: Any) -> Any:
    return value


async def add(n: int) -> int:
    return n + 1


async def refuse() -> None:
    raise NonRetryableError("the card was refused")


async def mend(state: dict[str, bool]) -> str:
    if not state["mended"]:
        raise NonRetryableError("not mended yet")
    return "mended"


@flow.workflow("typed")
async def typed(ctx: Context, value: dict[str, int]) -> int:
    """Sum it up."""
    return sum(value.values())


@flow.workflow("fails")
async def fails(ctx: Context, value: Any = None) -> None:
    await ctx.step("fine", add, 1)
    await ctx.step("refuse", refuse, retry=RetryPolicy(max_attempts=1))


@flow.workflow("order", events=["paid-{id}"])
async def order(ctx: Context, order: dict[str, Any]) -> dict[str, Any]:
    """One of everything: steps, a sleep, an event, a child, progress, emits."""
    n = await ctx.step("reserve", add, 1)
    ctx.progress(1, 3, "reserved")
    await ctx.emit("note", {"n": n})
    payment = await ctx.wait_for_event("payment", f"paid-{order['id']}", timeout=None)
    await asyncio.gather(ctx.step("left", add, 1), ctx.step("right", add, 2))
    await ctx.sleep("breath", "1ms")
    child = await ctx.call("echo", {"of": order["id"]})
    ctx.progress(3, 3)
    return {"id": order["id"], "paid": payment, "child": child}


@flow.workflow("rounds")
async def rounds(ctx: Context, plan: dict[str, Any]) -> int:
    """Some steps, then wait to be told to go on: a test decides how far the run is."""
    n = 0
    for turn in range(plan["rounds"]):
        for _ in range(plan.get("steps", 3)):
            n = await ctx.step("add", add, n)
            await ctx.emit("count", {"n": n, "text": "line\nbreak, \u2028 and ✓"})
        await ctx.wait_for_event("go", f"go-{plan['id']}-{turn}", timeout=None)
    return n


MENDED = {"mended": False}


@flow.workflow("mendable")
async def mendable(ctx: Context, value: Any) -> str:
    await ctx.step("first", add, 1)
    return await ctx.step("mend", mend, MENDED, retry=RetryPolicy(max_attempts=1))


@flow.workflow("mender")
async def mender(ctx: Context, value: bool) -> None:
    MENDED["mended"] = value
