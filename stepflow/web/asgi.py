"""One request and its answer, straight from the ASGI scope: headers, query, body, two sends.

The hot routes use these functions in place of request and response objects, which cost more than a
durable run does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from stepflow.clock import next_pass
from stepflow.errors import InvalidInputError, PayloadTooLargeError
from stepflow.web.budget import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from stepflow.web.budget import Share
    from stepflow.web.problems import Answer

__all__ = ["PARTS", "SHARE", "ClientGone", "HeaderView", "Parts", "abort", "client_of", "header"]
__all__ += ["parts_of", "query_all", "query_of", "read_body", "read_json", "send_answer"]
__all__ += ["send_large"]

SHARE = "stepflow.share"
"""Where the scope keeps what its request holds of the budget for large bodies."""

PARTS = "stepflow.parts"
"""The extension by which our own server gives a stream its `Parts`."""

logger = logging.getLogger("stepflow.web")


class ClientGone(Exception):  # noqa: N818  says what happened; nobody is left to be told
    """The client went away before its request was whole."""


class Parts(Protocol):
    """What our own connection offers a stream beside `send` and `receive`: neither waits."""

    def write(self, data: bytes) -> bool:
        """Write a part of the body that has begun; say no when it has to wait, or is for nobody."""
        ...

    def when_gone(self, callback: Callable[[], None] | None) -> None:
        """Call it when the client goes; for a request without a body."""
        ...


def parts_of(scope: Scope) -> Parts | None:
    """Return the connection's `Parts`, where it is ours and nothing of a body is to be read."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    parts: Parts | None = extensions.get(PARTS, {}).get("parts")
    bare = header(scope, b"transfer-encoding") is None
    return parts if bare and header(scope, b"content-length") in {None, b"0"} else None


class HeaderView:
    """Looks a header up by its lower-case name; the first of several counts."""

    __slots__ = ("_headers",)

    def __init__(self, scope: Scope) -> None:
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]

    def get(self, name: str) -> str | None:
        wanted = name.encode("latin-1")
        for key, value in self._headers:
            if key == wanted:
                return value.decode("latin-1")
        return None


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of that lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def query_all(scope: Scope) -> list[tuple[str, str]]:
    """Return the query's names and values, in order."""
    text: bytes = scope["query_string"]
    return parse_qsl(text.decode("latin-1"), keep_blank_values=True) if text else []


def query_of(scope: Scope, name: str) -> str | None:
    """Return the first value of that name in the query."""
    text: bytes = scope["query_string"]
    if not text or name.encode() not in text:
        return None
    return next((value for key, value in query_all(scope) if key == name), None)


def client_of(scope: Scope) -> str | None:
    """Return the peer's address."""
    client: Any = scope.get("client")
    return client[0] if client else None


def _declared_length(scope: Scope) -> int:
    text = header(scope, b"content-length")
    if text is None:
        return 0
    if not text.isdigit() or len(text) > 18:
        raise InvalidInputError("Content-Length is not a number")
    return int(text)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the whole body.

    Raises `PayloadTooLargeError` beyond `limit`, before a byte is read where the length is
    declared, `UnavailableError` when all that is read at once is too much, and `ClientGone`.
    """
    if _declared_length(scope) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    return await _read_rest(receive, body, limit, scope.get(SHARE))


async def _read_rest(receive: Receive, start: bytes, limit: int, share: Share | None) -> bytes:
    chunks = [start]
    size = len(start)
    while size <= limit:
        if share is not None:
            share.hold(size)
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
        if not message.get("more_body", False) and size <= limit:
            return b"".join(chunks)
    raise _too_large(limit)


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is larger than {limit} bytes")


async def read_json(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body as JSON text, `null` when it is empty. Whether it is JSON is not checked.

    Raises `InvalidInputError` for a content type that is present and not JSON: it keeps a form on
    another site from being a request here.
    """
    content_type = header(scope, b"content-type")
    if content_type is not None and not _is_json(content_type):
        raise InvalidInputError("Content-Type is not JSON: send application/json")
    return await read_body(scope, receive, limit) or b"null"


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    media = content_type.partition(b";")[0].strip().lower()
    kind, _, subtype = media.partition(b"/")
    return media == b"application/json" or (kind == b"application" and subtype.endswith(b"+json"))


async def send_large(scope: Scope, send: Send, answer: Answer, blocked_s: float) -> None:
    """Send a large response in slices; a client that reads none for `blocked_s` is cut off."""
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    body = memoryview(answer.body)
    try:
        await send(start)
        for begin in range(0, len(body), LARGE_BYTES):
            piece = bytes(body[begin : begin + LARGE_BYTES])
            more = begin + LARGE_BYTES < len(body)
            async with asyncio.timeout(blocked_s):
                await send({"type": "http.response.body", "body": piece, "more_body": more})
    except TimeoutError:
        logger.debug("the client does not read its answer and is cut off")
        await abort(scope)
    except OSError:
        logger.debug("the client went away before its answer")


async def abort(scope: Scope) -> None:
    """Drop the connection of a reader that does not read; our own server offers a way to do it."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    cut: Callable[[], None] | None = extensions.get("stepflow.abort", {}).get("abort")
    if cut is not None:
        cut()
        # The server hears of it within two passes, and then misses no end of the response.
        await next_pass()
        await next_pass()


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole response; a client that has gone is nobody's error."""
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    # For our own server, see guard.py: the one body follows at once.
    start["stepflow.whole"] = True
    try:
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})
    except OSError:
        logger.debug("the client went away before its answer")
