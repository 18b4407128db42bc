"""What a user writes; mypy --strict and pyright strict must find nothing in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict, assert_type
from uuid import UUID

from stepflow import (
    MEMORY,
    Context,
    EventTimeoutError,
    First,
    NonRetryableError,
    Retention,
    RetryAfterError,
    RetryPolicy,
    RunHandle,
    StepFailedError,
    Stepflow,
    current_step,
)

flow = Stepflow(data_dir=MEMORY)


@dataclass
class Order:
    id: str
    email: str
    items: list[str]


class Payment(TypedDict):
    amount: int


async def charge(order_id: str) -> dict[str, Any]:
    return {"order": order_id, "key": current_step().idempotency_key}


async def ship(order_id: str, express: bool = False) -> str:
    if express:
        raise RetryAfterError("30s")
    return order_id


def reserve(item: str) -> str:
    if not item:
        raise NonRetryableError("no such item")
    return item


def refund(order_id: str) -> None:
    del order_id


def weigh(item: str) -> float:
    return float(len(item))


@flow.workflow("checkout", events=["paid-{id}"], retention=Retention(age="7d", count=1000))
async def checkout(ctx: Context, order: Order) -> dict[str, Any]:
    await ctx.step("charge", charge, order.id, retry=RetryPolicy(max_attempts=5), compensate=refund)
    async with asyncio.TaskGroup() as group:
        for item in order.items:
            group.create_task(ctx.step("reserve", reserve, item, key=item))
    try:
        payment = await ctx.wait_for_event("payment", f"paid-{order.id}", timeout="1h")
    except EventTimeoutError:
        return {"paid": False}
    await ctx.sleep("cool-off", "3d")
    return {"paid": True, "amount": payment["amount"]}


@flow.workflow(
    retry=RetryPolicy(initial="2s", factor=1.5, max_delay="5m"),
    timeout=timedelta(days=1),
    retention="30d",
)
async def fulfil(ctx: Context, order: Order) -> list[str]:
    """An async step, a sync step, default arguments, a fan-out and its results' types."""
    receipt = await ctx.step("charge", charge, order.id)
    ctx.log.info("charged: %s", receipt["key"])
    assert_type(await ctx.step("ship", ship, order.id), str)
    assert_type(await ctx.step("ship-fast", ship, order.id, True), str)
    assert_type(await ctx.step("refund", refund, order.id), None)
    labels = await ctx.map("reserve", reserve, order.items, limit=4, compensate=refund)
    assert_type(labels, list[str])
    weights = await ctx.map("weigh", weigh, order.items, key=str)
    assert_type(weights, list[float])
    first, second = await asyncio.gather(
        ctx.step("left", reserve, "a", timeout="5s"),
        ctx.step("right", weigh, "b", at_most_once=True),
    )
    assert_type(first, str)
    assert_type(second, float)
    return labels


@flow.workflow()
async def wait(ctx: Context, order: Order) -> int:
    """Typed events, with and without a default."""
    payment = await ctx.wait_for_event("payment", f"paid-{order.id}", type=Payment)
    assert_type(payment, Payment)
    late = await ctx.wait_for_event("late", type=Payment, default=None, timeout=30)
    assert_type(late, Payment | None)
    try:
        await ctx.step("refund", refund, order.id)
    except StepFailedError as error:
        assert_type(error.attempts, int)
        ctx.log.warning("refund of %s failed: %s", order.id, error.message)
    await ctx.sleep_until("monday", ctx.now() + timedelta(days=7))
    return payment["amount"]


@flow.workflow()
async def plain(ctx: Context, _: None) -> str:
    """The plain calls."""
    assert_type(ctx.now(), datetime)
    assert_type(ctx.random(), float)
    assert_type(ctx.uuid(), UUID)
    assert_type(ctx.run_id, str)
    assert_type(ctx.attempt, int)
    ctx.progress(1, 2, "half")
    await ctx.emit("news", {"n": 1})
    await ctx.emit("news", durable=False)
    assert_type(await ctx.notify("other", {"n": 1}), int)
    return ctx.workflow_id


@flow.workflow()
async def compose(ctx: Context, order: Order) -> int:
    """Several at once, versions, children, a fresh history."""
    won = await ctx.first(
        left=ctx.step("left", reserve, "a"),
        right=ctx.step("right", reserve, "b"),
    )
    assert_type(won, First[str])
    assert_type(won.value, str)
    anything = await ctx.wait_for_any("any", ["a", "b"], type=Payment)
    assert_type(anything, First[Payment])
    everything = await ctx.wait_for_all("all", ["a", "b"], type=Payment, default=None)
    assert_type(everything, dict[str, Payment | None])
    assert_type(ctx.version("tax", 2), int)
    assert_type(await ctx.start("compose", order), str)
    if order.items:
        await ctx.restart(order)
    return ctx.version("tax", 2)


async def talk(word: str) -> None:
    """A step that emits, awaited or not."""
    await current_step().emit(word)
    current_step().emit(word, durable=False)


@flow.workflow("no-input")
async def no_input(ctx: Context) -> None:
    """A workflow may take no input."""
    await ctx.sleep("nap", 0.5)


async def main() -> None:
    async with flow:
        handle = await flow.trigger(
            "checkout", Order("o-1", "ada@example.org", ["tea"]), tags=["x"]
        )
        assert_type(handle.id, str)
        assert_type(handle.public_access_token, str)
        assert_type(await flow.notify("paid-o-1", {"amount": 5}), int)
        await handle.result()
        many: list[RunHandle] = await flow.trigger_many("checkout", [])
        for one in many:
            await one.cancel()
