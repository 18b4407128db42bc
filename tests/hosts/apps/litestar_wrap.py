"""Litestar, wrapped."""

from __future__ import annotations

from contextlib import asynccontextmanager

from hosted import ENDPOINTS, PREFIX, flow, say
from litestar import Litestar, get


@asynccontextmanager
async def lifespan(app: Litestar):
    say("started")
    yield
    say("stopped")


@get("/own")
async def own() -> str:
    return "own"


app = flow.wrap(Litestar(route_handlers=[own], lifespan=[lifespan]), PREFIX, endpoints=ENDPOINTS)
