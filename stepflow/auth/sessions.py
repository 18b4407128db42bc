r"""Sessions: a random id that a browser keeps in a cookie, and whose credential it stands for.

::

    {"format": 1, "checksum": "<SHA-256, hex, of the compact JSON of sessions, members sorted>",
     "sessions": [{"sha256", "kind", "name", "keyId", "scopes", "seal", "createdAt", "expiresAt"}]}

`sessions.json` holds no secret: of an id its SHA-256, of an API key its name, of a JWT its subject
and scopes, and `seal`, a hash of the settings that JWTs were checked with. What a session may do is
asked again with each request: a key by the ring it is in now, so that it ends with its key; a JWT
until its own `exp`, and while the settings are the same.

The file is written whole, and durable, before a login or a logout is acknowledged, so that a
restart keeps who is logged in and brings nobody back. It is a convenience: one that is damaged or
that others may read is left alone and logged, and everybody logs in again.

Where the host's own handler decides, nothing says which credential a principal had. The credential
is then kept, in memory alone, and shown to the handler with each request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
from base64 import urlsafe_b64encode
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from stepflow.auth.principal import Kind, Principal, known_scopes
from stepflow.auth.secret_file import read_own_secret, write_secret
from stepflow.errors import ApiError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from stepflow.clock import Clock
    from stepflow.config import Settings

__all__ = [
    "COOKIE",
    "Session",
    "Sessions",
    "cookie_of",
    "is_id",
    "jwt_seal",
    "row_of",
    "session_of",
]

COOKIE: Final = "stepflow_session"
PREFIX: Final = "ses_"
FORMAT: Final = 1
_ID_BYTES: Final = 32
_ID_CHARS: Final = len(PREFIX) + 43
_BYTES_MAX: Final = 4 * 1024 * 1024
_KINDS: Final = frozenset[Kind]({"key", "jwt"})
_JWT_NAMES: Final = ("SECRET", "JWKS", "AUDIENCE", "ISSUER")

logger = logging.getLogger("stepflow.auth")


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `credential`: the headers that the host's handler let in; never on disk."""

    sha256: str
    principal: Principal
    seal: str
    created_ms: int
    expires_ms: int
    credential: Mapping[str, str] | None = field(default=None, repr=False)


