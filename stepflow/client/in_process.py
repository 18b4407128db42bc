"""A client that talks to an application of this process: no port, no socket, the same HTTP.

::

    async with flow, Client("http://flow.test", transport=InProcess(flow.asgi())) as client: …

`InProcess` runs the application on the caller's loop, one task a request. Unlike httpx's own
`ASGITransport` it hands on each piece of a body as it is sent, so that a live stream can be
watched, and a caller that leaves is a client that went away. `BlockingInProcess` is the same for
`SyncClient`: the loop is another thread's, `flow.start_background()`'s say, and `run` is how to
have a coroutine run there.

An application that raises before it has answered is raised to the caller, where a server would
answer 500; one that raises later breaks its response off, as a server does.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from stepflow.client.transport import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    Message = dict[str, Any]
    Run = Callable[[Coroutine[Any, Any, Any]], Any]

__all__ = ["BlockingInProcess", "InProcess"]

_AHEAD: Final = 16
"""Pieces of a body that an application may be ahead of its reader; then its `send` waits."""


class InProcess(httpx.AsyncBaseTransport):
    """Hands requests to an ASGI application, on the caller's loop.

    The application's lifespan is not run: enter the flow, or its `lifespan`, yourself.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(_scope(request), await request.aread())
        return await exchange.begin(self._app)


class BlockingInProcess(httpx.BaseTransport):
    """The same for a `SyncClient`: `run` has a coroutine run on the application's loop.

    `BlockingInProcess(flow.asgi(), background.run)`, from any thread but that loop's.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], run: Run) -> None:
        self._inner = InProcess(app)
        self._run = run

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        response: httpx.Response = self._run(self._inner.handle_async_request(request))
        stream: Any = response.stream
        return httpx.Response(
            response.status_code, headers=response.headers, stream=_Blocking(stream, self._run)
        )


def _scope(request: httpx.Request) -> Message:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.split(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }


class _Exchange:
    """One request and its response, between the application's task and who reads."""

    def __init__(self, scope: Message, body: bytes) -> None:
        self._scope = scope
        self._body: bytes | None = body
        self._gone = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._whole = False

    async def begin(self, app: Callable[..., Awaitable[None]]) -> httpx.Response:
        task = self._task = asyncio.ensure_future(self._serve(app))
        try:
            either: list[asyncio.Future[Any]] = [self._started, task]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.close()
            raise
        if not self._started.done():
            task.result()
            raise RuntimeError("the application ended without an answer")
        start = self._started.result()
        return httpx.Response(start["status"], headers=start["headers"], stream=_Body(self))

    async def _serve(self, app: Callable[..., Awaitable[None]]) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        finally:
            await self._end()

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            raise OSError("the client went away")
        if message["type"] == "http.response.start":
            self._started.set_result({"headers": (), **message})
            return
        if piece := message.get("body", b""):
            await self._pieces.put(bytes(piece))
        if not message.get("more_body", False):
            await self._end()

    async def _end(self) -> None:
        """Say that nothing follows, once."""
        if not self._whole:
            self._whole = True
            if not self._gone.is_set():
                await self._pieces.put(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        task = self._task
        if task is not None and task.done() and (error := task.exception()) is not None:
            raise httpx.RemoteProtocolError(f"the application raised: {error!r}") from error

    async def close(self) -> None:
        """Tell the application that its client went away, and see it end."""
        self._gone.set()
        task = self._task
        if task is None:
            return
        while not self._pieces.empty():
            self._pieces.get_nowait()
        if not self._started.done():
            task.cancel()
        await asyncio.wait([task])
        with contextlib.suppress(asyncio.CancelledError, Exception):
            task.result()


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._exchange.pieces():
            yield piece

    async def aclose(self) -> None:
        await self._exchange.close()


class _Blocking(httpx.SyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, run: Run) -> None:
        self._stream = stream
        self._pieces = aiter(stream)
        self._run = run

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._run(_next(self._pieces))) is not None:
            yield piece

    def close(self) -> None:
        self._run(self._stream.aclose())


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
