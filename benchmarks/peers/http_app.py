"""W1 over HTTP, from call to answer: `http_app.py restate|stepflow PORT [KEY]`.

Restate answers the call itself with the result; ours is triggered, then its
stream read to its end. Raw keep-alive connections on asyncio, as many as there are calls in flight.
"""

from __future__ import annotations

import asyncio
import json
import sys

from contestant import INPUT, serve

HOW, PORT, *REST = sys.argv[1:]
KEY = REST[0] if REST else ""
idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []


async def ask(method: str, path: str, body: bytes = b"") -> bytes:
    reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", int(PORT))
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nX-API-Key: {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in answer:
        content = b""
        while size := int(await reader.readline(), 16):
            content += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(length)
    idle.append((reader, writer))
    if not answer.startswith(b"http/1.1 2"):
        raise RuntimeError(f"{answer!r} {content!r}")
    return content


async def restate_run() -> object:
    return json.loads(await ask("POST", "/w1/run", BODY))


async def stepflow_run() -> object:
    started = json.loads(await ask("POST", "/trigger/w1", BODY))
    events = await ask("GET", f"/runs/{started['runId']}/stream")
    end = events.rpartition(b"event: complete\n")[2]
    return json.loads(end.partition(b"data: ")[2].partition(b"\n")[0])["result"]


BODY = json.dumps(INPUT).encode()
asyncio.run(serve({"restate": restate_run, "stepflow": stepflow_run}[HOW]))
