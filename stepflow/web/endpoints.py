"""The contract's routes: trigger, runs, stream, notify, health, the document.

Four of them are hot: trigger, runs, stream (in `sse.py`) and notify work on the ASGI scope itself.
What a trigger does here: authenticate, know the workflow, ask for the scope, read the body within
its limit, call the engine, and put two strings into the answer. The engine returns when the run is
durable.
"""

from __future__ import annotations

import inspect
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from weakref import ref

import msgspec

from stepflow.clock import rfc3339
from stepflow.errors import (
    ConflictError,
    EventNotFoundError,
    ForbiddenError,
    InvalidInputError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RateLimitedError,
    RunNotFoundError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.model.durations import parse_duration_ms
from stepflow.model.ids import is_run_id
from stepflow.model.views import RunView
from stepflow.tracing import is_traceparent
from stepflow.web.asgi import header, logger, query_of, read_json
from stepflow.web.operations import (
    AnswerEndpoint,
    Content,
    Operation,
    Param,
    run_id_of,
    taking_work,
)
from stepflow.web.policy import require_scope, require_visible
from stepflow.web.problems import json_answer, text_answer
from stepflow.web.schemas import Health, Success, TriggerResult

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.engine.protocol import Engine
    from stepflow.web.operations import Service
    from stepflow.web.problems import Answer

__all__ = ["GetHealth", "GetOpenApi", "GetRun", "Notify", "Trigger", "encode", "openapi_yaml"]
__all__ += ["ANY_JSON", "DELAY", "RUN_EXAMPLE", "TRACEPARENT", "delay_of", "traceparent_of"]
__all__ += ["trigger_result"]

encode = msgspec.json.Encoder().encode

# What the document says of `stepflow serve`, and a caller of this service has no use for.
_SERVERS: Final = re.compile(rb"^servers:\n(?:[ ].*\n)+", re.MULTILINE)
_KEY: Final = re.compile(rb"[\x21-\x7e][\x20-\x7e]{0,255}")
ANY_JSON: Final = {"$ref": "#/components/schemas/JsonValue"}
RUN_EXAMPLE: Final[dict[str, Any]] = {
    "id": "run_4fXo2bKq9TzW1mYc7RdE5h",
    "workflowId": "welcome-user",
    "status": "running",
    "input": {"userId": "user_123", "email": "user@example.com"},
    "steps": [
        {
            "name": "send-welcome",
            "status": "completed",
            "key": "send-welcome#1",
            "kind": "step",
            "result": {"sent": True},
            "attempts": 1,
            "startedAt": "2024-01-15T10:30:00.012Z",
            "completedAt": "2024-01-15T10:30:00.240Z",
        },
        {
            "name": "pause",
            "status": "pending",
            "key": "pause#1",
            "kind": "sleep",
            "startedAt": "2024-01-15T10:30:00.241Z",
            "dueAt": "2024-01-18T10:30:00.241Z",
        },
    ],
    "createdAt": "2024-01-15T10:30:00.000Z",
    "updatedAt": "2024-01-15T10:30:00.241Z",
    "state": "sleeping",
}


DELAY: Final = Param(
    name="delay",
    place="query",
    schema={"type": "string", "pattern": r"^[0-9a-z.]{1,64}$"},
    description=(
        "Let the run begin so much later: seconds, or `500ms`, `30s`, `15m`, `2h`, `7d`, `1h30m`. "
        "Until then its status is `pending`."
    ),
    example="15m",
)


TRACEPARENT: Final = Param(
    name="traceparent",
    place="header",
    schema={"type": "string"},
    description=(
        "The caller's W3C trace context: the run joins that trace, where runs are traced. What is "
        "no trace context is ignored, as the standard says."
    ),
    example="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def traceparent_of(scope: AsgiScope, engine: Engine) -> str:
    """Return the caller's trace context, or an empty text where none came or nobody traces."""
    if not getattr(engine, "traces_runs", False):
        return ""
    text = (header(scope, b"traceparent") or b"").decode("latin-1")
    return text if is_traceparent(text) else ""


def delay_of(scope: AsgiScope) -> int:
    """Return the delay that the query asks for, in milliseconds."""
    text = query_of(scope, "delay") if scope["query_string"] else None
    if text is None:
        return 0
    try:
        plain = len(text) <= 32 and text.replace(".", "", 1).isdecimal() and text.isascii()
        return parse_duration_ms(float(text) if plain else text)
    except ValueError as error:
        raise InvalidInputError(f"delay: {error}") from None


class Trigger(AnswerEndpoint):
    """Start a run."""

    operation = Operation(
        id="triggerWorkflow",
        method="POST",
        path="/trigger/{workflowId}",
        switch="trigger",
        tag="Workflows",
        summary="Start a run",
        description=(
            "The body is the workflow's input: any JSON value; an empty body is `null`. "
            "The answer comes when the run is durable: a crash cannot lose it."
        ),
        scope="trigger",
        params=(
            Param(
                name="Idempotency-Key",
                place="header",
                schema={"type": "string", "pattern": "^[!-~][ -~]{0,255}$"},
                description=(
                    "The same key, workflow and caller give the same run for 24 hours, across "
                    "restarts; another input under the key is 409."
                ),
                example="order-1042",
            ),
            DELAY,
            TRACEPARENT,
        ),
        body=Content(
            description="The workflow's input",
            schema=ANY_JSON,
            example={"userId": "user_123", "email": "user@example.com"},
        ),
        replies={
            200: Content(
                description="The run is started",
                schema=TriggerResult,
                example={"runId": RUN_EXAMPLE["id"], "publicAccessToken": "pat_AQFd0k…"},
            )
        },
        errors=(
            InvalidInputError,
            ForbiddenError,
            WorkflowNotFoundError,
            ConflictError,
            PayloadTooLargeError,
            RateLimitedError,
            UnavailableError,
            OutcomeUnknownError,
        ),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        engine = self.engine
        principal = await self.principal(scope)
        workflow_id: str = scope["path_params"]["workflowId"]
        if not engine.has_workflow(workflow_id):
            raise WorkflowNotFoundError
        require_scope(principal, "trigger")
        taking_work(engine)
        key = _idempotency_key(scope)
        body = await read_json(scope, receive, self.settings.input_bytes_max)
        run_id = await engine.trigger(
            workflow_id,
            body,
            idempotency_key=key,
            by=principal.id,
            delay_ms=delay_of(scope),
            traceparent=traceparent_of(scope, engine),
        )
        token, _ = engine.public_token(run_id)
        return json_answer(trigger_result(run_id, token))


def trigger_result(run_id: str, token: str) -> bytes:
    """Return the JSON of a new run; neither string has a character that JSON would escape."""
    return b'{"runId":"%b","publicAccessToken":"%b"}' % (run_id.encode(), token.encode())


def _idempotency_key(scope: AsgiScope) -> str | None:
    key = header(scope, b"idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidInputError("Idempotency-Key: send 1 to 256 printable ASCII characters")
    return key.decode("ascii")


class GetRun(AnswerEndpoint):
    """Read a run."""

    operation = Operation(
        id="getRun",
        method="GET",
        path="/runs/{runId}",
        switch="runs",
        tag="Runs",
        summary="Read a run",
        description=(
            "`steps` lists what the workflow asked for by name, in the order of first asking. "
            "A step without a result yet is `pending`. A completed run has `result`; a failed or "
            "cancelled one has `error`."
        ),
        scope="read",
        token=True,
        replies={200: Content(description="The run", schema=RunView, example=RUN_EXAMPLE)},
        errors=(ForbiddenError, RunNotFoundError),
    )

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._json: dict[int, tuple[ref[RunView], bytes]] = {}
        """The JSON of views that live, by `id`: an engine may give the same one again."""

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = await self.principal(scope)
        run_id = run_id_of(scope)
        view = await self.engine.get_run(run_id)
        require_visible(principal, view)
        require_scope(principal, "read")
        known = self._json.get(id(view))
        return json_answer(known[1] if known is not None else self._rendered(view))

    def _rendered(self, view: RunView) -> bytes:
        place, json = id(view), self._json
        text = encode(view)
        json[place] = ref(view, lambda _: json.pop(place)), text
        return text


class Notify(AnswerEndpoint):
    """Deliver an event."""

    operation = Operation(
        id="notifyEvent",
        method="POST",
        path="/notify/{eventId}",
        switch="notify",
        tag="Events",
        summary="Deliver an event",
        description=(
            "The body is the event's payload: any JSON value; an empty body is `null`. It reaches "
            "every live run that waits for the event, and is kept for every live run that declared "
            "it and does not wait now. It is durable when the answer comes."
        ),
        scope="notify",
        params=(
            Param(
                name="runId",
                place="query",
                schema={"type": "string", "pattern": "^run_[A-Za-z0-9]{8,64}$"},
                description="Deliver it to this one live run, and keep it there until it waits.",
                example=RUN_EXAMPLE["id"],
            ),
        ),
        body=Content(
            description="The event's payload",
            schema=ANY_JSON,
            example={"amount": 4200, "currency": "EUR"},
        ),
        replies={
            200: Content(description="It is delivered", schema=Success, example={"success": True})
        },
        errors=(
            InvalidInputError,
            ForbiddenError,
            RunNotFoundError,
            EventNotFoundError,
            PayloadTooLargeError,
            RateLimitedError,
            UnavailableError,
            OutcomeUnknownError,
        ),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        engine = self.engine
        principal = await self.principal(scope)
        run_id = query_of(scope, "runId")
        if run_id is not None and not is_run_id(run_id):
            raise RunNotFoundError
        require_scope(principal, "notify")
        taking_work(engine)
        body = await read_json(scope, receive, self.settings.event_bytes_max)
        event_id: str = scope["path_params"]["eventId"]
        await engine.notify(event_id, body, run_id=run_id, by=principal.id)
        return json_answer(b'{"success":true}')


class GetHealth(AnswerEndpoint):
    """Say that the process serves."""

    operation = Operation(
        id="getHealth",
        method="GET",
        path="/health",
        switch="health",
        tag="Service",
        summary="Is the process alive?",
        description="Says ok while the process serves. What is degraded shows in `/ready`.",
        replies={
            200: Content(
                description="It serves",
                schema=Health,
                example={"status": "ok", "timestamp": "2024-01-15T10:30:00Z"},
            )
        },
        errors=(UnavailableError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        if not await self._healthy():
            raise UnavailableError("The health check of the application says no")
        stamp = rfc3339(self.service.clock.wall_ms() // 1000 * 1000).replace(".000Z", "Z")
        return json_answer(b'{"status":"ok","timestamp":"%b"}' % stamp.encode())

    async def _healthy(self) -> bool:
        check = self.service.health_check
        if check is None:
            return True
        try:
            result = check()
            return bool(await result if inspect.isawaitable(result) else result)
        except Exception as error:
            logger.warning("the application's health check failed", exc_info=error)
            raise UnavailableError("The health check of the application failed") from error


def openapi_yaml() -> bytes:
    """Return the packaged document, as `stepflow openapi` wrote it."""
    return resources.files("stepflow.web").joinpath("openapi.yaml").read_bytes()


def _served_below(scope: AsgiScope, route: str) -> str:
    """Return where a caller finds the API: the prefix of proxy, mount and `--base-path`, or `/`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    # Servers put root_path in front of the path, or leave it out.
    whole = path if f"{path}/".startswith(f"{root}/") else root + path
    # A handler at an address of the host's own says nothing of where the other routes are.
    below = whole.removesuffix(route) if whole.endswith(route) else root
    return "/" + quote(below.strip("/"), safe="/-._~!$&'()*+,;=:@")


class GetOpenApi(AnswerEndpoint):
    """Serve the document."""

    operation = Operation(
        id="getOpenApi",
        method="GET",
        path="/openapi.yaml",
        switch="docs",
        tag="Service",
        summary="This document",
        replies={
            200: Content(
                description="OpenAPI 3.1",
                schema={"type": "string"},
                media="application/yaml",
            )
        },
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        # Relative to the address that it is read from: host and scheme are the caller's own.
        server = f'servers:\n  - url: "{_served_below(scope, self.operation.path)}"\n'
        return text_answer(b"application/yaml", _SERVERS.sub(server.encode(), openapi_yaml(), 1))
