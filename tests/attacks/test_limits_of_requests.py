"""Limits that a request meets behind the guard: exactly reached, and passed by one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.attacks.door import ADMIN, JWT_SECRET, Door, Request
from tests.attacks.jwt_forgeries import signed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door() as opened:
        yield opened


def bearer_of(door: Door, size: int) -> str:
    """Return an `Authorization` of exactly `size` characters with a good JWT in it."""
    # Base64 leaps over some lengths: a longer header shifts the others.
    for extra in range(4):
        for pad in range(size * 3 // 4 - 200, size):
            header = {"alg": "HS256", "x": "a" * extra}
            claims = {"exp": door.now_s + 60, "pad": "a" * pad}
            text = "Bearer " + signed(header, claims, JWT_SECRET.encode())
            if len(text) == size:
                return text
            if len(text) > size:
                break
    raise AssertionError(size)


def test_an_authorization_of_exactly_8_kib_is_looked_at_and_one_more_is_not(door: Door) -> None:
    limit = door.settings.authorization_bytes_max
    for size, status in ((limit - 1, 200), (limit, 200), (limit + 1, 401), (limit + 2, 401)):
        headers = (("Authorization", bearer_of(door, size)),)
        assert door.ask(Request("GET", "/runs", headers)).status == status


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("run_" + "a" * 7, "RUN_NOT_FOUND"),
        ("run_" + "a" * 8, "RUN_NOT_FOUND"),
        ("run_" + "a" * 64, "RUN_NOT_FOUND"),
        ("run_" + "a" * 65, "RUN_NOT_FOUND"),
    ],
)
def test_an_id_of_any_length_that_is_not_there_is_404_alike(
    door: Door, text: str, code: str
) -> None:
    reply = door.ask(Request("GET", f"/runs/{text}", door.as_admin()))
    assert (reply.status, json.loads(reply.body)["code"]) == (404, code)
    assert reply.body == door.ask(Request("GET", f"/runs/{door.absent}", door.as_admin())).body


def test_exactly_so_many_bad_credentials_are_401_and_the_next_is_429() -> None:
    with Door(changes={"auth_failures_burst": 20}) as door:
        bad = Request("GET", "/runs", (("X-API-Key", "wrong-wrong-wrong-wrong"),))
        assert [door.ask(bad).status for _ in range(20)] == [401] * 20
        refused = door.ask(bad)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert json.loads(refused.body)["code"] == "RATE_LIMITED"
        # Nobody can lock out another, nor themselves: a good credential is never counted.
        assert door.ask(Request("GET", "/runs", door.as_admin())).status == 200
        other = Request("GET", "/runs", bad.headers, client="192.0.2.8")
        assert door.ask(other).status == 401
        door.clock.passed_s += 0.11
        assert [door.ask(bad).status for _ in range(2)] == [401, 429]


def test_a_stranger_without_a_credential_is_never_429() -> None:
    with Door(changes={"auth_failures_burst": 3}) as door:
        assert {door.ask(Request("GET", "/runs")).status for _ in range(50)} == {401}


def test_exactly_so_many_kept_events_are_taken_and_the_next_is_429() -> None:
    with Door(changes={"kept_events_max": 5}) as door:
        # Declared, and not waited for: the run is held by another wait.
        run, _ = door.trigger("keeps", {"id": "k"})
        target = f"/notify/kept-k?runId={run}"
        taken = [door.ask(Request("POST", target, door.as_admin(), b"1")) for _ in range(6)]
        assert [reply.status for reply in taken] == [200] * 5 + [429]
        assert taken[-1].headers["retry-after"]
        assert json.loads(taken[-1].body)["code"] == "RATE_LIMITED"


def test_exactly_so_many_live_runs_are_taken_and_the_next_is_503() -> None:
    with Door(changes={"live_runs_max": 3}) as door:  # two are the door's own
        body = b'{"id":"x"}'
        request = Request("POST", "/trigger/waits", door.as_admin(), body)
        assert [door.ask(request).status for _ in range(2)] == [200, 503]
        assert door.ask(Request("POST", f"/runs/{door.run}/cancel", door.as_admin())).status == 200
        door.runner.run(asyncio.wait_for(door.engine.wait(door.run), 60))
        assert door.ask(request).status == 200


def test_the_key_that_is_found_is_compared_to_the_end(door: Door) -> None:
    """No part of a key is enough, however long."""
    for size in range(len(ADMIN)):
        headers = (("X-API-Key", ADMIN[:size]),)
        assert door.ask(Request("GET", "/runs", headers)).status == 401
