"""`flow.wrap`, `flow.mount`: whose request it is, whose lifespan runs when, what fails how."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from stepflow import MEMORY, Context, Settings, Stepflow, allow_all
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.asyncio


def made() -> Stepflow:
    flow = Stepflow(MEMORY)

    @flow.workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    return flow


class Life:
    """Drives an application's lifespan as a server does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.to_app: asyncio.Queue[Any] = asyncio.Queue()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self.scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> dict[str, Any]:
        self.task = asyncio.ensure_future(self.app(self.scope, self.to_app.get, self.said.put))
        return await self.tell("lifespan.startup")

    async def stop(self) -> dict[str, Any]:
        word = await self.tell("lifespan.shutdown")
        assert self.task is not None
        await asyncio.wait([self.task])
        return word

    async def tell(self, word: str) -> dict[str, Any]:
        self.to_app.put_nowait({"type": word})
        return await self.said.get()


@asynccontextmanager
async def living(app: ASGIApp) -> AsyncGenerator[httpx.AsyncClient]:
    life = Life(app)
    assert (await life.start())["type"] == "lifespan.startup.complete"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    assert (await life.stop())["type"] == "lifespan.shutdown.complete"


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"I can only handle HTTP, not {scope['type']}")
    await PlainTextResponse(f"host {scope['path']}")(scope, receive, send)


async def silent_about_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await PlainTextResponse("host")(scope, receive, send)


@pytest.mark.parametrize("host", [without_lifespan, silent_about_lifespan])
async def test_a_host_without_a_lifespan_gets_the_engines(host: ASGIApp) -> None:
    flow = made()
    app = flow.wrap(host, "/flow", auth=allow_all)
    async with living(app) as client:
        assert flow.engine.state == "ready"
        assert (await client.post("/flow/trigger/echo", json=1)).status_code == 200
        assert (await client.get("/elsewhere")).text.startswith("host")
    assert flow.engine.state == "stopped"


async def test_the_hosts_own_lifespan_runs_inside_the_engines_and_keeps_its_state() -> None:
    flow = made()
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, str]]:
        run = await flow.trigger("echo", "at the start")
        seen.append(await run.result())
        yield {"pool": "open"}
        run = await flow.trigger("echo", "at the end")
        seen.append(await run.result())

    async def state(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.state.pool)

    app = flow.wrap(Starlette(routes=[Route("/state", state)], lifespan=lifespan), "/flow")
    life = Life(app)
    assert (await life.start())["type"] == "lifespan.startup.complete"
    assert life.scope["state"] == {"pool": "open"}
    assert (await life.stop())["type"] == "lifespan.shutdown.complete"
    assert seen == ["at the start", "at the end"]
    assert flow.engine.state == "stopped"


async def test_a_double_start_through_host_and_wrapper_is_harmless() -> None:
    flow = made()
    inner = Starlette(lifespan=flow.lifespan)
    flow.mount(inner, "/inner", auth=allow_all)
    async with living(flow.wrap(inner, "/outer", auth=allow_all)) as client:
        for path in ("/inner", "/outer"):
            assert (await client.post(f"{path}/trigger/echo", json=1)).status_code == 200
    assert flow.engine.state == "stopped"


async def test_a_host_that_fails_to_start_stops_the_engine_and_says_why() -> None:
    flow = made()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        raise RuntimeError("no database")
        yield

    life = Life(flow.wrap(Starlette(lifespan=lifespan)))
    word = await life.start()
    assert word["type"] == "lifespan.startup.failed"
    assert "no database" in word["message"]
    assert flow.engine.state == "stopped"
    assert life.task is not None
    await life.task


async def test_a_host_that_fails_at_its_end_is_heard_and_the_engine_is_stopped() -> None:
    flow = made()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        raise RuntimeError("cannot flush")

    life = Life(flow.wrap(Starlette(lifespan=lifespan)))
    await life.start()
    word = await life.stop()
    assert word["type"] == "lifespan.shutdown.failed"
    assert "cannot flush" in word["message"]
    assert flow.engine.state == "stopped"


async def test_an_engine_that_fails_to_start_never_starts_the_host(tmp_path: Any) -> None:
    at_once = Settings(lock_wait_s=0.0)
    holder, second = Stepflow(tmp_path), Stepflow(tmp_path, settings=at_once)
    asked: list[str] = []

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["type"])

    async with holder:
        life = Life(second.wrap(host))
        word = await life.start()
        assert word["type"] == "lifespan.startup.failed"
        assert "DataDirLockedError" in word["message"]
        assert asked == []
        assert life.task is not None
        await asyncio.wait([life.task])
        life.task.exception()


async def test_a_lifespan_of_the_host_that_ends_by_itself_is_logged_and_serves_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flow = made()
    ended = asyncio.Event()

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            ended.set()
            raise RuntimeError("gone")

    async with living(flow.wrap(host, "/flow", auth=allow_all)) as client:
        await ended.wait()
        assert (await client.post("/flow/trigger/echo", json=1)).status_code == 200
    found = [r for r in caplog.records if r.levelno == logging.ERROR and "by itself" in r.message]
    assert len(found) == 1
    assert found[0].exc_info is not None


