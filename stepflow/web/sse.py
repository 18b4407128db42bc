"""`GET /runs/{runId}/stream`: one run's events as server-sent events, from any point on."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from stepflow.errors import (
    ForbiddenError,
    RateLimitedError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.web.asgi import header, query_of, send_answer
from stepflow.web.event_stream import COME_BACK, HEAD_ONLY, Lease, is_too_early, serve_stream
from stepflow.web.operations import Content, Endpoint, Operation, Param, run_id_of
from stepflow.web.policy import require_run, require_scope
from stepflow.web.problems import SAFE_HEADERS, Answer

if TYPE_CHECKING:
    from starlette.types import Receive, Send
    from starlette.types import Scope as AsgiScope

    from stepflow.engine.protocol import RunStream

__all__ = ["StreamRun", "last_event_id"]

_ID: Final = re.compile(r"[0-9]{1,19}")

_EXAMPLES: Final = (
    ("status", "1", '{"status":"running"}'),
    ("step", "3", '{"name":"charge","status":"completed","key":"charge#1","kind":"step"}'),
    ("complete", "4", '{"status":"completed","result":{"success":true}}'),
)


def _example(event: str, number: str, data: str) -> dict[str, str]:
    return {"id": number, "event": event, "data": data}


def last_event_id(scope: AsgiScope) -> int | None:
    """Return the id after which the client wants to go on; a text that is no id counts as none.

    The header comes first: a browser that reconnects repeats the query and sends the newer header.
    """
    sent = header(scope, b"last-event-id")
    for text in (sent.decode("latin-1") if sent else None, query_of(scope, "lastEventId")):
        if text is not None and _ID.fullmatch(text):
            return int(text)
    return None


class StreamRun(Endpoint):
    """Watch a run."""

    operation = Operation(
        id="streamRun",
        method="GET",
        path="/runs/{runId}/stream",
        switch="runs_stream",
        tag="Runs",
        summary="Watch a run",
        description=(
            "Server-sent events: the run's history, then what follows. Each event's `id` is where "
            "to go on: a client that sends it as `Last-Event-ID` gets precisely what it missed. "
            "`status`: the run's status changed or a step began. `step`: a step completed or "
            "failed. `complete` and `error` end the stream. `emit` and `progress` come from the "
            "workflow. `resync` brings the whole run when history is not kept. `expired`: the "
            "token is over. A finished run whose last event the client has is 204, which stops an "
            "`EventSource`."
        ),
        scope="read",
        token=True,
        params=(
            Param(
                name="Last-Event-ID",
                place="header",
                schema={"type": "string"},
                description="The last event's id; browsers send it when they reconnect.",
                example="12",
            ),
            Param(
                name="lastEventId",
                place="query",
                schema={"type": "string"},
                description="The same, where a header cannot be set. The header comes first.",
                example="12",
            ),
        ),
        replies={
            200: Content(
                description="The events",
                schema={"$ref": "#/components/schemas/StreamEvent"},
                media="text/event-stream",
                examples={name: _example(name, *rest) for name, *rest in _EXAMPLES},
            ),
            204: Content(description="The run has ended and the client has its last event"),
        },
        errors=(ForbiddenError, RunNotFoundError, RateLimitedError, UnavailableError),
    )

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if is_too_early(self.engine, scope):
            await send_answer(send, COME_BACK)
            return
        with ExitStack() as held:
            try:
                principal = await self.principal(scope)
                run_id = run_id_of(scope)
                await require_run(self.engine, principal, run_id)
                require_scope(principal, "read")
                if scope["method"] == "HEAD":
                    await send_answer(send, HEAD_ONLY)
                    return
                age_s = held.enter_context(self.service.streams.enter(principal, run_id))
                after = last_event_id(scope)
                stream, first = await self._subscribe(run_id, after)
            except Exception as error:  # noqa: BLE001  the HTTP edge
                await send_answer(send, self.refusal(error))
                return
            if after is not None and not first and stream.ended and stream.finished:
                # A client that has everything is told to stay away.
                stream.close()
                await send_answer(send, Answer(204, SAFE_HEADERS, b""))
                return
            lease = Lease(principal, age_s)
            await serve_stream(self.service, lease, stream, first, scope, receive, send)

    async def _subscribe(self, run_id: str, after: int | None) -> tuple[RunStream, bytes]:
        """Return the subscription and what can be read at once."""
        stream = await self.engine.stream(run_id, after)
        try:
            return stream, stream.read(self.settings.stream_slice_bytes)
        except BaseException:
            stream.close()
            raise
