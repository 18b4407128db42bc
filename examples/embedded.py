"""Stepflow inside an application of your own, with a page that watches a run live.

    uvicorn --app-dir examples embedded:app --port 8080
    open http://127.0.0.1:8080/

The host serves the page and starts runs for its visitors; the page needs no API key, because each
run comes with a token that reads that run and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shop import Order, checkout, flow
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route

if TYPE_CHECKING:
    from starlette.requests import Request

PAGE = Path(__file__).with_name("monitor.html")


async def page(request: Request) -> Response:
    del request
    return FileResponse(PAGE)


async def order(request: Request) -> Response:
    """Take an order, as a shop would: the visitor's browser gets the run's id and its token."""
    basket = await request.json()
    run = await flow.trigger(checkout, Order(**basket))
    return JSONResponse({"runId": run.id, "token": run.public_access_token})


async def pay(request: Request) -> Response:
    """Stand in for the payment provider's webhook."""
    await flow.notify(f"paid-{request.path_params['id']}", await request.json())
    return JSONResponse({"ok": True})


app = Starlette(
    routes=[
        Route("/", page),
        Route("/order", order, methods=["POST"]),
        Route("/pay/{id}", pay, methods=["POST"]),
        Mount("/api/stepflow", routes=flow.routes()),
    ],
    lifespan=flow.lifespan,
)
