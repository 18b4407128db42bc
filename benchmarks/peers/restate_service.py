"""W1 as a Restate service: `hypercorn restate_service:app`."""

from __future__ import annotations

import restate

service = restate.Service("w1")


async def small(what: str) -> dict[str, object]:
    return {"ok": True, "what": what}


@service.handler()
async def run(ctx: restate.Context, user: dict[str, str]) -> dict[str, object]:
    await ctx.run_typed("first", small, what=user["userId"])
    await ctx.run_typed("second", small, what=user["email"])
    return await ctx.run_typed("third", small, what="done")


app = restate.app([service])
