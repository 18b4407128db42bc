"""Stepflow in a FastAPI application, in its OpenAPI document, behind one of its dependencies.

uvicorn --app-dir examples/hosts fastapi_app:app
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader

from stepflow import Context, Principal, RunView, Stepflow
from stepflow.integrations.fastapi import mount

flow = Stepflow()
app = FastAPI()
users = {"ada-s-own-token": "ada"}  # yours come from elsewhere


@flow.workflow("greet")
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


@app.get("/")
async def home() -> str:
    run = await flow.trigger(greet, "you")
    return await run.result()


@app.get("/greetings/{run_id}")
async def greeting(run_id: str) -> RunView:
    return await flow.get_run(run_id)


def current(
    token: Annotated[str | None, Depends(APIKeyHeader(name="X-User-Token", auto_error=False))],
) -> Principal | None:
    user = users.get(token or "")
    return Principal(user, scopes=frozenset({"trigger", "read"})) if user else None


# Nobody of these? Then an API key or a JWT, as without FastAPI.
mount(flow, app, "/api/stepflow", principal=current, auth=flow.authenticate)
