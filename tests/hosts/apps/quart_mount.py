"""Quart; the API around its `asgi_app`."""

from __future__ import annotations

from hosted import ENDPOINTS, PREFIX, flow, say
from quart import Quart

app = Quart(__name__)


@app.before_serving
async def started() -> None:
    say("started")


@app.after_serving
async def stopped() -> None:
    say("stopped")


@app.get("/own")
async def own() -> str:
    return "own"


flow.mount(app, PREFIX, endpoints=ENDPOINTS)
