"""How a served process ends: clean streams, its own exit status, and no waiting when told twice."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PROGRAM = """
import asyncio, json, sys
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from stepflow.config import Settings
from stepflow.web.server import run

options = json.loads(sys.argv[1])
closing = asyncio.Event()


def say(*words):
    print(*words, flush=True)


async def stream(request):
    async def events():
        yield b": hello\\n\\n"
        if options.get("deaf"):
            await asyncio.Event().wait()
        await closing.wait()
        yield b"event: bye\\n\\n"
        say("ended")

    return StreamingResponse(events(), media_type="text/event-stream")


@asynccontextmanager
async def lifespan(app):
    if options.get("fail"):
        raise RuntimeError("cannot start")
    yield
    say("stopped")


def begin_shutdown():
    say("closing")
    if options.get("raise"):
        raise RuntimeError("a bug of ours")
    closing.set()


app = Starlette(routes=[Route("/stream", stream)], lifespan=lifespan)
settings = Settings(http_drain_s=options.get("drain_s", 5))
sys.exit(
    run(
        app,
        settings,
        port=options.get("port", 0),
        uds=options.get("uds"),
        begin_shutdown=begin_shutdown,
        on_started=lambda host, port: say("listening", host, port),
        exit_code=lambda: options.get("status", 0),
    )
)
"""


class Process:
    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen

    def line(self) -> str:
        assert self.popen.stdout
        return self.popen.stdout.readline().strip()

    def rest(self) -> list[str]:
        assert self.popen.stdout
        return self.popen.stdout.read().split()

    def errors(self) -> str:
        assert self.popen.stderr
        return self.popen.stderr.read()

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def status(self) -> int:
        return self.popen.wait(timeout=100)

    def address(self) -> tuple[str, int]:
        word, host, port = self.line().split()
        assert word == "listening"
        return host, int(port)


@contextmanager
def started(**options: object) -> Generator[Process]:
    program = textwrap.dedent(PROGRAM)
    command = [sys.executable, "-c", program, json.dumps(options)]
    pipe = subprocess.PIPE
    with subprocess.Popen(doomed(command), stdout=pipe, stderr=pipe, text=True) as popen:
        try:
            yield Process(popen)
        finally:
            popen.kill()


def open_stream(address: tuple[str, int] | str) -> socket.socket:
    """Return a connection that has heard the stream's first event."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(100)
        sock.connect(address)
    else:
        sock = socket.create_connection(address, timeout=100)
    sock.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    heard = b""
    while b": hello" not in heard:
        chunk = sock.recv(4096)
        assert chunk
        heard += chunk
    assert b"transfer-encoding: chunked" in heard
    return sock


def to_end(sock: socket.socket) -> bytes:
    with sock:
        taken = b""
        while chunk := sock.recv(4096):
            taken += chunk
        return taken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_three_open_streams_cleanly_and_the_process_leaves_with_0(number):
    with started() as process:
        address = process.address()
        streams = [open_stream(address) for _ in range(3)]
        process.signal(number)
        for stream in streams:
            # The last event whole, then the empty chunk that says the response is complete.
            assert to_end(stream).endswith(b"event: bye\n\n\r\n0\r\n\r\n")
        assert process.status() == 0
        assert process.rest() == ["closing", "ended", "ended", "ended", "stopped"]
        assert process.errors() == ""


def test_a_stream_over_a_unix_socket_ends_cleanly_too(tmp_path: Path):
    path = str(tmp_path / "s")
    with started(uds=path) as process:
        assert process.line() == f"listening {path} 0"
        stream = open_stream(path)
        process.signal()
        assert to_end(stream).endswith(b"event: bye\n\n\r\n0\r\n\r\n")
        assert process.status() == 0


def test_the_exit_status_is_the_engines():
    with started(status=74) as process:
        process.address()
        process.signal()
        assert process.status() == 74


def test_a_second_signal_cuts_what_is_open_and_does_not_wait_for_it():
    with started(deaf=True, drain_s=10_000) as process:
        stream = open_stream(process.address())
        process.signal()
        assert process.line() == "closing"
        process.signal()
        assert process.status() == 0
        assert process.rest() == []  # the lifespan's end was left out
        assert not to_end(stream).endswith(b"0\r\n\r\n")


def test_a_request_that_does_not_end_is_cut_after_the_drain_time_and_the_engine_still_stops():
    with started(deaf=True, drain_s=1) as process:
        stream = open_stream(process.address())
        process.signal()
        assert not to_end(stream).endswith(b"0\r\n\r\n")
        assert process.status() == 0
        assert process.rest() == ["closing", "stopped"]


def test_a_failure_while_ending_streams_does_not_keep_the_process():
    with started(**{"raise": True, "drain_s": 1}) as process:
        stream = open_stream(process.address())
        process.signal()
        to_end(stream)
        assert process.status() == 0
        assert "a bug of ours" in process.errors()


def test_a_taken_port_gives_69():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(port=port) as process:
            assert process.status() == 69
            assert "in use" in process.errors()


def test_a_failed_start_gives_70_or_the_engines_status():
    with started(fail=True) as process:
        assert process.status() == 70
        assert process.rest() == []
    with started(fail=True, status=75) as process:
        assert process.status() == 75
