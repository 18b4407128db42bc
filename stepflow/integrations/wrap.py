"""`flow.wrap(host, path)`: an ASGI application around the host's, which owns the lifespan.

==================== ============================================================
scope                goes to
==================== ============================================================
below `path`         ours, with `path` moved into `root_path`
`path` itself        a redirect to `path/`, where relative links are right
all else             the host, as it came
lifespan             ours, around the host's own if it has one
==================== ============================================================

The engine starts before the host and stops after it, so that the host's own start and end may use
it. A host without a lifespan (Django, a WSGI application behind a bridge) raises or returns when it
is asked for one; by the ASGI specification that is no failure. One that says `startup.failed`, has.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from stepflow.errors import ConfigurationError
from stepflow.web.asgi import send_answer
from stepflow.web.problems import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Wrapped", "check_prefix", "route_path"]

_OURS: Final = frozenset({"http", "websocket"})
_RETURN_S: Final = 5.0
"""How long a host may take to return after it said that it has shut down."""

logger = logging.getLogger("stepflow.hosts")


def check_prefix(path: str) -> str:
    """Return `/api/stepflow` for `/api/stepflow/`. Raises `ConfigurationError` for no prefix."""
    prefix = path.rstrip("/")
    if not prefix.startswith("/") or "//" in prefix or any(mark in prefix for mark in "?#{} "):
        raise ConfigurationError(f"path={path!r} is no prefix: write it like '/api/stepflow'")
    return prefix


def route_path(scope: Scope) -> str:
    """Return the path without `root_path`, which servers put in front of it, or leave out."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path


class Wrapped:
    """The host, with the API below a path."""

    def __init__(
        self,
        host: ASGIApp,
        api: ASGIApp,
        prefix: str,
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._host = host
        self._api = api
        self._prefix = prefix
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Life(self._host, self._lifespan).run(scope, receive, send)
            return
        if scope["type"] in _OURS:
            path = route_path(scope)
            if path.startswith(f"{self._prefix}/"):
                await self._api(self._below(scope, path), receive, send)
                return
            if path == self._prefix and scope["type"] == "http":
                await send_answer(send, self._to_slash(scope))
                return
        await self._host(scope, receive, send)

    def _below(self, scope: Scope, path: str) -> Scope:
        root: str = scope.get("root_path", "").rstrip("/")
        # Whole again, also for a server that keeps root_path out of the path.
        return {
            **scope,
            "path": root + path,
            "root_path": root + self._prefix,
            "app_root_path": scope.get("app_root_path", root),
        }

    def _to_slash(self, scope: Scope) -> Answer:
        # Relative, so that it is right behind a proxy that has taken a prefix away.
        to = f"{self._prefix.rpartition('/')[2]}/".encode()
        query: bytes = scope["query_string"]
        return Answer(307, ((b"location", to + (b"?" + query if query else b"")),), b"")


class _Life:
    """One lifespan: the engine's around the host's."""

    def __init__(
        self, host: ASGIApp, lifespan: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        self._host = host
        self._lifespan = lifespan
        self._to_host: asyncio.Queue[Message] = asyncio.Queue()
        self._from_host: asyncio.Queue[Message] = asyncio.Queue()
        self._speaks = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        startup = await receive()
        phase = "startup"
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._lifespan())
                task = asyncio.create_task(self._live(scope))
                stack.push_async_callback(self._end, task)
                failed = await self._say(task, startup)
                if failed is None:
                    await send({"type": "lifespan.startup.complete"})
                    phase = "shutdown"
                    shutdown = await receive()
                    failed = await self._say(task, shutdown) if self._speaks else None
        except Exception:
            # The server logs what it is told.
            await send({"type": f"lifespan.{phase}.failed", "message": traceback.format_exc()})
            raise
        await send(failed or {"type": "lifespan.shutdown.complete"})

    async def _live(self, scope: Scope) -> None:
        await self._host(scope, self._to_host.get, self._from_host.put)

    async def _say(self, task: asyncio.Task[None], message: Message) -> Message | None:
        """Pass the message on; return the host's word if it is that it failed."""
        self._to_host.put_nowait(message)
        heard = asyncio.create_task(self._from_host.get())
        await asyncio.wait({task, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done() and self._from_host.empty():
            heard.cancel()
            # Without a word: it has no lifespan, or its lifespan has ended before it was told to.
            error = None if task.cancelled() else task.exception()
            say = logger.error if self._speaks and error else logger.debug
            say("the host application's lifespan has ended by itself", exc_info=error)
            return None
        self._speaks = True
        answer = await heard
        return answer if answer["type"].endswith(".failed") else None

    async def _end(self, task: asyncio.Task[None]) -> None:
        """Let the host return; what it raises after its last word, that word has said."""
        self._to_host.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([task], timeout=_RETURN_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
