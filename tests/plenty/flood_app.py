"""A service that is flooded: runs that wait, that return much, that emit much."""

from __future__ import annotations

from typing import Any

from stepflow import Context, RetryPolicy, Stepflow, current_step

flow = Stepflow()
ONCE = RetryPolicy(max_attempts=1)


@flow.workflow("echo")
async def echo(ctx: Context, value: Any) -> Any:
    return value


@flow.workflow("waits", events=["go-{id}"])
async def waits(ctx: Context, told: dict[str, Any]) -> str:
    """Wait until the whole flood is over, then say so."""
    await ctx.wait_for_event("over", "over", timeout=None)
    return "over"


@flow.workflow("keeps", events=["item-{id}"])
async def keeps(ctx: Context, told: dict[str, Any]) -> int:
    """Let events gather, then take them all; return how many there were."""
    await ctx.wait_for_event("over", f"over-{told['id']}", timeout=None)
    count = 0
    while await ctx.wait_for_event("item", f"item-{told['id']}", timeout="1s", default=None):
        count += 1
    return count


@flow.workflow("takes")
async def takes(ctx: Context, told: dict[str, Any]) -> int:
    """Take event after event, and keep them all in its history."""
    count = 0
    while await ctx.wait_for_event("item", f"take-{told['id']}", timeout=None):
        count += 1
    return count


def text_of(nbytes: int) -> str:
    """Return what is so many bytes long as JSON."""
    return "x" * (nbytes - 2)


@flow.workflow("returns")
async def returns(ctx: Context, nbytes: int) -> int:
    return len(await ctx.step("much", text_of, nbytes, retry=ONCE))


@flow.workflow("grows")
async def grows(ctx: Context, told: dict[str, int]) -> int:
    """Record so many results of so many bytes, then wait."""
    for _ in range(told["steps"]):
        await ctx.step("much", text_of, told["nbytes"], retry=ONCE)
    await ctx.wait_for_event("over", "over", timeout=None)
    return told["steps"]


async def emit(count: int, nbytes: int) -> int:
    for _ in range(count):
        await current_step().emit(text_of(nbytes))
    return count


@flow.workflow("emits")
async def emits(ctx: Context, told: dict[str, int]) -> int:
    """Emit so many events of so many bytes, then wait."""
    count = await ctx.step("emit", emit, told["count"], told["nbytes"], retry=ONCE)
    await ctx.wait_for_event("over", "over", timeout=None)
    return count
