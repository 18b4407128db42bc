"""`flow.handlers()`: single operations, for those who write their own routes.

A handler is an ASGI application, so a Starlette route takes it as it is; the route's path names the
parameters as ours do (`runId`, `workflowId`, `eventId`). `response()` makes an answer of it, for an
endpoint of the host that decides something first::

    @app.post("/orders")
    async def order(request: Request) -> Response:
        return handlers.trigger.response(workflowId="checkout")

The answer is made when it is sent: it reads the request's body, so the endpoint must not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from stepflow.clock import SystemClock
from stepflow.errors import ConfigurationError
from stepflow.integrations.host import origins_of, policy_of
from stepflow.web.app import ENDPOINTS, PAGES, make_service
from stepflow.web.cors import Cors
from stepflow.web.cors import cors_origins as checked
from stepflow.web.operations import Resource
from stepflow.web.presets import Endpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from stepflow.auth.handlers import FailureHook
    from stepflow.integrations.host import Auth, Flow, HealthCheck
    from stepflow.web.operations import Endpoint, Operation
    from stepflow.web.presets import EndpointPreset

__all__ = ["Handler", "Handlers", "handlers_of"]


class Handler:
    """One operation as an ASGI application. `operation` says its path, method and parameters."""

    def __init__(self, endpoint: Endpoint, origins: frozenset[bytes]) -> None:
        self.operation: Operation = endpoint.operation
        served = Resource([endpoint])
        self._app: ASGIApp = Cors(served, origins) if origins else served

    def __repr__(self) -> str:
        return f"Handler({self.operation.id!r})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def response(self, **path_params: str) -> Response:
        """Return its answer to the request under way, for these parameters of its path."""
        return _Answered(self, path_params)


class _Answered(Response):
    """A response that is made by a handler when it is sent."""

    def __init__(self, handler: Handler, path_params: Mapping[str, str]) -> None:
        super().__init__()
        self._handler = handler
        self._path_params = path_params

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        params = {**scope.get("path_params", {}), **self._path_params}
        await self._handler({**scope, "path_params": params}, receive, send)


class Handlers:
    """The handlers of a flow, each by its operation's id in the OpenAPI document.

    The five of the published API have names of their own.
    """

    def __init__(self, handlers: Iterable[Handler]) -> None:
        self._by_id: Final = {handler.operation.id: handler for handler in handlers}

    def __getitem__(self, operation_id: str) -> Handler:
        try:
            return self._by_id[operation_id]
        except KeyError:
            known = ", ".join(sorted(self._by_id)) or "none: endpoints= leaves them all out"
            raise ConfigurationError(f"{operation_id!r} is none of the handlers {known}") from None

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def trigger(self) -> Handler:
        """`POST /trigger/{workflowId}`."""
        return self["triggerWorkflow"]

    @property
    def run(self) -> Handler:
        """`GET /runs/{runId}`."""
        return self["getRun"]

    @property
    def stream(self) -> Handler:
        """`GET /runs/{runId}/stream`."""
        return self["streamRun"]

    @property
    def notify(self) -> Handler:
        """`POST /notify/{eventId}`."""
        return self["notifyEvent"]

    @property
    def health(self) -> Handler:
        """`GET /health`."""
        return self["getHealth"]


def handlers_of(
    flow: Flow,
    *,
    endpoints: EndpointPreset | Endpoints = "all",
    auth: Auth | None = None,
    on_auth_failure: FailureHook | None = None,
    health_check: HealthCheck | None = None,
    cors_origins: Iterable[str] = (),
    ui: bool = True,
) -> Handlers:
    """Return the handlers that these options leave."""
    clock = SystemClock()
    enabled = Endpoints.of(endpoints)
    policy = policy_of(flow, clock, auth, on_auth_failure, cookies=ui and enabled.ui)
    service = make_service(flow.engine, policy, flow.settings, clock, health_check)
    origins = checked(origins_of(cors_origins))
    kinds = [kind for kind in ENDPOINTS if getattr(enabled, kind.operation.switch)]
    return Handlers(Handler(kind(service), origins) for kind in kinds if ui or kind not in PAGES)
