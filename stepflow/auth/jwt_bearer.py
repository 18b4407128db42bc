"""`Authorization: Bearer <JWT>`: who signed it decides, the token itself decides nothing.

- One algorithm a key, pinned when the key is loaded: HS256 with `STEPFLOW_JWT_SECRET`, or RS256,
  ES256, EdDSA with `STEPFLOW_JWT_JWKS`. `kid` is only a key into a dict. Headers that carry or
  point to keys (`jwk`, `jku`, `x5u`, `x5c`) or change the rules (`crit`, `b64`) are refused.
- `exp` is required and an integer, at most 24 h after `iat` where there is one. All times are
  checked here against our own clock, with 30 s of leeway; `aud` and `iss` where they are set.
- `scope` is a string of names separated by spaces; without it, all scopes but `admin`.

What is wrong with a token goes to the log, without the token; the caller hears 401.
"""

from __future__ import annotations

import binascii
import json
import logging
import math
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import jwt

from stepflow.auth.jwks import Jwks, VerifyKey, jwks_at
from stepflow.auth.principal import DEFAULT_SCOPES, Principal, Scope, known_scopes
from stepflow.auth.weak_secret import why_guessable
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.clock import Clock
    from stepflow.config import Settings

__all__ = ["ClaimRules", "JwtBearer", "RefusedTokenError", "principal_of"]

SECRET_BYTES_MIN: Final = 32
_EXP_MAX: Final = 253_402_300_799  # the last second of the year 9999
_SUBJECT_CHARS_MAX: Final = 256
_THREE_PARTS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_FORBIDDEN_HEADERS: Final = ("b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})

logger = logging.getLogger("stepflow.auth")


class RefusedTokenError(Exception):
    """Why a token is refused; for the log only."""


class JwtBearer:
    """Checks JWTs against one secret or one key set."""

    __slots__ = ("_clock", "_jwks", "_jws", "_rules")

    def __init__(self, jwks: Jwks, clock: Clock, rules: ClaimRules) -> None:
        self._jwks = jwks
        self._clock = clock
        self._rules = rules
        self._jws = jwt.PyJWS()

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], settings: Settings, clock: Clock
    ) -> JwtBearer | None:
        """Return what the environment asks for, or None when it asks for no JWT.

        Raises `ConfigurationError` for a weak secret, an unusable key set, or both at once.
        """
        jwks = _jwks_from_env(environ, settings, clock)
        if jwks is None:
            return None
        rules = ClaimRules(
            audience=environ.get("STEPFLOW_JWT_AUDIENCE") or None,
            issuer=environ.get("STEPFLOW_JWT_ISSUER") or None,
            leeway_s=settings.jwt_leeway_s,
            lifetime_max_s=settings.jwt_lifetime_max_s,
        )
        return cls(jwks, clock, rules)

    async def verify(self, token: str) -> Principal | None:
        """Return who the token stands for; None when it is refused.

        Raises `UnavailableError` when no key set could be fetched yet: the token may be good.
        """
        try:
            return await self._verified(token)
        except RefusedTokenError as error:
            logger.info("a JWT was refused: %s", error)
            return None

    async def _verified(self, token: str) -> Principal:
        key = await self._jwks.find(_checked_header(token).get("kid"))
        if key is None:
            raise RefusedTokenError("unknown key id")
        return principal_of(self._claims(token, key), self._clock.wall_ms(), self._rules)

    def _claims(self, token: str, key: VerifyKey) -> dict[str, Any]:
        try:
            payload = self._jws.decode(token, key.key, algorithms=[key.algorithm])
        except jwt.PyJWTError as error:
            raise RefusedTokenError(type(error).__name__) from None
        return _object(payload, "payload")


# ---------------------------------------------------------------- the header


def _checked_header(token: str) -> dict[str, Any]:
    """Return the header of a token that has nothing but what we understand."""
    if not _THREE_PARTS.fullmatch(token):
        raise RefusedTokenError("not three parts of base64url")
    text = token.partition(".")[0]
    try:
        header = _object(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "header")
    except binascii.Error:
        raise RefusedTokenError("the header is not base64url") from None
    for name in _FORBIDDEN_HEADERS:
        if name in header:
            raise RefusedTokenError(f"the header has {name}")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise RefusedTokenError("the header's typ is not that of an access token")
    return header


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedTokenError(f"the {what} is not JSON") from None
    if not isinstance(value, dict):
        raise RefusedTokenError(f"the {what} is not an object")
    return cast("dict[str, Any]", value)


