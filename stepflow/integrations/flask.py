"""Flask: whoever its sessions know, as principals.

The API stands around Flask (`flow.wrap(a2wsgi.WSGIMiddleware(app))`, on an ASGI server), so Flask
does not see our requests. `request_auth` makes a request context of each, in which the session, and
what extensions keep in it, reads as in a view.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from werkzeug.test import EnvironBuilder

from stepflow.auth.handlers import AuthResult, same_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from stepflow.auth.handlers import AuthHandler, AuthRequest
    from stepflow.auth.principal import Principal

__all__ = ["request_auth"]


def request_auth(app: Flask, principal: Callable[[], Principal | None]) -> AuthHandler:
    """Return a handler that asks `principal()` inside a request context of `app`.

    It runs in a thread, and may look at `session`, `request` and whatever lives by them
    (`flask_login.current_user`). None: nobody. Changes of the session are not sent. What a page of
    another site sends is refused before it is looked at.
    """

    def look(request: AuthRequest) -> AuthResult:
        environ = EnvironBuilder(
            path=request.path, method=request.method, headers=request.headers.items()
        ).get_environ()
        with app.request_context(environ):
            found = principal()
        return AuthResult(ok=found is not None, principal=found)

    async def in_a_thread(request: AuthRequest) -> AuthResult:
        return await asyncio.to_thread(look, request)

    return same_site(in_a_thread)
