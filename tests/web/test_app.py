"""The application as a whole: which routes, who may call, other sites' pages, bodies, mounting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from web_harness import Call, rest

from stepflow.auth.handlers import AuthRequest, allow_all, api_key_auth
from stepflow.auth.principal import Principal
from stepflow.config import Settings
from stepflow.errors import ApiError, ConfigurationError
from stepflow.model.views import StepView
from stepflow.web.app import ENDPOINTS, build_app, build_routes
from stepflow.web.policy import Policy
from stepflow.web.presets import Endpoints

if TYPE_CHECKING:
    from fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio

Make = Callable[..., Starlette]
RUN = "run_0123456789abcdefABCDEF"
KEY = {"X-API-Key": "test-key-0123456789"}
NO_ROUTE = b'{"error":"Not found","code":"NOT_FOUND"}'
SITE = "https://app.example.com"


# ---------------------------------------------------------------- which routes


@pytest.mark.parametrize(
    ("choice", "served"),
    [
        (
            "all",
            {"trigger", "notify", "runs", "runs_stream", "health", "docs", "metrics", "ui", "keys"},
        ),
        (
            "public",
            {"trigger", "notify", "runs", "runs_stream", "health", "docs", "metrics", "ui", "keys"},
        ),
        ("private", {"runs", "runs_stream", "health", "docs", "metrics", "ui", "keys"}),
        ("internal", {"health"}),
        ("none", set()),
        (
            Endpoints(trigger=False, docs=False),
            {"notify", "runs", "runs_stream", "health", "metrics", "ui", "keys"},
        ),
    ],
)
async def test_a_route_that_is_not_served_is_404_and_its_neighbours_are_not(
    make_app: Make, engine, call_with, choice, served
):
    run = engine.begin(RUN)
    run.view.steps = [StepView(name="charge", status="pending", key="charge#1", kind="step")]
    client = call_with(make_app(endpoints=choice))
    for kind in ENDPOINTS:
        operation = kind.operation
        path = operation.path.format(
            workflowId="checkout",
            runId=RUN,
            eventId="paid",
            scheduleId="nightly",
            file="app.js",
            keyId="Ab3dEf9h",
            stepKey="charge%231",
        )
        method = "HEAD" if path.endswith("/stream") else operation.method
        response = await client.request(method, path, headers={"Accept": "text/html"})
        hidden = response.status_code in {404, 405} and (
            method == "HEAD" or response.json()["code"] in {"NOT_FOUND", "METHOD_NOT_ALLOWED"}
        )
        assert hidden == (operation.switch not in served), operation.id


async def test_an_unknown_preset_is_refused_by_name(make_app: Make):
    with pytest.raises(ConfigurationError, match="'everything' is none of all, public, private"):
        make_app(endpoints="everything")


async def test_a_browser_at_the_root_is_sent_to_the_page(stranger):
    response = await stranger.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (response.status_code, response.headers["location"]) == (307, "ui/")
    response = await stranger.get("/", headers={"Accept": "application/json"})
    assert (response.status_code, response.content) == (404, NO_ROUTE)


async def test_the_page_needs_nothing_from_anywhere_else(stranger):
    response = await stranger.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", response.text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", response.text)


# ---------------------------------------------------------------- mounted in a host


async def test_routes_answer_the_same_inside_a_hosts_application(
    engine, chain, settings, clock, call_with
):
    engine.begin(RUN)
    routes = build_routes(engine, Policy(lambda: chain, clock), settings, clock)
    host = Starlette(routes=[Mount("/api/stepflow", routes=routes)])
    client = call_with(host)
    assert (await client.get(f"/api/stepflow/runs/{RUN}")).json()["id"] == RUN
    assert (await client.post("/api/stepflow/trigger/checkout")).status_code == 200
    assert (await client.get("/api/stepflow/runs/nonsense")).json()["code"] == "RUN_NOT_FOUND"
    response = await client.put(f"/api/stepflow/runs/{RUN}")
    assert response.json() == {"error": "Method not allowed", "code": "METHOD_NOT_ALLOWED"}
    response = await client.get("/api/stepflow/", headers={"Accept": "text/html"})
    assert httpx.URL("http://x/api/stepflow/").join(response.headers["location"]).path == (
        "/api/stepflow/ui/"
    )


async def test_middleware_that_a_host_adds_is_run(make_app: Make, call_with):
    seen: list[str] = []

    class Watch:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    app = make_app()
    app.add_middleware(Watch)
    assert (await call_with(app).get("/health")).status_code == 200
    assert seen == ["/health"]


async def test_the_lifespan_is_the_hosts(engine, chain, settings, clock):
    from contextlib import asynccontextmanager

    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: Any) -> Any:
        seen.append("up")
        yield
        seen.append("down")

    app = build_app(engine, Policy(lambda: chain, clock), settings, clock, lifespan=lifespan)
    async with app.router.lifespan_context(app):
        assert seen == ["up"]
    assert seen == ["up", "down"]


async def test_a_websocket_is_refused(app):
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/runs", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]


# ---------------------------------------------------------------- who may call


async def test_allow_all_opens_every_route(make_app: Make, engine, call_with):
    engine.begin(RUN)
    client = call_with(make_app(auth=allow_all), None)
    for method, path in (
        ("POST", "/trigger/checkout"),
        ("GET", f"/runs/{RUN}"),
        ("GET", f"/runs/{RUN}?token=pat_nonsense"),
        ("GET", "/runs"),
        ("POST", f"/runs/{RUN}/cancel"),
        ("GET", "/metrics"),
    ):
        assert (await client.request(method, path)).status_code == 200


async def test_a_hosts_own_handler_decides_and_tokens_still_read_their_runs(
    make_app: Make, engine, call_with, signer, clock
):
    engine.begin(RUN)

    async def handler(request: AuthRequest) -> Principal | bool:
        if request.headers.get("cookie") == "session=ada":
            return Principal("ada", "jwt", frozenset({"trigger"}))
        return False

    client = call_with(make_app(auth=handler), None)
    ada = {"Cookie": "session=ada"}
    assert (await client.post("/trigger/checkout", headers=ada)).status_code == 200
    assert (await client.get("/runs", headers=ada)).status_code == 403
    assert (await client.post("/trigger/checkout")).status_code == 401
    token = signer.sign_run(RUN, clock.wall_ms() + 1000)
    assert (await client.get(f"/runs/{RUN}?token={token}")).status_code == 200
    assert (await client.get(f"/runs/{RUN}?token={token}x")).status_code == 401
    # The contract: a token on another route is known, and forbidden.
    assert (await client.post(f"/trigger/checkout?token={token}")).status_code == 403


async def test_an_override_guards_its_own_endpoint(make_app: Make, engine, call_with):
    engine.waiting["paid"] = [RUN]
    auth = {"global": api_key_auth("global-key-0123456789"), "notify": allow_all}
    client = call_with(make_app(auth=auth), None)
    assert (await client.post("/notify/paid")).status_code == 200
    assert (await client.post("/trigger/checkout")).status_code == 401
    headers = {"X-API-Key": "global-key-0123456789"}
    assert (await client.post("/trigger/checkout", headers=headers)).status_code == 200


@pytest.mark.parametrize("auth", [None, api_key_auth("other-key-0123456789")])
async def test_a_refusal_is_told_to_the_host(make_app: Make, call_with, auth):
    told: list[tuple[str, str, str | None]] = []

    def hook(request: AuthRequest, error: ApiError) -> None:
        told.append((request.path, error.code, request.headers.get("x-api-key")))

    client = call_with(make_app(auth=auth, on_auth_failure=hook), "wrong-key-0123456789")
    assert (await client.get("/runs")).status_code == 401
    assert told == [("/runs", "UNAUTHORIZED", "wrong-key-0123456789")]


async def test_too_many_bad_keys_are_429_and_good_ones_go_on(app, call_with, client):
    bad = call_with(app, "wrong-key-0123456789")
    statuses = [(await bad.get("/runs")).status_code for _ in range(30)]
    assert set(statuses) == {401, 429}
    assert (await client.get("/runs")).status_code == 200


# ---------------------------------------------------------------- health


@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_health_check_of_the_hosts_decides(make_app: Make, call_with, healthy, is_async):
    async def check() -> bool:
        return healthy

    app = make_app(health_check=check if is_async else lambda: healthy)
    response = await call_with(app, None).get("/health")
    if healthy:
        assert response.json() == {"status": "ok", "timestamp": "2024-01-15T10:30:00Z"}
    else:
        text = b'{"error":"The health check of the application says no","code":"UNAVAILABLE"}'
        assert (response.status_code, response.content) == (503, text)


async def test_a_health_check_that_raises_is_503(make_app: Make, call_with, caplog):
    def check() -> bool:
        raise RuntimeError("no database")

    response = await call_with(make_app(health_check=check), None).get("/health")
    text = b'{"error":"The health check of the application failed","code":"UNAVAILABLE"}'
    assert (response.status_code, response.content) == (503, text)
    assert "no database" in caplog.text


# ---------------------------------------------------------------- other sites' pages


async def test_other_sites_pages_may_not_call_unless_they_are_listed(client):
    response = await client.get("/health", headers={"Origin": SITE})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_listed_origin_may_call_and_is_told_what_it_may_send(
    make_app: Make, engine, call_with
):
    client = call_with(make_app(cors=[SITE]), None)
    asked = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    response = await client.options("/trigger/checkout", headers=asked)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == SITE
    allowed = response.headers["access-control-allow-headers"].lower().split(", ")
    assert {"x-api-key", "authorization", "last-event-id", "idempotency-key"} < set(allowed)
    assert "content-type" in allowed
    assert "access-control-allow-credentials" not in response.headers
    for path, status in ((f"/runs/{RUN}", 401), ("/health", 200), ("/nowhere", 404)):
        response = await client.get(path, headers={"Origin": SITE})
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == SITE
        assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "http://app.example.com", SITE + ".evil.com"]
)
async def test_any_other_origin_may_not(make_app: Make, call_with, origin):
    client = call_with(make_app(cors=[SITE]), None)
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    response = await client.options("/trigger/checkout", headers=asked)
    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")
    response = await client.get("/health", headers={"Origin": origin})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", SITE + "/", SITE + "/path", "ftp://x", "https://"]
)
async def test_what_is_no_origin_is_refused_at_the_start(make_app: Make, origin):
    with pytest.raises(ConfigurationError, match="is no origin"):
        make_app(cors=[origin])


async def test_a_stream_of_another_site_has_its_headers_too(make_app: Make, engine):
    engine.begin(RUN)
    app = make_app(cors=[SITE])
    call = await Call(app, f"/runs/{RUN}/stream", headers={**KEY, "Origin": SITE}).start()
    assert call.headers["access-control-allow-origin"] == SITE
    assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
    await call.hang_up()
    await call.end()


# ---------------------------------------------------------------- bodies


async def test_a_body_may_come_in_pieces(app, engine):
    call = await Call(app, "/trigger/checkout", method="POST", headers=KEY).start(b'{"a"', b":1}")
    assert call.status == 200
    assert [bytes(run.view.input) for run in engine.runs.values()] == [b'{"a":1}']


async def test_a_body_whose_length_is_too_much_is_refused_before_it_is_read(app, engine):
    headers = {**KEY, "Content-Length": str(1024 * 1024 + 1)}
    call = await Call(app, "/trigger/checkout", method="POST", headers=headers).begin()
    assert call.status == 413
    assert call.done


async def test_a_body_without_a_length_is_counted(make_app: Make, engine):
    app = make_app(settings=Settings(input_bytes_max=10))
    call = Call(app, "/trigger/checkout", method="POST", headers=KEY)
    call.feed(b"123456", more=True)
    await call.begin()
    assert not call.done
    call.feed(b"78901", more=True)
    await rest()
    assert call.status == 413
    call = await Call(app, "/trigger/checkout", method="POST", headers=KEY).start(
        b"12345", b"67890"
    )
    assert call.status == 200


@pytest.mark.parametrize("length", ["+3", "3.0", "x", "-1", "9" * 30])
async def test_a_length_that_is_no_number_is_400(app, length):
    headers = {**KEY, "Content-Length": length}
    call = await Call(app, "/trigger/checkout", method="POST", headers=headers).begin()
    assert call.status == 400


@pytest.mark.parametrize("path", ["/trigger/checkout", "/notify/paid", "/trigger/checkout/batch"])
async def test_a_client_that_leaves_while_we_read_starts_nothing(app, engine: FakeEngine, path):
    call = Call(app, path, method="POST", headers=KEY)
    call.feed(b"[1", more=True)
    await call.begin()
    await call.hang_up()
    await call.end()
    assert (call.messages, engine.runs, engine.notified) == ([], {}, [])


async def test_a_client_that_leaves_before_its_answer_is_nobodys_error(app, engine, caplog):
    call = Call(app, "/trigger/checkout", method="POST", headers=KEY)
    call.refuse_send = OSError("gone")
    await call.start(b"{}")
    await call.end()
    assert len(engine.runs) == 1
    assert caplog.text == ""


async def test_a_cancelled_request_is_cancelled(app):
    call = await Call(app, "/trigger/checkout", method="POST", headers=KEY).begin()
    assert call.task is not None
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.end()
