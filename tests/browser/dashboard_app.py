"""The service behind the dashboard's tests and pictures: `stepflow serve dashboard_app.py`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from stepflow import Context, NonRetryableError, RetryPolicy, Stepflow, current_step

flow = Stepflow()

HEALED = Path(os.environ.get("STEPFLOW_DATA_DIR", ".")) / ".." / "healed"
HOSTILE = "<img src=x onerror='window.pwned=1'>\"'`{{7*7}}</script><script>pwned=1</script>\u202e"


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Address:
    street: str
    city: str


@dataclass
class Order:
    id: str
    email: str
    items: list[str]
    to: Address | None = None
    size: Size = Size.SMALL
    amount: int = 42
    gift: bool = False


async def work(what: str, ms: int = 0) -> dict[str, Any]:
    await asyncio.sleep(ms / 1000)
    return {"done": what}


async def flaky(fails: int) -> str:
    if current_step().attempt <= fails:
        message = f"the carrier answered 502 at attempt {current_step().attempt}"
        raise ConnectionError(message)
    return "booked"


def settle(order_id: str) -> str:
    if not HEALED.exists():
        message = f"the ledger refused {order_id}"
        raise NonRetryableError(message)
    return "settled"


@flow.workflow(
    "order",
    events=["paid-{id}"],
    description="Charge, reserve, wait for payment, ship",
    tags=["shop"],
)
async def order(ctx: Context, order: Order) -> dict[str, Any]:
    await ctx.step("charge", work, f"charge {order.amount}", 30)
    async with asyncio.TaskGroup() as group:
        for item in order.items:
            group.create_task(ctx.step("reserve", work, item, 40, key=item))
    soon = RetryPolicy(max_attempts=4, initial="120ms", jitter=False)
    await ctx.step("carrier", flaky, 2, retry=soon)
    await ctx.sleep("cool-off", "150ms")
    payment = await ctx.wait_for_event("payment", f"paid-{order.id}", timeout="1h")
    label = await ctx.call("label", order.id)
    return {"paid": payment, "label": label, "to": order.to and order.to.city}


@flow.workflow("label", description="Print a label")
async def label(ctx: Context, order_id: str) -> str:
    await ctx.step("print", work, order_id, 25)
    return f"label-{order_id}"


@flow.workflow("ledger", description="Settle an order, once the ledger is well")
async def ledger(ctx: Context, order_id: str) -> str:
    await ctx.step("open", work, order_id)
    return await ctx.step("settle", settle, order_id)


@dataclass
class Plan:
    steps: int = 1
    name: str = ""


@flow.workflow("quick", description="So many steps, at once")
async def quick(ctx: Context, plan: Plan) -> int:
    for n in range(plan.steps):
        await ctx.step("tick", work, str(n))
    return plan.steps


@flow.workflow("nap", description="Sleep for three days between two steps")
async def nap(ctx: Context, _: None = None) -> None:
    await ctx.step("before", work, "x", 20)
    await ctx.sleep("three-days", "3d")
    await ctx.step("after", work, "y")


@flow.workflow("digest", schedule="30 2 * * *", description="Yesterday, by mail")
async def digest(ctx: Context, _: None = None) -> None:
    await ctx.step("mail", work, "mail")


@dataclass
class Bad:
    text: str = HOSTILE
    more: dict[str, str] = field(default_factory=dict)


def shout(text: str) -> None:
    raise NonRetryableError(text)


@flow.workflow("hostile", description=HOSTILE)
async def hostile(ctx: Context, bad: Bad) -> None:
    await ctx.step("work", work, bad.text, key=bad.text[:80])
    await ctx.emit("told", {"text": bad.text})
    ctx.progress(1, 2, bad.text)
    await ctx.wait_for_event("wait", "evil-<b>event", timeout=None)
    await ctx.step("shout", shout, bad.text)
