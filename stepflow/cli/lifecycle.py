"""The ASGI app of `serve`: it listens at once, and recovers behind the open port.

::

    lifespan.startup ──► start the engine in a task ──► startup.complete: the port is bound
                              │                          /ready and all routes answer 503
                              ├── ready  ──► on_ready(): the routes serve
                              └── failed ──► exit_code, on_failed(): the server leaves with it
    lifespan.shutdown ──► give up a start under way, or stop the engine

uvicorn binds only after the lifespan's startup, so an engine that was started inside it would keep
the port shut for as long as recovery takes, and a load balancer could not tell that from a crash.

With `while_waiting` that is what is wanted: the socket was handed over, connections queue at it
meanwhile, and the process before may still be answering from it. `startup.complete` then comes
after the engine, `while_waiting` is called when the wait begins, and a stop meanwhile (`give_up`)
ends the start.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from stepflow.clock import next_pass
from stepflow.errors import NotFoundError, OperatorError
from stepflow.web.asgi import send_answer
from stepflow.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from stepflow.engine.protocol import Engine
    from stepflow.web.direct import Direct

__all__ = ["ServeApp", "base_path_of"]

_DEFECT: Final = 70

logger = logging.getLogger("stepflow.serve")


def base_path_of(text: str) -> str:
    """Return `/api/stepflow` for any way of writing it; empty for the root."""
    return f"/{text.strip('/')}" if text.strip("/") else ""


class ServeApp:
    """The API under `base_path`, with the engine's life behind it."""

    def __init__(
        self,
        api: ASGIApp,
        engine: Engine,
        *,
        base_path: str = "",
        while_waiting: Callable[[], None] | None = None,
        on_ready: Callable[[], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._api = api
        self._engine = engine
        self._base_path = base_path_of(base_path)
        self._while_waiting = while_waiting
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._start: asyncio.Task[None] | None = None
        self.exit_code = 0

    @property
    def direct(self) -> Direct | None:
        """What our own server may answer without asking the API's application."""
        found: Direct | None = getattr(self._api, "direct", None)
        return found.below(self._base_path) if found is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._base_path:
            await self._below(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _below(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(f"{self._base_path}/"):
            if scope["type"] == "http":
                await send_answer(send, problem(NotFoundError()))
            return
        root_path = scope.get("root_path", "") + self._base_path
        await self._api({**scope, "root_path": root_path}, receive, send)

    # ------------------------------------------------------------ life

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._start = asyncio.create_task(self._run())
        await next_pass()  # so that the engine is `starting` before the first request
        if self._while_waiting is not None:
            self._while_waiting()
            await asyncio.wait([self._start])
            if self._start.cancelled() or self.exit_code:
                await send({"type": "lifespan.startup.failed", "message": ""})
                return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop(self._start)
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        try:
            await self._engine.start()
        except Exception as error:  # noqa: BLE001  whatever it is, the process ends with its status
            self.fail(error)
        else:
            self._on_ready()

    def fail(self, error: BaseException) -> None:
        """Leave with the status of `error`; the first one counts."""
        self.exit_code = self.exit_code or exit_code_of(error)
        self._on_failed(error)

    def give_up(self) -> None:
        """End a start that is under way: the process is told to stop before it accepts anything."""
        if self._start is not None:
            self._start.cancel()

    async def _stop(self, start: asyncio.Task[None]) -> None:
        if not start.done():
            start.cancel()
            await asyncio.wait([start])
        elif self._engine.state != "stopped":
            await self._engine.stop()


def exit_code_of(error: BaseException) -> int:
    """Return the status that `serve` leaves with because of `error`."""
    return error.exit_code if isinstance(error, OperatorError) else _DEFECT
