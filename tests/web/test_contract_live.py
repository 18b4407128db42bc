"""Part 1 of the HTTP API on the real engine: what clients see, byte for byte."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from web_harness import Call

from stepflow import Context, NonRetryableError, Stepflow
from stepflow.config import MEMORY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio

KEY = "live-key-0123456789"
NOBODY = "run_zzzzzzzzzzzzzzzzzzzzzz"
JSON = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@dataclass
class User:
    userId: str  # noqa: N815  the field's name on the wire
    email: str


@dataclass
class Payment:
    amount: int


def make_flow() -> Stepflow:
    flow = Stepflow(MEMORY)

    def send(email: str) -> dict[str, bool]:
        return {"sent": "@" in email}

    def refuse() -> None:
        raise NonRetryableError("no such address")

    @flow.workflow("welcome-user", events=["paid-{userId}"])
    async def welcome(ctx: Context, user: User) -> dict[str, Any]:
        await ctx.step("send-welcome", send, user.email)
        payment = await ctx.wait_for_event("payment", f"paid-{user.userId}", type=Payment)
        return {"success": True, "amount": payment.amount}

    @flow.workflow("fails")
    async def fails(ctx: Context, value: Any) -> None:
        await ctx.step("refuse", refuse)

    @flow.workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    return flow


@pytest_asyncio.fixture
async def flow(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stepflow]:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    async with make_flow() as flow:
        yield flow


@pytest.fixture
def app(flow: Stepflow) -> Any:
    return flow.asgi()


@pytest.fixture
def client(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    headers = {"X-API-Key": KEY}
    return httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers)


def masked(text: str) -> str:
    """The text with everything that differs from run to run made equal."""
    text = re.sub(r"run_[A-Za-z0-9]{22}", "RUN", text)
    text = re.sub(r"pat_[A-Za-z0-9_-]{40,}", "TOKEN", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "TIME", text)


async def begin(client: httpx.AsyncClient, workflow: str, value: Any) -> tuple[str, str]:
    started = (await client.post(f"/trigger/{workflow}", json=value)).json()
    return started["runId"], started["publicAccessToken"]


async def read_until(client: httpx.AsyncClient, run_id: str, words: str) -> httpx.Response:
    while True:
        response = await client.get(f"/runs/{run_id}")
        if words in response.text:
            return response
        await asyncio.sleep(0)


def assert_answer(response: httpx.Response, status: int, body: str) -> None:
    assert (response.status_code, masked(response.text)) == (status, body)
    assert JSON.items() <= dict(response.headers).items()
    assert response.headers["content-length"] == str(len(response.content))


USER = {"userId": "u1", "email": "ada@example.com"}
PENDING = (
    '{"id":"RUN","workflowId":"welcome-user","status":"running",'
    '"input":{"userId":"u1","email":"ada@example.com"},"steps":['
    '{"name":"send-welcome","status":"completed","key":"send-welcome#1","kind":"step",'
    '"result":{"sent":true},"attempts":1,"startedAt":"TIME","completedAt":"TIME"},'
    '{"name":"payment","status":"pending","key":"payment#1","kind":"event",'
    '"startedAt":"TIME","dueAt":"TIME","eventId":"paid-u1"}],'
    '"createdAt":"TIME","updatedAt":"TIME","state":"waiting"}'
)
STREAM = """retry: 1000

id: 1
event: status
data: {"status":"running"}

id: 2
event: status
data: {"status":"running","stepName":"send-welcome","key":"send-welcome#1","kind":"step","attempt":1}

id: 3
event: step
data: {"name":"send-welcome","status":"completed","result":{"sent":true},"key":"send-welcome#1","kind":"step"}

id: 4
event: status
data: {"status":"running","stepName":"payment","key":"payment#1","kind":"event","eventId":"paid-u1"}

id: 5
event: step
data: {"name":"payment","status":"completed","result":{"amount":42},"key":"payment#1","kind":"event"}

id: 6
event: complete
data: {"status":"completed","result":{"success":true,"amount":42}}

