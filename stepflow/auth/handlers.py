"""Authentication by the host's own code: handlers, how they combine, and which route asks which.

A handler is any callable, async or not, from an `AuthRequest` to an `AuthResult` (or simply to
a bool or a `Principal`). It may also raise an `ApiError`, which is then the answer. Any other
exception is logged and answered with 500: a broken lock stays shut.

`RouteAuth` picks the handler of an endpoint: an override replaces `"global"`, it adds nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from stepflow.auth.api_key import KeyRing, plain_key
from stepflow.auth.principal import ANONYMOUS, Principal
from stepflow.errors import (
    ApiError,
    ConfigurationError,
    ForbiddenError,
    InternalError,
    UnauthorizedError,
)

__all__ = ["AuthAnswer", "AuthHandler", "AuthRequest", "AuthResult", "FailureHook", "RouteAuth"]
__all__ += ["allow_all", "any_of", "api_key_auth", "deny_all", "same_site"]

GLOBAL = "global"

logger = logging.getLogger("stepflow.auth")


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """What a handler may look at. Header names are lower-case; `extra` is the host's own object."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    client: str | None = None
    extra: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthResult:
    """A handler's answer. Without a `principal` an allowed caller is anonymous, with all scopes."""

    ok: bool
    principal: Principal | None = None
    error: ApiError | None = None


AuthAnswer: TypeAlias = AuthResult | Principal | bool
AuthHandler: TypeAlias = Callable[[AuthRequest], Awaitable[AuthAnswer] | AuthAnswer]
FailureHook: TypeAlias = Callable[[AuthRequest, ApiError], Awaitable[None] | None]


def allow_all(_request: AuthRequest) -> AuthResult:
    """Let everyone in, with all scopes."""
    return AuthResult(ok=True)


def deny_all(_request: AuthRequest) -> AuthResult:
    """Let nobody in."""
    return AuthResult(ok=False)


def api_key_auth(*keys: str) -> AuthHandler:
    """Return a handler that wants one of `keys` in `X-API-Key`; each has all scopes.

    Raises `ConfigurationError` when none is given or one is no key (16 to 256 visible characters).
    """
    if not keys:
        raise ConfigurationError("api_key_auth() needs a key")
    ring = KeyRing(plain_key(key, "api_key_auth()") for key in keys)

    def check(request: AuthRequest) -> AuthResult:
        given = request.headers.get("x-api-key")
        found = None if given is None else ring.find(given, now_ms=0)
        return AuthResult(ok=found is not None, principal=found)

    return check


def any_of(*handlers: AuthHandler) -> AuthHandler:
    """Return a handler that asks each in turn; the first to allow wins, else the last to refuse."""

    async def check(request: AuthRequest) -> AuthResult:
        error: ApiError | None = None
        for handler in handlers:
            try:
                return AuthResult(ok=True, principal=await _ask(handler, request))
            except ApiError as refusal:
                error = refusal
        return AuthResult(ok=False, error=error)

    return check


def same_site(handler: AuthHandler) -> AuthHandler:
    """Return `handler`, asked only where no page of another site can be behind the request.

    For handlers that go by what a browser sends by itself, a session's cookie above all. `Origin`,
    which browsers send along with whatever changes something, must be this server's own, and
    `Sec-Fetch-Site` must not say `cross-site`. Raises `ForbiddenError` where they are not.
    """

    def check(request: AuthRequest) -> Awaitable[AuthAnswer] | AuthAnswer:
        if _from_another_site(request.headers):
            raise ForbiddenError("A page of another site may not call with this one's cookies")
        return handler(request)

    return check


def _from_another_site(headers: Mapping[str, str]) -> bool:
    if headers.get("sec-fetch-site") == "cross-site":
        return True
    origin = headers.get("origin")
    # The scheme is left out: whoever ends TLS before us has changed it.
    own = headers.get("host", "").lower()
    return origin is not None and origin.partition("://")[2].lower() != own


class RouteAuth:
    """Which handler guards which endpoint, and who hears of a refusal."""

    __slots__ = ("_default", "_on_failure", "_overrides")

    def __init__(
        self,
        auth: AuthHandler | Mapping[str, AuthHandler],
        on_failure: FailureHook | None = None,
    ) -> None:
        """`auth` guards all endpoints, or maps their names, and `"global"` for the rest.

        Without `"global"` the endpoints that are not named let nobody in.
        """
        overrides = {GLOBAL: auth} if callable(auth) else dict(auth)
        self._default = overrides.pop(GLOBAL, deny_all)
        self._overrides = overrides
        self._on_failure = on_failure

    def handler(self, endpoint: str) -> AuthHandler:
        """Return what guards that endpoint: for an `AuthChain` there is a shorter way."""
        return self._overrides.get(endpoint, self._default)

    async def authenticate(self, endpoint: str, request: AuthRequest) -> Principal:
        """Return who calls. Raises the `ApiError` that is the answer."""
        try:
            return await _ask(self.handler(endpoint), request)
        except ApiError as error:
            await self.report(request, error)
            raise

    async def report(self, request: AuthRequest, error: ApiError) -> None:
        """Tell the host's hook of a refusal; what the hook does changes no answer."""
        if self._on_failure is None:
            return
        try:
            heard = self._on_failure(request, error)
            if inspect.isawaitable(heard):
                await heard
        except Exception:
            logger.exception("on_auth_failure raised; the answer stays %s", error.code)


async def _ask(handler: AuthHandler, request: AuthRequest) -> Principal:
    """Return whom the handler lets in. Raises the `ApiError` that is the answer."""
    try:
        answer = handler(request)
        if inspect.isawaitable(answer):
            answer = await answer
    except ApiError:
        raise
    except Exception as error:
        logger.exception("the auth handler raised; the request is refused")
        raise InternalError from error
    return _principal_of(answer)


def _principal_of(answer: object) -> Principal:
    match answer:
        case AuthResult(ok=True, principal=principal):
            return principal or ANONYMOUS
        case Principal():
            return answer
        case True:
            return ANONYMOUS
        case AuthResult(ok=False, error=ApiError() as error):
            raise error
        case _:
            # Whatever else a handler returns, None above all, is no permission.
            raise UnauthorizedError
