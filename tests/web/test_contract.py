"""Part 1 of the HTTP API: every route and case, with its status, headers and body."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stepflow.errors import ConflictError, OutcomeUnknownError, RateLimitedError, UnavailableError
from stepflow.web.endpoints import GetOpenApi, openapi_yaml

if TYPE_CHECKING:
    import httpx
    from fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio

RUN = "run_0123456789abcdefABCDEF"
NOBODY = "run_zzzzzzzzzzzzzzzzzzzzzz"

UNAUTHORIZED = b'{"error":"Unauthorized","code":"UNAUTHORIZED"}'
NO_RUN = b'{"error":"Run not found","code":"RUN_NOT_FOUND"}'
NO_WORKFLOW = b'{"error":"Workflow not found","code":"WORKFLOW_NOT_FOUND"}'
NO_EVENT = b'{"error":"Event not found","code":"EVENT_NOT_FOUND"}'
NO_ROUTE = b'{"error":"Not found","code":"NOT_FOUND"}'
FORM = b'{"error":"Content-Type is not JSON: send application/json","code":"INVALID_INPUT"}'
NOT_JSON = b'{"error":"The body is not JSON","code":"INVALID_INPUT"}'


def assert_json(response: httpx.Response, status: int, body: bytes) -> None:
    assert (response.status_code, response.content) == (status, body)
    headers = dict(response.headers)
    retry_after = headers.pop("retry-after", None)
    challenge = headers.pop("www-authenticate", None)
    assert (retry_after is not None) == (status in {429, 503})
    assert challenge == ("Bearer" if status == 401 else None)
    assert headers == {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


# ---------------------------------------------------------------- trigger


async def test_a_trigger_answers_the_run_and_its_token_and_nothing_else(client, engine):
    response = await client.post("/trigger/welcome-user", json={"userId": "user_123"})
    run_id, token = response.json().values()
    assert_json(
        response,
        200,
        b'{"runId":"%b","publicAccessToken":"%b"}' % (run_id.encode(), token.encode()),
    )
    assert re.fullmatch(r"run_[A-Za-z0-9]{22}", run_id)
    assert re.fullmatch(r"pat_[A-Za-z0-9_-]+", token)
    assert bytes(engine.runs[run_id].view.input) == b'{"userId":"user_123"}'


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "body"),
    [
        ("/trigger/welcome-user", {"X-API-Key": ""}, b"{}", 401, UNAUTHORIZED),
        ("/trigger/unknown", {"X-API-Key": "wrong-key-0123456789"}, b"{}", 401, UNAUTHORIZED),
        ("/trigger/unknown", {}, b"{}", 404, NO_WORKFLOW),
        ("/trigger/unknown", {}, b"{", 404, NO_WORKFLOW),
        ("/trigger/welcome-user", {}, b"{", 400, NOT_JSON),
        ("/trigger/welcome-user", {}, b"[" * 100_000, 400, NOT_JSON),
        ("/trigger/welcome-user", {"Content-Type": "text/plain"}, b"{}", 400, FORM),
        ("/trigger/welcome-user", {"Content-Type": ""}, b"{}", 400, FORM),
        ("/trigger/", {}, b"{}", 404, NO_ROUTE),
        ("/trigger/a/b", {}, b"{}", 404, NO_ROUTE),
    ],
)
async def test_a_trigger_that_is_refused_says_why(client, path, headers, content, status, body):
    assert_json(await client.post(path, headers=headers, content=content), status, body)


@pytest.mark.parametrize("kind", ["application/json", "application/JSON; charset=utf-8"])
async def test_an_input_may_be_any_json_value(client, engine, kind):
    for text in (b"null", b"0", b'"text"', b"[1,2]", b'{"a":{"b":null}}', b" true "):
        response = await client.post(
            "/trigger/welcome-user", content=text, headers={"Content-Type": kind}
        )
        assert bytes(engine.runs[response.json()["runId"]].view.input) == text


async def test_an_empty_input_is_null(client, engine):
    response = await client.post("/trigger/welcome-user")
    assert bytes(engine.runs[response.json()["runId"]].view.input) == b"null"


async def test_a_json_type_with_a_suffix_is_json(client):
    headers = {"Content-Type": "application/vnd.acme+json"}
    response = await client.post("/trigger/welcome-user", content=b"{}", headers=headers)
    assert response.status_code == 200


async def test_an_input_over_a_mebibyte_is_413(client):
    whole = b'"%b"' % (b"x" * (1024 * 1024 - 2))
    assert (await client.post("/trigger/welcome-user", content=whole)).status_code == 200
    response = await client.post("/trigger/welcome-user", content=whole + b" ")
    text = b'{"error":"The body is larger than 1048576 bytes","code":"PAYLOAD_TOO_LARGE"}'
    assert_json(response, 413, text)


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (ConflictError("taken"), 409, "CONFLICT", None),
        (RateLimitedError(retry_after_s=7), 429, "RATE_LIMITED", "7"),
        (UnavailableError("disk full"), 503, "UNAVAILABLE", "1"),
        (OutcomeUnknownError(retry_after_s=2), 503, "OUTCOME_UNKNOWN", "2"),
    ],
)
async def test_what_the_engine_refuses_has_its_code(
    client, engine, error, status, code, retry_after
):
    engine.raises = error
    response = await client.post("/trigger/welcome-user", json={})
    text = json.dumps({"error": error.message, "code": code}, separators=(",", ":"))
    assert_json(response, status, text.encode())
    assert response.headers.get("retry-after") == retry_after


async def test_the_same_idempotency_key_gives_the_same_run(client):
    headers = {"Idempotency-Key": "order-1042"}
    first = await client.post("/trigger/welcome-user", json={"a": 1}, headers=headers)
    again = await client.post("/trigger/welcome-user", json={"a": 1}, headers=headers)
    other = await client.post("/trigger/welcome-user", json={"a": 2}, headers=headers)
    assert first.json()["runId"] == again.json()["runId"]
    assert_json(other, 409, b'{"error":"Conflict","code":"CONFLICT"}')


@pytest.mark.parametrize("key", ["", "x" * 257, "\u00e9", "a\tb"])
async def test_an_idempotency_key_that_cannot_be_kept_is_400(client, key):
    headers = {"Idempotency-Key": key.encode("latin-1")}
    response = await client.post("/trigger/welcome-user", json={}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_INPUT")


# ---------------------------------------------------------------- runs


async def test_a_run_has_its_seven_keys_and_ours_beside(client, engine):
    engine.begin(RUN)
    response = await client.get(f"/runs/{RUN}")
    assert_json(
        response,
        200,
        b'{"id":"run_0123456789abcdefABCDEF","workflowId":"welcome-user","status":"running",'
        b'"input":{"userId":"user_123"},"steps":[],"createdAt":"2024-01-15T10:30:00.000Z",'
        b'"updatedAt":"2024-01-15T10:30:00.000Z","state":"active"}',
    )


async def test_a_run_is_read_with_its_token_alone(stranger, engine, signer, clock):
    engine.begin(RUN)
    token = signer.sign_run(RUN, clock.wall_ms() + 1000)
    assert (await stranger.get(f"/runs/{RUN}?token={token}")).json()["id"] == RUN
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await stranger.get(f"/runs/{RUN}", headers=bearer)).json()["id"] == RUN


async def test_a_token_that_is_over_is_401(stranger, engine, signer, clock):
    engine.begin(RUN)
    token = signer.sign_run(RUN, clock.wall_ms())
    assert_json(await stranger.get(f"/runs/{RUN}?token={token}"), 401, UNAUTHORIZED)


async def test_a_token_says_nothing_of_other_runs(stranger, engine, signer, clock):
    engine.begin(RUN)
    token = signer.sign_run(NOBODY, clock.wall_ms() + 1000)
    for method, path in (
        ("GET", f"/runs/{RUN}"),
        ("GET", f"/runs/{RUN}/stream"),
        ("POST", f"/runs/{RUN}/cancel"),
        ("DELETE", f"/runs/{RUN}"),
    ):
        assert_json(await stranger.request(method, f"{path}?token={token}"), 404, NO_RUN)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/trigger/welcome-user"),
        ("POST", "/trigger/welcome-user/batch"),
        ("POST", "/notify/paid"),
        ("GET", "/runs"),
        ("GET", "/workflows"),
        ("GET", "/workflows/welcome-user"),
        ("GET", "/events"),
        ("GET", "/metrics"),
        ("POST", f"/runs/{RUN}/cancel"),
        ("POST", f"/runs/{RUN}/resume"),
        ("POST", f"/runs/{RUN}/pause"),
        ("POST", f"/runs/{RUN}/retry"),
        ("POST", f"/runs/{RUN}/fork"),
        ("POST", f"/runs/{RUN}/token"),
        ("DELETE", f"/runs/{RUN}"),
    ],
)
async def test_a_token_opens_nothing_but_its_run(stranger, engine, signer, clock, method, path):
    engine.begin(RUN)
    token = signer.sign_run(RUN, clock.wall_ms() + 1000)
    response = await stranger.request(method, f"{path}?token={token}")
    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")


async def test_a_run_that_is_not_there_is_404(client):
    assert_json(await client.get(f"/runs/{NOBODY}"), 404, NO_RUN)


@pytest.mark.parametrize(
    "text",
    [
        *("run_", "run_1234567", "run_" + "a" * 65, "RUN_12345678", "..%2f", "run_1234567%00"),
        *("%ff", "run_12345678%0a", "run_12345678%0d%0aX:1", "x" * 4096, "run_1234567%d9%a1"),
    ],
)
@pytest.mark.parametrize("rest", ["", "/stream"])
async def test_any_other_text_for_an_id_is_404(client, text, rest):
    response = await client.get(f"/runs/{text}{rest}")
    assert response.status_code == 404
    assert response.json()["code"] in {"RUN_NOT_FOUND", "NOT_FOUND"}


@pytest.mark.parametrize("run_id", [RUN, NOBODY, "nonsense"])
@pytest.mark.parametrize(
    ("method", "rest"),
    [
        *(("GET", ""), ("GET", "/stream"), ("DELETE", "")),
        *(("POST", "/cancel"), ("POST", "/resume"), ("POST", "/token")),
        *(("POST", "/pause"), ("POST", "/retry"), ("POST", "/fork")),
    ],
)
async def test_a_stranger_learns_nothing_of_which_runs_exist(
    stranger, engine, method, rest, run_id
):
    engine.begin(RUN)
    assert_json(await stranger.request(method, f"/runs/{run_id}{rest}"), 401, UNAUTHORIZED)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/trigger/checkout"), ("POST", "/notify/paid"), ("DELETE", f"/runs/{RUN}")],
)
async def test_a_key_without_the_scope_is_403(app, engine, call_with, method, path):
    engine.begin(RUN)
    response = await call_with(app, "reader-key-0123456789").request(method, path)
    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")


async def test_what_exists_comes_before_the_right_to_it(app, call_with):
    reader = call_with(app, "reader-key-0123456789")
    assert_json(await reader.post("/trigger/unknown"), 404, NO_WORKFLOW)
    assert_json(await reader.delete(f"/runs/{NOBODY}"), 404, NO_RUN)


# ---------------------------------------------------------------- notify


async def test_an_event_is_delivered(client, engine):
    engine.waiting["paid-1042"] = [RUN]
    assert_json(await client.post("/notify/paid-1042", json={"a": 1}), 200, b'{"success":true}')
    assert_json(await client.post("/notify/paid-1042"), 200, b'{"success":true}')
    assert engine.notified == [
        ("paid-1042", b'{"a":1}', None, "key:ops"),
        ("paid-1042", b"null", None, "key:ops"),
    ]


async def test_an_event_may_be_addressed_to_one_run(client, engine):
    engine.begin(RUN)
    engine.waiting["paid"] = [RUN]
    response = await client.post(f"/notify/paid?runId={RUN}", json=1)
    assert_json(response, 200, b'{"success":true}')
    assert engine.notified == [("paid", b"1", RUN, "key:ops")]
    assert_json(await client.post(f"/notify/paid?runId={NOBODY}", json=1), 404, NO_RUN)
    assert_json(await client.post("/notify/paid?runId=x", json=1), 404, NO_RUN)


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "body"),
    [
        ("/notify/paid", {"X-API-Key": "x"}, b"{}", 401, UNAUTHORIZED),
        ("/notify/nobody", {}, b"{}", 404, NO_EVENT),
        ("/notify/paid", {}, b"{", 400, NOT_JSON),
        ("/notify/paid", {"Content-Type": "application/x-www-form-urlencoded"}, b"{}", 400, FORM),
    ],
)
async def test_an_event_that_is_refused_says_why(
    client, engine, path, headers, content, status, body
):
    engine.waiting["paid"] = [RUN]
    assert_json(await client.post(path, headers=headers, content=content), status, body)


# ---------------------------------------------------------------- health and the document


async def test_health_says_ok_to_everyone(stranger):
    response = await stranger.get("/health")
    assert_json(response, 200, b'{"status":"ok","timestamp":"2024-01-15T10:30:00Z"}')


async def test_the_document_is_the_packaged_one(stranger):
    response = await stranger.get("/openapi.yaml")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/yaml"
    assert response.content.startswith(b'openapi: "3.1.0"\n')
    packaged = openapi_yaml().splitlines()
    served = response.content.splitlines()
    at = packaged.index(b"servers:")
    assert packaged[at + 1 : at + 3] == [
        b'  - url: "http://127.0.0.1:8000"',
        b"    description: stepflow serve",
    ]
    assert served == [*packaged[: at + 1], b'  - url: "/"', *packaged[at + 3 :]]


@pytest.mark.parametrize(
    ("path", "root_path", "server"),
    [
        ("/openapi.yaml", "", "/"),
        ("/gw/openapi.yaml", "/gw", "/gw"),
        ("/openapi.yaml", "/gw", "/gw"),
        ("/gw/api/stepflow/openapi.yaml", "/gw/api/stepflow", "/gw/api/stepflow"),
        # FastAPI's routes are its own, with the prefix in the path.
        ("/api/stepflow/openapi.yaml", "", "/api/stepflow"),
        ("/api/stepflow/openapi.yaml", "/gw", "/gw/api/stepflow"),
        # A handler of the host's, at an address of its own.
        ("/the/spec", "/gw", "/gw"),
        ("/the/spec", "", "/"),
        # It is a path whatever a proxy says, and one line of YAML.
        ("/openapi.yaml", "//evil.example/x", "/evil.example/x"),
        ('/a"b/\n ü/openapi.yaml', '/a"b/\n ü', "/a%22b/%0A%20%C3%BC"),
    ],
)
async def test_the_document_says_where_it_is_served(path: str, root_path: str, server: str) -> None:
    async def receive() -> Any:
        raise AssertionError("nothing to read")

    scope: Any = {"type": "http", "path": path, "root_path": root_path}
    service: Any = SimpleNamespace(engine=None, settings=None)
    answer = await GetOpenApi(service).answer(scope, receive)
    assert yaml.safe_load(answer.body)["servers"] == [{"url": server}]


# ---------------------------------------------------------------- whatever else is asked


@pytest.mark.parametrize("path", ["/nothing", "/runs/", "/health/", "/health%0a", "/web", "//"])
async def test_a_path_that_is_no_route_is_404(client, path):
    assert_json(await client.get(path), 404, NO_ROUTE)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/trigger/welcome-user", "POST"),
        ("PUT", f"/runs/{RUN}", "DELETE, GET, HEAD"),
        ("OPTIONS", "/health", "GET, HEAD"),
        ("TRACE", "/notify/paid", "POST"),
    ],
)
async def test_a_method_that_a_path_has_not_is_405(client, method, path, allow):
    response = await client.request(method, path)
    assert response.content == b'{"error":"Method not allowed","code":"METHOD_NOT_ALLOWED"}'
    assert (response.status_code, response.headers["allow"]) == (405, allow)


async def test_head_is_get_without_the_body(client, engine):
    engine.begin(RUN)
    for path in (f"/runs/{RUN}", "/health", "/openapi.yaml", "/runs", "/metrics", "/docs"):
        got, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(got.content))


async def test_a_defect_is_500_without_detail_and_logged(client, engine, caplog):
    engine.raises = RuntimeError("secret detail")
    response = await client.get(f"/runs/{RUN}?token=pat_secret")
    assert_json(response, 500, b'{"error":"Internal error","code":"INTERNAL"}')
    assert "GET /runs/{runId} failed" in caplog.text
    assert "secret detail" in caplog.text
    assert "pat_secret" not in caplog.text


# ---------------------------------------------------------------- before, and at the end


@pytest.mark.parametrize(
    ("state", "words"),
    [("stopped", "see docs/embedding.md"), ("starting", "is starting"), ("failed", "disk")],
)
async def test_an_engine_that_does_not_serve_is_503_for_all_but_the_public_routes(
    client, stranger, engine: FakeEngine, state, words
):
    engine.state = state
    for one in (client, stranger):
        for method, path in (
            ("POST", "/trigger/welcome-user"),
            ("GET", f"/runs/{RUN}"),
            ("GET", f"/runs/{RUN}/stream"),
            ("POST", "/notify/paid"),
            ("GET", "/runs"),
        ):
            response = await one.request(method, path)
            assert (response.status_code, response.json()["code"]) == (503, "UNAVAILABLE")
            assert words in response.json()["error"]
            assert response.headers["retry-after"] == "1"
    for path in ("/health", "/openapi.yaml", "/docs"):
        assert (await stranger.get(path)).status_code == 200
    assert (await stranger.get("/ready")).status_code == 503


async def test_a_draining_engine_takes_no_new_work_and_is_read_on(client, engine):
    engine.begin(RUN)
    engine.waiting["paid"] = [RUN]
    engine.state = "draining"
    for path in ("/trigger/welcome-user", "/trigger/welcome-user/batch", "/notify/paid"):
        response = await client.post(path, json=[])
        assert (response.status_code, response.json()["code"]) == (503, "UNAVAILABLE")
    assert (await client.get(f"/runs/{RUN}")).status_code == 200
    assert (await client.get("/runs")).status_code == 200
    assert (await client.get("/ready")).status_code == 503
