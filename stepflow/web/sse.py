"""`GET /runs/{runId}/stream`: one run's events as server-sent events, from any point on.

A subscriber is a cursor into the run's durable events, so nothing queues up for a slow reader: what
it has not read stays where it is. One task reads and sends. Everything else that can happen to it
is an **interruption**, and so costs nothing while events flow.

Behind our own connection the task is not even woken for an event: while it waits, the engine calls
`_Fed.pass_on`, which writes what is new at once. Only what cannot be written now, or ends the
stream, wakes the task.

================ ==========================================================
interruption     what the stream does
================ ==========================================================
the client goes  closes; noticed although nothing is sent, because
                 `receive()` is watched beside it
15 s of silence  sends a comment line, which keeps proxies awake
token expired,   sends `event: expired` and ends, however busy it is; a
key revoked      client that does not read is cut off
send blocked 30 s closes the connection; the client resumes by id
shutdown         the engine ends the stream: a clean end of the response,
                 after which browsers reconnect by themselves
================ ==========================================================

The subscription is made inside the `try` that gives it back, whatever ends it.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from stepflow.clock import next_pass
from stepflow.errors import ForbiddenError, RunNotFoundError
from stepflow.web.asgi import abort, header, logger, parts_of, query_of, send_answer
from stepflow.web.operations import Content, Endpoint, Operation, Param, run_id_of
from stepflow.web.policy import require_run, require_scope
from stepflow.web.problems import SAFE_HEADERS, Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Receive, Send
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal
    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings
    from stepflow.engine.protocol import Engine, RunStream
    from stepflow.web.asgi import Parts
    from stepflow.web.operations import Service

__all__ = ["COME_BACK", "HEAD_ONLY", "EventStream", "Interrupter", "StreamRun", "is_too_early"]
__all__ += ["last_event_id", "mark_of", "serve_stream"]

Reason = Literal["gone", "silence", "expired", "blocked"]
Watch: TypeAlias = "Callable[[Callable[[], None]], Callable[[], None]]"
"""Calls its argument when the caller's key is taken back; returns what stops that."""

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_COMMENT: Final = b": still here\n"
_MEDIA: Final = b"text/event-stream"
COME_BACK: Final = Answer(200, _HEADERS, b"retry: 1000\n\n: starting\n\n")
HEAD_ONLY: Final = Answer(200, _HEADERS, b"")
_EXPIRED: Final = b"event: expired\ndata: {}\n\n"
_LOOK_MIN_S: Final = 0.05
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


def is_too_early(engine: Engine, scope: AsgiScope) -> bool:
    """Whether a browser asks while the journal is read, and must come back.

    To an `EventSource` any status but 200 is final. It learns nothing here: docs/adr/0012.
    """
    return engine.state == "starting" and _MEDIA in (header(scope, b"accept") or b"")


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
        errors=(ForbiddenError, RunNotFoundError),
    )

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if is_too_early(self.engine, scope):
            await send_answer(send, COME_BACK)
            return
        try:
            principal = await self.principal(scope)
            run_id = run_id_of(scope)
            await require_run(self.engine, principal, run_id)
            require_scope(principal, "read")
            if scope["method"] == "HEAD":
                await send_answer(send, HEAD_ONLY)
                return
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
        await serve_stream(self.service, principal, stream, first, scope, receive, send)

    async def _subscribe(self, run_id: str, after: int | None) -> tuple[RunStream, bytes]:
        """Return the subscription and what can be read at once."""
        stream = await self.engine.stream(run_id, after)
        try:
            return stream, stream.read(self.settings.stream_slice_bytes)
        except BaseException:
            stream.close()
            raise


async def serve_stream(
    service: Service,
    principal: Principal,
    stream: RunStream,
    first: bytes,
    scope: AsgiScope,
    receive: Receive,
    send: Send,
) -> None:
    """Send what was read and all that follows, then give the subscription back."""
    events = EventStream(stream, service.settings, service.clock, parts_of(scope))
    watch = partial(service.policy.watch, principal)
    try:
        await events.serve(receive, send, first, watch, principal.expires_ms)
    finally:
        stream.close()
    if events.abandoned:
        await abort(scope)


