"""Who calls, and may they: the order of checks that every route keeps.

1. **authentication**: who is it? A caller without a good credential learns nothing further.
2. the shape of the id; any other text is 404
3. does it exist? 404
4. **the right to it**: a scope (403); a public access token's run (any other is 404, as if absent)
5. the body

A public access token reads one run and its stream; on every other route it is 403.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.auth.handlers import AuthRequest, RouteAuth
from stepflow.errors import ApiError, ForbiddenError, RunNotFoundError, UnauthorizedError
from stepflow.web.asgi import HeaderView, client_of, query_all, query_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Scope as AsgiScope

    from stepflow.auth.chain import AuthChain
    from stepflow.auth.handlers import AuthHandler, FailureHook
    from stepflow.auth.principal import Principal, Scope
    from stepflow.auth.public_token import TokenSigner
    from stepflow.clock import Clock
    from stepflow.engine.protocol import Engine
    from stepflow.model.views import RunView

__all__ = ["Policy", "require_run", "require_scope", "require_visible", "require_whole"]

_TOKEN_ENDPOINTS: Final = frozenset({"runs", "runs_stream"})


class Policy:
    """Authenticates the requests of one application.

    `chain` is what the environment and the data directory ask for. It is a function, because the
    directory is opened at the start, after the routes were built. `auth` replaces it by the host's
    own handlers; public access tokens go on reading their runs.
    """

    __slots__ = ("_chain", "_clock", "_hook", "_own")

    def __init__(
        self,
        chain: Callable[[], AuthChain],
        clock: Clock,
        auth: AuthHandler | AuthChain | Mapping[str, AuthHandler | AuthChain] | None = None,
        on_auth_failure: FailureHook | None = None,
    ) -> None:
        self._chain = chain
        self._clock = clock
        self._own = None if auth is None else RouteAuth(auth, on_auth_failure)
        self._hook = on_auth_failure

    @property
    def is_our_own(self) -> bool:
        """Whether nothing of the host's takes part: no handler, and no hook for refusals."""
        return self._own is None and self._hook is None

    async def authenticate(self, endpoint: str, scope: AsgiScope) -> Principal:
        """Return who calls. Raises the `ApiError` that is the answer."""
        if self._own is not None:
            token = self._token_principal(scope)
            if token is not None and _reads_a_run(endpoint, scope):
                return token
            try:
                return await self._own.authenticate(endpoint, _request_of(scope))
            except UnauthorizedError:
                # Known, but not here: the route's scope makes that 403.
                if token is None:
                    raise
                return token
        try:
            return await self._chain().authenticate(
                HeaderView(scope).get, query_of(scope, "token"), client_of(scope)
            )
        except ApiError as error:
            if self._hook is not None:
                await RouteAuth(self._chain(), self._hook).report(_request_of(scope), error)
            raise

    def watch(self, principal: Principal, revoked: Callable[[], None]) -> Callable[[], None]:
        """Call `revoked` when the caller's key is taken back; returns what stops the watch."""
        return self._chain().watch(principal, revoked)

    @property
    def signer(self) -> TokenSigner:
        """What makes public access tokens."""
        return self._chain().signer

    def _token_principal(self, scope: AsgiScope) -> Principal | None:
        token = query_of(scope, "token")
        return None if token is None else self._chain().signer.verify(token, self._clock.wall_ms())


def _reads_a_run(endpoint: str, scope: AsgiScope) -> bool:
    return endpoint in _TOKEN_ENDPOINTS and scope["method"] in {"GET", "HEAD"}


def _request_of(scope: AsgiScope) -> AuthRequest:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    query: dict[str, str] = {}
    for key, text in query_all(scope):
        query.setdefault(key, text)
    return AuthRequest(
        scope["method"], scope["path"], headers, query, client_of(scope), extra=scope
    )


def require_scope(principal: Principal, scope: Scope) -> None:
    """Return when the caller holds `scope`. Raises `ForbiddenError`."""
    if scope not in principal.scopes:
        raise ForbiddenError(f"This credential has no scope {scope!r}")


def require_whole(principal: Principal, scope: Scope) -> None:
    """Return when the caller holds `scope` and no run is hidden from it."""
    require_scope(principal, scope)
    if not principal.reads_everything:
        raise ForbiddenError("A public access token reads its own run and nothing else")


async def require_run(engine: Engine, principal: Principal, run_id: str) -> None:
    """Return when the run exists and is not hidden from the caller; else `RunNotFoundError`."""
    if principal.tag is not None:
        require_visible(principal, await engine.get_run(run_id))
    elif principal.run_ids is not None and run_id not in principal.run_ids:
        raise RunNotFoundError
    else:
        await engine.require_run(run_id)


def require_visible(principal: Principal, run: RunView) -> None:
    """Raise `RunNotFoundError` for a run that is hidden from the caller: as if it did not exist."""
    if principal.run_ids is not None and run.id not in principal.run_ids:
        raise RunNotFoundError
    if principal.tag is not None and principal.tag not in (run.tags or ()):
        raise RunNotFoundError
