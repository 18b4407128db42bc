"""A request that is answered without a task, and its answer as bytes. See direct.py."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from stepflow.web.asgi import ClientGone

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence

    from stepflow.web.direct import Found
    from stepflow.web.problems import Answer, Header

__all__ = ["Call", "Wire"]


class _Nothing:
    """An event that nobody waits for."""

    __slots__ = ()

    def set(self) -> None:
        return


class Call:
    """A request whose endpoint is driven by hand; to uvicorn it is a cycle and a task at once."""

    __slots__ = (
        "_close",
        "_coroutine",
        "_loop",
        "_put",
        "_tasks",
        "disconnected",
        "found",
        "keep_alive",
        "response_complete",
    )

    message_event: ClassVar = _Nothing()

    def __init__(
        self,
        found: Found,
        put: Callable[[Call, Answer], None],
        close: Callable[[], None],
        tasks: set[asyncio.Task[None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`put` writes the answer, `close` closes the connection; `tasks` are the server's."""
        self.found = found
        self._put = put
        self._close = close
        self._tasks = tasks
        self._loop = loop
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    @property
    def response_started(self) -> bool:
        """Whether a part of the answer is written: it goes whole or not at all."""
        return self.response_complete

    def begin(self, coroutine: Coroutine[Any, Any, Answer]) -> None:
        """Drive it; where it has to wait, be among the server's tasks meanwhile."""
        self._coroutine = coroutine
        self._step()
        if not self.response_complete:
            self._tasks.add(cast("asyncio.Task[None]", self))

    def cancel(self, msg: object = None) -> None:
        """End it as a cancelled task would end: the connection is of no use any more."""
        del msg
        self._coroutine.close()
        self._end()
        self._close()

    def _step(self, waited_for: asyncio.Future[Any] | None = None) -> None:
        del waited_for
        if self.response_complete:
            return
        try:
            waits_for = self._coroutine.send(None)
        except StopIteration as stop:
            self._end()
            if not self.disconnected:
                self._put(self, stop.value)
        except ClientGone:
            self._end()
        else:
            if waits_for is None:
                self._loop.call_soon(self._step)
            else:
                # As a task does: the future asks whether somebody has taken note of it.
                waits_for._asyncio_future_blocking = False  # noqa: SLF001
                waits_for.add_done_callback(self._step)

    def _end(self) -> None:
        self.response_complete = True
        self._tasks.discard(cast("asyncio.Task[None]", self))


class Wire:
    """Writes answers as uvicorn would, in one piece: status, its headers, ours, the body."""

    __slots__ = ("_chunk", "_data", "_defaults", "_start")

    def __init__(self) -> None:
        self._defaults: Any = None
        self._start = b""
        self._data = self._chunk = b""

    def part(self, data: bytes) -> bytes:
        """Return a part of a body as a chunk: many connections in turn are given the same bytes."""
        if data is not self._data:
            self._data, self._chunk = data, b"%x\r\n%b\r\n" % (len(data), data)
        return self._chunk

    def whole(self, defaults: list[Header], answer: Answer, *, keep_alive: bool) -> bytes:
        """Return the bytes of a response. `defaults` is replaced each second, never changed."""
        if defaults is not self._defaults:
            self._defaults, self._start = defaults, _joined(defaults)
        status, headers, body = answer
        if isinstance(headers, tuple):
            # All but the length are the same for every answer of a kind.
            name, value = headers[-1]
            lines = b"%b%b: %b\r\n" % (_known(headers[:-1]), name, value)
        else:
            lines = _joined(headers)
        end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
        return b"".join((STATUS_LINE[status], self._start, lines, end, body))


def _joined(headers: Sequence[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_known = lru_cache(maxsize=64)(_joined)
