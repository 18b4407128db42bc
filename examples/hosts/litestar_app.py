"""Stepflow in a Litestar application, as a plugin: behind its middleware, in its lifespan.

uvicorn --app-dir examples/hosts litestar_app:app
"""

from __future__ import annotations

from typing import Any

from litestar import Litestar, get
from litestar.middleware.session.client_side import CookieBackendConfig

from stepflow import AuthRequest, Context, Principal, Stepflow, any_of, same_site
from stepflow.integrations.litestar import StepflowPlugin

flow = Stepflow()


@flow.workflow("greet")
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


@get("/")
async def home() -> str:
    run = await flow.trigger(greet, "you")
    return str(await run.result())


def of_session(request: AuthRequest) -> Principal | None:
    scope: Any = request.extra
    user = (scope.get("session") or {}).get("user")
    return Principal(user) if user else None


auth = any_of(same_site(of_session), flow.authenticate)
app = Litestar(
    route_handlers=[home],
    middleware=[CookieBackendConfig(secret=b"from your config").middleware],
    plugins=[StepflowPlugin(flow, "/api/stepflow", auth=auth)],
)
