"""The service that the browser watches: `python browser_app.py PORT`, or `stepflow serve` on it.

Run as a script it also serves `pages/`, and `POST /_cut` drops the connection of every open stream
as a network would.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stepflow import Context, NonRetryableError, Stepflow
from stepflow.web.server import Server, make_config

if TYPE_CHECKING:
    from starlette.requests import Request

PAGES = Path(__file__).parent / "pages"

flow = Stepflow()


@dataclass
class Plan:
    """How long a run is and how it ends."""

    stages: int = 1
    steps: int = 3
    breath: str = "5ms"
    fails: bool = False


async def work(n: int) -> dict[str, Any]:
    return {"n": n, "text": "line\nbreak, \u2028 and ✓"}


async def boom() -> None:
    message = "the card was refused"
    raise NonRetryableError(message)


@flow.workflow("staged")
async def staged(ctx: Context, plan: Plan) -> dict[str, int]:
    for stage in range(plan.stages):
        for n in range(plan.steps):
            await asyncio.gather(ctx.step("left", work, n), ctx.step("right", work, n))
            await ctx.sleep("breath", plan.breath)
        await ctx.emit("stage", {"reached": stage})
        await ctx.wait_for_event(f"gate-{stage}", timeout=None)
    if plan.fails:
        await ctx.step("boom", boom)
    return {"stages": plan.stages}


def main() -> int:
    async def cut(_: Request) -> JSONResponse:
        streams = [
            connection
            for connection in server.server_state.connections
            if (connection.scope or {"path": ""})["path"].endswith("/stream")
        ]
        for connection in streams:
            connection.transport.abort()
        return JSONResponse({"cut": len(streams)})

    app = Starlette(
        routes=[
            Route("/_cut", cut, methods=["POST"]),
            Mount("/_pages", StaticFiles(directory=PAGES)),
            Mount("/", flow.asgi()),
        ],
        lifespan=flow.lifespan,
    )
    config = make_config(app, flow.settings, port=int(sys.argv[1]), log_level="error")
    server = Server(config, begin_shutdown=flow.begin_shutdown)
    return server.run_to_end()


if __name__ == "__main__":
    sys.exit(main())
