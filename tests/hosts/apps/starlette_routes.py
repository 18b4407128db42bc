"""Starlette by hand: `flow.routes()` in a `Mount`, `flow.lifespan`."""

from __future__ import annotations

from hosted import ENDPOINTS, PREFIX, flow
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def own(request):
    return PlainTextResponse("own")


app = Starlette(
    routes=[Route("/own", own), Mount(PREFIX, routes=flow.routes(endpoints=ENDPOINTS))],
    lifespan=flow.lifespan,
)
