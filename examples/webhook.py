"""Webhooks: senders deliver at least once, and each delivery is handled once.

stepflow serve examples/webhook.py
stepflow trigger webhook '{"id":"evt_1","kind":"paid","amount":42}' --idempotency-key evt_1
stepflow trigger webhook '{"id":"evt_1","kind":"paid","amount":42}' --idempotency-key evt_1
"""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Context, RunHandle, Stepflow, current_step

flow = Stepflow()


@dataclass
class Delivery:
    id: str
    kind: str
    amount: int


def book(delivery_id: str, amount: int) -> str:
    # A step may run twice when the process dies; the key is the same both times.
    return f"{amount} booked for {delivery_id} under {current_step().idempotency_key}"


async def receive(delivery: Delivery) -> RunHandle:
    """What a web framework's handler calls; it may answer 200 as soon as this returns."""
    return await flow.trigger("webhook", delivery, idempotency_key=delivery.id)


@flow.workflow("webhook", description="Book a payment that a provider tells of")
async def webhook(ctx: Context, delivery: Delivery) -> str:
    if delivery.kind != "paid":
        return "ignored"
    return await ctx.step("book", book, delivery.id, delivery.amount)
