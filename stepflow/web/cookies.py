"""The dashboard's cookie: how it is set, and which requests it is heeded on.

`HttpOnly`, so that no script reads it; `SameSite=Strict`, so that other sites' pages do not send
it; `Secure` when the browser came by https, which `Origin` says where a proxy ends TLS before us.
It has no `Path`, so that the browser takes that of `/session` as it sees it: the base path, also
one that a proxy takes away. It has no `Max-Age`: the server knows when it ends.

Ports are no part of a site: a page of another server on this host does send it. So a request that
counts on the cookie must also come from our own page:

================ ================== ==================================================
`Sec-Fetch-Site` `Origin`           the cookie is
================ ================== ==================================================
`same-origin`    anything           heeded
`none`           –                  heeded for `GET`: somebody typed the address
anything else    anything           refused, 403
absent           `Host`'s           heeded
absent           another's, `null`  refused, 403
absent           absent             heeded for `GET`, refused for the rest, 403
================ ================== ==================================================

A page cannot set `Sec-Fetch-Site`, and a proxy may have changed `Host`, so it decides where it is
sent (https, and localhost). What is `GET` changes nothing, and its answer is for no other origin's
eyes: CORS never allows credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.auth.sessions import COOKIE, cookie_of
from stepflow.errors import ForbiddenError
from stepflow.web.asgi import header

if TYPE_CHECKING:
    from starlette.types import Scope

    from stepflow.web.problems import Header

__all__ = ["clearing_cookie", "require_our_page", "session_cookie", "setting_cookie"]

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OTHER_ORIGIN: Final = ForbiddenError(
    "A session counts for the dashboard's own pages; send X-API-Key, or have the proxy pass Host on"
)
_COOKIE_CHARS_MAX: Final = 128


def session_cookie(scope: Scope) -> str | None:
    """Return the session's id that the browser sent."""
    sent = header(scope, b"cookie")
    found = None if sent is None else cookie_of(sent.decode("latin-1"))
    return found if found and len(found) <= _COOKIE_CHARS_MAX else None


def require_our_page(scope: Scope, *, is_login: bool = False) -> None:
    """Return when the request comes from our own page. Raises `ForbiddenError`.

    `is_login`: a program may log in as well, so saying nothing of where one comes from is fine.
    """
    safe = is_login or scope["method"] in _SAFE_METHODS
    site = header(scope, b"sec-fetch-site")
    if site is not None:
        allowed = site == b"same-origin" or (safe and site == b"none")
    else:
        origin = header(scope, b"origin")
        # The scheme is left out: whoever ends TLS before us has changed it.
        host = (header(scope, b"host") or b"").lower()
        allowed = safe if origin is None else origin.partition(b"://")[2].lower() == host != b""
    if not allowed:
        raise _OTHER_ORIGIN


def setting_cookie(scope: Scope, text: str) -> Header:
    """Return the header that makes the browser keep the session's id."""
    is_https = scope["scheme"] == "https" or (header(scope, b"origin") or b"").startswith(
        b"https://"
    )
    end = "; Secure" if is_https else ""
    return b"set-cookie", f"{COOKIE}={text}; HttpOnly; SameSite=Strict{end}".encode()


def clearing_cookie() -> Header:
    """Return the header that makes the browser forget it."""
    return b"set-cookie", f"{COOKIE}=; Max-Age=0; HttpOnly; SameSite=Strict".encode()
