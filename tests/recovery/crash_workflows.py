"""The workflow whose calls are raced, for a server in a thread and for one that is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepflow import Context, Stepflow

__all__ = ["register_race"]


def register_race(flow: Stepflow) -> None:
    """Give the flow `race`: it waits for one event and returns what it brought."""

    @flow.workflow("race", events=["race-{id}"])
    async def race(ctx: Context, job: dict[str, str]) -> Any:
        return await ctx.wait_for_event("go", f"race-{job['id']}", timeout=None)
