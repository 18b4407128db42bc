"""When a key set is fetched, and what a fetch may not do."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from stepflow.auth.jwks import Jwks, jwks_at, keys_of_set
from stepflow.config import Settings
from stepflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stepflow.clock import TimerHandle

SETTINGS = Settings()


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: object) -> TimerHandle:
        raise NotImplementedError


def key_set(*kids: str) -> bytes:
    maker = jwt.get_algorithm_by_name("EdDSA")
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    return json.dumps(
        {"keys": [{**maker.to_jwk(public, as_dict=True), "kid": kid} for kid in kids]}
    ).encode()


class Issuer:
    """Gives a key set, counts how often, and can be slow or gone."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.asked = 0
        self.gone = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def fetch(self) -> bytes:
        self.asked += 1
        assert self.may_answer.wait(60)
        if self.gone:
            raise OSError("no route to host")
        return key_set(*self.kids)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.asyncio
async def test_nothing_is_fetched_before_the_first_token(clock):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    assert issuer.asked == 0
    found = await jwks.find("a")
    assert found is not None
    assert found.kid == "a"
    assert issuer.asked == 1


@pytest.mark.asyncio
async def test_a_known_key_id_fetches_nothing(clock):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    for _ in range(100):
        assert await jwks.find("a") is not None
    assert issuer.asked == 1


@pytest.mark.asyncio
async def test_unknown_key_ids_fetch_at_most_every_30_seconds(clock):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    for second in range(61):
        clock.now_s = float(second)
        assert await jwks.find(f"unknown-{second}") is None
    assert issuer.asked == 3


@pytest.mark.asyncio
async def test_a_new_key_is_found_when_the_issuer_has_it(clock):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    await jwks.find("a")
    issuer.kids = ("a", "b")
    clock.now_s = 29.9
    assert await jwks.find("b") is None
    clock.now_s = 30.0
    assert await jwks.find("b") is not None


@pytest.mark.asyncio
async def test_a_key_that_was_withdrawn_is_refused_after_ten_minutes(clock):
    issuer = Issuer("a", "b")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    await jwks.find("a")
    issuer.kids = ("b",)
    clock.now_s = 600.0
    assert await jwks.find("a") is not None  # the last with the old set: nobody waits for a fetch
    assert jwks._pending
    await jwks._pending
    assert await jwks.find("a") is None
    assert issuer.asked == 2


@pytest.mark.asyncio
async def test_a_known_key_does_not_wait_for_a_slow_issuer(clock):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    await jwks.find("a")
    issuer.may_answer.clear()
    clock.now_s = 600.0
    assert await jwks.find("a") is not None
    issuer.may_answer.set()


@pytest.mark.asyncio
async def test_many_callers_share_one_fetch(clock):
    issuer = Issuer("a")
    issuer.may_answer.clear()
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    callers = [asyncio.ensure_future(jwks.find("a")) for _ in range(100)]
    await asyncio.sleep(0)
    issuer.may_answer.set()
    assert all(found is not None for found in await asyncio.gather(*callers))
    assert issuer.asked == 1


@pytest.mark.asyncio
async def test_a_caller_who_gives_up_does_not_end_the_fetch_of_the_others(clock):
    issuer = Issuer("a")
    issuer.may_answer.clear()
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    first, second = (asyncio.ensure_future(jwks.find("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    issuer.may_answer.set()
    assert await second is not None


@pytest.mark.asyncio
async def test_an_issuer_that_is_gone_leaves_the_keys_we_have(clock, caplog):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    await jwks.find("a")
    issuer.gone = True
    clock.now_s = 1000.0
    assert await jwks.find("b") is None
    assert await jwks.find("a") is not None
    assert "could not be fetched" in caplog.text


@pytest.mark.asyncio
async def test_an_issuer_that_was_never_reached_is_503_with_a_time_and_is_asked_again(clock):
    issuer = Issuer("a")
    issuer.gone = True
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    for _ in range(3):
        with pytest.raises(UnavailableError) as caught:
            await jwks.find("a")
        assert caught.value.retry_after_s == 30
    assert issuer.asked == 1
    issuer.gone = False
    clock.now_s = 30.0
    assert await jwks.find("a") is not None


def test_the_keys_serve_one_event_loop_after_another(clock):
    issuer = Issuer("a")
    jwks = Jwks((), clock, SETTINGS, issuer.fetch)
    for turn in range(2):
        clock.now_s = turn * 600.0
        assert asyncio.run(jwks.find("a")) is not None


@pytest.mark.asyncio
async def test_fixed_keys_are_never_fetched(clock):
    jwks = Jwks(keys_of_set(key_set("a")), clock, SETTINGS)
    clock.now_s = 10_000.0
    assert await jwks.find("a") is not None
    assert await jwks.find("b") is None


# ---------------------------------------------------------------- over HTTP


@contextmanager
def issuer_at(answer: Callable[[BaseHTTPRequestHandler], None]) -> Generator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def give(content: bytes, status: int = 200, **headers: str) -> Callable[[Any], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.mark.asyncio
async def test_a_set_is_fetched_from_its_url(clock):
    with issuer_at(give(key_set("a"))) as (url, asked):
        assert await jwks_at(f"{url}/jwks?x=1", clock, SETTINGS).find("a") is not None
    assert asked == ["/jwks?x=1"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        give(b"", 302, Location="/elsewhere"),
        give(b"", 500),
        give(b"not JSON"),
        give(b"{}"),
        give(b'{"keys": []}' + b" " * Settings().jwks_bytes_max),
    ],
    ids=["a redirect", "500", "no JSON", "no set", "too long"],
)
async def test_what_is_no_usable_answer_is_503_and_follows_nothing(clock, answer, caplog):
    with issuer_at(answer) as (url, asked), pytest.raises(UnavailableError):
        await jwks_at(f"{url}/jwks", clock, SETTINGS).find("a")
    assert asked == ["/jwks"]
    assert "could not be fetched" in caplog.text


@pytest.mark.asyncio
async def test_a_silent_issuer_is_given_up(clock):
    released = threading.Event()
    with issuer_at(lambda _: assert_(released.wait(60))) as (url, _):
        jwks = jwks_at(f"{url}/jwks", clock, Settings(jwks_timeout_s=0.05))
        try:
            with pytest.raises(UnavailableError):
                await jwks.find("a")
        finally:
            released.set()


def assert_(fact: bool) -> None:  # noqa: FBT001
    assert fact
