"""A poller that runs for ever: it begins its history anew after each change, so it never grows.

stepflow serve examples/poller.py
stepflow trigger poller '{"seen":0,"rounds":0}'
"""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Context, Stepflow

flow = Stepflow()

HISTORY = 10


@dataclass
class Cursor:
    seen: int
    rounds: int


def look(after: int) -> int:
    # A stand-in for a feed: the number of its last entry.
    return after + 1


@flow.workflow("poller", description="Look every five minutes, for ever")
async def poller(ctx: Context, cursor: Cursor) -> None:
    seen = cursor.seen
    for _ in range(HISTORY):
        seen = await ctx.step("look", look, seen)
        await ctx.emit("entries", seen)
        await ctx.sleep("pause", "5m")
    await ctx.restart(Cursor(seen, cursor.rounds + HISTORY))
