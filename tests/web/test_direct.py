"""A hot request that our own server answers without a task gets what the application would give."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from served import KEY, flow_of_welcome
from uvicorn.server import ServerState

from stepflow import allow_all
from stepflow.cli.lifecycle import ServeApp
from stepflow.web.direct import Direct
from stepflow.web.guard import Guard, guarded
from stepflow.web.server import make_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepflow import Stepflow
    from stepflow.config import Settings

pytestmark = pytest.mark.asyncio

USER = b'{"userId":"u-1","email":"ada@example.com"}'
ABSENT = "run_0000000000000000000000"
MASKED = re.compile(rb"run_[A-Za-z0-9]{22}|pat_[A-Za-z0-9_-]+|\d{4}-\d\d-\d\dT[\d:.]+Z")
DATE = [(b"date", b"Sat, 28 Nov 2026 00:00:00 GMT")]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)


class Wire:
    """A transport that keeps what is written, and of which a test may say that it is full."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading

    def set_write_buffer_limits(self, **_: Any) -> None:
        return

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.7", 4711) if name == "peername" else None


class Server:
    """The connections of one flow: with the direct way, or with the application's alone."""

    def __init__(self, flow: Stepflow, *, direct: bool, settings: Settings | None = None) -> None:
        self.flow = flow
        app: Any = flow.asgi()
        config = make_config(app, settings or flow.settings, log_level="critical")
        if not direct:
            config.http = guarded(settings or flow.settings)
        config.load()
        self._config = config
        self.state = ServerState()
        self.state.default_headers = DATE

    def connect(self) -> tuple[Any, Wire]:
        wire: Any = Wire()
        protocol: Any = self._config.http_protocol_class(
            config=self._config, server_state=self.state, app_state={}
        )
        protocol.connection_made(wire)
        return protocol, wire

    async def ask(self, *reads: bytes, answers: int = 1) -> bytes:
        """Return all that is answered to these reads on one connection, so many answers."""
        protocol, wire = self.connect()
        for read in reads:
            protocol.data_received(read)
        await settled(wire, answers)
        protocol.connection_lost(None)
        return wire.written


async def settled(wire: Wire, answers: int = 1) -> None:
    """Wait until so many answers are written, and give others the time to be written too."""

    def written() -> int:
        return wire.written.count(b"HTTP/1.1 ") - wire.written.count(b"HTTP/1.1 100 ")

    while written() < answers:
        await asyncio.sleep(0)
    before = b""
    while before != wire.written:
        before = wire.written
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def both(settings: Settings | None = None) -> AsyncIterator[tuple[Server, Server, str]]:
    """Give the two servers over one engine, and a run of it."""
    flow = flow_of_welcome(settings)
    async with flow:
        run = await flow.trigger("anything", {"n": 1})
        await run.result()
        yield Server(flow, direct=True), Server(flow, direct=False), run.id


def asked(method: str, path: str, body: bytes = b"", *lines: str, key: str | None = KEY) -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: a", *lines]
    if key is not None:
        head.append(f"X-API-Key: {key}")
    if body or method == "POST":
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


