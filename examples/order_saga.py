"""An order saga: each step says what undoes it, and a failure undoes them in reverse order.

stepflow serve examples/order_saga.py
stepflow trigger order '{"id":"7","sku":"tea","amount":42}' --follow
"""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Context, NonRetryableError, Stepflow

flow = Stepflow()

LIMIT = 100


@dataclass
class Order:
    id: str
    sku: str
    amount: int


def reserve(order_id: str, sku: str) -> str:
    return f"{sku} held for {order_id}"


def release(order_id: str, sku: str) -> None:
    print(f"  released {sku} of {order_id}", flush=True)


def charge(order_id: str, amount: int) -> str:
    return f"payment of {amount} for {order_id}"


def refund(order_id: str, amount: int) -> None:
    print(f"  refunded {amount} of {order_id}", flush=True)


def ship(amount: int) -> str:
    if amount > LIMIT:
        raise NonRetryableError("the carrier does not insure that much")
    return "on its way"


@flow.workflow("order", description="Reserve, charge and ship, or give everything back")
async def order(ctx: Context, order: Order) -> str:
    await ctx.step("reserve", reserve, order.id, order.sku, compensate=release)
    await ctx.step("charge", charge, order.id, order.amount, compensate=refund)
    return await ctx.step("ship", ship, order.amount)
