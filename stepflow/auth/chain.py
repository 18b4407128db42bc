"""From a request's credentials to a `Principal`, or to a refusal.

`AuthChain` is what `auth=None` means. The first present of these decides, and a bad one is 401 even
if a later one would have been good:

1. `X-API-Key`: a key of the environment, of `keys.json`, or the one that `serve` made itself
2. `Authorization: Bearer`: a public access token `pat_…`, else a JWT
3. `?token=`: a public access token

A request with none of them may still have a session's cookie (`sessions.py`), which the caller of
this chain looks at last: what a browser adds by itself is heeded only where nothing was said.

Bad credentials are counted by client address; too many get 429 instead of 401. Good credentials are
never counted and never asked to wait, so nobody can lock another out.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stepflow.auth.api_key import KeyRing, keys_from_env, load_default_key, plain_key
from stepflow.auth.callers import network_of
from stepflow.auth.handlers import AuthRequest, AuthResult
from stepflow.auth.keys_file import KeyFollower, KeysFile
from stepflow.auth.keys_table import KeysTable
from stepflow.auth.public_token import (
    PREFIX,
    TokenSigner,
    load_or_create_token_key,
    token_keys_from_env,
)
from stepflow.auth.secret_file import with_secret_files
from stepflow.auth.sessions import Sessions, jwt_seal
from stepflow.auth.sessions_table import SessionsTable
from stepflow.config import MEMORY
from stepflow.errors import RateLimitedError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepflow.auth.jwt_bearer import JwtBearer
    from stepflow.auth.principal import Principal
    from stepflow.auth.sessions import Session
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.model.shared_table import SharedTable

__all__ = ["DEFAULT_KEY_FILE", "KEYS_FILE", "SESSIONS_FILE", "TOKEN_KEY_FILE", "AuthChain"]
__all__ += ["FailureLimiter", "NoCredentialsError"]

KEYS_FILE: Final = "keys.json"
DEFAULT_KEY_FILE: Final = "api.key"
SESSIONS_FILE: Final = "sessions.json"
TOKEN_KEY_FILE: Final = "token.key"  # noqa: S105  a file name

logger = logging.getLogger("stepflow.auth")


class NoCredentialsError(UnauthorizedError):
    """Nothing was presented, neither good nor bad. To the caller it reads as any other 401."""


class AuthChain:
    """Checks API keys, JWTs and public access tokens."""

    __slots__ = (
        "_clock",
        "_failures",
        "_fixed",
        "_followers",
        "_jwt",
        "_seal",
        "_settings",
        "sessions",
        "signer",
    )

    def __init__(  # noqa: PLR0913  all that may say who calls
        self,
        *,
        clock: Clock,
        settings: Settings,
        signer: TokenSigner,
        keys: KeyRing | None = None,
        follower: KeyFollower | None = None,
        beside: KeyFollower | None = None,
        jwt: JwtBearer | None = None,
        sessions: Sessions | None = None,
        seal: str = "",
    ) -> None:
        """`seal`: what `jwt_seal` says of the settings that `jwt` was made with.

        `follower`: the keys that are made and revoked over HTTP. Those of `beside` are as good.
        """
        self.signer = signer
        self._clock = clock
        self._settings = settings
        self._fixed = keys or KeyRing()
        self._followers = tuple(each for each in (follower, beside) if each is not None)
        self._jwt = jwt
        self._seal = seal
        self.sessions = Sessions(None, clock, settings) if sessions is None else sessions
        self._failures = FailureLimiter(clock, settings)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str],
        data_dir: Path | str | None,
        settings: Settings,
        clock: Clock,
        entropy: Callable[[int], bytes] = os.urandom,
        *,
        table: SharedTable | None = None,
        logins: SharedTable | None = None,
    ) -> AuthChain:
        """Return the chain that environment and data directory ask for.

        With a `table` the keys that are made are there, shared with other processes; those in the
        directory are good beside them. With `logins` the sessions are there.

        The directory exists already, or is None or `MEMORY`; `token.key` is made in it when
        missing. Raises `ConfigurationError` for a credential that cannot be used.
        """
        environ = with_secret_files(environ)
        directory = None if data_dir in (None, MEMORY) else Path(str(data_dir))
        jwt = _jwt_from_env(environ, settings, clock)
        follower = beside = _follower(directory, settings, clock)
        if table is None:
            beside = None
        else:
            follower = KeyFollower(KeysTable(table, settings.keys_max), clock, settings)
        return cls(
            clock=clock,
            settings=settings,
            signer=_signer(environ, directory, settings, entropy),
            keys=_fixed_keys(environ, directory, has_jwt=jwt is not None),
            follower=follower,
            beside=beside,
            jwt=jwt,
            sessions=_sessions(directory, settings, clock, entropy, logins),
            seal=jwt_seal(environ),
        )

    @property
    def configured(self) -> bool:
        """Say whether any key or JWT can be good; public access tokens come from triggers only."""
        made = sum(len(each.ring()) for each in self._followers)
        return bool(len(self._fixed) or made or self._jwt)

    async def authenticate(
        self,
        headers_get: Callable[[str], str | None],
        query_token: str | None = None,
        client: str | None = None,
    ) -> Principal:
        """Return who calls. `headers_get` takes lower-case names; `client` is the peer's address.

        Raises `UnauthorizedError`, or `RateLimitedError` after too many bad ones from `client`.
        """
        key = headers_get("x-api-key")
        if key is not None:
            found = self.find_key(key)
        elif (authorization := headers_get("authorization")) is not None:
            found = await self._bearer(authorization)
        elif query_token is not None:
            found = self.signer.verify(query_token, self._clock.wall_ms())
        else:
            raise NoCredentialsError
        if found is None:
            self.count_failure(client)
            raise UnauthorizedError
        return found

    async def __call__(self, request: AuthRequest) -> AuthResult:
        """Be an `AuthHandler`, so that a chain can stand beside a host's own handlers."""
        principal = await self.authenticate(
            request.headers.get, request.query.get("token"), request.client
        )
        return AuthResult(ok=True, principal=principal)

    def count_failure(self, client: str | None) -> None:
        """Count a bad credential. Raises `RateLimitedError` when there were too many."""
        self._failures.count(client)

    # ------------------------------------------------------------ sessions

    async def log_in(self, text: str, client: str | None) -> tuple[str, Session]:
        """Begin a session with an API key or a JWT; return its id and what it is.

        Raises as `authenticate` does, and `DiskFailedError`. A public access token begins none.
        """
        is_jwt = text.startswith("eyJ") and self.find_key(text) is None
        given = {"authorization": f"Bearer {text}"} if is_jwt else {"x-api-key": text}
        principal = await self.authenticate(given.get, None, client)
        return await self.sessions.begin(principal, self._seal if is_jwt else "")

    def principal_of(self, session: Session) -> Principal | None:
        """Return who the session stands for now; None when its credential is no longer good."""
        who = session.principal
        if session.credential is not None:
            now = None  # a host's handler let it in, and it alone can say whether it would again
        elif who.kind == "key":
            now = self._named(who)
        else:
            now = who if self._jwt is not None and session.seal == self._seal else None
        if now is None:
            return None
        ends_ms = min(now.expires_ms or session.expires_ms, session.expires_ms)
        return replace(now, expires_ms=ends_ms, session=session.sha256)

    def _named(self, who: Principal) -> Principal | None:
        rings = [self._fixed]
        if who.key_id is not None:
            rings += [each.ring() for each in self._followers]
        now_ms = self._clock.wall_ms()
        found = (ring.named(who.name, who.key_id, now_ms) for ring in rings)
        return next((each for each in found if each is not None), None)

    # ------------------------------------------------------------ keys

    @property
    def follower(self) -> KeyFollower | None:
        """The keys that can be made and revoked; None where there is no place for them."""
        return self._followers[0] if self._followers else None

    def find_key(self, text: str) -> Principal | None:
        """Return whose API key `text` is."""
        now_ms = self._clock.wall_ms()
        found = self._fixed.find(text, now_ms)
        for follower in self._followers:
            if found is None:
                found = follower.ring().find(text, now_ms)
        return found

    def watch(self, principal: Principal, revoked: Callable[[], None]) -> Callable[[], None]:
        """Call `revoked` within a second of the end of the principal's made key, if it has one.

        Likewise at once when its session is ended. Returns what stops the watch. When a credential
        ends by time, `expires_ms` says it.
        """
        stops: list[Callable[[], None]] = []
        key_id = principal.key_id
        if key_id is not None and self._followers:
            # One that none of them holds any more is over: any of them says so.
            holding = (each for each in self._followers if each.ring().holds(key_id))
            stops.append(next(holding, self._followers[0]).watch(key_id, revoked))
        if principal.session is not None:
            stops.append(self.sessions.watch(principal.session, revoked))

        def stop() -> None:
            for each in stops:
                each()

        return stop if stops else _nothing

    async def _bearer(self, authorization: str) -> Principal | None:
        if len(authorization) > self._settings.authorization_bytes_max:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        if token.startswith(PREFIX):
            return self.signer.verify(token, self._clock.wall_ms())
        return None if self._jwt is None else await self._jwt.verify(token)