class Sessions:
    """The sessions of one server. `path` None: they end with the process."""

    __slots__ = ("_by_hash", "_clock", "_entropy", "_path", "_settings", "_turn", "_watches")

    def __init__(
        self,
        path: Path | None,
        clock: Clock,
        settings: Settings,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._path = path
        self._clock = clock
        self._settings = settings
        self._entropy = entropy
        self._turn = asyncio.Lock()
        self._watches: dict[object, tuple[str, Callable[[], None]]] = {}
        self._by_hash = {} if path is None else {each.sha256: each for each in _kept(path)}

    def __len__(self) -> int:
        return len(self._by_hash)

    def find(self, text: str) -> Session | None:
        """Return the session of that id; None for one that is over or never was."""
        # Looked up by its hash: no comparison's time tells anything of an id.
        session = self._by_hash.get(_hash(text)) if len(text) == _ID_CHARS else None
        if session is None or self._clock.wall_ms() >= session.expires_ms:
            return None
        return session

    async def seek(self, text: str) -> Session | None:
        """Return the same, where it may have begun at another process a moment ago."""
        return self.find(text)

    def by_hash(self, sha256: str | None) -> Session | None:
        """Return the session whose id has that hash."""
        return None if sha256 is None else self._by_hash.get(sha256)

    async def begin(
        self,
        principal: Principal,
        seal: str = "",
        credential: Mapping[str, str] | None = None,
    ) -> tuple[str, Session]:
        """Return a new id, to be told once, and its session; durable when it returns.

        Raises `DiskFailedError`, and what a shared table raises.
        """
        now_ms = self._clock.wall_ms()
        expires_ms = now_ms + round(self._settings.session_ttl_s * 1000)
        if principal.expires_ms is not None:
            expires_ms = min(expires_ms, principal.expires_ms)
        text = PREFIX + urlsafe_b64encode(self._entropy(_ID_BYTES)).decode().rstrip("=")
        session = Session(_hash(text), principal, seal, now_ms, expires_ms, credential)
        async with self._turn:
            gone = self._make_room(now_ms)
            self._by_hash[session.sha256] = session
            try:
                await self._keep(session, gone)
            except (OperatorError, ApiError):
                self._by_hash.pop(session.sha256, None)
                raise
        return text, session

    async def end(self, session: Session) -> None:
        """Forget it, and end the streams that it opened; durable when it returns.

        Raises `DiskFailedError`, and what a shared table raises; it is over all the same, here and
        until a restart.
        """
        async with self._turn:
            self._forget(session.sha256)
            await self._keep(None, [session.sha256])

    def watch(self, sha256: str, ended: Callable[[], None]) -> Callable[[], None]:
        """Call `ended` when that session is ended before its time; returns what stops that."""
        token = object()
        self._watches[token] = sha256, ended

        def stop() -> None:
            self._watches.pop(token, None)

        return stop

    def _make_room(self, now_ms: int) -> list[str]:
        """Forget what is over, and more where there are too many; return their hashes."""
        gone = [each.sha256 for each in self._by_hash.values() if now_ms >= each.expires_ms]
        for sha256 in gone:
            self._forget(sha256)
        while len(self._by_hash) >= max(self._settings.sessions_max, 1):
            # Of whoever has the most, so that nobody logs the others out by logging in.
            owners = Counter(each.principal.id for each in self._by_hash.values())
            owner = owners.most_common(1)[0][0]
            gone.append(next(k for k, row in self._by_hash.items() if row.principal.id == owner))
            self._forget(gone[-1])
        return gone

    def _forget(self, sha256: str) -> None:
        self._by_hash.pop(sha256, None)
        self._tell(sha256)

    def _tell(self, sha256: str) -> None:
        """The session is over: end the streams that it opened."""
        for watched, ended in tuple(self._watches.values()):
            if watched == sha256:
                ended()

    async def _keep(self, begun: Session | None, gone: Sequence[str]) -> None:
        """Make what has changed durable."""
        del begun, gone
        if self._path is not None:
            kept = [each for each in self._by_hash.values() if each.credential is None]
            await asyncio.to_thread(write_secret, self._path, _encode(kept))


def cookie_of(header: str) -> str | None:
    """Return the session's id in a `Cookie` header; the first of several, the most exact path's."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def is_id(text: str) -> bool:
    """Say whether the text has the length of an id: nothing is looked up for another one."""
    return len(text) == _ID_CHARS


def jwt_seal(environ: Mapping[str, str]) -> str:
    """Return a hash of the settings for JWTs: other settings end the sessions that JWTs began."""
    values = [environ.get(f"STEPFLOW_JWT_{name}", "") for name in _JWT_NAMES]
    secret = "\0".join(values).encode("utf-8", "surrogateescape")
    return hmac.digest(secret, b"stepflow-session-seal", "sha256").hex()[:32]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------- the format


def _kept(path: Path) -> list[Session]:
    try:
        content = read_own_secret(path, _BYTES_MAX)
    except OperatorError as error:
        logger.warning("nobody stays logged in: %s", error)
        return []
    if content is None:
        return []
    try:
        document = json.loads(content)
        rows = document["sessions"]
        if document["format"] == FORMAT and document["checksum"] == _checksum(rows):
            return [session_of(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    logger.warning("nobody stays logged in: %s is damaged; the next login writes it anew", path)
    return []


def _encode(sessions: Iterable[Session]) -> bytes:
    rows = [row_of(session) for session in sessions]
    document = {"format": FORMAT, "checksum": _checksum(rows), "sessions": rows}
    return json.dumps(document, indent=1).encode() + b"\n"


def _checksum(rows: Any) -> str:
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def row_of(session: Session) -> dict[str, Any]:
    """Return the session as it is kept."""
    who = session.principal
    return {
        "sha256": session.sha256,
        "kind": who.kind,
        "name": who.name,
        "keyId": who.key_id,
        "scopes": sorted(who.scopes),
        "seal": session.seal,
        "createdAt": session.created_ms,
        "expiresAt": session.expires_ms,
    }


def session_of(row: Any) -> Session:
    """Return a row's session. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    if row["kind"] not in _KINDS:
        raise ValueError(row["kind"])
    who = Principal(
        str(row["name"]),
        cast("Kind", row["kind"]),
        known_scopes(row["scopes"]),
        key_id=row["keyId"],
    )
    created_ms, expires_ms = int(row["createdAt"]), int(row["expiresAt"])
    return Session(str(row["sha256"]), who, str(row["seal"]), created_ms, expires_ms)
