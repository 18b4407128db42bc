"""The HTTP/1.1 protocol of uvicorn with the limits that uvicorn lacks.

Used as `uvicorn.Config(http=guarded(settings))`. It needs httptools, whose parser refuses what
makes request smuggling possible: both kinds of length, doubled lengths, bare LF.

======================================= ==================================================
what a client does                      what it gets
======================================= ==================================================
a request that is no HTTP               400
a URL over 8 KiB                        414
headers over 32 KiB or 100 lines        431, trailers counted
half a header for 10 s                  408
half a body for 30 s                    408
a connection and no byte for 10 s       closed
a keep-alive connection, idle           closed by uvicorn's own timeout
one connection over the limit           503
1,000 connections of one address        429 for the next; this machine's own addresses are
                                        not counted: a proxy here speaks for all its callers
never reads                             64 KiB in the kernel; then `send()` waits
======================================= ==================================================

Every refusal has the API's error shape. It is written when no response is under way: at once, or
after the responses to the good requests before it; if the bad request's own response has begun, the
connection is cut instead. A refused connection is read and not parsed for a second, because closing
it with unread bytes would make the kernel throw the answer away.

A head is measured when it is complete, so that a body in the same read is not taken for headers;
before, and in trailers, whole reads count, because the parser holds an unfinished line unseen. The
deadlines are absolute, and one lazy timer serves a whole connection: a request that comes in one
piece touches no timer and no header of it is looked at twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stepflow.auth.callers import is_loopback_address, network_of
from stepflow.config import Settings
from stepflow.web.asgi import PARTS
from stepflow.web.budget import LARGE_BYTES
from stepflow.web.call import Call, Wire
from stepflow.web.direct import Whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send
    from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent

    from stepflow.web.direct import Direct, Found
    from stepflow.web.problems import Answer

__all__ = ["Guard", "guarded"]

logger = logging.getLogger("stepflow.web")

_QUIET, _HEAD, _BODY = "quiet", "head", "body"
WHOLE: Final = "stepflow.whole"
"""In the start of a response whose one body follows at once; other servers leave it be."""


class Refusal(Exception):  # noqa: N818  raised through the parser, which then stops
    """An answer that ends the connection."""

    def __init__(self, status: int, code: str, message: str, *headers: bytes) -> None:
        super().__init__(message)
        self.status = status
        body = json.dumps({"error": message, "code": code}, separators=(",", ":")).encode()
        self.wire = b"\r\n".join(
            (
                b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()),
                b"content-type: application/json",
                b"content-length: %d" % len(body),
                b"cache-control: no-store",
                b"connection: close",
                *headers,
                b"",
                body,
            )
        )


MALFORMED: Final = Refusal(400, "INVALID_INPUT", "Malformed HTTP request")
BROKEN: Final = Refusal(500, "INTERNAL", "Internal error")
NO_HOST: Final = Refusal(400, "INVALID_INPUT", "An HTTP/1.1 request has one Host header")
TOO_SLOW: Final = Refusal(408, "UNAVAILABLE", "The request did not arrive in time")
URL_TOO_LONG: Final = Refusal(414, "PAYLOAD_TOO_LARGE", "The URL is too long")
HEADERS_TOO_LARGE: Final = Refusal(431, "PAYLOAD_TOO_LARGE", "The headers are too many or too long")
TOO_MANY: Final = Refusal(503, "UNAVAILABLE", "Too many connections", b"retry-after: 1")
TOO_MANY_OF_ONE: Final = Refusal(
    429, "RATE_LIMITED", "Too many connections from this address", b"retry-after: 1"
)


def guarded(settings: Settings, direct: Direct | None = None) -> type[Guard]:
    """Return the protocol class with these limits; `direct` finds what needs no application."""
    mine = {"limits": settings, "callers": Counter[str](), "wire": Wire(), "direct": direct}
    return type("Guard", (Guard,), mine)


class Guard(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[Settings] = Settings()
    callers: ClassVar[Counter[str]] = Counter()
    direct: ClassVar[Direct | None] = None
    wire: ClassVar[Wire]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_watched = self.access_log or self.limit_concurrency is not None
        self._found: Found | None = None
        """The request at hand, when it needs no application and may still come whole."""
        self._parts: list[bytes] = []
        self._gone: Callable[[], None] | None = None
        """Whom to tell that the client has gone."""
        self._served = 0
        """How many of this read's requests were answered without the application."""
        self._phase = _QUIET
        self._messages = 0
        self._held_bytes = 0
        self._read_bytes = 0
        self._bodies = 0
        self._deaf = False
        self._muted = False
        self._upgrade_body: list[tuple[bytes, bytes]] = []
        self._refused_after: Refusal | None = None
        self._caller: str | None = None
        self._deadline = _Deadline(self.loop, self._late)
        self._keep_alive = _Deadline(self.loop, self.timeout_keep_alive_handler)

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes)
        refusal = self._count_in()
        if refusal is not None:
            self._answer(refusal)
        else:
            self._deadline.begin(self.limits.header_deadline_s)

    def _count_in(self) -> Refusal | None:
        """Count the connection; return why there is no room for it."""
        address = self.client[0] if self.client else ""
        if address and not is_loopback_address(address):
            self._caller = network_of(address)
            self.callers[self._caller] += 1
        if len(self.connections) > self.limits.connections_max:
            return TOO_MANY
        if self._caller is None:
            return None
        is_over = self.callers[self._caller] > self.limits.connections_per_address_max
        return TOO_MANY_OF_ONE if is_over else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.end()
        self._keep_alive.end()
        if self._caller is not None:
            self.callers[self._caller] -= 1
            if not self.callers[self._caller]:
                del self.callers[self._caller]
            self._caller = None
        super().connection_lost(exc)
        if self._gone is not None:
            self._gone()
        # It holds what holds us.
        self.scope = cast("Any", None)

    def tell_when_gone(self, callback: Callable[[], None] | None) -> None:
        """Call it when the client has gone, which is noticed only while something is read."""
        self._gone = callback
        if callback is not None:
            self.flow.resume_reading()
            if self.transport.is_closing():
                self.loop.call_soon(callback)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._keep_alive.stop()
        self._served = 0
        messages, phase, bodies = self._messages, self._phase, self._bodies
        self._read_bytes = len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(_refusal_of(error))
            return
        if self._found is not None:
            # It did not come whole: there may be much of it, or it may be slow.
            self._to_application()
        is_new = self._messages != messages
        if self._phase is not _QUIET:
            began_here = is_new and phase is _QUIET and self._messages == messages + 1
            held = not is_new or began_here
            if refusal := self._too_long(0 if not held or self._bodies != bodies else len(data)):
                self._refuse(refusal)
                return
        self._watch(is_new=is_new or self._phase is not phase)

    def _too_long(self, held_bytes: int) -> Refusal | None:
        """Return what is wrong with a head or trailer that is not complete yet.

        `held_bytes` is a read of which nothing but lines of this head or trailer was part.
        """
        self._held_bytes += held_bytes
        if self._phase is _HEAD and len(self.url) > self.limits.url_bytes_max:
            return URL_TOO_LONG
        if self._held_bytes > self.limits.header_bytes_max:
            return HEADERS_TOO_LARGE
        return HEADERS_TOO_LARGE if len(self.headers) > self.limits.headers_max else None

    def _watch(self, *, is_new: bool) -> None:
        """Set the deadline that the present phase has."""
        if self._phase is _QUIET and self._messages:
            if is_new:
                self._deadline.stop()
            elif not self._deadline.is_set:
                self._deadline.begin(self.limits.header_deadline_s)  # blank lines between requests
        elif is_new or not self._deadline.is_set:
            is_head = self._phase is not _BODY
            self._deadline.begin(
                self.limits.header_deadline_s if is_head else self.limits.body_deadline_s
            )

    def _late(self) -> None:
        if self.flow.read_paused:
            # We asked the client to wait, so the time was ours.
            self._deadline.begin(self.limits.body_deadline_s)
        elif self._phase is _QUIET:
            self.transport.close()
        else:
            self._refuse(TOO_SLOW)

    # ------------------------------------------------------------ refusing

    def _refuse(self, refusal: Refusal) -> None:
        """Answer no further request of this connection, and this one with `refusal`."""
        self._deaf = True
        self._deadline.stop()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None:
            self._answer(refusal)
        elif self._phase is _BODY:
            self._refuse_body(cycle, refusal)
        elif cycle.response_complete:
            self._answer(refusal)
        else:
            self._refused_after = refusal

    def _refuse_body(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        """Refuse a request whose head was good and has been handed to the application."""
        queued = [entry for entry in self.pipeline if entry[0] is cycle]
        if queued:
            self.pipeline.remove(queued[0])
            self._refused_after = refusal
            return
        begun = cycle.response_started
        cycle.disconnected = True  # its application hears http.disconnect and can send no more
        cycle.message_event.set()
        if begun:
            self.transport.close()
        else:
            self._answer(refusal)

    def _answer(self, refusal: Refusal) -> None:
        self._deaf = True
        if self.transport.is_closing():
            return
        logger.debug("refused a request with %d: %s", refusal.status, refusal)
        self.transport.write(refusal.wire)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._deadline.close_in(self.limits.linger_s, self.transport)

    def on_response_complete(self) -> None:
        # As uvicorn's, but that the time of an idle connection costs no timer a request.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
                return
            self._keep_alive.begin(self.timeout_keep_alive)
        if self._refused_after is not None and not self.pipeline:
            self._keep_alive.stop()
            self._answer(self._refused_after)

    def _unset_keepalive_if_required(self) -> None:
        self._keep_alive.stop()

    # ------------------------------------------------------------ what the parser says

    def on_message_begin(self) -> None:
        if not self._muted:
            # What else uvicorn prepares here is prepared for the application, see below.
            self.url = b""
            self.headers = []
            self.expect_100_continue = False
            self._phase = _HEAD
            self._messages += 1
            self._held_bytes = 0

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        names = self._check_head()
        parser, cycle = self.parser, cast("RequestResponseCycle | None", self.cycle)
        if parser.should_upgrade():
            self._upgrade_body = [line for line in self.headers if _says_length(*line)]
        self._phase = _BODY
        self._held_bytes = 0
        if (
            self.direct is not None
            and not self._served
            and not self._is_watched
            and (cycle is None or cycle.response_complete)
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        ):
            self._found = self.direct.find(
                parser.get_method(), self.url, names, self.headers, self.client
            )
        if self._found is None:
            self._to_application()

    def _to_application(self) -> None:
        """Let the application have the request at hand, and what there is of its body."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        # How a stream drops a reader that does not read: a close would wait until it had read.
        extensions = self.scope.setdefault("extensions", {})
        extensions["stepflow.abort"] = {"abort": self.transport.abort}
        extensions[PARTS] = {"parts": _Parts(self)}
        super().on_headers_complete()
        # Made deep inside that method, and not started yet: its last word has to be in our shape.
        self.cycle.__class__ = _Cycle
        # Trailers come after the application has looked: they must not become headers.
        self.headers = []
        if self._found is not None:
            self._found = None
            super().on_body(b"".join(self._parts))
            self._parts.clear()

    def _check_head(self) -> list[bytes]:
        """Return the headers' names. Raises a `Refusal` when they are too large or have no host."""
        if len(self.url) > self.limits.url_bytes_max:
            raise URL_TOO_LONG
        if len(self.headers) > self.limits.headers_max:
            raise HEADERS_TOO_LARGE
        limit = self.limits.header_bytes_max
        if self._held_bytes + self._read_bytes > limit and self._head_bytes() > limit:
            raise HEADERS_TOO_LARGE
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise NO_HOST
        return names

    def _head_bytes(self) -> int:
        """Return how long the head is when its lines are written as `Name: value`."""
        start = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return start + lines + len("\r\n")

    def on_body(self, body: bytes) -> None:
        self._bodies += 1
        if self._found is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._found is not None:
            self._phase = _QUIET
            self._serve(self._found)
        elif not self._muted and not self._upgrade_body:
            if len(self.headers) > self.limits.headers_max:
                raise HEADERS_TOO_LARGE
            self._phase = _QUIET
            super().on_message_complete()

    # ------------------------------------------------------------ without the application

    def _serve(self, found: Found) -> None:
        """Drive the endpoint of a whole request to its answer, or as far as it comes now."""
        self._found = None
        body = b"".join(self._parts)
        self._parts.clear()
        # One a read: others have their turn between the requests of one that pipelines.
        self._served += 1
        call = Call(found, self.put, self.transport.close, self.tasks, self.loop)
        self.cycle = cast("RequestResponseCycle", call)
        call.begin(found.endpoint.reply(found.scope, Whole(body)))

    def put(self, call: Call, answer: Answer) -> None:
        """Write an answer; what cannot be written now is left to the application's way."""
        if len(answer.body) > LARGE_BYTES or self.flow.write_paused:
            self._put_as_application(call, answer)
            return
        defaults = self.server_state.default_headers
        self.transport.write(self.wire.whole(defaults, answer, keep_alive=call.keep_alive))
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _put_as_application(self, call: Call, answer: Answer) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            del receive
            await call.found.endpoint.deliver(scope, send, answer)

        call.found.scope["extensions"] = {"stepflow.abort": {"abort": self.transport.abort}}
        cycle = _Cycle(
            scope=cast("Any", call.found.scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=call.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False
        if cast("Any", self.cycle) is call:
            self.cycle = cycle
        self._start_asgi_task(cycle, cast("Any", app))

    # ------------------------------------------------------------ Upgrade is ignored

    def _feed(self, data: bytes) -> None:
        """Parse; go on behind a request that asks for an upgrade, which is never granted.

        The parser takes what follows such a head for another protocol, a body included; Java's
        client asks for h2c with its POSTs. So the body is given to a parser that knows only its
        length.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._upgrade_body:
                    self._parser_for_body()
                if data:
                    continue
            return

    def _parser_for_body(self) -> None:
        lines = [name + b": " + value + b"\r\n" for name, value in self._upgrade_body]
        self._upgrade_body = []
        self.parser = httptools.HttpRequestParser(self)
        self._muted = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")
        finally:
            self._muted = False


def _refusal_of(error: httptools.HttpParserError) -> Refusal:
    """Return the answer to what the parser raised: its own refusal, ours, or a defect of ours."""
    reason = error.__context__
    if isinstance(reason, Refusal):
        return reason
    if reason is None or isinstance(reason, httptools.HttpParserError):
        return MALFORMED
    logger.error("a request could not be handed on", exc_info=reason)
    return BROKEN


def _says_length(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and bool(value.strip(b"0")))


class _Cycle(RequestResponseCycle):
    """One request and its response.

    The head of an answer that is marked as whole waits for its body, of a stream for the first part
    of it, so that both are one write: a system call is a fifth of what a small answer costs.
    """

    _head: HTTPResponseStartEvent | None = None

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            if WHOLE in message and self.scope["method"] != "HEAD" and not self.response_started:
                self._head = message
                return
        elif self._head is not None:
            head, self._head = self._head, None
            await self._send_whole(head, message)
            return
        await super().send(message)

    async def _send_whole(self, head: HTTPResponseStartEvent, body: ASGISendEvent) -> None:
        transport = self.transport
        self.transport = cast("asyncio.Transport", _Joining(transport))
        try:
            await super().send(head)
            await super().send(body)
        finally:
            self.transport = transport

    async def send_500_response(self) -> None:
        body = b'{"error":"Internal error","code":"INTERNAL"}'
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class _Parts:
    """Satisfies `asgi.Parts`."""

    __slots__ = ("_guard",)

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def write(self, data: bytes) -> bool:
        guard = self._guard
        if guard.flow.write_paused or guard.transport.is_closing():
            return False
        guard.transport.write(guard.wire.part(data))
        return True

    def when_gone(self, callback: Callable[[], None] | None) -> None:
        self._guard.tell_when_gone(callback)


class _Joining:
    """A transport that keeps the first write back and puts it before the second."""

    __slots__ = ("_first", "_transport", "close", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._first: bytes | None = None
        self.close = transport.close
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._first is None:
            self._first = data
        else:
            self._transport.write(self._first + data)


class _Deadline:
    """A moment that mostly does not come: setting and clearing it costs next to nothing.

    The timer under it is not moved with it; it looks, when it fires, whether its time has come.
    """

    __slots__ = ("_at_s", "_expired", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Any) -> None:
        self._loop = loop
        self._expired = expired
        self._at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._at_s is not None

    def begin(self, after_s: float) -> None:
        """Call `expired` after so long, unless stopped."""
        self._at_s = at_s = self._loop.time() + after_s
        if self._timer is not None and self._timer.when() > at_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_later(after_s, self._look)

    def stop(self) -> None:
        self._at_s = None

    def end(self) -> None:
        self._at_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close_in(self, after_s: float, transport: asyncio.Transport) -> None:
        self.end()
        self._timer = self._loop.call_later(after_s, transport.close)

    def _look(self) -> None:
        self._timer = None
        if self._at_s is None:
            return
        left_s = self._at_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._at_s = None
            self._expired()
