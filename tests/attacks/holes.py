"""Planted holes: each takes one defence away, and one table at least has to notice."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# A hole reaches into what it breaks.

from __future__ import annotations

import binascii
import dataclasses
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from stepflow.auth import api_key, jwt_bearer, keys_file, public_token
from stepflow.auth.chain import AuthChain, NoCredentialsError
from stepflow.auth.jwt_bearer import ClaimRules, JwtBearer
from stepflow.auth.principal import ALL_SCOPES, ANONYMOUS
from stepflow.auth.public_token import TokenSigner
from stepflow.auth.sessions import Sessions
from stepflow.dashboard import assets
from stepflow.model import codec
from stepflow.web import additions, asgi, control, endpoints, operations, policy, problems, sse
from stepflow.web import app as web_app

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["HOLES", "opened"]


def yes(*_args: Any, **_more: Any) -> bool:
    return True


def nothing(*_args: Any, **_more: Any) -> None:
    return


class Everything:
    """Contains whatever is asked for."""

    def __contains__(self, _what: object) -> bool:
        return True


def _compare_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("stepflow.auth.public_token.hmac.compare_digest", yes)


def _prefix_of_a_key(patch: pytest.MonkeyPatch) -> None:
    whole = api_key.digest_of
    patch.setattr(api_key, "digest_of", lambda text: whole(text[:24]))
    patch.setattr(keys_file, "digest_of", lambda text: whole(text[:24]))


def _jwt_unsigned(patch: pytest.MonkeyPatch) -> None:
    def claims(self: Any, token: str, _key: object) -> Any:
        return jwt_bearer._object(
            self._jws.decode(token, options={"verify_signature": False}), "payload"
        )

    patch.setattr(JwtBearer, "_claims", claims)


def _jwt_any_algorithm(patch: pytest.MonkeyPatch) -> None:
    def claims(self: Any, token: str, key: Any) -> Any:
        payload = self._jws.decode(token, key.key, algorithms=["HS256", "HS384", "HS512"])
        return jwt_bearer._object(payload, "payload")

    patch.setattr(JwtBearer, "_claims", claims)


def _rules(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    check = jwt_bearer.principal_of

    def principal_of(claims: Any, now_ms: int, rules: ClaimRules) -> Any:
        return check(claims, now_ms, dataclasses.replace(rules, **changes))

    patch.setattr(jwt_bearer, "principal_of", principal_of)


def _tokens_for_ever(patch: pytest.MonkeyPatch) -> None:
    verify = TokenSigner.verify
    patch.setattr(TokenSigner, "verify", lambda self, token, _now_ms: verify(self, token, 0))


def _any_base64(patch: pytest.MonkeyPatch) -> None:
    def lenient(token: str) -> bytes | None:
        text = token.removeprefix("pat_").encode()
        try:
            return binascii.a2b_base64(
                text.translate(public_token._FROM_URL) + b"=" * (-len(text) % 4)
            )
        except binascii.Error:
            return None

    patch.setattr(public_token, "_bytes_of", lenient)


def _everyone(patch: pytest.MonkeyPatch) -> None:
    async def authenticate(*_args: Any, **_more: Any) -> Any:
        return ANONYMOUS

    patch.setattr(AuthChain, "authenticate", authenticate)


def _dead_keys(patch: pytest.MonkeyPatch) -> None:
    def ring(rows: list[keys_file.KeyRow]) -> api_key.KeyRing:
        return api_key.KeyRing(
            api_key.ApiKey(row.name, bytes.fromhex(row.sha256), row.scopes, None, row.id)
            for row in rows
        )

    patch.setattr(keys_file, "_ring", ring)


def _keys_in_the_query(patch: pytest.MonkeyPatch) -> None:
    authenticate = AuthChain.authenticate

    async def more(self: AuthChain, get: Any, query_token: Any = None, client: Any = None) -> Any:
        found = self.find_key(query_token) if query_token else None
        return found or await authenticate(self, get, query_token, client)

    patch.setattr(AuthChain, "authenticate", more)


def _the_last_counts(patch: pytest.MonkeyPatch) -> None:
    def get(self: asgi.HeaderView, name: str) -> str | None:
        found = [v.decode("latin-1") for k, v in self._headers if k == name.encode()]
        return found[-1] if found else None

    patch.setattr(asgi.HeaderView, "get", get)


def _why(patch: pytest.MonkeyPatch) -> None:
    problem = problems.problem

    def telling(error: Any, **more: Any) -> Any:
        answer = problem(error, **more)
        if error.status != 401:
            return answer
        return answer._replace(body=b'{"error":"Expired","code":"UNAUTHORIZED"}')

    for module in (operations, sse):
        patch.setattr(module, "problem", telling, raising=False)


def _no_scopes(patch: pytest.MonkeyPatch) -> None:
    for module in (endpoints, additions, control):
        patch.setattr(module, "require_scope", nothing)


def _deep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "_check_depth", nothing)


_whole_chain: Final = AuthChain.authenticate


async def _no_credentials(
    self: AuthChain, get: Any, token: str | None = None, client: str | None = None
) -> Any:
    cookie = get("cookie")
    if cookie is not None:
        raise NoCredentialsError
    return await _whole_chain(self, get, token, client)


def _cookie_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AuthChain, "authenticate", _no_credentials)
    patch.setattr(policy, "_DECIDING", ())


async def _kept(_self: object, _session: object) -> None:
    return


def _names_are_paths(patch: pytest.MonkeyPatch) -> None:
    def find(_self: object, name: str) -> Any:
        path = Path(assets.__file__).parent / "static" / name
        return (
            (assets.Asset(b"text/plain", path.read_bytes(), b'"x"'), False)
            if path.is_file()
            else None
        )

    patch.setattr(assets.Assets, "find", find)


HOLES: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]]]] = {
    "no MAC is compared": (_compare_nothing, ("tokens",)),
    "the start of a key is enough": (_prefix_of_a_key, ("keys",)),
    "a JWT needs no signature": (_jwt_unsigned, ("jwt",)),
    "a JWT chooses its algorithm": (_jwt_any_algorithm, ("jwt",)),
    "headers may carry keys": (
        lambda patch: patch.setattr(jwt_bearer, "_FORBIDDEN_HEADERS", ()),
        ("jwt",),
    ),
    "any type of JWT": (lambda patch: patch.setattr(jwt_bearer, "_TYPES", Everything()), ("jwt",)),
    "a JWT never ends": (lambda patch: _rules(patch, leeway_s=1e9), ("jwt",)),
    "a JWT lives for years": (lambda patch: _rules(patch, lifetime_max_s=1e12), ("jwt",)),
    "a token never ends": (_tokens_for_ever, ("tokens",)),
    "any base64 of a token": (_any_base64, ("tokens",)),
    "everyone comes in": (_everyone, ("strangers",)),
    "revoked and expired keys": (_dead_keys, ("keys",)),
    "keys in the query": (_keys_in_the_query, ("keys",)),
    "the last header counts": (_the_last_counts, ("keys",)),
    "401 says why": (_why, ("strangers", "jwt")),
    "a token reads every run": (
        lambda patch: patch.setattr(endpoints, "require_visible", nothing),
        ("tokens",),
    ),
    "a token may do everything": (
        lambda patch: patch.setattr(public_token, "READ_ONLY", ALL_SCOPES),
        ("tokens-elsewhere",),
    ),
    "scopes mean nothing": (
        _no_scopes,
        ("scopes",),
    ),
    "unknown scopes are all": (
        lambda patch: patch.setattr(jwt_bearer, "known_scopes", lambda _names: ALL_SCOPES),
        ("scopes",),
    ),
    "every origin is listed": (
        lambda patch: patch.setattr(web_app, "cors_origins", lambda _origins: Everything()),
        ("other-sites",),
    ),
    "a form is JSON": (lambda patch: patch.setattr(asgi, "_is_json", yes), ("other-sites",)),
    "any idempotency key": (
        lambda patch: patch.setattr(endpoints, "_KEY", re.compile(b"(?s).*")),
        ("headers",),
    ),
    "any page uses the session": (
        lambda patch: patch.setattr(policy, "require_our_page", nothing),
        ("sessions",),
    ),
    "a logout is forgotten": (
        lambda patch: patch.setattr(Sessions, "end", _kept),
        ("sessions",),
    ),
    "a session outlives its key": (
        lambda patch: patch.setattr(AuthChain, "_named", lambda _self, who: who),
        ("sessions",),
    ),
    "the cookie comes first": (_cookie_first, ("sessions",)),
    "names of files are paths": (_names_are_paths, ("page-files",)),
    "JSON of any depth": (_deep, ("bodies",)),
    "integers of any length": (
        lambda patch: patch.setattr(codec, "_check_integers", nothing),
        ("bodies",),
    ),
}


@contextmanager
def opened(name: str) -> Generator[tuple[str, ...]]:
    """Open the hole; yield the tables that have to notice it."""
    plant, tables = HOLES[name]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield tables
