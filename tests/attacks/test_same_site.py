"""`serve --no-auth`: what a page of another site can do through a browser on this machine.

HTTP has 421 for a wrong host; the contract's list of codes has not, so it is 403 `FORBIDDEN`. A
POST without a content type stays good for programs, as the contract says: the origin decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stepflow import MEMORY, Context, Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.web.cors import cors_origins
from stepflow.web.same_site import SameSite, is_this_machine

if TYPE_CHECKING:
    from collections.abc import Coroutine

HERE = "http://127.0.0.1:8000"
FRIEND = "https://app.example.com"


async def echo(_ctx: Context, value: Any) -> Any:
    return value


async def ask(*requests: tuple[str, str, dict[str, str]]) -> list[httpx.Response]:
    """Send `(method, path, headers)` to an open server that lists one friend."""
    flow = Stepflow(MEMORY)
    flow.workflow("echo")(echo)
    app = SameSite(flow.asgi(auth=allow_all, cors_origins=[FRIEND]), cors_origins([FRIEND]))
    async with flow:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            return [
                await client.request(method, path, headers=headers, content=b"1")
                for method, path, headers in requests
            ]


def run(work: Coroutine[Any, Any, list[httpx.Response]]) -> list[httpx.Response]:
    return asyncio.run(work)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:8000",
        "null",
        "",
        "http://localhost:3000",
        "http://127.0.0.1:8001",
        "http://127.0.0.1:8000.evil.example",
        "http://127.0.0.1:80000",
        "127.0.0.1:8000",
        "https://app.example.com.evil.example",
        "HTTPS://APP.EXAMPLE.COM",
        "file://",
        "chrome-extension://abcdefgh",
    ],
)
def test_a_page_of_another_site_cannot_post(origin: str) -> None:
    """A body without a type needs no preflight, and a form none either: the origin decides."""
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        (answer,) = run(ask(("POST", "/trigger/echo", {"Origin": origin, **headers})))
        assert answer.status_code == 403
        assert answer.json()["code"] == "FORBIDDEN"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin", [HERE, FRIEND, "HTTP://127.0.0.1:8000", "https://127.0.0.1:8000"]
)
def test_our_own_pages_and_those_that_are_listed_may_post(origin: str) -> None:
    (answer,) = run(ask(("POST", "/trigger/echo", {"Origin": origin})))
    assert answer.status_code == 200


def test_programs_send_no_origin_and_may_post() -> None:
    (answer,) = run(ask(("POST", "/trigger/echo", {})))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io:8000",
        "localhost.evil.example",
        "notlocalhost",
        "0.0.0.0:8000",
        "[::]:8000",
        "192.0.2.1",
        "2130706433",
        "0x7f.1",
        "127.0.0.1:8000@evil.example",
        "127.0.0.1 evil.example",
        "127.0.0.1,evil.example",
        "127.0.0.1:80:80",
        "[::1]evil",
        "::1",
        "",
    ],
)
def test_a_name_that_was_made_to_point_here_reads_nothing(host: str) -> None:
    """DNS rebinding: to the browser the page and this server are one site."""
    wanted = [
        ("GET", "/runs"),
        ("GET", "/workflows"),
        ("POST", "/trigger/echo"),
        ("GET", "/nothing"),
    ]
    origin = f"http://{host}"
    for answer in run(
        ask(*((method, path, {"Host": host, "Origin": origin}) for method, path in wanted))
    ):
        assert answer.status_code == 403
        assert answer.json().keys() == {"error", "code"}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.:8000",
        "app.localhost:8000",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.8.9.10:65535",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_names_of_this_machine_are_served(host: str) -> None:
    (answer,) = run(ask(("GET", "/runs", {"Host": host})))
    assert answer.status_code == 200


def test_a_request_without_a_host_is_refused() -> None:
    assert not is_this_machine("")


def test_a_preflight_of_another_site_is_refused_and_a_friends_answered() -> None:
    asks = {"Access-Control-Request-Method": "POST"}
    friend, other = run(
        ask(
            ("OPTIONS", "/trigger/echo", {"Origin": FRIEND, **asks}),
            ("OPTIONS", "/trigger/echo", {"Origin": "https://evil.example", **asks}),
        )
    )
    assert (friend.status_code, friend.headers["access-control-allow-origin"]) == (204, FRIEND)
    assert other.status_code == 403
