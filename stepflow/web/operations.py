"""What a route is, declared once: its endpoint serves it, the document describes it.

`Operation` is the declaration. `Endpoint` is one operation as an ASGI application; most answer with
one whole response, and turn whatever is raised into one (the HTTP edge: nothing passes it).
`Resource` is one path: it picks the operation by the method, answers `HEAD` from `GET`, and says
405.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from stepflow.errors import (
    ApiError,
    InternalError,
    MethodNotAllowedError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.model.ids import is_run_id
from stepflow.web.asgi import SHARE, ClientGone, logger, send_answer, send_large
from stepflow.web.budget import LARGE_BYTES, Budget, Share
from stepflow.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.types import Message, Receive, Send
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal, Scope
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.protocol import Engine
    from stepflow.web.open_streams import OpenStreams
    from stepflow.web.policy import Policy
    from stepflow.web.problems import Answer

__all__ = ["AnswerEndpoint", "Content", "Endpoint", "Operation", "Param", "Resource", "Service"]
__all__ += ["Switch", "run_id_of", "serving", "taking_work"]

Switch = Literal[
    "trigger", "notify", "runs", "runs_stream", "health", "docs", "metrics", "ui", "keys"
]
"""The names of `Endpoints`, of which each operation belongs to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter in the query or a header. `schema` is a JSON Schema."""

    name: str
    place: Literal["query", "header"]
    schema: Mapping[str, Any]
    description: str
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A request's or a response's body. `schema` is a struct, a JSON Schema, or None: no body."""

    description: str
    schema: Any = None
    media: str = "application/json"
    example: Any = None
    examples: Mapping[str, Any] = field(default_factory=dict[str, Any])
    required: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    `scope` is None where no credentials are asked for, or, with `any_scope`, any will do.
    """

    id: str
    method: str
    path: str
    switch: Switch
    tag: str
    summary: str
    description: str = ""
    scope: Scope | None = None
    any_scope: bool = False
    token: bool = False
    params: tuple[Param, ...] = ()
    body: Content | None = None
    replies: Mapping[int, Content]
    errors: tuple[type[ApiError], ...] = ()
    documented: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """What every endpoint works with."""

    engine: Engine
    policy: Policy
    settings: Settings
    clock: Clock
    health_check: Callable[[], bool | Awaitable[bool]] | None
    bodies: Budget
    """What large bodies may hold at once."""
    answers: Budget
    """What large answers may hold at once."""
    streams: OpenStreams


class Endpoint(ABC):
    """One operation as an ASGI application."""

    operation: ClassVar[Operation]

    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine = service.engine
        self.settings = service.settings

    @abstractmethod
    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None: ...

    async def principal(self, scope: AsgiScope) -> Principal:
        """Return who calls, once the engine serves. Raises the `ApiError` that is the answer."""
        serving(self.engine)
        return await self.service.policy.authenticate(self.operation.switch, scope)

    def refusal(self, error: Exception) -> Answer:
        """Return the answer to whatever was raised; what nobody meant to raise is logged."""
        if isinstance(error, ApiError) and error.status != 500:
            return problem(error)
        operation = self.operation
        # The path's template, never the request's own: a query may hold a token.
        logger.error("%s %s failed", operation.method, operation.path, exc_info=error)
        return problem(error if isinstance(error, ApiError) else InternalError())


class AnswerEndpoint(Endpoint):
    """An endpoint whose response is one whole answer."""

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        share = scope[SHARE] = Share(self.service.bodies)
        try:
            answer = await self.reply(scope, receive)
        except ClientGone:
            return
        finally:
            share.release()
        await self.deliver(scope, send, answer)

    async def reply(self, scope: AsgiScope, receive: Receive) -> Answer:
        """Return the response, whatever it is. Raises `ClientGone` when nobody is left for it."""
        try:
            return await self.answer(scope, receive)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001  the HTTP edge
            return self.refusal(error)

    async def deliver(self, scope: AsgiScope, send: Send, answer: Answer) -> None:
        """Send the response; a large one in slices."""
        if len(answer.body) <= LARGE_BYTES:
            await send_answer(send, answer)
        else:
            await self._send_large(scope, send, answer)

    async def _send_large(self, scope: AsgiScope, send: Send, answer: Answer) -> None:
        share = Share(self.service.answers)
        try:
            share.hold(len(answer.body))
        except UnavailableError as error:
            await send_answer(send, self.refusal(error))
            return
        try:
            await send_large(scope, send, answer, self.settings.stream_blocked_s)
        finally:
            share.release()

    @abstractmethod
    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        """Return the response. Raises the `ApiError` that is the answer instead."""


class Resource:
    """One path: its operations by method."""

    __slots__ = ("_allow", "_by_method", "endpoints")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self._by_method = {endpoint.operation.method: endpoint for endpoint in endpoints}
        methods = set(self._by_method)
        if "GET" in methods:
            methods.add("HEAD")
            self._by_method["HEAD"] = self._by_method["GET"]
        self._allow = ", ".join(sorted(methods)).encode()

    @property
    def methods(self) -> str:
        """The methods, as `Allow` names them."""
        return self._allow.decode()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        endpoint = self._by_method.get(method)
        if endpoint is None:
            await send_answer(send, problem(MethodNotAllowedError(), allow=self._allow))
        elif method == "HEAD":
            await endpoint(scope, receive, _headers_only(send))
        else:
            await endpoint(scope, receive, send)


def _headers_only(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


# ---------------------------------------------------------------- checks that routes share

_NOT_SERVING: Final = {
    "stopped": (
        "Stepflow is not running: the host application has not entered its lifespan; "
        "see docs/embedding.md"
    ),
    "starting": "Stepflow is starting: it is reading its journal; try again",
    "failed": "Stepflow has stopped because its disk failed a write; see its log",
}
_DRAINING: Final = "Stepflow is shutting down and takes no new work; try again"


def serving(engine: Engine) -> None:
    """Return when the engine answers requests. Raises `UnavailableError`."""
    message = _NOT_SERVING.get(engine.state)
    if message is not None:
        raise UnavailableError(message)


def taking_work(engine: Engine) -> None:
    """Return when the engine takes new work. Raises `UnavailableError` while it drains."""
    if engine.state == "draining":
        raise UnavailableError(_DRAINING)


def run_id_of(scope: AsgiScope) -> str:
    """Return the run id in the path. Raises `RunNotFoundError` for a text that is none."""
    run_id: str = scope["path_params"]["runId"]
    if not is_run_id(run_id):
        raise RunNotFoundError
    return run_id
