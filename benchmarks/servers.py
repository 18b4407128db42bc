"""The servers that are measured, each a process: Stepflow, and the yardsticks.

`python -m benchmarks.servers echo|plain|guarded PORT` runs a yardstick. All have what `stepflow
serve` has: uvicorn with uvloop and httptools, no access log, the same collector settings; `guarded`
is `plain` behind our guard of the connection.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.report import ROOT
from stepflow.cli.process import tune_gc
from stepflow.config import Settings
from stepflow.web.guard import guarded
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

KEY: Final = "benchmark-key-0123456789"
_SERVE: Final = "from stepflow.cli.main import main; main()"


@contextmanager
def product(data: Path) -> Iterator[int]:
    """Run `stepflow serve` on the workload; give its port."""
    port = free_port()
    command = ["-c", _SERVE, "serve", "benchmarks/workload.py", "--data", str(data)]
    env = {"STEPFLOW_API_KEYS": KEY, "STEPFLOW_LOG_LEVEL": "warning"}
    with _running([*command, "--port", str(port)], env, port):
        yield port


@contextmanager
def worker(database: str, directory: Path) -> Iterator[int]:
    """Run a worker on a database, with the workload's code; give its process id."""
    port = free_port()
    command = ["-c", _SERVE, "serve", "benchmarks/workload.py", "--data", str(directory)]
    command += ["--database", database, "--role", "worker", "--port", str(port)]
    env = {
        "STEPFLOW_API_KEYS": KEY,
        "STEPFLOW_TOKEN_KEY": "0" * 64,
        "STEPFLOW_LOG_LEVEL": "warning",
    }
    with _running(command, env, port):
        yield _PIDS[port]


@contextmanager
def yardstick(name: str) -> Iterator[int]:
    """Run `echo`, `plain` or `guarded`; give its port."""
    port = free_port()
    with _running(["-m", "benchmarks.servers", name, str(port)], {}, port):
        yield port


_BARE: Final = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def ready(request):
    return JSONResponse({})

app = Starlette(routes=[Route("/ready", ready)])
uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="critical")
"""


@contextmanager
def bare() -> Iterator[int]:
    """Run the least that answers, which imports nothing of ours; give its port."""
    port = free_port()
    with _running(["-c", _BARE, str(port)], {}, port):
        yield port


SSE_PYTHON: Final = ROOT / "build" / "sse" / "venv" / "bin" / "python"
"""Where `make sse-env` installs sse-starlette."""


@contextmanager
def sse_starlette(way: str) -> Iterator[int]:
    """Run the peer of fan-out, which yields `dict` or `bytes`; give its port."""
    port = free_port()
    command = ["benchmarks/peers/sse_app.py", str(port), way]
    with _running(command, {}, port, python=str(SSE_PYTHON)):
        yield port


def cpu_s(port: int) -> float:
    """Return the processor time that the server on that port has used so far."""
    stat = Path(f"/proc/{_PIDS[port]}/stat").read_text(encoding="utf-8")
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


_PIDS: Final[dict[int, int]] = {}


@contextmanager
def _running(
    command: list[str], env: dict[str, str], port: int, python: str = sys.executable
) -> Iterator[None]:
    process = subprocess.Popen(
        [python, *command], cwd=ROOT, env=os.environ | env, stdout=subprocess.DEVNULL
    )
    _PIDS[port] = process.pid
    try:
        while ask(port, "GET", "/ready")[0] != 200:
            if process.poll() is not None:
                raise RuntimeError(f"{command} did not come up")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request; return status and body, status 0 where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionRefusedError:
        return 0, b""
    finally:
        connection.close()


# ------------------------------------------------------------ the yardsticks


async def _echo(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())


async def _ready(request: Request) -> JSONResponse:
    return JSONResponse({"path": request.url.path})


def echo_app() -> Starlette:
    """Return the bare Starlette JSON echo."""
    routes = [
        Route("/echo", _echo, methods=["POST"]),
        Route("/plain", _ready),
        Route("/ready", _ready),
    ]
    return Starlette(routes=routes)


class PlainStream:
    """Plain ASGI: `POST /publish?count&size` sends events to every open `GET /stream`.

    The least that a fan-out can do: one list of shared bytes, one `send` an event and subscriber.
    `GET /cpu` says how many seconds of processor time the server has used.
    """

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._more = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/stream":
            await self._stream(receive, send)
        elif scope["type"] == "http":
            if scope["path"] == "/publish":
                self._publish(scope["query_string"].decode())
            await _start(send)
            body = b"%f" % time.process_time() if scope["path"] == "/cpu" else b"{}"
            await send({"type": "http.response.body", "body": body})

    def _publish(self, query: str) -> None:
        wanted = dict(part.split("=") for part in query.split("&"))
        for _ in range(int(wanted["count"])):
            head = b"id: %d\nevent: step\ndata: " % len(self._events)
            filler = b"x" * max(0, int(wanted["size"]) - len(head) - 2)
            self._events.append(head + filler + b"\n\n")
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def _stream(self, receive: Receive, send: Send) -> None:
        await _start(send, b"text/event-stream")
        await send(_part(b"retry: 1000\n\n"))
        position = len(self._events)
        gone = asyncio.ensure_future(_gone(receive))
        while not gone.done():
            more = self._more
            while position < len(self._events):
                await send(_part(self._events[position]))
                position += 1
            await more.wait()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, media: bytes = b"application/json") -> None:
    headers = [(b"content-type", media)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def main() -> None:
    name, port = sys.argv[1:]
    app = echo_app() if name == "echo" else PlainStream()
    tune_gc()
    uvicorn.run(
        app,
        port=int(port),
        loop="uvloop",
        http=guarded(Settings()) if name == "guarded" else "httptools",
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
