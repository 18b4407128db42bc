"""Stepflow around Flask, on an ASGI server: its views stay synchronous, its sessions say who calls.

uvicorn --app-dir examples/hosts flask_app:app
"""

from __future__ import annotations

from a2wsgi import WSGIMiddleware
from flask import Flask, session

from stepflow import Context, Principal, Stepflow, any_of
from stepflow.integrations.flask import request_auth

flow = Stepflow()
site = Flask(__name__)
site.secret_key = "from your settings"


@flow.workflow("greet")
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", lambda: f"Hello, {name}!")


@site.get("/")
def home() -> str:
    # In a thread of the bridge, so it may block.
    return str(flow.blocking().trigger(greet, "you").result())


def of_session() -> Principal | None:
    return Principal(session["user"]) if "user" in session else None


auth = any_of(request_auth(site, of_session), flow.authenticate)
app = flow.wrap(WSGIMiddleware(site), "/api/stepflow", auth=auth)