JSON = "Content-Type: application/json"
JWT = "Authorization: Bearer a.b.c"
CASES = {
    "trigger": asked("POST", "/trigger/welcome-user", USER, JSON),
    "trigger without a type": asked("POST", "/trigger/welcome-user", USER),
    "trigger, empty body": asked("POST", "/trigger/anything"),
    "trigger, key": asked("POST", "/trigger/anything", b"1", "Idempotency-Key: k1"),
    "trigger, key again": asked("POST", "/trigger/anything", b"1", "Idempotency-Key: k1"),
    "trigger, key, other input": asked("POST", "/trigger/anything", b"2", "Idempotency-Key: k1"),
    "trigger, bad idempotency key": asked("POST", "/trigger/anything", b"1", "Idempotency-Key: \t"),
    "trigger, no such workflow": asked("POST", "/trigger/nothing", USER, JSON),
    "trigger, bad JSON": asked("POST", "/trigger/anything", b"{", JSON),
    "trigger, a form": asked("POST", "/trigger/anything", b"a=b", "Content-Type: text/plain"),
    "trigger, no credentials": asked("POST", "/trigger/anything", b"1", key=None),
    "trigger, bad key": asked("POST", "/trigger/anything", b"1", key="no-such-key-0123456789"),
    "trigger, JWT": asked("POST", "/trigger/anything", b"1", JWT, key=None),
    "trigger, key and JWT": asked("POST", "/trigger/anything", b"1", JWT),
    "trigger, query": asked("POST", "/trigger/anything?a=b", b"1"),
    "trigger, escaped": asked("POST", "/trigger/any%74hing", b"1"),
    "trigger, dots": asked("POST", "/trigger/..", b"1"),
    "trigger, read": asked("GET", "/trigger/anything"),
    "trigger, declared too long": asked(
        "POST", "/trigger/anything", b"", "Content-Length: 9999999"
    ),
    "get": asked("GET", "/runs/{run}"),
    "get, HEAD": asked("HEAD", "/runs/{run}"),
    "get, token": asked("GET", "/runs/{run}?token={token}", key=None),
    "get, token of another": asked("GET", f"/runs/{ABSENT}?token={{token}}", key=None),
    "get, bad token": asked("GET", "/runs/{run}?token=pat_abc", key=None),
    "get, token as bearer": asked(
        "GET", "/runs/{run}", b"", "Authorization: Bearer {token}", key=None
    ),
    "get, absent": asked("GET", f"/runs/{ABSENT}"),
    "get, no id": asked("GET", "/runs/run_1"),
    "get, dash": asked("GET", "/runs/run-000000000"),
    "get, with a body": asked("GET", "/runs/{run}", b"{}"),
    "purge": asked("DELETE", f"/runs/{ABSENT}"),
    "put": asked("PUT", "/runs/{run}", b"{}"),
    "notify": asked("POST", "/notify/opened-u-1", b"{}", JSON),
    "notify, nobody": asked("POST", "/notify/nobody", b"{}", JSON),
    "notify, absent run": asked("POST", f"/notify/opened-u-1?runId={ABSENT}", b"{}", JSON),
    "notify, no id": asked("POST", "/notify/opened-u-1?runId=x", b"{}", JSON),
    "old": asked("GET", "/runs/{run}").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "close": asked("GET", "/runs/{run}", b"", "Connection: close"),
    "keep": asked("GET", "/runs/{run}", b"", "Connection: keep-alive"),
    "upgrade": asked("GET", "/runs/{run}", b"", "Connection: Upgrade", "Upgrade: h2c"),
    "expect": asked("POST", "/trigger/anything", b"1", "Expect: 100-continue"),
    "no host": asked("GET", "/runs/{run}").replace(b"Host: a\r\n", b""),
    "absolute": asked("GET", "http://a/runs/{run}"),
    "fragment": asked("GET", "/runs/{run}#x"),
    "list": asked("GET", "/runs?limit=0"),
    "health": asked("POST", "/health"),
    "nowhere": asked("GET", "/nowhere/x"),
}
DIRECT = {
    *("trigger", "trigger without a type", "trigger, empty body", "trigger, key", "trigger, query"),
    *("trigger, key again", "trigger, key, other input", "trigger, bad idempotency key"),
    *("trigger, no such workflow", "trigger, bad JSON", "trigger, a form", "trigger, dots"),
    *("trigger, no credentials", "trigger, bad key", "trigger, key and JWT"),
    *("get", "get, token", "get, token of another", "get, bad token", "get, absent", "get, no id"),
    *("get, dash", "get, with a body", "keep"),
    *("notify", "notify, nobody", "notify, absent run", "notify, no id"),
}


@pytest.mark.parametrize("name", CASES)
async def test_an_answer_is_the_application_s_byte_for_byte(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str] = []
    serve = noting(served)
    async with both() as (direct, plain, run):
        token, _ = direct.flow.engine.public_token(run)
        if "notify" in name or name in {"trigger, key again", "trigger, key, other input"}:
            first = "trigger" if "notify" in name else "trigger, key"
            await plain.ask(CASES[first])
        request = CASES[name].replace(b"{run}", run.encode()).replace(b"{token}", token.encode())
        expected = await plain.ask(request)
        monkeypatch.setattr("stepflow.web.guard.Guard._serve", serve)
        if name == "notify":
            await plain.ask(CASES["trigger"])
        got = await direct.ask(request)
    assert MASKED.sub(b"*", got) == MASKED.sub(b"*", expected)
    assert len(got) == len(expected)
    assert got.startswith(b"HTTP/1.1 ")
    assert bool(served) == (name in DIRECT)