class EventStream:
    """Sends one subscription to one client, until one of them ends."""

    __slots__ = ("_clock", "_fed", "_parts", "_settings", "_stream", "abandoned")

    def __init__(
        self, stream: RunStream, settings: Settings, clock: Clock, parts: Parts | None = None
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._parts = parts
        self._fed: _Fed | None = None
        self.abandoned = False
        """Whether the response was given up in the middle: its connection is of no use."""

    async def serve(
        self,
        receive: Receive,
        send: Send,
        first: bytes,
        watch: Watch,
        expires_ms: int | None,
    ) -> None:
        """Send everything, from the response's start to its end; `first` was read already."""
        interrupter = Interrupter(send, self._clock, self._settings, expires_ms)
        stop_watch = watch(interrupter.credential_ended)
        stop_listening = self._watch_client(receive, interrupter)
        try:
            await self._pump(interrupter, first)
        except Interrupted as interruption:
            self.abandoned = interruption.reason == "blocked"
        except OSError:
            logger.debug("the client went away from its stream")
        except Exception:  # noqa: BLE001  the HTTP edge
            # Too late for an answer: the client sees a response that breaks off, and resumes.
            logger.exception("a stream failed in the middle")
            self.abandoned = True
        finally:
            interrupter.close()
            stop_watch()
            stop_listening()

    def _watch_client(self, receive: Receive, interrupter: Interrupter) -> Callable[[], object]:
        """Interrupt when the client goes; return what stops that."""
        parts = self._parts
        if parts is not None:
            listen = getattr(self._stream, "listen", None)
            if listen is not None:
                slice_bytes = self._settings.stream_slice_bytes
                self._fed = _Fed(self._stream, listen, parts, interrupter, slice_bytes)
            parts.when_gone(interrupter.client_gone)
            return partial(parts.when_gone, None)
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(partial(_client_gone, interrupter))
        return gone.cancel

    async def _pump(self, interrupter: Interrupter, data: bytes) -> None:
        send = interrupter.send
        try:
            await self._send_events(interrupter, data)
        except Interrupted as interruption:
            if interruption.reason != "expired":
                raise
            await send(_chunk(_EXPIRED))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, interrupter: Interrupter, data: bytes) -> None:
        send = interrupter.send
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # At once, so that the browser knows that it is connected.
        await send(_chunk(b"retry: %d\n\n" % self._settings.stream_retry_ms))
        stream, slice_bytes = self._stream, self._settings.stream_slice_bytes
        while True:
            if data:
                await send(_chunk(data))
                # A long history goes in slices, and others have their turn between them.
                if len(data) * 2 >= slice_bytes:
                    await next_pass()
            elif stream.ended:
                break
            else:
                await self._wait(interrupter)
            data = self._fed.take() if self._fed is not None else b""
            data = data or stream.read(slice_bytes)

    async def _wait(self, interrupter: Interrupter) -> None:
        """Wait until there may be more to read, or a comment had to be sent."""
        changed = self._stream.changed if self._fed is None else self._fed.needs_task
        try:
            await interrupter.wait(changed)
        except Interrupted as interruption:
            if interruption.reason != "silence":
                raise
            await interrupter.send(_chunk(_COMMENT + mark_of(self._stream)))


def mark_of(stream: RunStream) -> bytes:
    """Return the end of a block that is no event, which says where a stream of all runs has come.

    So a client that a filter leaves without an event for long need not go back as far. A browser
    takes note of an id that comes with no data.
    """
    cursor: str = getattr(stream, "stream_cursor", "")
    return b"id: %b\n\n" % cursor.encode() if cursor else b"\n"


