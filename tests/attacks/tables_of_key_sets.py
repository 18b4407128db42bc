"""Table: JWTs against a server that has public keys: one RSA, one P-256, one Ed25519."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests.attacks.attack import Attack
from tests.attacks.door import Request
from tests.attacks.jwt_forgeries import b64, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.door import Door

__all__ = ["key_set", "key_set_jwts"]

_KIDS: Final = {"RS256": "r", "ES256": "e", "EdDSA": "d"}
_SPKI: Final = serialization.PublicFormat.SubjectPublicKeyInfo


@cache
def _private() -> dict[str, Any]:
    return {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def _public_jwk(algorithm: str) -> dict[str, Any]:
    maker = jwt.get_algorithm_by_name(algorithm)
    row: dict[str, Any] = json.loads(maker.to_jwk(_private()[algorithm].public_key()))
    return row | {"kid": _KIDS[algorithm], "use": "sig"}


@cache
def key_set() -> bytes:
    """Return the server's key set."""
    return json.dumps({"keys": [_public_jwk(each) for each in _KIDS]}).encode()


def key_set_jwts(door: Door) -> Iterator[Attack]:
    """Keys changed over, algorithms confused, signatures of nothing."""
    claims = {"sub": "ann", "exp": door.now_s + 60}
    for algorithm, kid in _KIDS.items():
        good = jwt.encode(claims, _private()[algorithm], algorithm, {"kid": kid})
        yield _attack(f"a good {algorithm}", good, 200)
        for name, token in (
            _other_keys(algorithm, kid, claims) | _no_signatures(algorithm, kid, claims)
        ).items():
            yield _attack(f"{algorithm}: {name}", token)
    for name, secret in _public_texts().items():
        for header in ({"alg": "HS256", "kid": "r"}, {"alg": "HS256"}, {"alg": "HS256", "kid": ""}):
            yield _attack(f"HMAC with {name}, {header}", signed(header, claims, secret))
    for algorithm in ("RS384", "RS512", "PS256", "PS384", "PS512"):
        token = jwt.encode(claims, _private()["RS256"], algorithm, {"kid": "r"})
        yield _attack(f"the RSA key with {algorithm}", token)
    yield from map(_named, _special(claims).items())


def _named(row: tuple[str, str]) -> Attack:
    return _attack(*row)


def _attack(name: str, token: str, status: int = 401) -> Attack:
    headers = (("Authorization", f"Bearer {token}"),)
    return Attack(f"JWKS: {name}", Request("GET", "/runs", headers), (status,))


def _other_keys(algorithm: str, kid: str, claims: dict[str, Any]) -> dict[str, str]:
    mine = _private()[algorithm]
    strangers: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    stranger = strangers[algorithm]
    own_jwk = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(stranger.public_key()))
    kids = {each for each in _KIDS.values() if each != kid}
    return {
        "another key": jwt.encode(claims, stranger, algorithm, {"kid": kid}),
        "another key, brought along": jwt.encode(
            claims, stranger, algorithm, {"kid": kid, "jwk": own_jwk}
        ),
        "another key, at a URL": jwt.encode(
            claims, stranger, algorithm, {"kid": kid, "jku": "http://127.0.0.1:1/keys"}
        ),
        "no key id among three keys": jwt.encode(claims, mine, algorithm),
        "an unknown key id": jwt.encode(claims, mine, algorithm, {"kid": "x"}),
        "a key id in another case": jwt.encode(claims, mine, algorithm, {"kid": kid.upper()}),
        **{
            f"under the key id {each}": jwt.encode(claims, mine, algorithm, {"kid": each})
            for each in kids
        },
    }


def _no_signatures(algorithm: str, kid: str, claims: dict[str, Any]) -> dict[str, str]:
    start = f"{b64({'alg': algorithm, 'kid': kid})}.{b64(claims)}"
    none = f"{b64({'alg': 'none', 'kid': kid})}.{b64(claims)}"
    good = jwt.encode(claims, _private()[algorithm], algorithm, {"kid": kid})
    return {
        "no signature": f"{start}.",
        "64 zeros": f"{start}.{b64(bytes(64))}",
        "256 zeros": f"{start}.{b64(bytes(256))}",
        "256 bytes of ones": f"{start}.{b64(bytes([255]) * 256)}",
        "one byte": f"{start}.{b64(b'a')}",
        "10 KB": f"{start}.{b64(bytes(5000))}",
        "alg none": f"{none}.",
        "alg none, the good signature": f"{none}.{good.rpartition('.')[2]}",
        "the good signature, other claims": f"{b64({'alg': algorithm, 'kid': kid})}."
        f"{b64({**claims, 'sub': 'eve'})}.{good.rpartition('.')[2]}",
    }


def _public_texts() -> dict[str, bytes]:
    """Whatever an attacker knows of the keys, as an HMAC secret."""
    texts: dict[str, bytes] = {"the key set": key_set()}
    for algorithm, private in _private().items():
        public = private.public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, _SPKI)
        texts |= {
            f"the PEM of {algorithm}": pem,
            f"the PEM of {algorithm} without its end": pem.rstrip(b"\n"),
            f"the DER of {algorithm}": public.public_bytes(serialization.Encoding.DER, _SPKI),
            f"the JWK of {algorithm}": json.dumps(_public_jwk(algorithm)).encode(),
        }
    return texts


def _special(claims: dict[str, Any]) -> dict[str, str]:
    """Signatures that are right in another form, or right for another text."""
    ec_key, rsa_key = _private()["ES256"], _private()["RS256"]
    start = f"{b64({'alg': 'ES256', 'kid': 'e'})}.{b64(claims)}"
    der: bytes = ec_key.sign(start.encode(), ec.ECDSA(hashes.SHA256()))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    of_order = order.to_bytes(32, "big")
    rsa_start = f"{b64({'alg': 'RS256', 'kid': 'r'})}.{b64(claims)}"
    sha1: bytes = rsa_key.sign(rsa_start.encode(), padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    return {
        "ES256 as DER": f"{start}.{b64(der)}",
        "ES256, r and s the order": f"{start}.{b64(of_order * 2)}",
        "ES256, r and s one": f"{start}.{b64((bytes(31) + bytes([1])) * 2)}",
        "RS256 over SHA-1": f"{rsa_start}.{b64(sha1)}",
        "EdDSA, the neutral point": f"{b64({'alg': 'EdDSA', 'kid': 'd'})}.{b64(claims)}."
        f"{b64(bytes([1]) + bytes(63))}",
    }
