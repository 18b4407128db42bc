"""What guards a server without credentials: pages of other sites stay outside.

`serve --no-auth` listens on this machine alone, but a browser on this machine carries other sites'
pages in. Two ways, and what stops each:

============================================ =================================================
a page of another site                        what stops it
============================================ =================================================
posts: a form, or a body without a type,      `Origin` must be this server's, or one of the
needs no preflight                            CORS origins; `null` is neither
makes its own name point at 127.0.0.1         `Host` must name this machine: `localhost`, a
(DNS rebinding): to the browser, everything   name below it, a loopback address
here is then its own site, and it reads all
============================================ =================================================

Programs send no `Origin` and the address that they were given. Where credentials are asked for,
none of this is needed: they travel in headers that no browser adds by itself.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from stepflow.errors import ForbiddenError
from stepflow.web.asgi import header, send_answer
from stepflow.web.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["SameSite", "is_this_machine"]

_AUTHORITY: Final = re.compile(
    r"(?P<host>[A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_NOT_THIS_HOST: Final = ForbiddenError(
    "Without authentication this server answers to localhost and 127.0.0.1 only"
)
_OTHER_ORIGIN: Final = ForbiddenError(
    "Without authentication pages of other sites may not call; list yours in STEPFLOW_CORS_ORIGINS"
)


class SameSite:
    """An application that pages of other sites cannot reach through a browser on this machine."""

    __slots__ = ("_app", "_origins")

    def __init__(self, app: ASGIApp, origins: frozenset[bytes] = frozenset()) -> None:
        """`origins`: other origins whose pages may call, as `cors_origins` returns them."""
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refusal(scope)) is not None:
            await send_answer(send, problem(error))
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ForbiddenError | None:
        host = header(scope, b"host") or b""
        if not is_this_machine(host.decode("latin-1")):
            return _NOT_THIS_HOST
        origin = header(scope, b"origin")
        if origin is None or origin in self._origins:
            return None
        # The scheme is left out: whoever ends TLS before us has changed it.
        return None if origin.partition(b"://")[2].lower() == host.lower() else _OTHER_ORIGIN


def is_this_machine(authority: str) -> bool:
    """Say whether `host[:port]` names this machine by itself, whatever a resolver says."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return False
    host = match["host"].lower().strip("[]").removesuffix(".")
    # Browsers never ask a resolver for names below localhost (RFC 6761).
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
