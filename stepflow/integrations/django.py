"""Django: its users and sessions as principals.

The API stands around Django (`flow.wrap`), because Django has no lifespan, so its middleware does
not see our requests. `session_auth` asks what the middleware would: the session's cookie, the user,
and for what changes something the CSRF token, by Django's own rules and settings.
"""

# pyright: basic
# Django has no annotations to be strict with.

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from stepflow.auth.handlers import AuthResult
from stepflow.auth.principal import ALL_SCOPES, DEFAULT_SCOPES, Principal
from stepflow.errors import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.auth.handlers import AuthHandler, AuthRequest

__all__ = ["of_staff", "session_auth"]


def of_staff(user: Any) -> Principal | None:
    """Return the principal of a member of the staff; superusers have the scope `admin`, too."""
    if not user.is_staff:
        return None
    scopes = ALL_SCOPES if user.is_superuser else DEFAULT_SCOPES
    return Principal(user.get_username(), scopes=scopes)


def session_auth(principal: Callable[[Any], Principal | None] = of_staff) -> AuthHandler:
    """Return a handler that knows the users of Django's sessions.

    `principal` says who a user is here; None: nobody. It is called with an active user, in a thread
    where Django's database may be asked. Unless given, only the staff is let in.
    """

    def look(request: AuthRequest) -> AuthResult:
        http: Any = ASGIRequest(cast("dict[str, Any]", request.extra), BytesIO())
        store = import_module(settings.SESSION_ENGINE).SessionStore
        http.session = store(http.COOKIES.get(settings.SESSION_COOKIE_NAME))
        user = get_user(http)
        found = principal(user) if user.is_authenticated else None
        if found is None:
            return AuthResult(ok=False)
        csrf = CsrfViewMiddleware(_nothing)
        csrf.process_request(http)
        if csrf.process_view(http, None, (), {}) is not None:
            return AuthResult(ok=False, error=ForbiddenError("CSRF verification failed"))
        return AuthResult(ok=True, principal=found)

    return sync_to_async(look)


def _nothing(request: Any) -> HttpResponse:
    del request
    return HttpResponse()
