"""The product on a real socket, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow import MEMORY, Context, Settings, Stepflow
from stepflow.auth.handlers import api_key_auth
from stepflow.web.server import Server, make_config

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["KEY", "Reply", "Wire", "on_a_socket", "replies_of"]

KEY = "wire-key-0123456789abcdef"


@dataclass(frozen=True)
class Reply:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A server's address, and how to talk to it."""

    def __init__(self, server: Server, flow: Stepflow, address: tuple[str, int]) -> None:
        self.server = server
        self.flow = flow
        self.address = address

    @contextmanager
    def connected(self) -> Generator[socket.socket]:
        with socket.create_connection(self.address, timeout=60) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield sock

    def send(self, *parts: bytes) -> list[Reply]:
        """Send the parts, each by itself; return all responses until the server closes."""
        with self.connected() as sock:
            for part in parts:
                sock.sendall(part)
            return replies_of(to_end(sock))

    def ask(
        self, method: str, path: str, *headers: bytes, body: bytes = b"", key: str = KEY
    ) -> Reply:
        """Send one request with a key and return its response."""
        length = b"Content-Length: %d\r\n" % len(body) if body or method == "POST" else b""
        lines = b"".join(line + b"\r\n" for line in headers)
        start = f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n".encode()
        (reply,) = self.send(start + lines + length + b"Connection: close\r\n\r\n" + body)
        return reply


def to_end(sock: socket.socket) -> bytes:
    """Return all bytes until the server closes; a reset ends them too."""
    taken = b""
    try:
        while chunk := sock.recv(65536):
            taken += chunk
    except ConnectionResetError:
        pass
    return taken


def replies_of(data: bytes) -> list[Reply]:
    """Split what a connection gave into responses with a length."""
    replies: list[Reply] = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (li.partition(": ") for li in lines)}
        length = int(headers.get("content-length", "0"))
        replies.append(Reply(int(start.split(" ")[1]), headers, data[:length]))
        data = data[length:]
    return replies


def a_flow(settings: Settings) -> Stepflow:
    flow = Stepflow(MEMORY, settings=settings)

    @flow.workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Return the input."""
        del ctx
        return value

    @flow.workflow("waits", events=["go-{id}"])
    async def waits(ctx: Context, value: dict[str, Any]) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Wait for an event."""
        return await ctx.wait_for_event("go", f"go-{value['id']}", timeout="1h", default=None)

    return flow


@contextmanager
def on_a_socket(host: str = "127.0.0.1", **knobs: Any) -> Generator[Wire]:
    """Serve the product with these settings, in a thread of this process."""
    changed: dict[str, Any] = {"linger_s": 0.2} | knobs
    settings = Settings(**changed)
    flow = a_flow(settings)
    started = threading.Event()
    address: list[tuple[str, int]] = []

    def on_started(bound: str, port: int) -> None:
        address.append((bound, port))
        started.set()

    app: Any = flow.asgi(auth=api_key_auth(KEY))
    config = make_config(app, settings, host=host, port=0, log_level="critical")
    server = Server(config, begin_shutdown=flow.begin_shutdown, on_started=on_started)
    thread = threading.Thread(target=server.run_to_end, daemon=True)
    thread.start()
    try:
        assert started.wait(60), "the server did not start"
        yield Wire(server, flow, address[0])
    finally:
        server.stop()
        thread.join(60)
    assert not thread.is_alive()
