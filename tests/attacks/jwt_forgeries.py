"""JWTs that must open nothing, for any secret and any moment: one name, one token.

Each is what an attacker can make, or a token of the right signer that breaks one rule. Those
signed with a `secret` show that the rule is checked, and not only the signature.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

__all__ = ["b64", "forgeries", "signed"]

_HEADER = {"alg": "HS256", "typ": "JWT"}


def b64(content: bytes | str | dict[str, Any]) -> str:
    """Return base64url without padding; of an object, its JSON."""
    if isinstance(content, dict):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(
    header: dict[str, Any] | str,
    claims: dict[str, Any] | str,
    secret: bytes,
    digest: str = "sha256",
) -> str:
    """Return a token whose HMAC is right for `secret`, whatever header and claims say."""
    start = f"{b64(header)}.{b64(claims)}"
    return f"{start}.{b64(hmac.digest(secret, start.encode(), digest))}"


def forgeries(now_s: int, secret: bytes) -> dict[str, str]:
    """Return the table for a server that has `secret` and believes that it is `now_s`."""
    exp = {"exp": now_s + 60}
    good_claims = {"sub": "ann", **exp}
    good = signed(_HEADER, good_claims, secret)
    return {
        **_shapes(good, exp),
        **_algorithms(exp, good, secret),
        **_keys(good_claims, secret),
        **_headers(good_claims, secret),
        **_times(now_s, secret),
        **_claims(exp, secret),
    }


def _shapes(good: str, exp: dict[str, Any]) -> dict[str, str]:
    head, claims, mac = good.split(".")
    return {
        "empty": "",
        "one part": "abc",
        "two parts": f"{head}.{claims}",
        "four parts": good + ".abc",
        "five parts, as a JWE has": good + ".abc.def",
        "three empty parts": "..",
        "no signature": f"{head}.{claims}.",
        "half a signature": f"{head}.{claims}.{mac[: len(mac) // 2]}",
        "a signature and more": good + "A",
        "the signature twice": good + mac,
        "the signature of another token": f"{head}.{b64({**exp, 'sub': 'eve'})}.{mac}",
        "header and claims changed over": f"{claims}.{head}.{mac}",
        "leading space": " " + good,
        "trailing space": good + " ",
        "trailing line feed": good + "\n",
        "a NUL at the end": good + "\0",
        "one letter more in the header": f"{head}A.{claims}.{mac}",
        "one letter more in the claims": f"{head}.{claims}A.{mac}",
        "padded header": f"{head}==.{claims}.{mac}",
        "padded claims": f"{head}.{claims}==.{mac}",
        "padded signature": good + "=",
        "standard alphabet": good.replace("-", "+").replace("_", "/") + "+",
        "percent-encoded": good.replace(".", "%2E"),
        "not ASCII": good[:-1] + "é",
        "full-width dots": good.replace(".", "\uff0e"),
        "upper case": good.upper(),
        "a JSON serialisation": json.dumps(
            {"payload": claims, "protected": head, "signature": mac}
        ),
    }


def _algorithms(exp: dict[str, Any], good: str, secret: bytes) -> dict[str, str]:
    def named(alg: object, digest: str = "sha256") -> str:
        return signed({"alg": alg}, exp, secret, digest)

    mac = good.rpartition(".")[2]
    return {
        "alg none, no signature": f"{b64({'alg': 'none'})}.{b64(exp)}.",
        "alg none, another's signature": f"{b64({'alg': 'none'})}.{b64(exp)}.{mac}",
        "alg none, a signature": named("none"),
        "alg None": named("None"),
        "alg NONE": named("NONE"),
        "alg nOnE": named("nOnE"),
        "alg none and a NUL": named("none\0"),
        "alg empty": named(""),
        "no alg": signed({"typ": "JWT"}, exp, secret),
        "alg null": named(None),
        "alg a list": named(["HS256"]),
        "alg an object": named({"HS256": 1}),
        "alg in lower case": named("hs256"),
        "alg and a space": named("HS256 "),
        "alg twice, none last": signed('{"alg":"HS256","alg":"none"}', exp, secret),
        "HS512, signed with our secret": named("HS512", "sha512"),
        "HS384, signed with our secret": named("HS384", "sha384"),
        "HS1, signed with our secret": named("HS1", "sha1"),
        "RS256 named, HMAC signed": named("RS256"),
        "ES256 named, HMAC signed": named("ES256"),
        "EdDSA named, HMAC signed": named("EdDSA"),
        "dir": named("dir"),
    }


def _keys(claims: dict[str, Any], secret: bytes) -> dict[str, str]:
    keys = {
        "an empty secret": b"",
        "another secret": b"another secret of 32 bytes or more",
        "the secret without its last byte": secret[:-1],
        "the secret and a letter": secret + b"a",  # a NUL would be the same key: HMAC pads with it
        "the secret twice": secret * 2,
        "the secret in upper case": secret.upper(),
        "the secret as hex": secret.hex().encode(),
        "the secret as base64": base64.b64encode(secret),
        "null": b"null",
        "the word None": b"None",
    }
    return {f"signed with {name}": signed(_HEADER, claims, key) for name, key in keys.items()}


def _headers(claims: dict[str, Any], secret: bytes) -> dict[str, str]:
    def having(**more: Any) -> str:
        return signed({"alg": "HS256", **more}, claims, secret)

    url = "http://127.0.0.1:1/jwks"
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    return {
        "an embedded key": having(jwk={"kty": "oct", "k": b64("x" * 32)}),
        "an embedded key that is ours": having(jwk={"kty": "oct", "k": b64(secret)}),
        "a key at a URL": having(jku=url),
        "a key in a file": having(jku="file:///dev/null"),
        "a certificate at a URL": having(x5u=url),
        "an embedded certificate": having(x5c=["AAAA"]),
        "crit": having(crit=["exp"], exp=1),
        "crit of a rule unknown to all": having(crit=["http://example.invalid/x"]),
        "crit b64": having(crit=["b64"], b64=True),
        "crit empty": having(crit=[]),
        "b64 false": having(b64=False),
        "b64 true": having(b64=True),
        "nested": having(cty="JWT"),
        "compressed": having(zip="DEF"),
        "an encryption": having(enc="A128GCM"),
        "another type": having(typ="logout+jwt"),
        "a proof of possession": having(typ="dpop+jwt"),
        "a type that is no text": having(typ=1),
        "a path as key id": having(kid="../../dev/null"),
        "an absolute path as key id": having(kid="/proc/sys/kernel/randomize_va_space"),
        "SQL as key id": having(kid="' OR 1=1 --"),
        "a command as key id": having(kid="x; id > /tmp/x"),
        "a NUL as key id": having(kid="\0"),
        "10 KB as key id": having(kid="a" * 10_000),
        "an unknown key id": having(kid="other"),
        "a number as key id": having(kid=1),
        "a list as key id": having(kid=[]),
        "an object as key id": having(kid={}),
        "a header that is a list": signed('["HS256"]', claims, secret),
        "a header that is no JSON": signed("alg=HS256", claims, secret),
        "a header and more": signed('{"alg":"HS256"} {}', claims, secret),
        "a deep header": signed(deep, claims, secret),
    }


def _times(now_s: int, secret: bytes) -> dict[str, str]:
    exp = {"exp": now_s + 60}
    claims: dict[str, dict[str, Any] | str] = {
        "no exp": {"sub": "ann"},
        "exp null": {"exp": None},
        "exp a text": {"exp": str(now_s + 60)},
        "exp a fraction": {"exp": now_s + 60.5},
        "exp a whole fraction": {"exp": float(now_s + 60)},
        "exp true": {"exp": True},
        "exp a list": {"exp": [now_s + 60]},
        "exp 10^20": {"exp": 10**20},
        "exp 1e999": '{"exp":1e999}',
        "exp NaN": '{"exp":NaN}',
        "exp Infinity": '{"exp":Infinity}',
        "exp of 310 digits": {"exp": 10**309},
        "exp of 5,000 digits": '{"exp":1' + "0" * 5000 + "}",
        "exp 0": {"exp": 0},
        "exp negative": {"exp": -(now_s + 60)},
        "exp in milliseconds": {"exp": (now_s + 60) * 1000 * 1000},
        "expired": {"exp": now_s - 30},
        "expired for a year": {"exp": now_s - 365 * 86_400},
        "exp twice, the last over": '{"exp":%d,"exp":%d}' % (now_s + 60, now_s - 60),  # noqa: UP031
        "nbf in the future": {**exp, "nbf": now_s + 31},
        "nbf a text": {**exp, "nbf": str(now_s)},
        "nbf true": {**exp, "nbf": True},
        "nbf null": {**exp, "nbf": None},
        "nbf NaN": {**exp, "nbf": float("nan")},
        "nbf of 310 digits": {**exp, "nbf": 10**309},
        "iat in the future": {**exp, "iat": now_s + 31},
        "iat a text": {**exp, "iat": str(now_s)},
        "iat a list": {**exp, "iat": [now_s]},
        "iat infinity": {**exp, "iat": float("inf")},
        "iat minus infinity": {**exp, "iat": float("-inf")},
        "iat of 310 digits": {**exp, "iat": 10**309},
        "iat of minus 4,000 digits": {**exp, "iat": -(10**3999)},
        "a life of more than 24 h": {"exp": now_s + 86_401, "iat": now_s},
        "a life of more than 24 h, begun long ago": {**exp, "iat": now_s - 86_400},
    }
    return {name: signed(_HEADER, each, secret) for name, each in claims.items()}


def _claims(exp: dict[str, Any], secret: bytes) -> dict[str, str]:
    claims: dict[str, dict[str, Any] | str] = {
        "claims that are a list": "[1]",
        "claims that are a text": '"sub"',
        "claims that are null": "null",
        "claims that are no JSON": "sub=ann",
        "claims and more": json.dumps(exp) + "{}",
        "deep claims": '{"a":' * 3000 + "1" + "}" * 3000,
        "sub a number": {**exp, "sub": 1},
        "sub null": {**exp, "sub": None},
        "sub an object": {**exp, "sub": {"a": 1}},
        "sub too long": {**exp, "sub": "a" * 257},
        "scope a list": {**exp, "scope": ["read"]},
        "scope null": {**exp, "scope": None},
        "scope an object": {**exp, "scope": {"admin": True}},
    }
    return {name: signed(_HEADER, each, secret) for name, each in claims.items()}
