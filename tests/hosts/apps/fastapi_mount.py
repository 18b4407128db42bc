"""FastAPI, its dependencies as users."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.security import APIKeyCookie
from hosted import ENDPOINTS, PREFIX, flow, say

from stepflow import Principal
from stepflow.integrations.fastapi import mount

cookie = APIKeyCookie(name="user", auto_error=False)


@asynccontextmanager
async def lifespan(app):
    say("started")
    yield
    say("stopped")


app = FastAPI(lifespan=lifespan)


@app.get("/own")
def own() -> str:
    return "own"


@app.post("/login")
def login(body: dict[str, str], response: Response) -> str:
    response.set_cookie("user", body["user"])
    return "welcome"


def current(user: Annotated[str | None, Depends(cookie)]) -> Principal | None:
    return Principal(user) if user else None


mount(flow, app, PREFIX, principal=current, auth=flow.authenticate, endpoints=ENDPOINTS)