def _chunk(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _client_gone(interrupter: Interrupter, watch: asyncio.Future[None]) -> None:
    """Interrupt for good: the watch on `receive()` has ended."""
    if not watch.cancelled():
        watch.exception()
        interrupter.client_gone()


class _Fed:
    """A stream whose task sleeps while events are written as they become durable."""

    __slots__ = ("_interrupter", "_left", "_listen", "_needed", "_parts", "_slice_bytes", "_stream")

    def __init__(
        self,
        stream: RunStream,
        listen: Callable[[Callable[[], None] | None], None],
        parts: Parts,
        interrupter: Interrupter,
        slice_bytes: int,
    ) -> None:
        self._stream = stream
        self._listen = listen
        self._parts = parts
        self._interrupter = interrupter
        self._slice_bytes = slice_bytes
        self._needed: asyncio.Future[None] | None = None
        self._left = b""

    def take(self) -> bytes:
        """Return what was read and could not be written, once."""
        left, self._left = self._left, b""
        return left

    async def needs_task(self) -> None:
        """Return once the task has something to do; what the stream brings meanwhile is written."""
        self._needed = asyncio.get_running_loop().create_future()
        self._listen(self.pass_on)
        try:
            await self._needed
        finally:
            self._listen(None)

    def pass_on(self) -> None:
        """Write what is new."""
        needed = self._needed
        if needed is None or needed.done():
            return
        data = self._stream.read(self._slice_bytes)
        if data:
            if not self._parts.write(data):
                self._left = data
            else:
                self._interrupter.sent()
                # A long piece of history goes on in the task, which lets others have their turn.
                if len(data) * 2 < self._slice_bytes and not self._stream.ended:
                    return
        elif not self._stream.ended:
            return
        needed.set_result(None)


class Interrupted(Exception):  # noqa: N818  says what happened
    """What the stream's task was doing has been cut short, and why."""

    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(reason)


class Interrupter:
    """Cuts the stream's task short where it waits, as `asyncio.timeout` does: by a cancellation.

    One timer serves a whole stream, so that an event costs none.
    """

    __slots__ = (
        "_base",
        "_clock",
        "_doing",
        "_expires_ms",
        "_reason",
        "_send",
        "_settings",
        "_since_s",
        "_task",
        "_timer",
    )

    def __init__(
        self,
        send: Send,
        clock: Clock,
        settings: Settings,
        expires_ms: int | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._base = task.cancelling()
        self._send = send
        self._clock = clock
        self._settings = settings
        self._expires_ms = expires_ms
        self._doing: Literal["sending", "waiting"] | None = None
        self._reason: Reason | None = None
        self._since_s = clock.monotonic_s()
        self._timer: TimerHandle = clock.call_later(self._next_look_s(self._since_s), self._look)

    async def send(self, message: Message) -> None:
        """Send. Raises `Interrupted` when the client goes, or reads nothing for too long."""
        self._begin("sending")
        self._since_s = self._clock.monotonic_s()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            self._explain()
            raise
        finally:
            self._doing = None
        self._since_s = self._clock.monotonic_s()

    def sent(self) -> None:
        """Take note that something was sent just now."""
        self._since_s = self._clock.monotonic_s()

    async def wait(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Wait until the stream has changed. Raises `Interrupted` for what happens before."""
        self._begin("waiting")
        try:
            await changed()
        except asyncio.CancelledError:
            self._explain()
            raise
        finally:
            self._doing = None

    def client_gone(self) -> None:
        """Interrupt for good."""
        self._interrupt("gone")

    def credential_ended(self) -> None:
        """Interrupt for a last word; what a client has not read by now it does not get."""
        self._interrupt("blocked" if self._doing == "sending" else "expired")

    def close(self) -> None:
        """Interrupt nothing from now on."""
        self._timer.cancel()

    def _begin(self, what: Literal["sending", "waiting"]) -> None:
        if self._reason is not None:
            raise Interrupted(self._taken(self._reason))
        self._doing = what

    def _explain(self) -> None:
        """Raise `Interrupted` if the cancellation was ours, and ours alone."""
        reason = self._reason
        if reason is None or self._task.uncancel() > self._base:
            return
        raise Interrupted(self._taken(reason)) from None

    def _taken(self, reason: Reason) -> Reason:
        """Return the reason; those after which there is still something to send are then over."""
        if reason in {"silence", "expired"}:
            self._reason = None
        return reason

    def _interrupt(self, reason: Reason) -> None:
        if self._reason is None:
            self._reason = reason
            if self._doing is not None:
                self._task.cancel()

    def _look(self) -> None:
        now_s = self._clock.monotonic_s()
        still_s = now_s - self._since_s
        if self._doing == "sending" and still_s >= self._settings.stream_blocked_s:
            self._interrupt("blocked")
        elif self._expires_ms is not None and self._clock.wall_ms() >= self._expires_ms:
            self.credential_ended()
        elif self._doing == "waiting" and still_s >= self._settings.stream_comment_s:
            self._interrupt("silence")
        self._timer = self._clock.call_later(self._next_look_s(now_s), self._look)

    def _next_look_s(self, now_s: float) -> float:
        """Return in how many seconds something may be due: silence, a blocked send, the expiry."""
        still_s = now_s - self._since_s
        comment_s = self._settings.stream_comment_s
        delay_s = comment_s
        if self._doing == "sending":
            delay_s = min(comment_s, self._settings.stream_blocked_s - still_s)
        elif self._doing == "waiting":
            delay_s = comment_s - still_s
        if self._expires_ms is not None:
            delay_s = min(delay_s, (self._expires_ms - self._clock.wall_ms()) / 1000)
        return max(delay_s, _LOOK_MIN_S)
