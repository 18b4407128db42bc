"""W1 over HTTP, from call to answer: `http_app.py restate|stepflow|llama|echo PORT [KEY]`.

Restate and llama-agents-server answer the call itself with the result; ours is triggered, then its
stream read to its end; the echo does nothing, which no engine can be faster than. Raw protocols on
uvloop, keep-alive, as many connections as there are calls in flight: on two cores the client has
one, so it must cost little.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, cast

import uvloop
from contestant import INPUT, serve

HOW, PORT, *REST = sys.argv[1:]
KEY = REST[0] if REST else ""
HEAD = (
    f"Host: 127.0.0.1:{PORT}\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    "Content-Length: "
).encode()
LAST_CHUNK = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._got = b""
        self._length = -1  # of head and body together, where it is said
        self._head = 0
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, line: bytes, body: bytes = b"") -> asyncio.Future[bytes]:
        """Send a request; its whole answer, head and all, comes."""
        self._got, self._length, self._head = b"", -1, 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(b"%b HTTP/1.1\r\n%b%d\r\n\r\n%b" % (line, HEAD, len(body), body))
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._head:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = end + 4
            head = self._got[:end].lower()
            if b"content-length: " in head:
                said = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self._length = self._head + int(said)
        over = (
            self._got.endswith(LAST_CHUNK) if self._length < 0 else len(self._got) >= self._length
        )
        if over and self._answer is not None:
            answer, self._answer = self._answer, None
            answer.set_result(self._got)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(exc or ConnectionResetError("the server hung up"))


idle: list[Connection] = []


async def ask(line: bytes, body: bytes = b"") -> bytes:
    if idle:
        connection = idle.pop()
    else:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", int(PORT))
    answer = await connection.ask(line, body)
    idle.append(connection)
    if not answer.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(answer.decode())
    return answer


async def _json(line: bytes, body: bytes) -> Any:
    return json.loads((await ask(line, body)).partition(b"\r\n\r\n")[2])


async def restate_run() -> object:
    return await _json(b"POST /w1/run", BODY)


async def stepflow_run() -> object:
    started = await _json(b"POST /trigger/w1", BODY)
    events = await ask(b"GET /runs/%b/stream" % started["runId"].encode())
    end = events.rpartition(b"event: complete\n")[2]
    return json.loads(end.partition(b"data: ")[2].partition(b"\n")[0])["result"]


async def llama_run() -> object:
    handler = await _json(b"POST /workflows/w1/run", LLAMA_BODY)
    return handler["result"]["value"]["result"]


async def echo_run() -> object:
    if await _json(b"POST /echo", BODY) != INPUT:
        raise RuntimeError("the echo said something else")
    return {"ok": True, "what": "done"}


BODY = json.dumps(INPUT).encode()
LLAMA_BODY = json.dumps({"start_event": {"user": INPUT}}).encode()
RUNS = {"restate": restate_run, "stepflow": stepflow_run, "llama": llama_run, "echo": echo_run}
uvloop.run(serve(RUNS[HOW]))
