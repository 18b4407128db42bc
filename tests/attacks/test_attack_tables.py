"""Every attack of every table gets what it should; and none of them makes the server call out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.attacks.attack import Attack, mistakes, trouble
from tests.attacks.door import ADMIN, JWT_SECRET, TOKEN_KEY, Request
from tests.attacks.run import TABLES, door_for, run_table
from tests.attacks.wire import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.door import Door

# So that a table that has lost its rows is noticed.
AT_LEAST = {
    "keys": 40,
    "jwt": 260,
    "jwks": 95,
    "tokens": 900,
    "tokens-elsewhere": 22,
    "scopes": 25,
    "ids": 230,
    "strangers": 80,
    "other-sites": 28,
    "headers": 90,
    "sessions": 380,
    "page-files": 60,
    "bodies": 200,
}


@pytest.fixture
def calls_out(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whom the process tried to reach; the attempt fails."""
    tried: list[object] = []

    def refuse(_sock: socket.socket, address: object, *_rest: object) -> Any:
        tried.append(address)
        raise AssertionError(address)

    def resolve(host: object, *_rest: object, **_more: object) -> Any:
        tried.append(host)
        raise AssertionError(host)

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, resolve)
    return tried


def test_every_table_is_run() -> None:
    assert AT_LEAST.keys() == TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_every_attack_gets_what_it_should_and_none_calls_out(
    name: str, calls_out: list[object], capfd: pytest.CaptureFixture[str]
) -> None:
    count, wrong = run_table(name)
    assert not wrong
    assert count >= AT_LEAST[name]
    assert not calls_out
    said = "".join(capfd.readouterr())
    assert not any(secret in said for secret in (ADMIN, JWT_SECRET, TOKEN_KEY, "pat_A"))


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with door_for("keys") as opened:
        yield opened


HEADERS = {
    "content-type": "application/json",
    "x-content-type-options": "nosniff",
    "www-authenticate": "Bearer",
}
BODY = b'{"error":"Unauthorized","code":"UNAUTHORIZED"}'


class TestTheJudge:
    """That a table would notice: each thing the judge looks at, broken once."""

    def judged(self, door: Door, reply: Reply, **more: Any) -> str | None:
        return trouble(door, Attack("a", Request("GET", "/"), **more), reply)

    def test_a_good_refusal_is_no_trouble(self, door: Door) -> None:
        assert self.judged(door, Reply(401, HEADERS, BODY)) is None

    @pytest.mark.parametrize(
        ("status", "body", "missing"),
        [
            (200, BODY, ""),
            (500, BODY, ""),
            (401, b"Unauthorized", ""),
            (401, b'{"code":"UNAUTHORIZED","error":"Unauthorized"}', ""),
            (401, b'{"error":"Unauthorized","code":"UNAUTHORIZED","why":"expired"}', ""),
            (401, b'{"error":"Expired","code":"UNAUTHORIZED"}', ""),
            (401, BODY, "content-type"),
            (401, BODY, "x-content-type-options"),
            (401, BODY, "www-authenticate"),
            (401, BODY + ADMIN.encode(), ""),
        ],
    )
    def test_whatever_else_is_trouble(
        self, door: Door, status: int, body: bytes, missing: str
    ) -> None:
        headers = {name: text for name, text in HEADERS.items() if name != missing}
        assert self.judged(door, Reply(status, headers, body))

    def test_a_secret_or_what_is_hidden_in_a_good_answer_is_trouble(self, door: Door) -> None:
        shown = Reply(200, HEADERS, ADMIN.encode())
        assert self.judged(door, shown, expected=(200,)) == "the answer shows the admin key"
        headers = {**HEADERS, "location": "http://evil.example"}
        shown = Reply(200, headers, b"")
        assert self.judged(door, shown, expected=(200,), hidden=("evil",))

    def test_a_hole_in_the_product_is_found(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def yes(*_macs: bytes) -> bool:
            return True

        monkeypatch.setattr("stepflow.auth.public_token.hmac.compare_digest", yes)
        count, wrong = mistakes(door, TABLES["tokens"].table(door))
        assert count >= AT_LEAST["tokens"]
        assert len(wrong) > 200
