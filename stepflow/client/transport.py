"""httpx between the pure core and the network: what both clients do to it alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

try:
    import httpx
except ImportError as error:  # pragma: no cover  tested in a process of its own
    message = 'the HTTP client needs httpx: pip install "stepflow[client]"'
    raise ImportError(message, name="httpx") from error

from stepflow.client.wire import Credentials, Lost, Request, Response, base_url
from stepflow.tracing import current_traceparent

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONNECTIONS_MAX", "STREAM_SILENCE_S", "TIMEOUT_S", "Address", "dice", "httpx", "limits"]
__all__ += ["lost", "new_key", "whole"]

CONNECTIONS_MAX: Final = 100
"""So many calls of one client are under way at once; the next one waits for a connection."""
TIMEOUT_S: Final = 40.0
"""Longer than the 30 s after which a server says OUTCOME_UNKNOWN by itself."""
STREAM_SILENCE_S: Final = 45.0
"""A server sends a comment every 15 s; a stream silent for longer is dead and opened again."""
_KEEPALIVE_S: Final = 2.0
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
)


class Address:
    """Where the API is and who calls it; its text never shows a credential."""

    __slots__ = ("_credentials", "timeout", "url")

    def __init__(self, url: str, credentials: Credentials, timeout_s: float) -> None:
        self.url = base_url(url)
        self.timeout = httpx.Timeout(timeout_s)
        self._credentials = credentials

    def options(self) -> dict[str, Any]:
        """Return the options of the httpx client: both kinds take the same."""
        return {"headers": dict(self._credentials.headers), "timeout": self.timeout}

    def arguments(self, request: Request) -> dict[str, Any]:
        """Return the request as httpx takes it."""
        params = (*request.params, *self._credentials.params)
        headers = dict(request.headers)
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        return {
            "method": request.method,
            "url": self.url + request.path,
            "params": list(params) or None,
            "headers": headers,
            "content": request.body,
        }

    def stream_arguments(self, request: Request) -> dict[str, Any]:
        """Return the request of a stream, which may be silent for longer than an answer."""
        timeout = httpx.Timeout(self.timeout.connect, read=STREAM_SILENCE_S)
        return {**self.arguments(request), "timeout": timeout}


def limits(connections_max: int | None) -> httpx.Limits:
    """Return how many connections may be open, and how long one may be idle.

    Servers drop idle connections after 5 s; one that is dropped while it is being used looks like a
    lost answer. So ours are given up earlier.
    """
    return httpx.Limits(max_connections=connections_max, keepalive_expiry=_KEEPALIVE_S)


def whole(response: httpx.Response) -> Response:
    """Return a response whose body has been read."""
    headers: Mapping[str, str] = response.headers
    return Response(response.status_code, headers, response.content)


def lost(error: httpx.TransportError) -> Lost:
    """Return what the error says of the request: httpx's texts name no URL."""
    why = str(error) or type(error).__name__
    return Lost(why, sent=not isinstance(error, _NOT_SENT))


def dice() -> float:
    """Return a number in [0, 1), for jitter: clients that were cut off together come back apart."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def new_key() -> str:
    """Return a random idempotency key."""
    return os.urandom(16).hex()
