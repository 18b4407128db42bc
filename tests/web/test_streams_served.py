"""Streams through the server that `stepflow serve` runs: a deaf reader, a clean end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.web.app import build_app
from stepflow.web.guard import guarded
from stepflow.web.policy import Policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio

RUN = "run_0123456789abcdefABCDEF"
KEY = "test-key-0123456789"


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        await asyncio.sleep(0.01)


@asynccontextmanager
async def served(engine: FakeEngine, chain: Any, settings: Settings) -> AsyncIterator[Any]:
    clock = SystemClock()
    app = build_app(engine, Policy(lambda: chain, clock), settings, clock)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=guarded(settings), log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server._serve([listener]))
    await until(lambda: server.started)
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def test_a_reader_that_reads_nothing_loses_its_connection(engine, chain, caplog):
    run = engine.begin(RUN)
    settings = Settings(stream_blocked_s=0.2, stream_comment_s=0.1)
    async with served(engine, chain, settings) as (server, port):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, ("127.0.0.1", port))
        head = f"GET /runs/{RUN}/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n"
        await loop.sock_sendall(reader, head.encode())
        await until(lambda: run.subscribers)
        number = 1
        while run.subscribers:
            number += 1
            engine.tell(RUN, number, "emit", "x" * 20_000)
            await asyncio.sleep(0.001)
        await until(lambda: not server.server_state.connections)
        reader.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_shutdown_brings_every_response_to_its_end(engine, chain, settings):
    run = engine.begin(RUN)
    async with (
        served(engine, chain, settings) as (_, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):

        async def read() -> bytes:
            headers = {"X-API-Key": KEY}
            return (await client.get(f"/runs/{RUN}/stream", headers=headers)).content

        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        await until(lambda: len(run.subscribers) == 3)
        engine.begin_shutdown()
        # httpx raises for a response that breaks off.
        for body in await asyncio.gather(*readers):
            assert body.startswith(b"retry: 1000\n\nid: 1\n")
    assert not run.subscribers
