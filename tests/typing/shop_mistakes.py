"""Planted mistakes. Each line marked with an E must be refused by both type checkers, no other may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepflow import Context, Retention, RetryPolicy, Stepflow

flow = Stepflow()


@dataclass
class Order:
    id: str
    total: int
    items: list[str]


async def charge(order_id: str, cents: int) -> dict[str, Any]:
    return {"order": order_id, "cents": cents}


async def count(order_id: str) -> int:
    return len(order_id)


def reserve(item: str) -> str:
    return item


@flow.workflow("arguments")
async def arguments(ctx: Context, order: Order) -> None:
    await ctx.step("ok", charge, order.id, order.total)
    await ctx.step("wrong-type", charge, order.id, "12")  # E: a step's argument of the wrong type
    await ctx.step("swapped", charge, order.total, order.id)  # E: two arguments swapped
    await ctx.step("missing", charge, order.id)  # E: an argument missing
    await ctx.step("extra", charge, order.id, order.total, 3)  # E: an argument too many
    await ctx.step("sync", reserve, order.total)  # E: a sync step's argument of the wrong type
    await ctx.step("none", reserve)  # E: a sync step's argument missing
    await ctx.step("called", charge(order.id, order.total))  # E: the step was called, not passed
    await ctx.step(reserve, order.id)  # E: no name


@flow.workflow("results")
async def results(ctx: Context, order: Order) -> None:
    total = await ctx.step("count", count, order.id)
    total.upper()  # E: a step's result is not what it is taken for
    label: int = await ctx.step("reserve", reserve, order.id)  # E: likewise, of a sync step
    never = ctx.step("count", count, order.id) + 1  # E: not awaited
    del label, never


@flow.workflow("fan-out")
async def fan_out(ctx: Context, order: Order) -> None:
    await ctx.map("ok", reserve, order.items)
    await ctx.map("items", reserve, [1, 2, 3])  # E: items of the wrong type
    await ctx.map("undo", reserve, order.items, compensate=charge)  # E: what undoes takes an item
    numbers: list[int] = await ctx.map("reserve", reserve, order.items)  # E: results of another type
    del numbers


@flow.workflow("options")
async def options(ctx: Context, order: Order) -> None:
    await ctx.step("a", count, order.id, retry=RetryPolicy(max_attempts="5"))  # E: not a number
    await ctx.step("b", count, order.id, retry=5)  # E: not a policy
    await ctx.step("c", count, order.id, attempts=5)  # E: no such option
    await ctx.step("d", count, order.id, durability="maybe")  # E: no such durability
    await ctx.sleep("e", object())  # E: not a duration
    await ctx.sleep("3d")  # E: no name
    await ctx.wait_for_event("f", timeout=[1])  # E: not a duration


@flow.workflow("returns")
async def returns(ctx: Context, order: Order) -> str:
    total = await ctx.step("count", count, order.id)
    return total  # E: the workflow does not return what it says


@flow.workflow("context")  # E: the first parameter is no context
async def context(ctx: int, order: Order) -> None:
    del ctx, order


@flow.workflow("sync")  # E: a workflow is an async function
def not_async(ctx: Context, order: Order) -> None:
    del ctx, order


async def main() -> None:
    handle = await flow.trigger("returns", Order("o-1", 3, []), idempotency_key=5)  # E: not a string
    handle.ident  # E: no such attribute
    await flow.notify(12)  # E: not an event's id


Retention(count="many")  # E: a number of runs that is none
Retention(7)
Retention(days=7)  # E: no such limit


@flow.workflow("kept", retention=["7d"])  # E: not how long
async def kept(ctx: Context) -> None: ...
