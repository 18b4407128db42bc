"""FastAPI by hand: a mounted application and `flow.lifespan`."""

from __future__ import annotations

from fastapi import FastAPI
from hosted import ENDPOINTS, PREFIX, flow

app = FastAPI(lifespan=flow.lifespan)
app.mount(PREFIX, flow.asgi(endpoints=ENDPOINTS))


@app.get("/own")
def own() -> str:
    return "own"