async def test_a_server_that_gives_its_lifespan_up_takes_the_host_and_the_engine_along() -> None:
    flow = made()
    left = asyncio.Event()

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        left.set()

    life = Life(flow.wrap(host))
    await life.start()
    assert life.task is not None
    life.task.cancel()
    await asyncio.wait([life.task])
    assert left.is_set()
    assert flow.engine.state == "stopped"


# ---------------------------------------------------------------- whose request it is


async def seen_by(app: ASGIApp, path: str, root_path: str = "", **more: Any) -> tuple[int, Any]:
    said: list[Any] = []
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [],
        **more,
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    return said[0]["status"], said


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/api/stepflow/health", ""),
        ("/gw/api/stepflow/health", "/gw"),  # uvicorn: root_path is part of the path
        ("/api/stepflow/health", "/gw"),  # and servers where it is not
        ("/gw/api/stepflow/health", "/gw/"),
    ],
)
async def test_the_prefix_is_found_however_the_server_treats_root_path(
    path: str, root_path: str
) -> None:
    app = made().wrap(without_lifespan)
    assert (await seen_by(app, path, root_path))[0] == 200


@pytest.mark.parametrize(
    "path", ["/api/stepflowers/health", "/api", "/", "/health", "/x/api/stepflow/health"]
)
async def test_what_is_not_below_the_prefix_is_the_hosts_as_it_came(path: str) -> None:
    app = made().wrap(without_lifespan)
    status, said = await seen_by(app, path)
    assert status == 200
    assert said[1]["body"].decode() == f"host {path}"


async def test_the_prefix_without_its_slash_is_led_there_with_its_query() -> None:
    app = made().wrap(without_lifespan)
    status, said = await seen_by(app, "/api/stepflow", query_string=b"a=1")
    assert status == 307
    # Relative to /api/: right under whatever a proxy has put in front.
    assert (b"location", b"stepflow/?a=1") in said[0]["headers"]


async def test_below_the_prefix_what_is_no_route_has_our_shape() -> None:
    async with living(made().wrap(without_lifespan, "/flow")) as client:
        answer = await client.get("/flow/nothing")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        answer = await client.put("/flow/health")
        assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_a_websocket_below_the_prefix_is_closed_and_another_is_the_hosts() -> None:
    said: list[Any] = []

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        said.append(scope["path"])

    async def send(message: Any) -> None:
        said.append(message["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    app = made().wrap(host, "/flow")
    for path in ("/flow/x", "/ws", "/flow"):
        await app({"type": "websocket", "path": path, "headers": []}, receive, send)
    assert said == ["websocket.close", "/ws", "/flow"]


@pytest.mark.parametrize("path", ["", "/", "flow", "//flow", "/flow?x", "/{tenant}"])
async def test_a_path_that_is_no_prefix_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        made().wrap(without_lifespan, path)
    with pytest.raises(ConfigurationError, match="prefix"):
        made().mount(Starlette(), path)


# ---------------------------------------------------------------- mount


async def test_mount_comes_before_a_catch_all_of_the_host_and_lives_with_it() -> None:
    flow = made()
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, str]]:
        seen.append(flow.engine.state)
        yield {"mine": "kept"}
        seen.append(flow.engine.state)

    app = Starlette(routes=[Mount("/", app=without_lifespan)], lifespan=lifespan)
    flow.mount(app, "/flow", auth=allow_all)
    life = Life(app)
    await life.start()
    assert life.scope["state"] == {"mine": "kept"}
    assert (await seen_by(app, "/flow/ready"))[0] == 200
    assert (await seen_by(app, "/gw/flow/ready", "/gw"))[0] == 200
    assert (await seen_by(app, "/other"))[1][1]["body"] == b"host /other"
    await life.stop()
    assert seen == ["ready", "ready"]
    assert flow.engine.state == "stopped"


async def test_options_of_mount_and_wrap_are_those_of_asgi() -> None:
    flow = made()
    host = Starlette()
    flow.mount(host, "/flow", endpoints="internal")
    async with living(flow.wrap(host, "/other", endpoints="private", auth=allow_all)) as client:
        assert (await client.get("/flow/health")).status_code == 200
        assert (await client.get("/flow/runs")).status_code == 404
        assert (await client.get("/other/runs")).status_code == 200
        assert (await client.post("/other/trigger/echo", json=1)).status_code == 404


async def test_a_host_that_cannot_be_changed_is_told_what_to_write() -> None:
    import flask
    from django.core.handlers.asgi import ASGIHandler
    from litestar import Litestar

    flow = made()
    hosts: list[tuple[object, str]] = [
        (Litestar(), "StepflowPlugin(flow, '/flow')"),
        (flask.Flask("x"), "a2wsgi.WSGIMiddleware"),
        (object.__new__(ASGIHandler), "get_asgi_application"),
        (without_lifespan, "flow.wrap(app, '/flow')"),
    ]
    for host, words in hosts:
        with pytest.raises(ConfigurationError, match=r"docs/hosts\.md") as caught:
            flow.mount(host, "/flow")
        assert words in str(caught.value)
