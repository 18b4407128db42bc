"""The keys that may have signed a JWT: fixed, or from a JSON Web Key Set that is fetched again.

A set is read from a file at the start, or from a URL when the first token comes. It is asked for
again when it is ten minutes old or a token names a key it lacks, at most every 30 s, so that
nobody can make us hammer the issuer. A fetch runs in a thread; a failed one keeps the keys we have.

Only public RSA (RS256), P-256 (ES256) and Ed25519 (EdDSA) keys meant for signatures are taken, and
of those only the public members: a symmetric key in a set would be known to all who can read it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt
from jwt.algorithms import has_crypto

from stepflow.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepflow.clock import Clock
    from stepflow.config import Settings

__all__ = ["Jwks", "VerifyKey", "jwks_at", "keys_of_set"]

_RSA_BITS_MIN: Final = 2048
_PUBLIC_MEMBERS: Final = ("kty", "n", "e", "crv", "x", "y")
_ALGORITHMS: Final[dict[tuple[Any, Any], str]] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}

logger = logging.getLogger("stepflow.auth")


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """One key and the only algorithm it may be used with."""

    kid: str | None
    algorithm: str
    key: Any = field(repr=False)


class Jwks:
    """The keys by id, and when to ask for them again."""

    __slots__ = ("_asked_s", "_clock", "_fetch", "_keys", "_pending", "_settings")

    def __init__(
        self,
        keys: Iterable[VerifyKey],
        clock: Clock,
        settings: Settings,
        fetch: Callable[[], bytes] | None = None,
    ) -> None:
        """`fetch` returns a JSON Web Key Set and may block; None: the keys never change."""
        self._keys = {key.kid: key for key in keys}
        self._clock = clock
        self._settings = settings
        self._fetch = fetch
        self._asked_s = clock.monotonic_s() if self._keys else None
        self._pending: asyncio.Future[list[VerifyKey]] | None = None

    async def find(self, kid: object) -> VerifyKey | None:
        """Return the key a token names; a token that names none goes with the only key.

        Raises `UnavailableError` when there are no keys yet because the issuer cannot be reached.
        """
        if kid is not None and not isinstance(kid, str):
            return None
        found = self._lookup(kid)
        if self._fetch is None:
            return found
        pending = self._refresh(self._fetch, missing=found is None)
        if found is None and pending is not None:
            await asyncio.shield(pending)
            found = self._lookup(kid)
        if not self._keys:
            message = "the JWT key set cannot be fetched"
            raise UnavailableError(message, retry_after_s=int(self._settings.jwks_refresh_min_s))
        return found

    def _lookup(self, kid: str | None) -> VerifyKey | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _refresh(
        self, fetch: Callable[[], bytes], *, missing: bool
    ) -> asyncio.Future[list[VerifyKey]] | None:
        """Return the fetch under way, begun now if one is due."""
        loop = asyncio.get_running_loop()
        pending = self._pending
        if pending is not None and not pending.done() and pending.get_loop() is loop:
            return pending
        now_s = self._clock.monotonic_s()
        wait_s = self._settings.jwks_refresh_min_s if missing else self._settings.jwks_age_s
        if self._asked_s is not None and now_s - self._asked_s < wait_s:
            return None
        self._asked_s = now_s
        self._pending = loop.run_in_executor(None, _read, fetch)
        # First of the callbacks: whoever waits for the fetch finds its keys in place.
        self._pending.add_done_callback(self._take)
        return self._pending

    def _take(self, pending: asyncio.Future[list[VerifyKey]]) -> None:
        if not pending.cancelled() and pending.exception() is None and pending.result():
            self._keys = {key.kid: key for key in pending.result()}


def _read(fetch: Callable[[], bytes]) -> list[VerifyKey]:
    """Return the keys, in a thread; none when the fetch failed, which the log says."""
    try:
        return keys_of_set(fetch())
    except (OSError, ValueError, ConfigurationError) as error:
        logger.warning("the JWT key set could not be fetched: %s", error)
        return []


# ---------------------------------------------------------------- from a set to keys


def keys_of_set(text: bytes) -> list[VerifyKey]:
    """Return the usable keys of a JSON Web Key Set.

    Raises `ConfigurationError` when it is none, holds no usable key, or names one id twice.
    """
    rows = _rows(text)
    keys = [key for key in map(_key_of, rows) if key is not None]
    if not keys:
        raise ConfigurationError("the JWT key set has no RSA, P-256 or Ed25519 key for signatures")
    kids = [key.kid for key in keys]
    if len(set(kids)) < len(kids) or (None in kids and len(kids) > 1):
        raise ConfigurationError(
            "the JWT key set has several keys, and not each has a `kid` of its own"
        )
    return keys


def _rows(text: bytes) -> list[dict[str, Any]]:
    try:
        document: Any = json.loads(text)
        rows: Any = document["keys"]
        return [row for row in rows if isinstance(row, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigurationError('the JWT key set is not JSON like {"keys": [...]}') from None


def _key_of(row: dict[str, Any]) -> VerifyKey | None:
    """Return a row as a key with one algorithm; None when it is for something else."""
    algorithm = _ALGORITHMS.get((row.get("kty"), row.get("crv")))
    kid = row.get("kid")
    if algorithm is None or not _is_for_us(row, algorithm) or not isinstance(kid, str | None):
        return None
    public: dict[str, Any] = {name: row[name] for name in _PUBLIC_MEMBERS if name in row}
    try:
        key = jwt.PyJWK(public, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        logger.warning("a key of the JWT key set cannot be read; it is left out")
        return None
    if algorithm == "RS256" and key.key_size < _RSA_BITS_MIN:
        logger.warning("an RSA key below %d bits in the JWT key set is left out", _RSA_BITS_MIN)
        return None
    return VerifyKey(kid, algorithm, key)


def _is_for_us(row: dict[str, Any], algorithm: str) -> bool:
    """Say whether the key is meant to verify signatures of that algorithm."""
    return (
        row.get("alg", algorithm) == algorithm
        and row.get("use", "sig") == "sig"
        and "verify" in row.get("key_ops", ["verify"])
    )


# ---------------------------------------------------------------- where the set is


def jwks_at(where: str, clock: Clock, settings: Settings) -> Jwks:
    """Return the keys of a URL, fetched when the first token comes, or of a file, read now.

    Raises `ConfigurationError` when the file is unusable or `cryptography` is not installed.
    """
    if not has_crypto:
        raise ConfigurationError(
            "STEPFLOW_JWT_JWKS needs cryptography; run: pip install 'stepflow[jwks]'"
        )
    if where.startswith(("http://", "https://")):
        _check_url(where)
        return Jwks((), clock, settings, lambda: _download(where, settings))
    path = Path(where)
    return Jwks(_keys_of_file(path), clock, settings, path.read_bytes)


def _keys_of_file(path: Path) -> list[VerifyKey]:
    try:
        return keys_of_set(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"STEPFLOW_JWT_JWKS: cannot read {path}: {error.strerror}"
        ) from None
    except ConfigurationError as error:
        raise ConfigurationError(f"STEPFLOW_JWT_JWKS: {path}: {error}") from None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ConfigurationError("STEPFLOW_JWT_JWKS: the URL names no host")
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        logger.warning(
            "STEPFLOW_JWT_JWKS is plain http: whoever is on the way to %s can make themselves "
            "a key; use https",
            parts.hostname,
        )


class _NoRedirect(HTTPRedirectHandler):
    """A redirect could lead to a place nobody configured."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _download(url: str, settings: Settings) -> bytes:
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310  http(s) alone
    try:
        with build_opener(_NoRedirect).open(request, timeout=settings.jwks_timeout_s) as answer:
            content: bytes = answer.read(settings.jwks_bytes_max + 1)
    except HTTPError as error:
        error.close()
        raise
    if len(content) > settings.jwks_bytes_max:
        raise ConfigurationError(f"the JWT key set is longer than {settings.jwks_bytes_max} bytes")
    return content
