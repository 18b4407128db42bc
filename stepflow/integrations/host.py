"""A flow inside a host: its routes, its app, its part in the host's start and stop.

A host server waits for open responses before it runs the lifespan's end, so a stream that never
ends would keep it for ever. While the lifespan runs, SIGTERM and SIGINT therefore first end the
streams, then go where they went before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from stepflow.clock import SystemClock
from stepflow.log import Redact
from stepflow.web.app import build_app, build_routes
from stepflow.web.policy import Policy
from stepflow.web.presets import Endpoints

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import FrameType

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute
    from starlette.types import Lifespan

    from stepflow.auth.chain import AuthChain
    from stepflow.auth.handlers import AuthHandler, FailureHook
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.protocol import Engine
    from stepflow.web.presets import EndpointPreset

    Auth = AuthHandler | AuthChain | Mapping[str, AuthHandler | AuthChain]
    HealthCheck = Callable[[], bool | Awaitable[bool]]

__all__ = ["Flow", "HostOptions", "app_of", "ending_streams", "origins_of", "policy_of"]
__all__ += ["redact_access_log", "routes_of"]


class HostOptions(TypedDict, total=False):
    """The options of `asgi()`, for those who pass them on."""

    endpoints: EndpointPreset | Endpoints
    auth: Auth | None
    on_auth_failure: FailureHook | None
    health_check: HealthCheck | None
    cors_origins: Iterable[str]
    ui: bool


class Flow(Protocol):
    """What a host needs of a `Stepflow`; the arrow points from the facade to here."""

    settings: Settings

    @property
    def engine(self) -> Engine:
        """The engine that answers."""
        ...

    @property
    def auth_chain(self) -> AuthChain:
        """Who may ask; known once the engine has started."""
        ...

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[None]:
        """Run the engine while the host runs."""
        ...


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def routes_of(
    flow: Flow,
    *,
    endpoints: EndpointPreset | Endpoints = "all",
    auth: Auth | None = None,
    on_auth_failure: FailureHook | None = None,
    health_check: HealthCheck | None = None,
    cors_origins: Iterable[str] = (),
    ui: bool = True,
) -> list[BaseRoute]:
    """Return the API as Starlette routes; the host runs `flow.lifespan`."""
    clock = SystemClock()
    routes = build_routes(
        flow.engine,
        policy_of(flow, clock, auth, on_auth_failure, cookies=ui and Endpoints.of(endpoints).ui),
        flow.settings,
        clock,
        endpoints=endpoints,
        health_check=health_check,
        cors=origins_of(cors_origins),
        ui=ui,
    )
    return [*routes]


def app_of(
    flow: Flow,
    *,
    endpoints: EndpointPreset | Endpoints = "all",
    auth: Auth | None = None,
    on_auth_failure: FailureHook | None = None,
    health_check: HealthCheck | None = None,
    cors_origins: Iterable[str] = (),
    ui: bool = True,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """Return the API as an app that starts and stops the engine."""
    clock = SystemClock()
    return build_app(
        flow.engine,
        policy_of(flow, clock, auth, on_auth_failure, cookies=ui and Endpoints.of(endpoints).ui),
        flow.settings,
        clock,
        endpoints=endpoints,
        health_check=health_check,
        cors=origins_of(cors_origins),
        ui=ui,
        lifespan=lifespan or _lifespan_of(flow),
    )


def policy_of(
    flow: Flow, clock: Clock, auth: Auth | None, hook: FailureHook | None, *, cookies: bool
) -> Policy:
    """Return who decides on requests. `cookies`: whether the dashboard's logins count."""
    return Policy(lambda: flow.auth_chain, clock, auth, hook, cookies=cookies)


def _lifespan_of(flow: Flow) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        async with flow.lifespan(app):
            yield

    return lifespan


def origins_of(given: Iterable[str]) -> Iterable[str]:
    """Return the CORS origins given, else those of the environment."""
    if given:
        return given
    listed = os.environ.get("STEPFLOW_CORS_ORIGINS", "")
    return [origin.strip() for origin in listed.split(",") if origin.strip()]


def redact_access_log() -> None:
    """Keep `?token=` out of what the server that hosts us logs of each request."""
    # It tells of WebSockets, which nobody answers here, in the other one.
    for name in ("uvicorn.access", "uvicorn.error"):
        log = logging.getLogger(name)
        if not any(isinstance(found, Redact) for found in log.filters):
            log.addFilter(Redact())


@contextmanager
def ending_streams(begin_shutdown: Callable[[], None]) -> Generator[None]:
    """While inside, SIGTERM and SIGINT call `begin_shutdown` before the host's own handlers."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; a host elsewhere calls flow.begin_shutdown().
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin_shutdown)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    # Where the host has no handler, the process ends at once and nothing is waited for.
    chained = [number for number in _SIGNALS if callable(before[number])]
    for number in chained:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in chained:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])
