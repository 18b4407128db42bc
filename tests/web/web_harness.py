"""A clock that a test moves, and an ASGI caller that sees every message."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Any

from stepflow.web.asgi import PARTS

if TYPE_CHECKING:
    from collections.abc import Callable


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time stands still until `advance`."""

    def __init__(self, wall_ms: int) -> None:
        self._start_ms = wall_ms
        self._now_s = 1000.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()

    def wall_ms(self) -> int:
        return self._start_ms + round((self._now_s - 1000.0) * 1000)

    def monotonic_s(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self._now_s + delay_s, next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        return sum(timer.callback is not None for _, _, timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Move on and fire what is due, in order; the loop rests before each and at the end."""
        await rest()
        end_s = self._now_s + seconds
        while self._timers and self._timers[0][0] <= end_s:
            self._now_s, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()
                await rest()
        self._now_s = end_s
        await rest()


async def rest(passes: int = 20) -> None:
    """Let the loop make some passes: everything that can move without the outside has moved."""
    for _ in range(passes):
        await asyncio.sleep(0)


class Call:
    """One HTTP request, message by message. `hold` makes sends wait until `release`.

    `offers_parts`: streams get what our own connection offers them, see `stepflow.web.asgi.Parts`.
    """

    offers_parts = False

    def __init__(
        self,
        app: Any,
        path: str,
        *,
        method: str = "GET",
        query: str = "",
        headers: dict[str, str] | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "extensions": {**(extensions or {})},
        }
        if self.offers_parts:
            self.scope["extensions"][PARTS] = {"parts": self}
        self.gone: Callable[[], None] | None = None
        self.written_at_once = 0
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._free = asyncio.Event()
        self._free.set()
        self.messages: list[dict[str, Any]] = []
        self.refuse_send: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    async def start(self, *parts: bytes) -> Call:
        """Begin the request with that body, and let it come to rest."""
        self.feed(*(parts or (b"",)))
        return await self.begin()

    async def begin(self) -> Call:
        """Begin the request without a body."""
        self.task = asyncio.ensure_future(self._app(self.scope, self._inbox.get, self._send))
        await rest()
        return self

    def feed(self, *parts: bytes, more: bool = False) -> None:
        for number, part in enumerate(parts, 1):
            more_body = more or number < len(parts)
            self._inbox.put_nowait({"type": "http.request", "body": part, "more_body": more_body})

    async def hang_up(self) -> None:
        """Be a client that goes away."""
        self._inbox.put_nowait({"type": "http.disconnect"})
        if self.gone is not None:
            self.gone()
        await rest()

    def when_gone(self, callback: Callable[[], None] | None) -> None:
        self.gone = callback
        inbox: Any = self._inbox
        if callback is not None and any(m["type"] == "http.disconnect" for m in inbox._queue):
            callback()

    def write(self, data: bytes) -> bool:
        if not self._free.is_set() or self.refuse_send is not None:
            return False
        self.messages.append({"type": "http.response.body", "body": data, "more_body": True})
        self.written_at_once += 1
        return True

    async def _send(self, message: dict[str, Any]) -> None:
        await self._free.wait()
        if self.refuse_send is not None:
            raise self.refuse_send
        self.messages.append(message)

    def hold(self) -> None:
        """Be a client that reads nothing."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    @property
    def done(self) -> bool:
        assert self.task is not None
        return self.task.done()

    async def end(self) -> None:
        """Wait for the application; raises what it raised."""
        assert self.task is not None
        await self.task

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def ended(self) -> bool:
        """Whether the response was brought to its end."""
        return bool(self.messages) and not self.messages[-1].get("more_body", False)
