"""Runs about steps: tried again, side by side, beside a wait, and those that tell as they go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.errors import NonRetryableError, StepFailedError
from stepflow.model.retry import RetryPolicy
from stepflow.runtime.current import current_step
from stepflow.testing.conformance.workflows.basic import Order  # noqa: TC001  likewise

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["register_stepping"]

_QUICKLY = RetryPolicy(max_attempts=4, initial=0.01, max_delay=0.02)


def _fail_before(attempt: int) -> int:
    now = current_step().attempt
    if now < attempt:
        raise ValueError(f"attempt {now} fails on purpose")
    return now


def _never() -> None:
    raise NonRetryableError("not again")


def _square(n: int) -> int:
    return n * n


async def _square_soon(n: int) -> int:
    await asyncio.sleep(0)
    return n * n


async def _own_key() -> str:
    return current_step().idempotency_key


def register_stepping(flow: Stepflow) -> None:  # noqa: C901  a list of small ones
    """Register them."""

    @flow.workflow("conformance-retry")
    async def retry(ctx: Context, good_attempt: int) -> int:
        return await ctx.step("shaky", _fail_before, good_attempt, retry=_QUICKLY)

    @flow.workflow("conformance-final")
    async def final(ctx: Context, _: None) -> None:
        await ctx.step("never", _never, retry=_QUICKLY)

    @flow.workflow("conformance-caught")
    async def caught(ctx: Context, _: None) -> list[Any]:
        try:
            await ctx.step("shaky", _fail_before, 9, retry=_QUICKLY)
        except StepFailedError as error:
            failed = [error.name, error.error_type, error.attempts]
        else:
            failed = []
        return [failed, await ctx.step("square", _square, 3)]

    @flow.workflow("conformance-branches")
    async def branches(ctx: Context, count: int) -> Any:
        async def branch(n: int) -> int:
            if n % 2:
                await ctx.sleep("nap", 0.01)
            first = await ctx.step("square", _square, n)
            return await ctx.step("square", _square_soon, first)

        several = await asyncio.gather(*(branch(n) for n in range(count)))
        mapped = await ctx.map("each", _square_soon, range(count), limit=2)
        keyed = [await ctx.step("keyed", _square, n, key=f"item-{n}") for n in range(count)]
        return [several, mapped, keyed]

    @flow.workflow("conformance-beside")
    async def beside(ctx: Context, order: Order) -> Any:
        async def steps() -> int:
            n = 1
            for _ in range(order.count):
                n = await ctx.step("double", _double, n)
            return n

        return await asyncio.gather(
            ctx.wait_for_event("answer", f"answer-{order.id}", timeout=None), steps()
        )

    @flow.workflow("conformance-values")
    async def values(ctx: Context, _: None) -> Any:
        before = [ctx.now().isoformat(), ctx.random(), str(ctx.uuid())]
        key = await ctx.step("own-key", _own_key)
        after = [ctx.now().isoformat(), ctx.random(), str(ctx.uuid())]
        return {"before": before, "after": after, "key": key, "run": ctx.run_id}

    @flow.workflow("conformance-passing")
    async def passing(ctx: Context, order_id: str) -> int:
        """Wait until someone reads, then emit so often what is kept nowhere."""
        times: int = await ctx.wait_for_event("answer", f"answer-{order_id}", timeout=None)
        for number in range(times):
            await ctx.emit("tick", number, durable=False)
        return await ctx.step("times", _square, times) // times

    @flow.workflow("conformance-tells")
    async def tells(ctx: Context, _: None) -> int:
        await ctx.emit("token", {"text": "one"})
        ctx.progress(1, 2, "half")
        return await ctx.step("square", _square, 2)


def _double(n: int) -> int:
    return 2 * n
