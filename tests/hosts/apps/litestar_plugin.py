"""Litestar with the plugin; its sessions as users."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

from hosted import ENDPOINTS, PREFIX, flow, say
from litestar import Litestar, Request, get, post
from litestar.middleware.session.client_side import CookieBackendConfig

from stepflow import Principal, any_of, same_site
from stepflow.integrations.litestar import StepflowPlugin


@asynccontextmanager
async def lifespan(app: Litestar):
    say("started")
    yield
    say("stopped")


@get("/own")
async def own() -> str:
    return "own"


@post("/login")
async def login(data: dict[str, str], request: Request[Any, Any, Any]) -> str:
    request.set_session({"user": data["user"]})
    return "welcome"


def of_session(request):
    user = (request.extra.get("session") or {}).get("user")
    return Principal(user) if user else None


app = Litestar(
    route_handlers=[own, login],
    lifespan=[lifespan],
    middleware=[CookieBackendConfig(secret=b"0123456789abcdef").middleware],
    plugins=[
        StepflowPlugin(
            flow,
            PREFIX,
            auth=any_of(same_site(of_session), flow.authenticate),
            endpoints=ENDPOINTS,
        )
    ],
)
