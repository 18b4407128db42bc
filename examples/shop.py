"""A checkout: charge, reserve every item at once, wait for the money, cool off.

stepflow serve examples/shop.py
stepflow trigger checkout '{"id":"1042","email":"ada@example.com","items":["tea","cup"]}' --follow
stepflow notify paid-1042 '{"amount":99}'
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TypedDict

from stepflow import Context, EventTimeoutError, RetryPolicy, Stepflow, current_step

flow = Stepflow()

# Three days in a real shop; short here, so that you see the end.
COOL_OFF = os.environ.get("SHOP_COOL_OFF", "10s")


@dataclass
class Order:
    id: str
    email: str
    items: list[str]


class Charge(TypedDict):
    order: str
    authorised: bool
    request: str


class Outcome(TypedDict, total=False):
    paid: bool
    amount: int
    reserved: list[str]


async def charge(order_id: str) -> Charge:
    # The key is the same at every attempt: a payment provider that knows it charges once.
    return {"order": order_id, "authorised": True, "request": current_step().idempotency_key}


def reserve(item: str) -> str:
    return f"shelf-{sum(item.encode()) % 100:02d}"


def refund(order_id: str) -> None:
    print(f"  refunded {order_id}", flush=True)


@flow.workflow("checkout", events=["paid-{id}"], description="Sell the items of one order")
async def checkout(ctx: Context, order: Order) -> Outcome:
    await ctx.step("charge", charge, order.id, retry=RetryPolicy(max_attempts=5), compensate=refund)
    async with asyncio.TaskGroup() as group:  # ordinary asyncio
        shelves = [
            group.create_task(ctx.step("reserve", reserve, item, key=item)) for item in order.items
        ]
    try:
        payment = await ctx.wait_for_event("payment", f"paid-{order.id}", timeout="1h")
    except EventTimeoutError:
        return {"paid": False}
    await ctx.sleep("cool-off", COOL_OFF)
    return {
        "paid": True,
        "amount": payment["amount"],
        "reserved": [shelf.result() for shelf in shelves],
    }