def _nothing() -> None:
    """Stop nothing."""


class FailureLimiter:
    """A token bucket of bad credentials for each client address; the least recent is forgotten."""

    __slots__ = ("_buckets", "_burst", "_clock", "_hosts_max", "_per_s")

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock = clock
        self._per_s = settings.auth_failures_per_s
        self._burst = settings.auth_failures_burst
        self._hosts_max = settings.auth_hosts_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def count(self, client: str | None) -> None:
        """Count one failure. Raises `RateLimitedError` when there were too many."""
        host = network_of(client or "")
        now_s = self._clock.monotonic_s()
        left, since_s = self._buckets.pop(host, (float(self._burst), now_s))
        left = min(float(self._burst), left + (now_s - since_s) * self._per_s)
        refused = left < 1
        self._buckets[host] = (left if refused else left - 1, now_s)
        if len(self._buckets) > self._hosts_max:
            self._buckets.popitem(last=False)
        if refused:
            raise RateLimitedError(retry_after_s=1)


# ---------------------------------------------------------------- from the environment


def _sessions(
    directory: Path | None,
    settings: Settings,
    clock: Clock,
    entropy: Callable[[int], bytes],
    table: SharedTable | None,
) -> Sessions:
    if table is not None:
        return SessionsTable(table, clock, settings, entropy)
    path = None if directory is None else directory / SESSIONS_FILE
    return Sessions(path, clock, settings, entropy)


