"""Runs that start other runs: awaited, left running, failed and cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.errors import RunCancelledError, RunFailedError

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["register_families"]


def register_families(flow: Stepflow) -> None:
    """Register them."""

    @flow.workflow("conformance-parent")
    async def parent(ctx: Context, numbers: list[int]) -> list[Any]:
        one = await ctx.call("conformance-count", {"id": "one", "count": numbers[0]})
        more = await asyncio.gather(
            *(ctx.call("conformance-count", {"id": "more", "count": n}) for n in numbers[1:])
        )
        return [one, *more]

    @flow.workflow("conformance-parent-of-one")
    async def parent_of_one(ctx: Context, order_id: str) -> Any:
        """Await a child that waits for an event, and say how it ended."""
        try:
            return await ctx.call("conformance-wait", order_id)
        except RunCancelledError:
            return "the child was cancelled"

    @flow.workflow("conformance-parent-of-failed")
    async def parent_of_failed(ctx: Context, _: None) -> list[str]:
        try:
            await ctx.call("conformance-fail", None)
        except RunFailedError as error:
            return [error.error_type, error.message]
        return []

    @flow.workflow("conformance-starter")
    async def starter(ctx: Context, order_id: str) -> str:
        """Leave a child running and end."""
        return await ctx.start("conformance-wait", order_id)
