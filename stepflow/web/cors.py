"""Which other sites' pages may call: an exact list of origins, off unless set.

The browser asks first (a preflight: `OPTIONS` with `Access-Control-Request-Method`) and is told
what it may send. Credentials of other sites' pages travel in headers that they set. The dashboard's
cookie is for its own pages, so `Access-Control-Allow-Credentials` is never sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stepflow.errors import ConfigurationError, ForbiddenError
from stepflow.web.asgi import header, send_answer
from stepflow.web.problems import Answer, problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stepflow.web.problems import Header

__all__ = ["Cors", "cors_origins"]

_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"X-API-Key, Authorization, Last-Event-ID, Idempotency-Key, Content-Type, traceparent",
    ),
    (b"access-control-max-age", b"600"),
    (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    (b"content-length", b"0"),
)
_EXPOSED: Final = (b"access-control-expose-headers", b"Retry-After")
_VARY: Final = (b"vary", b"Origin")


def cors_origins(origins: Iterable[str]) -> frozenset[bytes]:
    """Return the origins as browsers write them. Raises `ConfigurationError` for what is none."""
    return frozenset(_origin(text.strip()) for text in origins if text.strip())


def _origin(text: str) -> bytes:
    parts = urlsplit(text)
    bare = f"{parts.scheme}://{parts.netloc}".lower()
    if parts.scheme not in {"http", "https"} or not parts.netloc or bare != text.lower():
        raise ConfigurationError(
            f"CORS origin {text!r} is no origin; write each one out, like https://app.example.com"
        )
    return bare.encode()


class Cors:
    """An application in front of which browsers' questions about origins are answered."""

    __slots__ = ("_app", "_origins")

    def __init__(self, app: ASGIApp, origins: frozenset[bytes]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin") if scope["type"] == "http" else None
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (
            origin is not None
            and scope["method"] == "OPTIONS"
            and header(scope, b"access-control-request-method") is not None
        ):
            await send_answer(send, self._preflight(origin))
        else:
            await self._app(scope, receive, _with_headers(send, self._headers(origin)))

    def _preflight(self, origin: bytes) -> Answer:
        if origin not in self._origins:
            return problem(ForbiddenError("This origin is not in STEPFLOW_CORS_ORIGINS"))
        return Answer(204, ((b"access-control-allow-origin", origin), *_PREFLIGHT), b"")

    def _headers(self, origin: bytes | None) -> tuple[Header, ...]:
        if origin is None or origin not in self._origins:
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), _EXPOSED, _VARY)


def _with_headers(send: Send, headers: tuple[Header, ...]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": (*message["headers"], *headers)}
        await send(message)

    return send_with_headers