def _signer(
    environ: Mapping[str, str],
    directory: Path | None,
    settings: Settings,
    entropy: Callable[[int], bytes],
) -> TokenSigner:
    keys = token_keys_from_env(environ)
    if not keys and directory is not None:
        keys = (load_or_create_token_key(directory / TOKEN_KEY_FILE, entropy),)
    key, *older = keys or (entropy(32),)
    return TokenSigner(key, *older, runs_max=settings.token_runs_max)


def _fixed_keys(environ: Mapping[str, str], directory: Path | None, *, has_jwt: bool) -> KeyRing:
    keys = keys_from_env(environ)
    # The key of the first start is for who has configured nothing; it ends when something is.
    if not keys and not has_jwt and directory is not None:
        text = load_default_key(directory / DEFAULT_KEY_FILE)
        keys = () if text is None else (plain_key(text),)
    return KeyRing(keys)


def _follower(directory: Path | None, settings: Settings, clock: Clock) -> KeyFollower | None:
    if directory is None:
        return None
    return KeyFollower(KeysFile(directory / KEYS_FILE, settings.keys_max), clock, settings)


def _jwt_from_env(environ: Mapping[str, str], settings: Settings, clock: Clock) -> JwtBearer | None:
    if not (environ.get("STEPFLOW_JWT_SECRET") or environ.get("STEPFLOW_JWT_JWKS")):
        return None
    # Imported here: PyJWT brings cryptography, 60 ms of a start that most services do not need.
    from stepflow.auth.jwt_bearer import JwtBearer  # noqa: PLC0415

    return JwtBearer.from_env(environ, settings, clock)
