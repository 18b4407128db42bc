"""A thousand readers of one stream, in a process of their own: `… PORT PATH COUNT`.

They count events and keep nothing. Orders come a line each on standard input: `until N` answers,
with the clock's reading, when every reader has got N events since the last `reset`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final, cast

import uvloop

from benchmarks.servers import KEY

_OPENING: Final = 1  # `retry:` comes first and is no event


class Reader(asyncio.Protocol):
    """Counts the ends of events: two line feeds in a row, as neither a head nor a chunk has."""

    def __init__(self, crowd: Crowd, request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._hanging = False
        self.events = -_OPENING
        self.nbytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.nbytes += len(data)
        before = self.events
        self.events += data.count(b"\n\n") + (self._hanging and data.startswith(b"\n"))
        self._hanging = data.endswith(b"\n") and not data.endswith(b"\n\n")
        if before < self._crowd.target <= self.events:
            self._crowd.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._crowd.over:
            sys.exit(f"a subscriber was dropped: {exc}")


class Crowd:
    """All readers, and how many of them have not got the target yet."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.target = 0
        self.over = False
        self._missing = 0
        self._all_there = asyncio.Event()

    def arrived(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._all_there.set()

    async def until(self, target: int) -> float:
        """Return the time at which the last reader had got so many events."""
        self.target = target
        self._missing = sum(reader.events < target for reader in self.readers)
        if self._missing:
            self._all_there.clear()
            await self._all_there.wait()
        return time.perf_counter()

    def reset(self) -> None:
        self.target = 0
        for reader in self.readers:
            reader.events = reader.nbytes = 0


async def _main() -> None:
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    crowd = Crowd()
    for _ in range(count):
        _, reader = await loop.create_connection(lambda: Reader(crowd, request), "127.0.0.1", port)
        crowd.readers.append(reader)
    while order := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        if order[0] == "until":
            print(await crowd.until(int(order[1])), flush=True)
        elif order[0] == "most":
            print(max(reader.events for reader in crowd.readers), flush=True)
        elif order[0] == "bytes":
            print(sum(reader.nbytes for reader in crowd.readers), flush=True)
        else:
            crowd.reset()
            print("reset", flush=True)
    crowd.over = True


if __name__ == "__main__":
    uvloop.run(_main())
