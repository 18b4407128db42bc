"""Who calls, and may they: the order of checks that every route keeps.

1. **authentication**: who is it? A caller without a good credential learns nothing further.
2. the shape of the id; any other text is 404
3. does it exist? 404
4. **the right to it**: a scope (403); a public access token's run (any other is 404, as if absent)
5. the body

A public access token reads one run and its stream; on every other route it is 403.

The dashboard's cookie (`cookies.py`) is looked at last, where the request says nothing else of who
calls, and only on requests of our own pages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stepflow.auth.chain import NoCredentialsError
from stepflow.auth.handlers import AuthRequest, RouteAuth
from stepflow.errors import ApiError, ForbiddenError, RunNotFoundError, UnauthorizedError
from stepflow.web.asgi import HeaderView, client_of, header, query_all, query_of
from stepflow.web.cookies import require_our_page, session_cookie

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Scope as AsgiScope

    from stepflow.auth.chain import AuthChain
    from stepflow.auth.handlers import AuthHandler, FailureHook
    from stepflow.auth.keys_file import KeyFollower
    from stepflow.auth.principal import Principal, Scope
    from stepflow.auth.public_token import TokenSigner
    from stepflow.auth.sessions import Session
    from stepflow.clock import Clock
    from stepflow.engine.protocol import Engine
    from stepflow.model.views import RunView

__all__ = ["Policy", "require_run", "require_scope", "require_visible", "require_whole"]

_LOGIN: Final = "ui"
_DECIDING: Final = (b"x-api-key", b"authorization")
_TOKEN_ENDPOINTS: Final = frozenset({"runs", "runs_stream"})


class Policy:
    """Authenticates the requests of one application.

    `chain` is what the environment and the data directory ask for. It is a function, because the
    directory is opened at the start, after the routes were built. `auth` replaces it by the host's
    own handlers; public access tokens go on reading their runs. `cookies=False`: no session is
    begun and none is heeded.
    """

    __slots__ = ("_chain", "_clock", "_cookies", "_hook", "_own")

    def __init__(
        self,
        chain: Callable[[], AuthChain],
        clock: Clock,
        auth: AuthHandler | AuthChain | Mapping[str, AuthHandler | AuthChain] | None = None,
        on_auth_failure: FailureHook | None = None,
        *,
        cookies: bool = True,
    ) -> None:
        self._chain = chain
        self._cookies = cookies
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
            session = await self._session(scope)
            if session is not None:
                return await self._of_own_session(self._own, endpoint, scope, session)
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
            if isinstance(error, NoCredentialsError):
                session = await self._session(scope)
                found = None if session is None else self._chain().principal_of(session)
                if found is not None:
                    return found
            if self._hook is not None:
                await RouteAuth(self._chain(), self._hook).report(_request_of(scope), error)
            raise

    @property
    def follower(self) -> KeyFollower | None:
        """The keys that can be made and revoked; None where the host decides who may call."""
        return self._chain().follower if self._own is None else None

    # ------------------------------------------------------------ sessions

    async def log_in(self, scope: AsgiScope, text: str) -> tuple[str, Session]:
        """Begin a session with a key or a JWT; whatever session the browser had is over.

        Returns its id and what it is. Raises the `ApiError` that is the answer.
        """
        require_our_page(scope, is_login=True)
        chain = self._chain()
        text_before = session_cookie(scope)
        before = await chain.sessions.seek(text_before) if text_before is not None else None
        if self._own is None:
            try:
                begun = await chain.log_in(text, client_of(scope))
            except ApiError as error:
                if self._hook is not None:
                    await RouteAuth(chain, self._hook).report(_request_of(scope), error)
                raise
        else:
            begun = await self._log_in_own(self._own, scope, text)
        if before is not None:
            await chain.sessions.end(before)
        return begun

    async def log_out(self, principal: Principal) -> None:
        """End the session that the caller came with, if it came with one."""
        sessions = self._chain().sessions
        session = sessions.by_hash(principal.session)
        if session is not None:
            await sessions.end(session)

    async def _session(self, scope: AsgiScope) -> Session | None:
        """Return the session of the cookie, where nothing else says who calls.

        Raises `ForbiddenError` where a page that is not ours makes the browser send it.
        """
        if not self._cookies or (text := session_cookie(scope)) is None:
            return None
        if any(header(scope, name) is not None for name in _DECIDING):
            return None
        if query_of(scope, "token") is not None:
            return None
        session = await self._chain().sessions.seek(text)
        if session is not None:
            require_our_page(scope)
        return session

    async def _log_in_own(self, own: RouteAuth, scope: AsgiScope, text: str) -> tuple[str, Session]:
        # A handler looks where it looks: as a key, unless it can only be a JWT, and as a bearer.
        given = {"authorization": f"Bearer {text}"}
        if not text.startswith("eyJ"):
            given["x-api-key"] = text
        try:
            principal = await own.authenticate(_LOGIN, _request_of(scope, given))
        except UnauthorizedError:
            self._chain().count_failure(client_of(scope))
            raise
        return await self._chain().sessions.begin(principal, credential=given)

    async def _of_own_session(
        self, own: RouteAuth, endpoint: str, scope: AsgiScope, session: Session
    ) -> Principal:
        principal = await own.authenticate(endpoint, _request_of(scope, session.credential or {}))
        ends_ms = min(principal.expires_ms or session.expires_ms, session.expires_ms)
        return replace(principal, expires_ms=ends_ms, session=session.sha256)

    # ------------------------------------------------------------

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


def _request_of(scope: AsgiScope, given: Mapping[str, str] | None = None) -> AuthRequest:
    """Return the request as handlers see it; `given`: headers that stand for its own."""
    headers: dict[str, str] = dict(given or {})
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