"""  # noqa: E501  one event's data is one line


async def test_a_run_from_its_trigger_to_its_end(client):
    response = await client.post("/trigger/welcome-user", json=USER)
    assert_answer(response, 200, '{"runId":"RUN","publicAccessToken":"TOKEN"}')
    run_id, token = response.json().values()

    waiting = await read_until(client, run_id, '"state":"waiting"')
    assert_answer(waiting, 200, PENDING)
    own = await client.get(f"/runs/{run_id}?token={token}", headers={"X-API-Key": KEY})
    assert own.content == waiting.content

    response = await client.get("/events")
    assert_answer(response, 200, '{"events":[{"eventId":"paid-u1","runs":1,"runIds":["RUN"]}]}')

    response = await client.post("/notify/paid-u1", json={"amount": 42})
    assert_answer(response, 200, '{"success":true}')
    ended = (await read_until(client, run_id, '"status":"completed","input"')).json()
    assert ended["result"] == {"success": True, "amount": 42}
    assert [step["status"] for step in ended["steps"]] == ["completed", "completed"]

    stream = await client.get(f"/runs/{run_id}/stream")
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert masked(stream.text) == STREAM
    after = await client.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": "4"})
    assert after.text == "retry: 1000\n\n" + STREAM[STREAM.index("id: 5") :]
    last = await client.get(f"/runs/{run_id}/stream?lastEventId=6")
    assert (last.status_code, last.content) == (204, b"")


async def test_a_live_stream_is_the_same_bytes_as_the_history(app, client):
    run_id, token = await begin(client, "welcome-user", USER)
    call = await Call(app, f"/runs/{run_id}/stream", query=f"token={token}").start()
    await client.post("/notify/paid-u1", json={"amount": 42})
    await call.end()
    assert call.ended
    assert call.body.decode() == STREAM


async def test_a_failed_run_says_what_failed(client):
    run_id, _ = await begin(client, "fails", None)
    run = (await read_until(client, run_id, '"status":"failed","input"')).json()
    assert run["error"] == {
        "type": "NonRetryableError",
        "message": "no such address",
        "step": "refuse",
        "attempts": 1,
    }
    (step,) = run["steps"]
    assert (step["status"], step["attempts"]) == ("failed", 1)
    assert "result" not in step
    assert step["error"] == run["error"]
    stream = await client.get(f"/runs/{run_id}/stream")
    end = (
        'event: error\ndata: {"status":"failed","error":{"type":"NonRetryableError",'
        '"message":"no such address","step":"refuse","attempts":1}}\n\n'
    )
    assert stream.text.endswith(end)


async def test_a_cancelled_run_ends_its_stream_with_an_error(client):
    run_id, _ = await begin(client, "welcome-user", USER)
    await read_until(client, run_id, '"state":"waiting"')
    response = await client.post(f"/runs/{run_id}/cancel")
    assert response.status_code == 200
    assert response.json()["state"] in {"cancelling", "cancelled"}
    await read_until(client, run_id, '"status":"cancelled","input"')
    stream = await client.get(f"/runs/{run_id}/stream")
    assert '\nevent: error\ndata: {"status":"cancelled","error":{' in stream.text
    response = await client.post(f"/runs/{run_id}/cancel")
    assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "body"),
    [
        ("POST", "/trigger/unknown", b"{}", 404, ("Workflow not found", "WORKFLOW_NOT_FOUND")),
        (
            "POST",
            "/trigger/welcome-user",
            b'{"userId":1,"email":"a@b"}',
            400,
            ("userId: expected str, got int", "INVALID_INPUT"),
        ),
        ("GET", f"/runs/{NOBODY}", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
        ("GET", f"/runs/{NOBODY}/stream", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
        ("GET", "/runs/nonsense", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
        ("DELETE", f"/runs/{NOBODY}", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
        ("POST", "/notify/nobody", b"{}", 404, ("Event not found", "EVENT_NOT_FOUND")),
        ("POST", "/notify/" + "x" * 300, b"{}", 404, ("Event not found", "EVENT_NOT_FOUND")),
        ("GET", "/workflows/unknown", b"", 404, ("Workflow not found", "WORKFLOW_NOT_FOUND")),
    ],
)
async def test_what_is_refused_says_why(client, method, path, content, status, body):
    response = await client.request(method, path, content=content)
    assert_answer(response, status, f'{{"error":"{body[0]}","code":"{body[1]}"}}')


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"nul", b"[1,]", b"\xff", b"NaN", b"Infinity", b"{'a':1}", b"\x00", b" "),
        *(b"[" * 65 + b"]" * 65, b"[" * 100_000, b'{"a":' * 2000, b"18446744073709551616"),
        *(b'[{"n":-9223372036854775809}]', b'"\\ud800"', b'"\\x"', b"1 2", b"\xef\xbb\xbf1"),
    ],
)
@pytest.mark.parametrize("path", ["/trigger/echo", "/notify/any"])
async def test_what_is_no_json_of_ours_is_400(client, path, body):
    response = await client.post(path, content=body)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", None),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"[" * 64 + b"]" * 64, None),
        ('"\u2028\u0085\U0001f600"'.encode(), "\u2028\u0085\U0001f600"),
        (rb'"data: x\n\nevent: y\r\n\u0000"', "data: x\n\nevent: y\r\n\0"),
    ],
)
async def test_any_other_json_is_kept_and_cannot_break_a_stream(client, body, kept):
    started = (await client.post("/trigger/echo", content=body)).json()
    run = (await read_until(client, started["runId"], '"status":"completed"')).json()
    assert run["result"] == run["input"]
    if kept is not None:
        assert run["result"] == kept
    stream = await client.get(f"/runs/{started['runId']}/stream")
    events = stream.content.split(b"\n\n")
    assert [part.split(b"\n", 1)[0] for part in events] == [
        b"retry: 1000",
        b"id: 1",
        *(part.split(b"\n", 1)[0] for part in events[2:-2]),
        events[-2].split(b"\n", 1)[0],
        b"",
    ]
    assert all(part.count(b"\n") == 2 for part in events[1:-1])
    assert b"\r" not in stream.content


async def test_a_payload_that_its_taker_refuses_is_400_and_the_run_waits_on(client):
    run_id, _ = await begin(client, "welcome-user", USER)
    await read_until(client, run_id, '"state":"waiting"')
    response = await client.post("/notify/paid-u1", json={"amount": "much"})
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_INPUT")
    assert (await client.get(f"/runs/{run_id}")).json()["state"] == "waiting"


async def test_a_declared_event_is_kept_until_it_is_waited_for(client):
    run_id, _ = await begin(client, "welcome-user", USER)
    response = await client.post("/notify/paid-u1", json={"amount": 1})
    assert_answer(response, 200, '{"success":true}')
    run = (await read_until(client, run_id, '"status":"completed","input"')).json()
    assert run["result"] == {"success": True, "amount": 1}


async def test_an_idempotency_key_is_the_callers_own(flow, client, app):
    headers = {"Idempotency-Key": "order-1"}
    first = await client.post("/trigger/echo", json={"a": 1, "b": 2}, headers=headers)
    again = await client.post("/trigger/echo", content=b'{ "b":2,"a":1 }', headers=headers)
    assert first.json()["runId"] == again.json()["runId"]
    other = await client.post("/trigger/echo", json={"a": 2}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    elsewhere = await client.post("/trigger/fails", json={"a": 1, "b": 2}, headers=headers)
    assert elsewhere.json()["runId"] != first.json()["runId"]


async def test_pages_are_stable_while_new_runs_come(client):
    batch = (await client.post("/trigger/echo/batch", json=list(range(5)))).json()
    ids = [row["runId"] for row in batch][::-1]
    page = (await client.get("/runs?limit=2")).json()
    seen = [run["id"] for run in page["runs"]]
    while page["nextCursor"]:
        await client.post("/trigger/echo", json="new")
        page = (await client.get(f"/runs?limit=2&cursor={page['nextCursor']}")).json()
        seen += [run["id"] for run in page["runs"]]
    assert seen == ids


async def test_a_purged_run_is_as_if_it_had_never_been(client):
    run_id, _ = await begin(client, "echo", 1)
    await read_until(client, run_id, '"status":"completed"')
    assert_answer(await client.delete(f"/runs/{run_id}"), 200, '{"success":true}')
    for method, path in (
        ("GET", f"/runs/{run_id}"),
        ("GET", f"/runs/{run_id}/stream"),
        ("POST", f"/runs/{run_id}/cancel"),
        ("POST", f"/runs/{run_id}/resume"),
        ("DELETE", f"/runs/{run_id}"),
    ):
        response = await client.request(method, path)
        assert_answer(response, 404, '{"error":"Run not found","code":"RUN_NOT_FOUND"}')


async def test_a_metric_never_loses_its_name(client):
    await begin(client, "echo", 1)
    text = (await client.get("/metrics")).text
    assert "\nstepflow_runs_started_total 1.0\n" in text
    assert "\nstepflow_up 1.0\n" in text


async def test_an_app_whose_lifespan_was_not_entered_says_so(monkeypatch):
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    transport = httpx.ASGITransport(make_flow().asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        response = await client.post("/trigger/echo", json=1)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "docs/embedding.md" in response.json()["error"]
        assert (await client.get("/health")).status_code == 200


async def test_a_shutdown_ends_streams_and_takes_no_new_work(flow, app, client):
    run_id, token = await begin(client, "welcome-user", USER)
    await read_until(client, run_id, '"state":"waiting"')
    call = await Call(app, f"/runs/{run_id}/stream", query=f"token={token}").start()
    flow.begin_shutdown()
    await call.end()
    assert call.ended
    assert b"event: complete" not in call.body
    response = await client.post("/trigger/echo", json=1)
    assert (response.status_code, response.json()["code"]) == (503, "UNAVAILABLE")
    assert (await client.get(f"/runs/{run_id}")).status_code == 200
