"""A service that clients talk to: real uvicorn on a port of its own, started again on its data."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from stepflow import Context, RetryPolicy, Schedule, Settings, Stepflow
from stepflow.web.server import Server, make_config

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.model.views import RunEvent

KEY = "client-test-key-0123456789"


class Service:
    """One data directory, served as often as it is started, always on the same port."""

    def __init__(self, data: Path, settings: Settings) -> None:
        self._data = data
        self._settings = settings
        self._port = 0
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self.flow = self._flow()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        started = threading.Event()

        def on_started(host: str, port: int) -> None:
            self._port = port
            started.set()

        flow = self.flow = self._flow()
        app: Any = flow.asgi()
        config = make_config(app, self._settings, port=self._port, log_level="critical")
        server = Server(config, begin_shutdown=flow.begin_shutdown, on_started=on_started)
        self._server = server
        self._thread = threading.Thread(target=server.run_to_end, daemon=True)
        self._thread.start()
        assert started.wait(30), "the server did not start"

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._server = self._thread = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def _flow(self) -> Stepflow:
        flow = Stepflow(self._data, settings=self._settings)
        register(flow)
        return flow


def _add(n: int) -> int:
    return n + 1


def _refuse() -> None:
    raise ValueError("no")


def register(flow: Stepflow) -> None:
    @flow.workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    @flow.workflow("report", schedule=Schedule("0 2 29 2 *", overlap="allow", input="full"))
    async def report(ctx: Context, value: Any) -> Any:
        return value

    @flow.workflow("typed")
    async def typed(ctx: Context, value: dict[str, int]) -> int:
        """Sum it up."""
        return sum(value.values())

    @flow.workflow("fails")
    async def fails(ctx: Context) -> None:
        await ctx.step("refuse", _refuse, retry=RetryPolicy(max_attempts=1))

    @flow.workflow("rounds", events=["round-{id}"])
    async def rounds(ctx: Context, order: dict[str, Any]) -> int:
        """Take a step at each event, so that a test decides how far the run is."""
        n = 0
        for _ in range(order["rounds"]):
            n += await ctx.wait_for_event("round", f"round-{order['id']}", timeout=None)
            n = await ctx.step("add", _add, n)
        return n


def rows(events: list[RunEvent]) -> list[tuple[int, str, Any]]:
    return [(event.id, event.event, event.json()) for event in events]