def noting(served: list[str]) -> Any:
    real = Guard._serve

    def serve(guard: Guard, found: Any) -> None:
        served.append(found.scope["path"])
        real(guard, found)

    return serve


async def test_a_trigger_is_answered_when_it_is_durable_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with both() as (direct, _, _run):
        protocol, wire = direct.connect()
        journal = direct.flow.engine.sup.journal  # type: ignore[attr-defined]
        protocol.data_received(CASES["trigger"])
        assert wire.written == b""
        lsn = journal.last_lsn
        assert journal.durable_lsn < lsn
        durable_when_written: list[int] = []
        monkeypatch.setattr(
            wire, "write", lambda _: durable_when_written.append(journal.durable_lsn)
        )
        while not durable_when_written:
            await asyncio.sleep(0)
        assert durable_when_written[0] >= lsn
        protocol.connection_lost(None)


async def test_requests_behind_one_that_waits_are_answered_in_order() -> None:
    get = asked("GET", f"/runs/{ABSENT}")
    async with both() as (direct, plain, _):
        reads = CASES["trigger"] + get + CASES["trigger"], get
        got = await direct.ask(*reads, answers=4)
        expected = await plain.ask(*reads, answers=4)
    assert MASKED.sub(b"*", got) == MASKED.sub(b"*", expected)
    assert got.count(b"HTTP/1.1 200") == got.count(b"HTTP/1.1 404") == 2


async def test_of_one_read_only_the_first_request_is_answered_at_once() -> None:
    async with both() as (direct, _, run):
        protocol, wire = direct.connect()
        protocol.data_received(CASES["get"].replace(b"{run}", run.encode()) * 100)
        assert wire.written.count(b"HTTP/1.1 200") == 1
        await settled(wire, 100)
        assert wire.written.count(b"HTTP/1.1 200") == 100
        protocol.connection_lost(None)


@pytest.mark.parametrize("cut", [1, 40, -len(USER), -3])
async def test_a_request_in_two_reads_is_answered_alike(cut: int) -> None:
    request = CASES["trigger"]
    async with both() as (direct, plain, _):
        got = await direct.ask(request[:cut], request[cut:])
        expected = await plain.ask(request[:cut], request[cut:])
    assert MASKED.sub(b"*", got) == MASKED.sub(b"*", expected)
    assert b" 200 OK" in got


async def test_a_run_that_waits_for_its_answer_is_not_lost_with_the_client() -> None:
    async with both() as (direct, _, _run):
        protocol, wire = direct.connect()
        protocol.data_received(CASES["trigger"])
        protocol.connection_lost(ConnectionResetError())
        wire.closed = True
        while direct.state.tasks:
            await asyncio.sleep(0)
        page = await direct.flow.list_runs(limit=10)
        assert [run.workflow_id for run in page.runs] == ["welcome-user", "anything"]
    assert wire.written == b""


async def test_a_server_that_stops_answers_what_waits_and_closes() -> None:
    async with both() as (direct, _, _run):
        protocol, wire = direct.connect()
        protocol.data_received(CASES["trigger"])
        assert direct.state.tasks
        protocol.shutdown()
        assert not wire.closed
        await settled(wire)
    assert b"\r\nconnection: close\r\n\r\n" in wire.written
    assert wire.closed
    assert not direct.state.tasks


async def test_a_server_that_waits_no_longer_cuts_what_waits() -> None:
    async with both() as (direct, _, _run):
        protocol, wire = direct.connect()
        protocol.data_received(CASES["trigger"])
        for task in list(direct.state.tasks):
            task.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")
        assert wire.closed
        assert not direct.state.tasks
        await asyncio.sleep(0.05)
        assert wire.written == b""
        protocol.connection_lost(None)


