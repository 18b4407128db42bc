"""Runs about time and events: sleeps, waits that end in time or not, and several waits at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.errors import EventTimeoutError
from stepflow.testing.conformance.workflows.basic import Order  # noqa: TC001  likewise

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["Patience", "register_waiting"]


@dataclass
class Patience:
    """Which event is waited for, and for how many milliseconds."""

    id: str
    ms: int


def register_waiting(flow: Stepflow) -> None:
    """Register them."""

    @flow.workflow("conformance-sleep")
    async def sleep(ctx: Context, ms: int) -> bool:
        before = ctx.now()
        await ctx.sleep("nap", ms / 1000)
        return (ctx.now() - before).total_seconds() * 1000 >= ms

    @flow.workflow("conformance-patient")
    async def patient(ctx: Context, wait: Patience) -> Any:
        try:
            answer = await ctx.wait_for_event("answer", f"answer-{wait.id}", timeout=wait.ms / 1000)
        except EventTimeoutError:
            return "timed out"
        return ["answered", answer]

    @flow.workflow("conformance-default")
    async def default(ctx: Context, wait: Patience) -> Any:
        return await ctx.wait_for_event(
            "answer", f"answer-{wait.id}", timeout=wait.ms / 1000, default="nothing came"
        )

    @flow.workflow("conformance-twice")
    async def twice(ctx: Context, order_id: str) -> list[Any]:
        """Wait for one id again and again: in turn, so each takes one of the payloads."""
        return [
            await ctx.wait_for_event("answer", f"answer-{order_id}", timeout=None) for _ in range(2)
        ]

    @flow.workflow("conformance-two-waits")
    async def two_waits(ctx: Context, order_id: str) -> tuple[Any, Any]:
        """Two branches wait for the two ids of one order at once."""
        return await asyncio.gather(
            ctx.wait_for_event("left", f"left-{order_id}", timeout=None),
            ctx.wait_for_event("right", f"right-{order_id}", timeout=None),
        )

    @flow.workflow("conformance-untyped")
    async def untyped(ctx: Context, order: Order) -> Any:
        return await ctx.wait_for_event("typed", f"typed-{order.id}", timeout=None)

    @flow.workflow("conformance-typed", events=["typed-{id}"])
    async def typed(ctx: Context, order: Order) -> int:
        return await ctx.wait_for_event("typed", f"typed-{order.id}", timeout=None, type=int)

    @flow.workflow("conformance-sends")
    async def sends(ctx: Context, order_id: str) -> int:
        return await ctx.notify(f"answer-{order_id}", "from a run")
