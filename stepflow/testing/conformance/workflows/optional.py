"""Runs that ask for what an engine may refuse at its start: limits and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up

if TYPE_CHECKING:
    from collections.abc import Collection

    from stepflow.flow import Stepflow

__all__ = ["register_optional"]


def register_optional(flow: Stepflow, lacks: Collection[str]) -> None:
    """Register those whose capability is not lacking."""
    if "limits" not in lacks:

        @flow.workflow("conformance-limited", concurrency=1)
        async def limited(ctx: Context, order_id: str) -> Any:
            return await ctx.wait_for_event("answer", f"answer-{order_id}", timeout=None)

    if "schedules" not in lacks:

        @flow.workflow("conformance-yearly", schedule="0 0 29 2 *")
        async def yearly(ctx: Context, _: None) -> str:
            return ctx.run_id
