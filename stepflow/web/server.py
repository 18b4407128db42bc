"""uvicorn, started and stopped the way a service with open streams needs it.

uvicorn waits for open responses before it tells the application that it stops, so an endless stream
keeps it for ever. Here the order at SIGTERM or SIGINT is:

1. `begin_shutdown()`: the application ends its streams, each with a clean last chunk
2. no new connections; idle ones are closed; open requests have `http_drain_s`, then are cut
3. lifespan shutdown: the engine drains and closes
4. the exit status is the engine's

A second signal stops waiting: connections are cut, step 3 is left out. Nothing acknowledged is lost
by that, because nothing is acknowledged before it is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import uvicorn

from stepflow.web.guard import guarded

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from uvicorn._types import ASGIApplication

    from stepflow.config import Settings

__all__ = ["EXIT_CANNOT_LISTEN", "EXIT_START_FAILED", "Server", "make_config", "run"]

EXIT_CANNOT_LISTEN: Final = 69
EXIT_START_FAILED: Final = 70
EXIT_INTERRUPTED: Final = 130

logger = logging.getLogger("stepflow.web")


def make_config(
    app: ASGIApplication,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    log_level: str = "warning",
) -> uvicorn.Config:
    """Return uvicorn's configuration: guarded, quiet, uvloop where it is installed.

    Logging itself is left to the caller: no handler is set up here.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        uds=uds,
        loop="auto",
        http=guarded(settings, getattr(app, "direct", None)),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=log_level,
        access_log=False,  # it would write `?token=`
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.http_drain_s,
    )


class Server(uvicorn.Server):
    """A server that ends streams first and leaves with a status of its own."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        begin_shutdown: Callable[[], None] | None = None,
        on_started: Callable[[str, int], None] | None = None,
        give_up: Callable[[], None] | None = None,
    ) -> None:
        """`on_started` gets the real host and port, or the socket's path and 0.

        `give_up` ends a startup of the application that a signal finds unfinished.
        """
        super().__init__(config)
        self._give_up = give_up
        self._begin_shutdown = begin_shutdown
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_to_stop = False

    def stop(self) -> None:
        """Stop as for a SIGTERM; from any thread."""
        self.should_exit = True

    def run_to_end(
        self, exit_code: Callable[[], int] | None = None, listening: socket.socket | None = None
    ) -> int:
        """Serve until stopped; return the exit status, the engine's if that is not 0.

        `listening` is a socket that was made by another, and outlives this server.
        """
        own = 0
        try:
            # Its own SystemExit says only that it did not start; `started` does too.
            with contextlib.suppress(SystemExit):
                self.run(None if listening is None else [listening])
        except KeyboardInterrupt:
            own = EXIT_INTERRUPTED
        else:
            if not self.started and not self._asked_to_stop:
                failed = self.lifespan.should_exit
                own = EXIT_START_FAILED if failed else EXIT_CANNOT_LISTEN
        return (exit_code() if exit_code else 0) or own

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and self._on_started is not None:
            self._on_started(*self._address())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._begin_shutdown is not None:
            try:
                self._begin_shutdown()
            except Exception:
                logger.exception("ending the streams failed; open requests are cut instead")
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again at the end, and the process would die of it instead
        # of leaving with a status; so the signal is not noted down.
        del sig, frame
        if self.should_exit and self._loop is not None:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._cut_all)
        self.should_exit = self._asked_to_stop = True
        if not self.started and self._give_up is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._give_up)

    def _cut_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()

    def _address(self) -> tuple[str, int]:
        if self.config.uds is not None:
            return self.config.uds, 0
        name = self.servers[0].sockets[0].getsockname()
        return name[0], name[1]


def run(
    app: ASGIApplication,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    begin_shutdown: Callable[[], None] | None = None,
    on_started: Callable[[str, int], None] | None = None,
    exit_code: Callable[[], int] | None = None,
) -> int:
    """Serve `app` until a signal; return the exit status."""
    config = make_config(app, settings, host=host, port=port, uds=uds)
    server = Server(config, begin_shutdown=begin_shutdown, on_started=on_started)
    return server.run_to_end(exit_code)