# ---------------------------------------------------------------- the claims


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """What the claims of a good token are like."""

    audience: str | None = None
    issuer: str | None = None
    leeway_s: float = 30.0
    lifetime_max_s: float = 86_400.0


def principal_of(claims: Mapping[str, Any], now_ms: int, rules: ClaimRules) -> Principal:
    """Return who verified claims stand for. Raises `RefusedTokenError`."""
    now_s = now_ms / 1000
    exp = claims.get("exp")
    if type(exp) is not int or not 0 < exp <= _EXP_MAX:
        raise RefusedTokenError("exp is missing or not an integer time")
    if now_s >= exp + rules.leeway_s:
        raise RefusedTokenError("expired")
    iat = _past(claims, "iat", now_s + rules.leeway_s)
    _past(claims, "nbf", now_s + rules.leeway_s)
    if iat is not None and exp - iat > rules.lifetime_max_s:
        raise RefusedTokenError("exp is too long after iat")
    _check_audience(claims, rules)
    expires_ms = int((exp + rules.leeway_s) * 1000)
    return Principal(_subject(claims), "jwt", _scopes(claims), expires_ms=expires_ms)


def _past(claims: Mapping[str, Any], name: str, limit_s: float) -> float | None:
    """Return a time that is absent or not after `limit_s`."""
    if name not in claims:
        return None
    value = claims[name]
    # An integer is compared as it is: one of 309 digits or more fits no float.
    if type(value) is not int and not (isinstance(value, float) and math.isfinite(value)):
        raise RefusedTokenError(f"{name} is not a time")
    if value > limit_s:
        raise RefusedTokenError(f"{name} is in the future")
    return value


def _check_audience(claims: Mapping[str, Any], rules: ClaimRules) -> None:
    if rules.audience is not None:
        audience: Any = claims.get("aud")
        if audience != rules.audience and not (
            isinstance(audience, list) and rules.audience in audience
        ):
            raise RefusedTokenError("aud is not ours")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise RefusedTokenError("iss is not ours")


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub", "jwt")
    if not isinstance(subject, str) or len(subject) > _SUBJECT_CHARS_MAX:
        raise RefusedTokenError(f"sub is not a text of at most {_SUBJECT_CHARS_MAX} characters")
    return subject or "jwt"


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    if "scope" not in claims:
        return DEFAULT_SCOPES
    scope = claims["scope"]
    if not isinstance(scope, str):
        raise RefusedTokenError("scope is not a text of names separated by spaces")
    return known_scopes(scope.split(" "))


# ---------------------------------------------------------------- the environment


def _jwks_from_env(environ: Mapping[str, str], settings: Settings, clock: Clock) -> Jwks | None:
    secret = environ.get("STEPFLOW_JWT_SECRET", "")
    where = environ.get("STEPFLOW_JWT_JWKS", "").strip()
    if secret and where:
        raise ConfigurationError("set STEPFLOW_JWT_SECRET or STEPFLOW_JWT_JWKS, not both")
    if secret:
        return Jwks([VerifyKey(None, "HS256", _checked_secret(secret))], clock, settings)
    return jwks_at(where, clock, settings) if where else None


def _checked_secret(text: str) -> bytes:
    """Return the secret's bytes. Its own text is in no message."""
    secret = text.encode("utf-8", "surrogateescape")
    if _looks_public(text):
        raise ConfigurationError(
            "STEPFLOW_JWT_SECRET holds a PEM, SSH or JWK key: whoever knows the public half could "
            "sign tokens with it; for such keys set STEPFLOW_JWT_JWKS"
        )
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigurationError(
            f"STEPFLOW_JWT_SECRET has {len(secret)} bytes, at least {SECRET_BYTES_MIN} are needed; "
            "make one: openssl rand -hex 32"
        )
    if problem := why_guessable(text):
        raise ConfigurationError(
            f"STEPFLOW_JWT_SECRET {problem}: one token is enough to find it; "
            "make one: openssl rand -hex 32"
        )
    return secret


def _looks_public(text: str) -> bool:
    start = text.lstrip()
    if "-----BEGIN" in text or start.startswith(("ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")):
        return True
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) or (
        isinstance(value, dict) and ("kty" in value or "keys" in value)
    )
