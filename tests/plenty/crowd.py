"""Thousands of readers of one stream in this process, each on a socket of its own, counting ids."""

from __future__ import annotations

import asyncio
import re
import threading
import zlib
from typing import TYPE_CHECKING, Any, Self, cast

import httpx

from tests.plenty.server import KEY

if TYPE_CHECKING:
    from collections.abc import Coroutine

_MARK = re.compile(rb"(?:^|\n)id: \w+-(\d+)\n")
_TAIL = 64
_AT_ONCE = 200


class Reader(asyncio.Protocol):
    """Takes note of which ids came, in which order."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.count = -1
        """Of events: the id that says where the stream begins is none."""
        self.seen = 0
        self.last = 0
        self.resyncs = 0
        self.rises = True
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = 0
        for found in _MARK.finditer(data):
            end = found.end()
            number = int(found[1])
            self.rises &= number > self.last or self.count < 0
            self.last = number
            self.count += 1
            if self.count > 0:
                self.seen = zlib.crc32(found[1], self.seen)
        self.resyncs += data.count(b"\nevent: resync\n", end and end - 1)
        # An id may be cut in two; what was read of it must not be read again.
        self._rest = data[max(end - 1, len(data) - _TAIL, 0) :] if data else b""
        if self.count >= 0 and not self.opened.done():
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("it was closed before it began"))


class Crowd:
    """Readers in a thread of their own, from `open` on to the end of the block."""

    def __init__(self, url: str, path: str) -> None:
        self._where = httpx.URL(url)
        self._request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.readers: list[Reader] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def open(self, count: int) -> None:
        """Open so many streams; return when each has begun."""
        self._do(self._open(count))

    async def _open(self, count: int) -> None:
        for begin in range(0, count, _AT_ONCE):
            some = await asyncio.gather(*(self._one() for _ in range(min(_AT_ONCE, count - begin))))
            self.readers += some
            await asyncio.gather(*(reader.opened for reader in some))

    async def _one(self) -> Reader:
        _, reader = await self._loop.create_connection(
            lambda: Reader(self._request), self._where.host, self._where.port
        )
        return reader

    async def _close(self) -> None:
        for reader in self.readers:
            reader.transport.abort()
        await asyncio.sleep(0)
