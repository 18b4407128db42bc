"""The workflows that are measured: `stepflow serve benchmarks/workload.py` serves them."""

from __future__ import annotations

from typing import Any

from stepflow import Context, Stepflow

flow = Stepflow()

INPUT = {"userId": "user_123", "email": "user@example.com"}
"""W1's input, the one of the API reference."""


async def small(what: str) -> dict[str, Any]:
    return {"ok": True, "what": what}


@flow.workflow("w1")
async def w1(ctx: Context, user: dict[str, str]) -> dict[str, Any]:
    """Three steps one after the other, each returning a small dict."""
    await ctx.step("first", small, user["userId"])
    await ctx.step("second", small, user["email"])
    return await ctx.step("third", small, "done")


@flow.workflow("parked")
async def parked(ctx: Context, user: dict[str, str]) -> Any:
    """A step, then a wait that nobody ends."""
    await ctx.step("first", small, user["userId"])
    return await ctx.wait_for_event("never", timeout=None)


@flow.workflow("shared")
async def shared(ctx: Context, user: dict[str, str]) -> Any:
    """A step, then a wait for an event that many wait for."""
    await ctx.step("first", small, user["userId"])
    return await ctx.wait_for_event("shared", timeout=None)


@flow.workflow("sleeper")
async def sleeper(ctx: Context, seconds: int) -> str:
    """A step, then a sleep."""
    await ctx.step("first", small, "sleeper")
    await ctx.sleep("nap", seconds)
    return "awake"


@flow.workflow("addressee", events=["letter-{to}"])
async def addressee(ctx: Context, letter: dict[str, str]) -> Any:
    """A step, then a wait for an event of its own."""
    await ctx.step("first", small, letter["to"])
    return await ctx.wait_for_event("letter", f"letter-{letter['to']}", timeout="30d")


@flow.workflow("long")
async def long(ctx: Context, steps: int) -> int:
    """So many steps, one after the other."""
    for _ in range(steps):
        await ctx.step("step", small, "again")
    return steps


@flow.workflow("ticker")
async def ticker(ctx: Context, ticks: int) -> int:
    """Two events a tick: the wait's end, and the next wait."""
    for _ in range(ticks):
        await ctx.wait_for_event("tick", timeout=None)
    return ticks


@flow.workflow("burst")
async def burst(ctx: Context, items: int) -> int:
    """Wait for one event, then two events an item as fast as they come."""
    await ctx.wait_for_event("go", timeout=None)
    await ctx.map("item", small, [str(n) for n in range(items)])
    return items
