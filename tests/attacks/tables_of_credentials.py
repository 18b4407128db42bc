"""Tables: API keys, public access tokens, JWTs under both kinds of key, what each may do.

Where the HTTP contract decides, it stands here as it decides: the first present of `X-API-Key`,
`Authorization` and `token` is the one that counts, also when there are two, or when one is twice.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from stepflow.auth.api_key import make_key
from stepflow.auth.public_token import TokenSigner
from tests.attacks.attack import REFUSED, Attack
from tests.attacks.door import ADMIN, JWT_SECRET, Request
from tests.attacks.jwt_forgeries import forgeries, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.door import Door

__all__ = ["api_keys", "hmac_jwts", "public_tokens", "scopes", "tokens_elsewhere"]

_DAY_MS: Final = 86_400_000
ROUTES: Final = (
    ("GET", "/workflows"),
    ("GET", "/workflows/echo"),
    ("GET", "/runs"),
    ("GET", "/events"),
    ("GET", "/metrics"),
    ("POST", "/trigger/echo"),
    ("POST", "/trigger/echo/batch"),
    ("POST", "/notify/go-1"),
)
RUN_ROUTES: Final = (
    ("GET", "/runs/{run}"),
    ("HEAD", "/runs/{run}"),
    ("GET", "/runs/{run}/stream"),
    ("POST", "/runs/{run}/cancel"),
    ("POST", "/runs/{run}/resume"),
    ("POST", "/runs/{run}/token"),
    ("DELETE", "/runs/{run}"),
)


def api_keys(door: Door) -> Iterator[Attack]:
    """Texts that are no good key, in the header for keys and elsewhere."""
    revoked = door.made_key("revoked", "read")
    door.keys.revoke(revoked[3:11], door.clock.wall_ms())
    expired = door.made_key("expired", "read", expires_ms=door.clock.wall_ms() + 100)
    unknown, _ = make_key()
    good = door.reader
    start, _, checksum = good.rpartition("_")
    texts = {
        "an empty one": "",
        "a space": " ",
        "a short one": "x",
        "a revoked one": revoked,
        "an expired one": expired,
        "a well-made one that nobody has": unknown,
        "another's secret under a known id": good[:12] + unknown[12:],
        "a known secret under another id": unknown[:12] + good[12:],
        "the id alone": good[3:11],
        "without the checksum": start,
        "another checksum": f"{start}_{checksum[::-1]}",
        "the last letter missing": good[:-1],
        "one letter more": good + "0",
        "in lower case": good.lower(),
        "a space before": " " + good,
        "a space behind": good + " ",
        "quoted": f'"{good}"',
        "two with a comma": f"{ADMIN},{good}x",
        "its digest": hashlib.sha256(good.encode()).hexdigest(),
        "its name": "reader",
        "a NUL": "\0" * 32,
        "SQL": "' OR '1'='1' -- aaaaaaaaaaaaaaaa",
        "not ASCII": "ключ-" * 8,
        "bytes that are no UTF-8": "\udcff" * 32,
        "257 characters": "a" * 257,
        "8 KiB": "a" * 8192,
        "a JWT": signed({"alg": "HS256"}, {"exp": door.now_s + 60}, JWT_SECRET.encode()),
        "a public token": door.token,
    }
    target = f"/runs/{door.run}"
    for name, text in texts.items():
        yield Attack(f"key: {name}", Request("GET", target, (("X-API-Key", text),)))
    for place in ("api_key", "apikey", "key", "x-api-key", "access_token", "token"):
        yield Attack(f"key in the query as {place}", Request("GET", f"{target}?{place}={ADMIN}"))
    yield Attack("key as a cookie", Request("GET", target, (("Cookie", f"X-API-Key={ADMIN}"),)))
    yield Attack("key as Bearer", Request("GET", target, (("Authorization", f"Bearer {ADMIN}"),)))
    basic = base64.b64encode(f"{ADMIN}:".encode()).decode()
    yield Attack("key as Basic", Request("GET", target, (("Authorization", f"Basic {basic}"),)))
    yield from _which_counts(door, target)


def _which_counts(door: Door, target: str) -> Iterator[Attack]:
    bad, good = ("X-API-Key", "wrong-wrong-wrong-wrong"), ("X-API-Key", ADMIN)
    bearer = ("Authorization", f"Bearer {door.token}")
    yield Attack("a bad key before a good one", Request("GET", target, (bad, good)))
    yield Attack("a good key before a bad one", Request("GET", target, (good, bad)), (200,))
    yield Attack("a bad key beside a good token", Request("GET", target, (bad, bearer)))
    yield Attack(
        "a bad key beside a good query", Request("GET", f"{target}?token={door.token}", (bad,))
    )
    worse = ("Authorization", "Bearer pat_wrong")
    yield Attack(
        "a bad token beside a good query", Request("GET", f"{target}?token={door.token}", (worse,))
    )


def hmac_jwts(door: Door) -> Iterator[Attack]:
    """Every forgery, on a route that reads and on one that writes."""
    for name, token in forgeries(door.now_s, JWT_SECRET.encode()).items():
        headers = (("Authorization", f"Bearer {token}"),)
        yield Attack(f"JWT: {name}", Request("GET", f"/runs/{door.run}", headers))
        yield Attack(f"JWT, writing: {name}", Request("POST", "/trigger/echo", headers, b"1"))
    good = signed({"alg": "HS256"}, {"exp": door.now_s + 60}, JWT_SECRET.encode())
    for scheme in (
        "Bearer  ",
        "Bearer\t",
        "Token ",
        "JWT ",
        "Basic ",
        "",
        "Bearer Bearer ",
        "Bearer=",
    ):
        headers = (("Authorization", scheme + good),)
        yield Attack(f"JWT behind {scheme!r}", Request("GET", "/runs", headers))
    yield Attack("JWT in the query", Request("GET", f"/runs?token={good}"))
    claims = {"exp": door.now_s + 60, "sub": "a" * 256, "pad": "a" * 8000}
    long = signed({"alg": "HS256"}, claims, JWT_SECRET.encode())
    assert len(long) > 8192
    yield Attack("JWT over 8 KiB", Request("GET", "/runs", (("Authorization", f"Bearer {long}"),)))
    yield Attack(
        "a good JWT", Request("GET", "/runs", (("Authorization", f"Bearer {good}"),)), (200,)
    )


def public_tokens(door: Door) -> Iterator[Attack]:
    """Every way to make a token from another, or from none."""
    token, run = door.token, door.run
    at = f"/runs/{run}"
    yield Attack("a good token", Request("GET", f"{at}?token={token}"), (200,))
    raw = bytearray(base64.urlsafe_b64decode(token[4:] + "=" * (-len(token[4:]) % 4)))
    for bit in range(8 * len(raw)):
        raw[bit // 8] ^= 1 << bit % 8
        text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        raw[bit // 8] ^= 1 << bit % 8
        yield Attack(f"bit {bit} of the bytes", Request("GET", f"{at}?token=pat_{text}"))
    for place in range(len(token)):
        for change in (1, 2, 32):
            letter = chr(ord(token[place]) ^ change)
            text = f"{token[:place]}%{ord(letter):02X}{token[place + 1 :]}"
            yield Attack(f"letter {place} xor {change}", Request("GET", f"{at}?token={text}"))
    for size in range(len(token)):
        yield Attack(f"the first {size} letters", Request("GET", f"{at}?token={token[:size]}"))
    yield from _made_tokens(door, at)
    swapped = f"/runs/{door.other}"
    yield Attack("the token of another run", Request("GET", f"{swapped}?token={token}"), (404,))
    yield Attack(
        "the token, no such run", Request("GET", f"/runs/{door.absent}?token={token}"), (404,)
    )
    stream = f"/runs/{door.other}/stream?token={token}"
    yield Attack("the token of another run, its stream", Request("GET", stream), (404,))
    # The contract lets the first decide, where a server could also answer 400 to two.
    twice = f"{at}?token={token[:-1]}&token={token}"
    yield Attack("token twice, the first bad", Request("GET", twice))
    yield Attack(
        "token twice, the first good", Request("GET", f"{at}?token={token}&token=x"), (200,)
    )
    yield Attack("Token with a capital", Request("GET", f"{at}?Token={token}"))
    yield Attack(
        "token in the body", Request("POST", "/trigger/echo", (), f"token={token}".encode())
    )
    yield Attack("token as a cookie", Request("GET", at, (("Cookie", f"token={token}"),)))
    yield Attack("token in a fragment", Request("GET", f"{at}?#token={token}"))
    yield Attack("token in a matrix", Request("GET", f"{at};token={token}"))


def _made_tokens(door: Door, at: str) -> Iterator[Attack]:
    now_ms = door.clock.wall_ms()
    other = TokenSigner(b"another server's key, 32 bytes...")
    token, ours = door.token, door.chain.signer
    made = {
        "another server's": other.sign_run(door.run, now_ms + _DAY_MS),
        "over since now": ours.sign_run(door.run, now_ms),
        "over for a day": ours.sign_run(door.run, now_ms - _DAY_MS),
        "in upper case": token.upper(),
        "in lower case": token.lower(),
        "without its prefix": token[4:],
        "twice": token + token,
        "padded": token + "=",
        "a space behind": token + "%20",
        "a line feed behind": token + "%0A",
        "a NUL behind": token + "%00",
        "more bytes": token + "AAAA",
        "8 KiB": "pat_" + "A" * 8200,
        "not ASCII": "pat_%C3%A9" + token[5:],
        "the prefix alone": "pat_",
    }
    for name, text in made.items():
        yield Attack(f"token: {name}", Request("GET", f"{at}?token={text}"))


def tokens_elsewhere(door: Door) -> Iterator[Attack]:
    """A good token on every route but the two it is for: known, but not here."""
    for method, path in ROUTES:
        for target, headers in (
            (f"{path}?token={door.token}", ()),
            (path, (("Authorization", f"Bearer {door.token}"),)),
        ):
            yield Attack(f"{method} {path} with a token", Request(method, target, headers), (403,))
    for method, path in RUN_ROUTES[3:]:
        target = f"{path.format(run=door.run)}?token={door.token}"
        yield Attack(f"{method} {path} with its token", Request(method, target), (403,))
        target = f"{path.format(run=door.other)}?token={door.token}"
        yield Attack(f"{method} {path} of another run", Request(method, target), REFUSED[1:])


def scopes(door: Door) -> Iterator[Attack]:
    """A key that may only read, and a JWT that may do nothing, on what they may not."""
    reader = (("X-API-Key", door.reader),)
    nothing = signed(
        {"alg": "HS256"}, {"exp": door.now_s + 60, "scope": "openid"}, JWT_SECRET.encode()
    )
    for method, path in ROUTES:
        status = (200,) if method == "GET" else (403,)
        yield Attack(f"{method} {path}, read alone", Request(method, path, reader), status)
        headers = (("Authorization", f"Bearer {nothing}"),)
        yield Attack(f"{method} {path}, no scope", Request(method, path, headers), (403,))
    for method, path in RUN_ROUTES[3:]:
        target = path.format(run=door.run)
        yield Attack(f"{method} {path}, read alone", Request(method, target, reader), (403,))
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        override = (*reader, (header, "DELETE"))
        yield Attack(header, Request("GET", f"/runs/{door.run}", override), (200,))
    for header in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"):
        public = ((header, "/health"),)
        yield Attack(f"{header} to a public route", Request("GET", "/runs", public))
