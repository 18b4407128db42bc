"""Flask behind a bridge, wrapped; its sessions as users, its views ask the flow."""

from __future__ import annotations

from a2wsgi import WSGIMiddleware
from flask import Flask, request, session
from hosted import ENDPOINTS, PREFIX, flow

from stepflow import Principal, any_of
from stepflow.integrations.flask import request_auth

site = Flask(__name__)
site.secret_key = "not a secret"


@site.get("/own")
def own() -> str:
    # A synchronous view, in a thread of the bridge.
    return f"own {flow.blocking().trigger('double', 21).result()}"


@site.post("/login")
def login() -> str:
    session["user"] = request.get_json()["user"]
    return "welcome"


def of_session() -> Principal | None:
    return Principal(session["user"]) if "user" in session else None


app = flow.wrap(
    WSGIMiddleware(site),
    PREFIX,
    auth=any_of(request_auth(site, of_session), flow.authenticate),
    endpoints=ENDPOINTS,
)
