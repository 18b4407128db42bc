"""Stepflow in a Quart application.

uvicorn --app-dir examples/hosts quart_app:app
"""

from __future__ import annotations

from quart import Quart

from stepflow import Context, Stepflow

flow = Stepflow()
app = Quart(__name__)


@flow.workflow("greet")
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


@app.get("/")
async def home() -> str:
    run = await flow.trigger(greet, "you")
    return str(await run.result())


flow.mount(app, "/api/stepflow")
