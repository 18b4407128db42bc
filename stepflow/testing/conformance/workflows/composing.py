"""Runs that put calls together: the first of several, any or all of some events, a new history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.errors import EventTimeoutError, StepFailedError
from stepflow.model.retry import RetryPolicy
from stepflow.testing.conformance.workflows.basic import Order  # noqa: TC001  likewise

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["register_composing"]


def _one_more(n: int) -> int:
    return n + 1


async def _for_ever() -> None:
    await asyncio.Event().wait()


def register_composing(flow: Stepflow) -> None:  # noqa: C901  a list of small ones
    """Register them."""

    @flow.workflow("conformance-first")
    async def first(ctx: Context, order: Order) -> list[Any]:
        """An event or a sleep of so many milliseconds, whichever is first."""
        name, value = await ctx.first(
            paid=ctx.wait_for_event("paid", f"paid-{order.id}", timeout=None),
            late=ctx.sleep("patience", order.count / 1000),
        )
        return [name, value]

    @flow.workflow("conformance-any")
    async def any_of(ctx: Context, order_id: str) -> list[Any]:
        ids = [f"left-{order_id}", f"right-{order_id}"]
        one = await ctx.wait_for_any("one", ids, timeout=None)
        two = await ctx.wait_for_event("two", f"left-{order_id}", timeout=None)
        return [one.name.partition("-")[0], one.value, two]

    @flow.workflow("conformance-all")
    async def all_of(ctx: Context, order: Order) -> Any:
        ids = [f"left-{order.id}", f"right-{order.id}"]
        timeout = order.count / 1000 if order.count else None
        try:
            found = await ctx.wait_for_all("both", ids, timeout=timeout)
        except EventTimeoutError:
            return "timed out"
        return {name.partition("-")[0]: value for name, value in found.items()}

    @flow.workflow("conformance-restart")
    async def again(ctx: Context, order: Order) -> list[Any]:
        """Begin anew until `count` is 3: each time with a history of one step."""
        count = await ctx.step("count", _one_more, order.count)
        if count < 3:
            await ctx.restart({"id": order.id, "count": count})
        return [order.id, count]

    @flow.workflow("conformance-version")
    async def version(ctx: Context, order_id: str) -> list[int]:
        before = ctx.version("change", 2)
        await ctx.wait_for_event("answer", f"answer-{order_id}", timeout=None)
        return [before, ctx.version("change", 2)]

    @flow.workflow("conformance-once")
    async def once(ctx: Context, n: int) -> int:
        return await ctx.step("once", _one_more, n, at_most_once=True)

    @flow.workflow("conformance-step-timeout")
    async def step_timeout(ctx: Context, _: None) -> list[Any]:
        try:
            await ctx.step("slow", _for_ever, timeout=0.05, retry=RetryPolicy(max_attempts=1))
        except StepFailedError as error:
            return [error.name, error.attempts]
        return []

    @flow.workflow("conformance-run-timeout", timeout=0.05)
    async def run_timeout(ctx: Context, _: None) -> None:
        await ctx.wait_for_event("never", timeout=None)
