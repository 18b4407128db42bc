"""How much Python a request costs: bytecode instructions and calls, by what it is and by function.

Beside benchmarks/instructions.py, which counts a run: here requests go through the connection's
own protocol, as bytes in and bytes out of a transport that keeps them, on asyncio's own loop.
`echo` and `plain_get` are the yardsticks: a bare Starlette application on uvicorn's own protocol.
`…_mounted` is the same API as an application of a host, on uvicorn's own protocol too. A trigger is
counted with the whole run behind it; `http_of_trigger` is what is left without the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.server import ServerState

from benchmarks.instructions import Count, StillClock, figures_of, one_after_the_other
from benchmarks.report import arguments, finish
from benchmarks.servers import KEY, echo_app
from benchmarks.workload import INPUT, flow
from stepflow import Stepflow
from stepflow.clock import next_pass
from stepflow.config import MEMORY, Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.memory import MemoryDisk
from stepflow.web.server import make_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from stepflow.engine.protocol import Engine

CONNECTIONS: Final = 16
WARM: Final = 1_100
BODY: Final = json.dumps(INPUT, separators=(",", ":")).encode()


class Wire:
    """A transport that keeps what is written, and says when an answer is there."""

    def __init__(self) -> None:
        self.got = b""
        self.answered: asyncio.Future[None] | None = None

    def write(self, data: bytes) -> None:
        self.got += data
        head, _, body = self.got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length and self.answered is not None:
            self.answered.set_result(None)
            self.answered = None

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name in {"peername", "sockname"} else None

    def is_closing(self) -> bool:
        return False

    def ignore(self, **_: Any) -> None:
        return

    close = abort = pause_reading = resume_reading = set_write_buffer_limits = ignore


class Connection:
    """One connection to a server without sockets."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        self._wire = Wire()
        kind = cast("type[HttpToolsProtocol]", config.http_protocol_class)
        self._protocol = kind(config=config, server_state=state, app_state={})
        self._protocol.connection_made(cast("asyncio.Transport", self._wire))

    async def ask(self, request: bytes) -> bytes:
        """Return the whole answer."""
        wire = self._wire
        wire.got = b""
        wire.answered = answered = asyncio.get_running_loop().create_future()
        self._protocol.data_received(request)
        await answered
        return wire.got

    def close(self) -> None:
        self._protocol.connection_lost(None)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes that a client sends."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1:8000", f"X-API-Key: {KEY}"]
    lines += ["Accept: */*", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def together(connections: list[Connection], what: bytes, count: int) -> None:
    """Ask so often, each connection one request after the other."""

    async def ask(connection: Connection) -> None:
        for _ in range(count // len(connections)):
            answer = await connection.ask(what)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(answer.decode())

    await asyncio.gather(*(ask(connection) for connection in connections))


@asynccontextmanager
async def connected(config: uvicorn.Config) -> AsyncIterator[list[Connection]]:
    config.load()
    state = ServerState()
    connections = [Connection(config, state) for _ in range(CONNECTIONS)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def bare(app: Any) -> uvicorn.Config:
    """Return uvicorn as a host would run it: its own protocol."""
    return uvicorn.Config(app, http="httptools", lifespan="off", access_log=False, log_config=None)


class Bench:
    """The product over a disk in memory, its clock at a stand."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.figures: dict[str, Any] = {}
        self.by_function: dict[str, Any] = {}
        engine = LocalEngine(
            flow.registry,
            MEMORY,
            settings=Settings(),
            clock=StillClock(),
            disk=MemoryDisk(),
            threads=False,
            sign=self._sign,
        )
        as_engine: Engine = engine
        self.flow = Stepflow(MEMORY, engine=as_engine)
        self.flow.registry = flow.registry

    def _sign(self, run_id: str, expires_ms: int) -> str:
        return self.flow.auth_chain.signer.sign_run(run_id, expires_ms)

    async def counted(self, name: str, config: uvicorn.Config, what: bytes) -> None:
        async with connected(config) as connections:
            await together(connections, what, CONNECTIONS * 8)
            await self.idle()
            with Count() as count:
                await together(connections, what, self.count)
                await self.idle()
        self._put(name, count)

    def _put(self, name: str, count: Count) -> None:
        found = figures_of(count, self.count)
        self.figures[f"{name}_instructions"] = found["instructions"]
        self.figures[f"{name}_calls"] = found["calls"]
        self.by_function[name] = found["by_function"]

    async def idle(self) -> None:
        """Wait until no run is under way."""
        engine = self.flow.engine
        assert isinstance(engine, LocalEngine)
        # Not by the figures, which would be counted with what is measured.
        while engine.sup.live:
            await next_pass()

    async def measure(self) -> None:
        async with self.flow:
            await asyncio.gather(
                *(one_after_the_other(self.flow, WARM // CONNECTIONS) for _ in range(CONNECTIONS))
            )
            with Count() as count:
                each = self.count // CONNECTIONS
                await asyncio.gather(
                    *(one_after_the_other(self.flow, each) for _ in range(CONNECTIONS))
                )
            self._put("run", count)
            run = await self.flow.trigger("w1", INPUT)
            await run.result()
            trigger, get = request("POST", "/trigger/w1", BODY), request("GET", f"/runs/{run.id}")
            app: Any = self.flow.asgi()
            await self.counted("echo", bare(echo_app()), request("POST", "/echo", BODY))
            await self.counted("plain_get", bare(echo_app()), request("GET", "/plain"))
            await self.counted("get_run", make_config(app, Settings()), get)
            await self.counted("get_run_mounted", bare(app), get)
            await self.counted("trigger", make_config(app, Settings()), trigger)
            await self.counted("trigger_mounted", bare(app), trigger)
        of_run = self.figures["run_instructions"]
        for name in ("trigger", "trigger_mounted"):
            self.figures[f"http_of_{name}_instructions"] = (
                self.figures[f"{name}_instructions"] - of_run
            )


def main() -> None:
    options = arguments("Bytecode instructions and calls per request")
    bench = Bench(64 if options.quick else 512)
    asyncio.run(bench.measure())
    facts = {"implementation": sys.implementation.name, "requests": bench.count}
    finish(facts | bench.figures | {"by_function": bench.by_function}, options.json)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    os.environ["STEPFLOW_API_KEYS"] = KEY
    main()
