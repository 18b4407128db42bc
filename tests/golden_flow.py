"""The workflows whose runs lie in `snapshots/`: every kind of record that format 1 has."""

from __future__ import annotations

from typing import Any

from stepflow import Context, RetryPolicy, Stepflow, current_step

_SLOWLY = RetryPolicy(max_attempts=3, initial="10s", jitter=False)


async def add(a: int, b: int) -> int:
    return a + b


def shout(text: str) -> str:
    return text.upper()


async def refuse(text: str) -> None:
    raise ValueError(text)


async def once_then(n: int) -> int:
    if current_step().attempt == 1:
        message = "not yet"
        raise ConnectionError(message)
    return n


def register(flow: Stepflow) -> None:
    """Register the golden workflows."""

    @flow.workflow("everything", events=["paid-{id}"], tags=["golden"])
    async def everything(ctx: Context, order: dict[str, Any]) -> dict[str, Any]:
        total = await ctx.step("add", add, 1, 2)
        loud = await ctx.map("shout", shout, ["a", "b", "é"])
        keyed = await ctx.step("add", add, 3, 4, key="by-author")
        ctx.progress(1, 2, "half way")
        await ctx.emit("note", {"total": total})
        child = await ctx.call("child", {"n": 5})
        sent = await ctx.notify("told-others", {"from": ctx.run_id})
        picked = (ctx.now().isoformat(), ctx.random(), str(ctx.uuid()))
        payment = await ctx.wait_for_event("payment", f"paid-{order['id']}", timeout="1h")
        return {
            "total": total,
            "loud": loud,
            "keyed": keyed,
            "child": child,
            "sent": sent,
            "picked": picked,
            "payment": payment,
        }

    @flow.workflow("child")
    async def child(ctx: Context, job: dict[str, int]) -> int:
        return await ctx.step("add", add, job["n"], 1)

    @flow.workflow("fails")
    async def fails(ctx: Context, text: str) -> None:
        await ctx.step("refuse", refuse, text, retry=RetryPolicy(max_attempts=1))

    @flow.workflow("sleeps")
    async def sleeps(ctx: Context) -> str:
        await ctx.sleep("long", "365d")
        return "awake"

    @flow.workflow("waits", events=["kept"])
    async def waits(ctx: Context) -> list[Any]:
        first = await ctx.wait_for_event("first", "wake-up", timeout=None)
        second = await ctx.wait_for_event("second", "kept", timeout=None)
        return [first, second]

    @flow.workflow("times-out")
    async def times_out(ctx: Context) -> str:
        await ctx.sleep("nap", 0.01)
        return await ctx.wait_for_event("never", timeout=0.01, type=str, default="nobody came")

    @flow.workflow("retries")
    async def retries(ctx: Context) -> int:
        return await ctx.step("once-then", once_then, 7, retry=_SLOWLY)
