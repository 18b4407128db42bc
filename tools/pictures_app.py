"""The shop that the dashboard's pictures show: `stepflow serve tools/pictures_app.py`.

Its work takes as long as a look at it does; nothing of it is done anywhere.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stepflow import Context, NonRetryableError, RetryPolicy, Stepflow, current_step

flow = Stepflow()


@dataclass
class Order:
    """What somebody wants."""

    id: str
    email: str
    items: list[str]


async def takes(seconds: float, _: str = "") -> None:
    await asyncio.sleep(seconds)


async def charge(order_id: str) -> str:
    await asyncio.sleep(0.7)
    return f"charged {order_id}"


async def reserve(n: int, item: str) -> str:
    await asyncio.sleep(0.5 + n * 0.35)
    return f"reserved {item}"


async def book_carrier() -> str:
    await asyncio.sleep(0.4)
    if current_step().attempt < 3:
        message = "502 Bad Gateway"
        raise ConnectionError(message)
    return "booked"


def settle() -> None:
    message = "the ledger is closed for the day"
    raise NonRetryableError(message)


@flow.workflow("checkout", events=["paid-{id}"], description="Charge, reserve, get paid, ship")
async def checkout(ctx: Context, order: Order) -> str:
    await ctx.step("charge", charge, order.id)
    async with asyncio.TaskGroup() as group:
        for n, item in enumerate(order.items):
            group.create_task(ctx.step("reserve", reserve, n, item, key=item))
    soon = RetryPolicy(max_attempts=5, initial="700ms", jitter=False)
    await ctx.step("book-carrier", book_carrier, retry=soon)
    await ctx.sleep("cool-off", "800ms")
    await ctx.wait_for_event("payment", f"paid-{order.id}", timeout="1h")
    return await ctx.call("ship", order.id)


@flow.workflow("ship", description="Print a label, tell the carrier")
async def ship(ctx: Context, order_id: str) -> str:
    await ctx.step("print-label", takes, 0.6)
    await ctx.step("tell-carrier", takes, 0.5)
    return f"label-{order_id}"


@flow.workflow("settle", description="Settle the day's orders")
async def settle_day(ctx: Context, day: str) -> None:
    await ctx.step("open-ledger", takes, 0.1, day)
    await ctx.step("settle", settle)


@flow.workflow("trial", description="Remind who tries, three days later")
async def trial(ctx: Context, email: str) -> None:
    await ctx.step("welcome", takes, 0.1, email)
    await ctx.sleep("three-days", "3d")
    await ctx.step("remind", takes, 0.1, email)


@flow.workflow("digest", schedule="30 2 * * *", description="Yesterday, by mail")
async def digest(ctx: Context, _: None = None) -> None:
    await ctx.step("mail", takes, 0.2)
