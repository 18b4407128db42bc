"""The routes beyond the contract: lists, batch, events, readiness, metrics."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from stepflow.engine.protocol import EVENTS_MAX, RunFilter, WaitingEvent
from stepflow.errors import (
    ApiError,
    ForbiddenError,
    InvalidInputError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RateLimitedError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.model.run import RunStatus
from stepflow.model.views import RunPage, WorkflowView
from stepflow.web.asgi import query_all, query_of, read_json
from stepflow.web.endpoints import (
    ANY_JSON,
    DELAY,
    RUN_EXAMPLE,
    TRACEPARENT,
    delay_of,
    encode,
    traceparent_of,
    trigger_result,
)
from stepflow.web.operations import (
    AnswerEndpoint,
    Content,
    Operation,
    Param,
    taking_work,
)
from stepflow.web.policy import require_scope, require_whole
from stepflow.web.problems import json_answer, problem, text_answer
from stepflow.web.schemas import (
    EventList,
    Readiness,
    WorkflowList,
)
from stepflow.web.system import PACE_EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.web.problems import Answer

__all__ = [
    "BatchTrigger",
    "GetMetrics",
    "GetReady",
    "GetWorkflow",
    "ListEvents",
    "ListRuns",
    "ListWorkflows",
    "moment_ms",
    "run_filter",
]

_STATUSES: Final[tuple[str, ...]] = get_args(RunStatus)
_WORKFLOW_EXAMPLE: Final[dict[str, Any]] = {
    "id": "welcome-user",
    "description": "Sends two mails, three days apart.",
    "inputSchema": {
        "type": "object",
        "properties": {"userId": {"type": "string"}, "email": {"type": "string"}},
        "required": ["userId", "email"],
    },
    "outputSchema": {},
    "events": [],
    "schedule": None,
}
_READY_EXAMPLE: Final[dict[str, Any]] = {
    "status": "ready",
    "timestamp": "2024-01-15T10:30:00.000Z",
    "degraded": {
        "missingWorkflows": [],
        "quarantinedRuns": 0,
        "stepThreads": {"limit": 32, "waiting": 0, "zombies": 0, "zombiesSince": None},
    },
}
_BATCH_REPLY: Final = {
    "type": "array",
    "items": {
        "oneOf": [
            {"$ref": "#/components/schemas/TriggerResult"},
            {"$ref": "#/components/schemas/BatchFailure"},
        ]
    },
}


# ---------------------------------------------------------------- workflows


class ListWorkflows(AnswerEndpoint):
    """List what can be triggered."""

    operation = Operation(
        id="listWorkflows",
        method="GET",
        path="/workflows",
        switch="runs",
        tag="Workflows",
        summary="List workflows",
        description="What can be triggered, with the JSON Schema of each input and output.",
        scope="read",
        replies={
            200: Content(
                description="The workflows, by id",
                schema=WorkflowList,
                example={"workflows": [_WORKFLOW_EXAMPLE]},
            )
        },
        errors=(ForbiddenError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        return json_answer(b'{"workflows":%b}' % encode(self.engine.workflows()))


class GetWorkflow(AnswerEndpoint):
    """Read one workflow."""

    operation = Operation(
        id="getWorkflow",
        method="GET",
        path="/workflows/{workflowId}",
        switch="runs",
        tag="Workflows",
        summary="Read a workflow",
        scope="read",
        replies={
            200: Content(
                description="The workflow",
                schema=WorkflowView,
                example={**_WORKFLOW_EXAMPLE, "pace": PACE_EXAMPLE},
            )
        },
        errors=(ForbiddenError, WorkflowNotFoundError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = await self.principal(scope)
        wanted: str = scope["path_params"]["workflowId"]
        found = next((view for view in self.engine.workflows() if view.id == wanted), None)
        if found is None:
            raise WorkflowNotFoundError
        require_whole(principal, "read")
        pace = await self.engine.workflow_pace(wanted)
        return json_answer(encode(msgspec.structs.replace(found, pace=pace)))


class BatchTrigger(AnswerEndpoint):
    """Start many runs."""

    operation = Operation(
        id="triggerWorkflowBatch",
        method="POST",
        path="/trigger/{workflowId}/batch",
        switch="trigger",
        tag="Workflows",
        summary="Start many runs",
        description=(
            "One durable write for all: at most 1,000 inputs. Each has its run or its error, "
            "in order."
        ),
        scope="trigger",
        params=(DELAY, TRACEPARENT),
        body=Content(
            description="The inputs",
            schema={"type": "array", "maxItems": 1000, "items": ANY_JSON},
            example=[{"userId": "user_1"}, {"userId": "user_2"}],
            required=True,
        ),
        replies={
            200: Content(
                description="A run or an error for each input, in order",
                schema=_BATCH_REPLY,
                example=[
                    {"runId": RUN_EXAMPLE["id"], "publicAccessToken": "pat_AQFd0k…"},
                    {"error": "input.userId: Expected `str`, got `int`", "code": "INVALID_INPUT"},
                ],
            )
        },
        errors=(
            InvalidInputError,
            ForbiddenError,
            WorkflowNotFoundError,
            PayloadTooLargeError,
            RateLimitedError,
            UnavailableError,
            OutcomeUnknownError,
        ),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        principal = await self.principal(scope)
        workflow_id: str = scope["path_params"]["workflowId"]
        if not self.engine.has_workflow(workflow_id):
            raise WorkflowNotFoundError
        require_scope(principal, "trigger")
        taking_work(self.engine)
        body = await read_json(scope, receive, self.settings.batch_bytes_max)
        inputs = _inputs_of(body, self.settings.batch_max)
        delay_ms = delay_of(scope)
        outcomes = await self.engine.trigger_many(
            workflow_id,
            inputs,
            by=principal.id,
            delay_ms=delay_ms,
            traceparent=traceparent_of(scope, self.engine),
        )
        return json_answer(b"[%b]" % b",".join(self._row(outcome) for outcome in outcomes))

    def _row(self, outcome: str | ApiError) -> bytes:
        if isinstance(outcome, ApiError):
            return problem(outcome).body
        token, _ = self.engine.public_token(outcome)
        return trigger_result(outcome, token)


def _inputs_of(body: bytes, count_max: int) -> list[bytes]:
    try:
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInputError("The body is not a JSON array of inputs") from None
    if len(raws) > count_max:
        raise InvalidInputError(f"{len(raws)} inputs in one batch: send at most {count_max}")
    return [bytes(raw) for raw in raws]


# ---------------------------------------------------------------- runs


class ListRuns(AnswerEndpoint):
    """List runs."""

    operation = Operation(
        id="listRuns",
        method="GET",
        path="/runs",
        switch="runs",
        tag="Runs",
        summary="List runs",
        description=(
            "Newest first; rows carry no `steps`. A page goes on where `nextCursor` says. `counts` "
            "says how many runs have each status, of all or of that `workflowId`, whatever the "
            "page shows; it is absent where `tag` or a time is asked for."
        ),
        scope="read",
        params=(
            Param(
                name="status",
                place="query",
                schema={"type": "array", "items": {"type": "string", "enum": list(_STATUSES)}},
                description="Only runs with one of these statuses.",
                example=["running"],
            ),
            Param(
                name="workflowId",
                place="query",
                schema={"type": "string"},
                description="Only runs of this workflow.",
                example="welcome-user",
            ),
            Param(
                name="tag",
                place="query",
                schema={"type": "string"},
                description="Only runs that bear this tag.",
                example="customer-7",
            ),
            Param(
                name="createdAfter",
                place="query",
                schema={"type": "string", "format": "date-time"},
                description="Only runs created after this moment.",
                example="2024-01-15T00:00:00Z",
            ),
            Param(
                name="createdBefore",
                place="query",
                schema={"type": "string", "format": "date-time"},
                description="Only runs created before this moment.",
                example="2024-01-16T00:00:00Z",
            ),
            Param(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "default": 50},
                description="How many runs; a page has at most 200.",
                example=50,
            ),
            Param(
                name="cursor",
                place="query",
                schema={"type": "string"},
                description="The `nextCursor` of the page before.",
            ),
        ),
        replies={
            200: Content(
                description="A page of runs",
                schema=RunPage,
                example={
                    "runs": [{k: v for k, v in RUN_EXAMPLE.items() if k != "steps"}],
                    "nextCursor": None,
                    "streamCursor": "1-42",
                    "counts": {
                        "pending": 0,
                        "running": 12,
                        "completed": 5012,
                        "failed": 3,
                        "cancelled": 1,
                    },
                },
            )
        },
        errors=(InvalidInputError, ForbiddenError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        query = query_all(scope)
        first: dict[str, str] = {}
        for name, value in query:
            first.setdefault(name, value)
        limit = _limit_of(first.get("limit"), self.settings.page_default, self.settings.page_max)
        where = run_filter(first, [value for name, value in query if name == "status"])
        cursor = first.get("cursor") or None
        return json_answer(encode(await self.engine.list_runs(where, limit=limit, cursor=cursor)))


def run_filter(query: Mapping[str, str], statuses: list[str]) -> RunFilter:
    """Return the filter that a query asks for. Raises `InvalidInputError`, naming the parameter."""
    wanted = frozenset(part for text in statuses for part in text.split(","))
    unknown = wanted.difference(_STATUSES)
    if unknown:
        raise InvalidInputError(f"status: {min(unknown)!r} is none of {', '.join(_STATUSES)}")
    return RunFilter(
        status=wanted,
        workflow_id=query.get("workflowId", ""),
        tag=query.get("tag", ""),
        created_after_ms=moment_ms(query, "createdAfter"),
        created_before_ms=moment_ms(query, "createdBefore"),
    )


def moment_ms(query: Mapping[str, str], name: str) -> int:
    """Return a moment of the query in milliseconds since 1970; 0 for one that is not there."""
    text = query.get(name)
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInputError(f"{name}: write it as 2024-01-15T10:30:00Z")
    # Nought stands for "not asked for"; no run is older than 1970.
    return max(int(moment.timestamp() * 1000), 1)


def _limit_of(text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not text.strip("0"):
        raise InvalidInputError("limit: write a whole number from 1")
    # Beyond nine digits it is over every maximum, and int() need not look at a long text.
    return most if len(text) > 9 else min(int(text), most)


# ---------------------------------------------------------------- events, readiness, metrics


class ListEvents(AnswerEndpoint):
    """List which events runs wait for."""

    operation = Operation(
        id="listEvents",
        method="GET",
        path="/events",
        switch="runs",
        tag="Events",
        summary="List awaited events",
        description=(
            "Which events live runs wait for, in the order of their ids; `runIds` holds the first "
            "100 of each. Where there are more than a page has, `nextCursor` says how to go on."
        ),
        scope="read",
        params=(
            Param(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "default": EVENTS_MAX},
                description=f"How many events; a page has at most {EVENTS_MAX}.",
                example=50,
            ),
            Param(
                name="cursor",
                place="query",
                schema={"type": "string"},
                description="The `nextCursor` of the page before.",
            ),
        ),
        replies={
            200: Content(
                description="The events",
                schema=EventList,
                example={
                    "events": [
                        {"eventId": "paid-1042", "runs": 1, "runIds": [RUN_EXAMPLE["id"]]},
                    ]
                },
            )
        },
        errors=(InvalidInputError, ForbiddenError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        limit = _limit_of(query_of(scope, "limit"), EVENTS_MAX, EVENTS_MAX)
        waiting: list[WaitingEvent] = await self.engine.waiting_events(
            limit=limit + 1, cursor=query_of(scope, "cursor") or ""
        )
        if len(waiting) <= limit:
            return json_answer(b'{"events":%b}' % encode(waiting))
        del waiting[limit:]
        last = encode(waiting[-1].event_id)
        return json_answer(b'{"events":%b,"nextCursor":%b}' % (encode(waiting), last))


class GetReady(AnswerEndpoint):
    """Say whether requests are served."""

    operation = Operation(
        id="getReady",
        method="GET",
        path="/ready",
        switch="health",
        tag="Service",
        summary="Does it take requests?",
        description=(
            "503 until recovery is done, while draining, and while the disk does not answer. Shows "
            "what is degraded, and `check`: what the code makes of the live runs that the start "
            "found, once `serve` has begun to look."
        ),
        replies={200: Content(description="It does", schema=Readiness, example=_READY_EXAMPLE)},
        errors=(UnavailableError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        if self.engine.state not in {"ready", "read-only"}:
            raise UnavailableError(f"Not ready: {self.engine.state}")
        return json_answer(encode(self.engine.readiness()))


class GetMetrics(AnswerEndpoint):
    """Serve the metrics."""

    operation = Operation(
        id="getMetrics",
        method="GET",
        path="/metrics",
        switch="metrics",
        tag="Service",
        summary="Prometheus metrics",
        scope="read",
        replies={
            200: Content(
                description="Prometheus text format",
                schema={"type": "string"},
                media="text/plain",
                example="# TYPE stepflow_runs_live gauge\nstepflow_runs_live 12.0\n",
            )
        },
        errors=(ForbiddenError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        # A server that nobody scrapes starts without it.
        from stepflow.web.metrics import CONTENT_TYPE, exposition  # noqa: PLC0415

        return text_answer(CONTENT_TYPE, exposition(self.engine.metrics()))
