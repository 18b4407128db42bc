"""sse-starlette as its documentation shows it: a generator and a queue for each subscriber.

Run in build/sse, without anything of ours: `sse_app.py PORT dict|bytes`. `dict`: what is yielded is
what the documentation yields, and each subscriber's copy is rendered by the library. `bytes`: the
event is rendered once and the library passes the same bytes on, the fastest that it can.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

QUEUES: set[asyncio.Queue[Any]] = set()
RENDERED = sys.argv[2] == "bytes"
NUMBER = 0


async def stream(request: Request) -> EventSourceResponse:
    del request

    async def events() -> AsyncIterator[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        QUEUES.add(queue)
        try:
            yield {"retry": 1000} if not RENDERED else b"retry: 1000\n\n"
            while True:
                yield await queue.get()
        finally:
            QUEUES.discard(queue)

    # Line feeds alone, as the others have them.
    return EventSourceResponse(events(), sep="\n")


async def publish(request: Request) -> JSONResponse:
    global NUMBER  # noqa: PLW0603  one stream a process
    for _ in range(int(request.query_params["count"])):
        head = len(f"id: {NUMBER}\nevent: step\ndata: ")
        data = "x" * max(0, int(request.query_params["size"]) - head - 2)
        event: Any = {"id": str(NUMBER), "event": "step", "data": data}
        if RENDERED:
            event = f"id: {NUMBER}\nevent: step\ndata: {data}\n\n".encode()
        NUMBER += 1
        for queue in QUEUES:
            queue.put_nowait(event)
    return JSONResponse({})


async def ready(request: Request) -> JSONResponse:
    del request
    return JSONResponse({})


def main() -> None:
    routes = [
        Route("/stream", stream),
        Route("/publish", publish, methods=["POST"]),
        Route("/ready", ready),
    ]
    # As `stepflow serve` does it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    uvicorn.run(
        Starlette(routes=routes),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="critical",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
