"""`GET /stream`: the events of many runs as one stream, for pages that watch them all.

The same machinery as a run's own stream, with another cursor: `<store>-<lsn>`, of an event or of a
page of `GET /runs`. Who lists and then streams from the page's `streamCursor` misses nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from stepflow.errors import (
    ForbiddenError,
    InvalidInputError,
    RateLimitedError,
    UnavailableError,
)
from stepflow.model.event_filter import STATUSES, EventFilter, wanted_events
from stepflow.web.asgi import header, query_all, send_answer
from stepflow.web.event_stream import (
    COME_BACK,
    HEAD_ONLY,
    Lease,
    is_too_early,
    mark_of,
    serve_stream,
)
from stepflow.web.operations import Content, Endpoint, Operation, Param
from stepflow.web.policy import require_scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Receive, Send
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal

__all__ = ["StreamAll", "cursor_of", "event_filter"]

_CURSOR: Final = "6f1d0c52a9b34e70-1042"
_AT: Final = '"at":"2024-01-15T10:30:00.000Z"'
_RUN: Final = f'{_AT},"runId":"run_4fXo2bKq9TzW1mYc7RdE5h","workflowId":"welcome-user"'
_EXAMPLES: Final[dict[str, Any]] = {
    "step": {
        "id": _CURSOR,
        "event": "step",
        "data": f'{{"name":"charge","status":"completed","key":"charge#1","kind":"step",{_RUN}}}',
    },
    "complete": {
        "id": "6f1d0c52a9b34e70-1043",
        "event": "complete",
        "data": f'{{"status":"completed","result":{{"success":true}},{_RUN}}}',
    },
    "resync": {
        "id": _CURSOR,
        "event": "resync",
        "data": f'{{"streamCursor":"{_CURSOR}"}}',
    },
}


class StreamAll(Endpoint):
    """Watch many runs."""

    operation = Operation(
        id="streamRuns",
        method="GET",
        path="/stream",
        switch="runs_stream",
        tag="Runs",
        summary="Watch many runs",
        description=(
            "Server-sent events of all runs, or of those that the query names: the same events as "
            "on each run's own stream, with their time, `at`, and the run's `runId` and "
            "`workflowId` in their data. "
            "Without a cursor it begins now. A cursor is the `id` of an event or the "
            "`streamCursor` of a page of runs: list, then stream from there, and nothing is "
            "missed. What is older than the last 50,000 events, or another store's, brings "
            "`resync`: list again. It never ends by itself; the end of a run is an event like "
            "others. A public access token of one run is 403 here; one of `POST /tokens` sees "
            "the runs that it is for."
        ),
        scope="read",
        token=True,
        params=(
            Param(
                name="workflowId",
                place="query",
                schema={"type": "string"},
                description="Only runs of this workflow.",
                example="welcome-user",
            ),
            Param(
                name="status",
                place="query",
                schema={"type": "array", "items": {"type": "string", "enum": list(STATUSES)}},
                description="Only events that leave their run in one of these statuses.",
                example=["completed", "failed"],
            ),
            Param(
                name="tag",
                place="query",
                schema={"type": "string"},
                description="Only runs that bear this tag.",
                example="customer-7",
            ),
            Param(
                name="runId",
                place="query",
                schema={
                    "type": "array",
                    "items": {"type": "string", "pattern": "^run_[A-Za-z0-9]{8,64}$"},
                },
                description="Only these runs.",
                example=["run_4fXo2bKq9TzW1mYc7RdE5h"],
            ),
            Param(
                name="Last-Event-ID",
                place="header",
                schema={"type": "string"},
                description="The last event's id; browsers send it when they reconnect.",
                example=_CURSOR,
            ),
            Param(
                name="lastEventId",
                place="query",
                schema={"type": "string"},
                description="The same, or a `streamCursor`. The header comes first.",
                example=_CURSOR,
            ),
        ),
        replies={
            200: Content(
                description="The events",
                schema={"$ref": "#/components/schemas/StreamEvent"},
                media="text/event-stream",
                examples=_EXAMPLES,
            ),
        },
        errors=(InvalidInputError, ForbiddenError, RateLimitedError, UnavailableError),
    )

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if is_too_early(self.engine, scope):
            await send_answer(send, COME_BACK)
            return
        with ExitStack() as held:
            try:
                principal = await self.principal(scope)
                _require_many(principal)
                query = query_all(scope)
                where = event_filter(query, principal)
                if scope["method"] == "HEAD":
                    await send_answer(send, HEAD_ONLY)
                    return
                age_s = held.enter_context(self.service.streams.enter(principal))
                stream = await self.engine.stream_all(where, cursor_of(scope, query))
            except Exception as error:  # noqa: BLE001  the HTTP edge
                await send_answer(send, self.refusal(error))
                return
            # The first block says where the stream begins: whoever is cut off before its first
            # event resumes from here.
            first = mark_of(stream).lstrip()
            lease = Lease(principal, age_s)
            await serve_stream(self.service, lease, stream, first, scope, receive, send)


def _require_many(principal: Principal) -> None:
    """Return when the caller may read more than one run. Raises `ForbiddenError`."""
    require_scope(principal, "read")
    if principal.one_run:
        raise ForbiddenError(
            "This public access token reads one run: open /runs/{runId}/stream with it"
        )


def cursor_of(scope: AsgiScope, query: Iterable[tuple[str, str]]) -> str | None:
    """Return the cursor after which the client wants to go on; the header comes first."""
    sent = header(scope, b"last-event-id")
    if sent:
        return sent.decode("latin-1")
    return next((text for name, text in query if name == "lastEventId" and text), None)


def event_filter(query: Iterable[tuple[str, str]], principal: Principal) -> EventFilter:
    """Return which events are asked for, and may be seen.

    Raises `InvalidInputError`, naming the parameter.
    """
    first: dict[str, str] = {}
    many: dict[str, set[str]] = {"status": set(), "runId": set()}
    for name, text in query:
        first.setdefault(name, text)
        if name in many:
            many[name].update(text.split(","))
    tags = {first.get("tag", ""), principal.tag or ""} - {""}
    asked = wanted_events(
        many["status"],
        first.get("workflowId", ""),
        tags,
        many["runId"] if "runId" in first else None,
    )
    if principal.run_ids is None:
        return asked
    seen = principal.run_ids if asked.run_ids is None else principal.run_ids & asked.run_ids
    return replace(asked, run_ids=seen)
