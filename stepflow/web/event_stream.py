"""One response of server-sent events, from a subscription to a client, whatever it is a stream of.

A subscriber is a cursor into durable events, so nothing queues up for a slow reader: what it has
not read stays where it is. One task reads and sends. Everything else that can happen to it is an
**interruption** (interrupter.py), and so costs nothing while events flow.

Behind our own connection the task is not even woken for an event: while it waits, the engine calls
`_Fed.pass_on`, which writes what is new at once. Only what cannot be written now, or ends the
stream, wakes the task. A shutdown ends the subscription: a clean end of the response, after which
browsers reconnect by themselves.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from stepflow.clock import next_pass
from stepflow.web.asgi import abort, header, logger, parts_of
from stepflow.web.interrupter import Interrupted, Interrupter
from stepflow.web.problems import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Send
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.protocol import Engine, RunStream
    from stepflow.web.asgi import Parts
    from stepflow.web.operations import Service

__all__ = ["COME_BACK", "HEAD_ONLY", "EventStream", "Lease", "is_too_early", "mark_of"]
__all__ += ["serve_stream"]

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
_EXPIRED: Final = b'event: expired\ndata: {"reason":"%b"}\n\n'
COME_BACK: Final = Answer(200, _HEADERS, b"retry: 1000\n\n: starting\n\n")
HEAD_ONLY: Final = Answer(200, _HEADERS, b"")


def is_too_early(engine: Engine, scope: AsgiScope) -> bool:
    """Whether a browser asks while the journal is read, and must come back.

    To an `EventSource` any status but 200 is final. It learns nothing here: docs/adr/0012.
    """
    return engine.state == "starting" and _MEDIA in (header(scope, b"accept") or b"")


class Lease(NamedTuple):
    """For whom a stream is open, and for how long; None: as long as they please."""

    principal: Principal
    age_s: float | None


async def serve_stream(
    service: Service,
    lease: Lease,
    stream: RunStream,
    first: bytes,
    scope: AsgiScope,
    receive: Receive,
    send: Send,
) -> None:
    """Send what was read and all that follows, then give the subscription back."""
    events = EventStream(stream, service.settings, service.clock, parts_of(scope))
    watch = partial(service.policy.watch, lease.principal)
    try:
        await events.serve(receive, send, first, watch, lease)
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
        lease: Lease,
    ) -> None:
        """Send everything, from the response's start to its end; `first` was read already."""
        expires_ms = lease.principal.expires_ms
        interrupter = Interrupter(send, self._clock, self._settings, expires_ms, lease.age_s)
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
            if interruption.reason in {"expired", "revoked"}:
                await send(_chunk(_EXPIRED % interruption.reason.encode()))
            elif interruption.reason != "aged":
                raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, interrupter: Interrupter, data: bytes) -> None:
        send = interrupter.send
        # Head, time to come back and what is there already go in one write, and at once: so the
        # browser knows that it is connected.
        start = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
        # For our own server, see guard.py.
        start["stepflow.whole"] = True
        await send(start)
        data = b"retry: %d\n\n%b" % (self._settings.stream_retry_ms, data)
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
