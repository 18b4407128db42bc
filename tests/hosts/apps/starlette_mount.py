"""Starlette, its sessions as users; the API is behind its middleware."""

from __future__ import annotations

from contextlib import asynccontextmanager

from hosted import ENDPOINTS, PREFIX, flow, say
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stepflow import Principal, any_of, same_site


@asynccontextmanager
async def lifespan(app):
    say("started")
    yield {"pool": "open"}
    say("stopped")


async def own(request):
    return PlainTextResponse(f"own {request.state.pool}")


async def login(request):
    request.session["user"] = (await request.json())["user"]
    return PlainTextResponse("welcome")


def of_session(request):
    user = request.extra["session"].get("user")
    return Principal(user) if user else None


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


app = Starlette(
    routes=[Route("/own", own), Route("/login", login, methods=["POST"])],
    lifespan=lifespan,
    middleware=[
        Middleware(Passing),
        Middleware(GZipMiddleware),
        Middleware(SessionMiddleware, secret_key="not a secret"),
    ],
)
flow.mount(app, PREFIX, auth=any_of(same_site(of_session), flow.authenticate), endpoints=ENDPOINTS)
