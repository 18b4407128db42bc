"""Stepflow in a Starlette application, whose sessions say who calls.

uvicorn --app-dir examples/hosts starlette_app:app
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stepflow import AuthRequest, Context, Principal, Stepflow, any_of, same_site

flow = Stepflow()


@flow.workflow("greet")
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


async def home(request: Request) -> PlainTextResponse:
    run = await flow.trigger(greet, "you")
    return PlainTextResponse(await run.result())


def of_session(request: AuthRequest) -> Principal | None:
    scope: Any = request.extra  # the ASGI scope, after the middleware
    user = scope["session"].get("user")
    return Principal(user) if user else None


app = Starlette(
    routes=[Route("/", home)],
    middleware=[Middleware(SessionMiddleware, secret_key="from your settings")],
)
flow.mount(app, "/api/stepflow", auth=any_of(same_site(of_session), flow.authenticate))
