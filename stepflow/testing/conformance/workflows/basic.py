"""Runs that echo, count, wait, keep events and fail: what most claims need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.model.retry import RetryPolicy

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["Order", "register_basic"]


@dataclass
class Order:
    """The input of the workflow that has a typed one."""

    id: str
    count: int


def _next(n: int) -> int:
    return n + 1


def _refuse() -> None:
    raise ValueError("refused on purpose")


def register_basic(flow: Stepflow) -> None:
    """Register them."""

    @flow.workflow("conformance-echo")
    async def echo(ctx: Context, value: Any) -> Any:
        del ctx
        return value

    @flow.workflow("conformance-count")
    async def count(ctx: Context, order: Order) -> int:
        n = 0
        for _ in range(order.count):
            n = await ctx.step("next", _next, n)
        return n

    @flow.workflow("conformance-wait")
    async def wait(ctx: Context, order_id: str) -> Any:
        await ctx.step("before", _next, 0)
        return await ctx.wait_for_event("answer", f"answer-{order_id}", timeout=None)

    @flow.workflow("conformance-keep", events=["kept-{id}"])
    async def keep(ctx: Context, order: Order) -> list[Any]:
        await ctx.wait_for_event("go", f"go-{order.id}", timeout=None)
        return [
            await ctx.wait_for_event("kept", f"kept-{order.id}", timeout=None)
            for _ in range(order.count)
        ]

    @flow.workflow("conformance-fail")
    async def fail(ctx: Context, _: None) -> None:
        await ctx.step("refuse", _refuse, retry=RetryPolicy(max_attempts=1))
