"""Tables: the dashboard's cookie, its forms, its ways in; and paths below its files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.attacks.attack import Attack
from tests.attacks.door import ADMIN, ORIGIN, Request
from tests.attacks.tables_of_credentials import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.door import Door

__all__ = ["page_files", "sessions"]

_OURS: Final = ("Sec-Fetch-Site", "same-origin")
_JSON: Final = ("Content-Type", "application/json")


def _log_in(door: Door, key: str, *headers: tuple[str, str]) -> str:
    """Return the session's id of a good login."""
    body = json.dumps({"key": key}).encode()
    reply = door.ask(Request("POST", "/session", (_JSON, *headers), body))
    assert reply.status == 200, reply
    return reply.headers["set-cookie"].partition(";")[0].partition("=")[2]


def _with(text: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("Cookie", f"stepflow_session={text}"), *more)


def sessions(door: Door) -> Iterator[Attack]:
    """Cookies that are none of ours, good ones of other pages, and ways to log in that are none."""
    good = _log_in(door, ADMIN)
    out = _log_in(door, ADMIN)
    assert door.ask(Request("DELETE", "/session", _with(out, _OURS))).status == 200
    again = _log_in(door, ADMIN)
    _log_in(door, ADMIN, ("Cookie", f"stepflow_session={again}"))
    key = door.made_key("of-a-session", "read")
    revoked = _log_in(door, key)
    door.keys.revoke(key[3:11], door.clock.wall_ms())
    door.clock.passed_s += 1
    texts = {
        "an empty one": "",
        "the start alone": "ses_",
        "one that was made up": "ses_" + "A" * 43,
        "one that was logged out": out,
        "one that a later login ended": again,
        "one of a revoked key": revoked,
        "the last letter missing": good[:-1],
        "one letter more": good + "A",
        "other letters": good.swapcase(),
        "without its start": good[4:],
        "quoted": f'"{good}"',
        "with an attribute": f"{good}, x",
        "a key": ADMIN,
        "a public token": door.token,
        "a long one": "ses_" + "A" * 4000,
        "a NUL": good[:-1] + "\0",
        "padded": good + "=",
        **{f"letter {n} changed": _changed(good, n) for n in range(0, len(good), 3)},
    }
    for name, text in texts.items():
        for method, target in (
            *ROUTES,
            ("GET", "/session"),
            ("DELETE", "/session"),
            ("GET", "/keys"),
        ):
            headers = _with(text, _OURS)
            yield Attack(f"cookie, {name}, {method} {target}", Request(method, target, headers))
    for name in ("Stepflow_Session", " stepflow_sessio", "__Host-stepflow_session", "token"):
        yield Attack(
            f"a cookie called {name}", Request("GET", "/runs", (("Cookie", f"{name}={good}"),))
        )
    for name in ("X-Session", "Session", "Set-Cookie", "X-Cookie", "Cookie2", "stepflow_session"):
        text = f"stepflow_session={good}"
        yield Attack(f"the cookie in {name}", Request("GET", "/runs", ((name, text),)))
    for name, value in (("X-API-Key", "wrong"), ("X-API-Key", ""), ("Authorization", "Bearer x")):
        headers = ((name, value), *_with(good, _OURS))
        yield Attack(f"a bad {name} before a good cookie", Request("GET", "/runs", headers))
    for query in ("token=", "token=pat_x", "x=1&token=pat_x"):
        target = f"/runs?{query}"
        yield Attack(f"{query} before a good cookie", Request("GET", target, _with(good, _OURS)))
    yield from _of_other_pages(good)
    yield from _logins()


def _changed(text: str, place: int) -> str:
    return text[:place] + ("B" if text[place] != "B" else "C") + text[place + 1 :]


def _of_other_pages(good: str) -> Iterator[Attack]:
    pages: dict[str, tuple[tuple[str, str], ...]] = {
        "another site": (("Sec-Fetch-Site", "cross-site"),),
        "another port": (("Sec-Fetch-Site", "same-site"),),
        "another port that says so in Origin": (("Origin", "http://stepflow:81"),),
        "a listed origin": (("Origin", ORIGIN),),
        "a listed origin, as a new browser says it": (
            ("Origin", ORIGIN),
            ("Sec-Fetch-Site", "cross-site"),
        ),
        "a sandbox": (("Origin", "null"),),
        "a name that goes on": (("Origin", "http://stepflow.evil.example"),),
        "no page": (),
        "an address that was typed": (("Sec-Fetch-Site", "none"),),
        "two ways to say it": (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin")),
    }
    for name, headers in pages.items():
        for method, target in (
            ("POST", "/trigger/echo"),
            ("DELETE", "/session"),
            ("POST", "/keys"),
        ):
            request = Request(method, target, _with(good, *headers), b'{"name":"x"}')
            yield Attack(f"{name}: {method} {target}", request, (403,))


def _logins() -> Iterator[Attack]:
    body = json.dumps({"key": ADMIN}).encode()
    for name, headers in {
        "another site": (("Sec-Fetch-Site", "cross-site"), _JSON),
        "another port": (("Sec-Fetch-Site", "same-site"), _JSON),
        "another origin": (("Origin", "http://evil.example"), _JSON),
        "a sandbox": (("Origin", "null"), _JSON),
    }.items():
        yield Attack(f"a login of {name}", Request("POST", "/session", headers, body), (403,))
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = (("Content-Type", media),)
        yield Attack(f"a login as {media}", Request("POST", "/session", headers, body), (400,))
    for name, text in {
        "no key": {},
        "a list": {"key": [ADMIN]},
        "a key and more": {"key": ADMIN, "scopes": ["admin"]},
        "another name": {"apiKey": ADMIN},
        "nothing": None,
    }.items():
        request = Request("POST", "/session", (_JSON,), json.dumps(text).encode())
        yield Attack(f"a login with {name}", request, (400,))
    for name, key in {
        "a wrong key": "wrong-key-0123456789",
        "a space behind": f"{ADMIN} ",
        "two keys": f"{ADMIN},{ADMIN}",
        "a line break": f"{ADMIN}\n",
        "a header": f"{ADMIN}\r\nX-API-Key: {ADMIN}",
        "a JWT of nobody": "eyJhbGciOiJub25lIn0.e30.",
    }.items():
        request = Request("POST", "/session", (_JSON,), json.dumps({"key": key}).encode())
        yield Attack(f"a login with {name}", request, (401,))


# What stands where a file's name should: traversal in every spelling.
_PATHS: Final = (
    "..",
    "../app.py",
    "../../etc/passwd",
    "..%2f..%2fassets.py",
    "%2e%2e/%2e%2e/assets.py",
    "%2e%2e%2fassets.py",
    "..%5cassets.py",
    "..%255cassets.py",
    "%c0%ae%c0%ae/assets.py",
    "....//assets.py",
    "vendor/../../assets.py",
    "vendor/%2e%2e/app.js",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "C:%5cwindows",
    "app.js%00.html",
    "app.js%0a",
    "app.js%0d%0aX-Evil:%201",
    "app.js/",
    "app.js/x",
    "APP.JS",
    "vendor",
    "vendor/",
    "assets.py",
    "__init__.py",
    ".",
    "%ff",
    "file:app.js",
)


def page_files(_door: Door) -> Iterator[Attack]:
    """Paths that lead out of the dashboard's files, or to what is none of them."""
    for text in _PATHS:
        for start in ("/ui/", "/ui/0123456789abcdef/"):
            yield Attack(f"{start}{text}", Request("GET", f"{start}{text}"), (404,))
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        yield Attack(f"{method} of a file", Request(method, "/ui/app.js"), (405,))
