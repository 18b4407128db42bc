"""FastAPI by hand: a mounted application and `flow.lifespan`."""

from __future__ import annotations

from fastapi import FastAPI
from hosted import PREFIX, flow

app = FastAPI(lifespan=flow.lifespan)
app.mount(PREFIX, flow.asgi())


@app.get("/own")
def own() -> str:
    return "own"