async def test_a_large_answer_goes_the_application_s_way() -> None:
    async with both() as (direct, plain, _):
        run = await direct.flow.trigger("anything", "x" * 200_000)
        await run.result()
        request = asked("GET", f"/runs/{run.id}")
        got, expected = await direct.ask(request), await plain.ask(request)
    assert got == expected
    assert len(got) > 400_000


async def test_an_answer_waits_for_a_client_that_does_not_read() -> None:
    async with both() as (direct, plain, run):
        request = CASES["get"].replace(b"{run}", run.encode())
        expected = await plain.ask(request)
        protocol, wire = direct.connect()
        protocol.pause_writing()
        protocol.data_received(request)
        for _ in range(20):
            await asyncio.sleep(0)
        assert wire.written == b""
        protocol.resume_writing()
        await settled(wire)
        assert wire.written == expected
        protocol.data_received(request)
        assert wire.written == expected * 2
        protocol.connection_lost(None)


async def test_a_defect_is_500_in_our_shape(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with both() as (direct, plain, run):

        def broken(_: str) -> Any:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(direct.flow.engine, "get_run", broken)
        request = CASES["get"].replace(b"{run}", run.encode())
        got, expected = await direct.ask(request), await plain.ask(request)
    assert got == expected
    assert b" 500 " in got
    assert b"secret" not in got
    assert "secret" in caplog.text


async def test_a_view_is_not_shown_again_once_the_run_has_changed() -> None:
    async with both() as (direct, _, _run):
        trigger = await direct.ask(CASES["trigger"])
        run = json.loads(trigger.partition(b"\r\n\r\n")[2])["runId"]
        get = asked("GET", f"/runs/{run}")
        while b'"state":"waiting"' not in await direct.ask(get):
            await asyncio.sleep(0)
        first, again = await direct.ask(get), await direct.ask(get)
        assert first == again
        await direct.ask(asked("POST", "/notify/opened-u-1", b"{}"))
        while b'"status":"completed","result":{"success":true}' not in await direct.ask(get):
            if b'"state":"completed"' in await direct.ask(get):
                break
            await asyncio.sleep(0)
        assert await direct.ask(get) != first
        await direct.flow.purge(run)
        assert b" 404 " in await direct.ask(get)


async def test_nothing_is_answered_past_what_a_host_has_put_before_the_routes() -> None:
    flow = flow_of_welcome()
    assert isinstance(flow.asgi().direct, Direct)  # type: ignore[attr-defined]
    assert flow.asgi(auth=allow_all).direct is None  # type: ignore[attr-defined]
    assert flow.asgi(on_auth_failure=print).direct is None  # type: ignore[attr-defined]
    assert flow.asgi(cors_origins=["https://a.example"]).direct is None  # type: ignore[attr-defined]
    app: Any = flow.asgi()
    app.add_middleware(lambda inner: inner)
    assert app.direct is None


async def test_a_switched_off_route_is_not_found_directly_either() -> None:
    flow = flow_of_welcome()
    direct: Any = flow.asgi(endpoints="private").direct  # type: ignore[attr-defined]
    assert found(direct, b"POST", b"/trigger/anything") is None
    assert found(direct, b"GET", b"/runs/run_00000000") is not None


async def test_below_a_base_path_only_what_is_below_it_is_found() -> None:
    flow = flow_of_welcome()
    api: Any = flow.asgi()
    app = ServeApp(
        api, flow.engine, base_path="/api.v1/", on_ready=lambda: None, on_failed=lambda _: None
    )
    assert app.direct is not None
    assert found(app.direct, b"GET", b"/runs/run_00000000") is None
    assert found(app.direct, b"GET", b"/apixv1/runs/run_00000000") is None
    below = found(app.direct, b"GET", b"/api.v1/runs/run_00000000?a=b")
    assert below.scope["path"] == "/api.v1/runs/run_00000000"
    assert below.scope["root_path"] == "/api.v1"
    assert below.scope["query_string"] == b"a=b"
    closed: Any = flow.asgi(auth=allow_all)
    assert (
        ServeApp(closed, flow.engine, on_ready=lambda: None, on_failed=lambda _: None).direct
        is None
    )


def found(direct: Direct, method: bytes, url: bytes) -> Any:
    return direct.find(method, url, [], [], None)


async def test_another_engine_keeps_its_tasks(make_app: Any) -> None:
    assert make_app().direct is None
