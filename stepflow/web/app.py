"""The routes, and the application made of them.

`build_routes` gives a list for any Starlette application; each route answers for itself, its
errors, its 405 and its CORS headers, so it behaves the same wherever it is mounted. `build_app`
adds what only an application can: the 404 of a path that is no route.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.websockets import WebSocketClose

from stepflow.errors import NotFoundError
from stepflow.web import (
    additions,
    control,
    docs_page,
    endpoints,
    explaining,
    export,
    keys,
    pages,
    schedules,
    sessions,
    sse,
    steps,
    stream_all,
    system,
    tokens,
)
from stepflow.web.asgi import send_answer
from stepflow.web.budget import Budget
from stepflow.web.cors import Cors, cors_origins
from stepflow.web.direct import Direct
from stepflow.web.open_streams import OpenStreams
from stepflow.web.operations import Resource, Service
from stepflow.web.presets import Endpoints
from stepflow.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.protocol import Engine
    from stepflow.web.operations import Endpoint
    from stepflow.web.policy import Policy
    from stepflow.web.presets import EndpointPreset

__all__ = ["ENDPOINTS", "PAGES", "NoSuchRoute", "bound", "build_app", "build_routes"]
__all__ += ["make_service", "template_of"]

# The hot routes first: Starlette tries one after the other.
ENDPOINTS: Final[tuple[type[Endpoint], ...]] = (
    endpoints.Trigger,
    # Before the path that takes any text for an id.
    explaining.BulkRuns,
    endpoints.GetRun,
    control.PurgeRun,
    sse.StreamRun,
    stream_all.StreamAll,
    endpoints.Notify,
    endpoints.GetHealth,
    additions.BatchTrigger,
    additions.ListRuns,
    explaining.GetWhy,
    steps.GetStep,
    explaining.GetRunAudit,
    explaining.ListAudit,
    control.CancelRun,
    control.PauseRun,
    control.ResumeRun,
    control.RetryRun,
    control.ForkRun,
    tokens.MintToken,
    tokens.MintWideToken,
    export.ExportRun,
    additions.ListWorkflows,
    additions.GetWorkflow,
    schedules.ListSchedules,
    schedules.GetSchedule,
    schedules.PauseSchedule,
    schedules.ResumeSchedule,
    schedules.TriggerSchedule,
    schedules.BackfillSchedule,
    additions.ListEvents,
    additions.GetReady,
    additions.GetMetrics,
    system.GetSystem,
    endpoints.GetOpenApi,
    docs_page.GetDocs,
    sessions.GetSession,
    sessions.LogIn,
    sessions.LogOut,
    keys.ListKeys,
    keys.CreateKey,
    keys.RevokeKey,
    pages.GetPage,
    pages.GetPageFile,
    pages.GetRoot,
)
_HOT: Final = (endpoints.Trigger, endpoints.GetRun, endpoints.Notify)
PAGES: Final = frozenset(
    {
        docs_page.GetDocs,
        pages.GetPage,
        pages.GetPageFile,
        pages.GetRoot,
        sessions.GetSession,
        sessions.LogIn,
        sessions.LogOut,
    }
)
_RESTS: Final = {"{file}": ".*", "{eventId}": r"[\s\S]+", "{stepKey}": r"[\s\S]+"}
"""What is the rest of the path, slashes too, and what it has to be."""


def make_service(
    engine: Engine,
    policy: Policy,
    settings: Settings,
    clock: Clock,
    health_check: Callable[[], bool | Awaitable[bool]] | None = None,
) -> Service:
    """Return what endpoints work with, with budgets of their own."""
    bodies = Budget(settings.bodies_bytes_max, "requests")
    answers = Budget(settings.answers_bytes_max, "answers")
    streams = OpenStreams(settings)
    return Service(engine, policy, settings, clock, health_check, bodies, answers, streams)


def build_routes(
    engine: Engine,
    policy: Policy,
    settings: Settings,
    clock: Clock,
    *,
    endpoints: EndpointPreset | Endpoints = "all",
    health_check: Callable[[], bool | Awaitable[bool]] | None = None,
    cors: Iterable[str] = (),
    ui: bool = True,
) -> list[Route]:
    """Return the routes, relative to wherever they are mounted. `ui=False`: no pages for people."""
    service = make_service(engine, policy, settings, clock, health_check)
    enabled = Endpoints.of(endpoints)
    origins = cors_origins(cors)
    by_path: dict[str, list[Endpoint]] = {}
    disabled: set[str] = set()
    for kind in ENDPOINTS:
        path = kind.operation.path
        if getattr(enabled, kind.operation.switch) and (ui or kind not in PAGES):
            by_path.setdefault(path, []).append(kind(service))
        else:
            disabled.add(path)
    routes = [_route(path, Resource(served), origins) for path, served in by_path.items()]
    # Said by us, so that the answer has our shape in a host's application too.
    routes += [_route(path, _no_such_route, origins) for path in sorted(disabled - by_path.keys())]
    return routes


def _route(path: str, app: ASGIApp, origins: frozenset[bytes]) -> Route:
    made = Cors(app, origins) if origins else app
    route = Route(template_of(path), made, include_in_schema=False)
    bound(route, path)
    return route


def template_of(path: str) -> str:
    """Return an operation's path as a Starlette route has it: ids with slashes take the rest."""
    rest = _rest_of(path)
    return path if rest is None else path.replace(rest, f"{rest[:-1]}:path}}")


def bound(route: Route, path: str) -> None:
    """Let the route of that operation's path match that and nothing else."""
    pattern = route.path_regex.pattern.removesuffix("$")
    rest = _rest_of(path)
    if rest is not None:
        pattern = pattern.replace(".*", _RESTS[rest])
    # Python's `$` also matches before a line break at the end, and `/health%0a` is no path of ours.
    route.path_regex = re.compile(pattern + r"\Z")


def _rest_of(path: str) -> str | None:
    return next((name for name in _RESTS if path.endswith(name)), None)


class NoSuchRoute:
    """Answers 404. A class, because Starlette would call a function with a request."""

    __slots__ = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await send_answer(send, problem(NotFoundError()))


_no_such_route: Final = NoSuchRoute()


class _App(Starlette):
    """Starlette without the layers that catch exceptions: every endpoint has its own edge."""

    hot: Direct | None = None

    @property
    def direct(self) -> Direct | None:
        """What our own server may answer without the application; None where a host has a say."""
        return None if self.user_middleware else self.hot

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = self.router
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app


def build_app(  # noqa: PLR0913  the published options
    engine: Engine,
    policy: Policy,
    settings: Settings,
    clock: Clock,
    *,
    endpoints: EndpointPreset | Endpoints = "all",
    health_check: Callable[[], bool | Awaitable[bool]] | None = None,
    cors: Iterable[str] = (),
    ui: bool = True,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """Return the application: the routes, and our 404 for everything else."""
    origins = cors_origins(cors)
    routes = build_routes(
        engine,
        policy,
        settings,
        clock,
        endpoints=endpoints,
        health_check=health_check,
        cors=cors,
        ui=ui,
    )
    app = _App(routes=routes, lifespan=lifespan)
    if policy.is_our_own and not origins and getattr(engine, "needs_no_task", False):
        served = (route.app.endpoints for route in routes if isinstance(route.app, Resource))
        app.hot = Direct(each for some in served for each in some if isinstance(each, _HOT))
    # A redirect to the path without its slash would be an answer without our shape.
    app.router.redirect_slashes = False
    app.router.default = Cors(_no_such_route, origins) if origins else _no_such_route
    return app
