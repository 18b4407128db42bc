"""The client of our own understands answers with a length, and in chunks, and no others."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import load

PIECES = {
    "length": [b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\n{", b"}  "],
    "chunks": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", b"0\r\n\r\n"],
    "refused": [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"],
}


class Peer(asyncio.Protocol):
    """Answers each request with the given pieces, one a pass of the loop."""

    def __init__(self, pieces):
        self.pieces = pieces

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(self.pieces):
            loop.call_later(0.001 * number, self.transport.write, piece)


async def measured(how):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(PIECES[how]), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await load._measure(load.Load(port, "GET", "/", connections=2, seconds=0.02))
    finally:
        server.close()


@pytest.mark.parametrize("how", ["length", "chunks"])
def test_answers_are_counted(how):
    seen = asyncio.run(measured(how))
    assert seen["requests"] >= 2
    assert 0 < seen["p50_ms"] <= seen["p99_ms"]


def test_any_answer_but_2xx_is_an_error():
    with pytest.raises(RuntimeError, match="503"):
        asyncio.run(measured("refused"))


def test_wrk_is_read():
    text = "  50%  1.50ms\n  99%  2.00s\n  1000 requests in 2.00s, 1MB read\n"
    seen = load._read_wrk(text)
    assert (seen.rate, seen.p50_ms, seen.p99_ms) == (500.0, 1.5, 2000.0)


def test_errors_that_wrk_saw_are_errors():
    with pytest.raises(RuntimeError):
        load._read_wrk("Non-2xx or 3xx responses: 5")
