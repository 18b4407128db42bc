"""What operators do to runs, over HTTP: who may, in which state, with what body."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from conftest import OPERATOR, READER

from stepflow import Context, RetryPolicy, Stepflow
from stepflow.config import MEMORY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio

RUN = "run_0123456789abcdefABCDEF"
NOBODY = "run_zzzzzzzzzzzzzzzzzzzzzz"
KEY = "live-key-0123456789"
ACTIONS = ("cancel", "pause", "resume", "retry", "fork")


def refused(response: httpx.Response, status: int, code: str, *words: str) -> bool:
    body = response.json()
    assert set(body) == {"error", "code"}
    assert (response.status_code, body["code"]) == (status, code), body
    return all(word in body["error"] for word in words)


# ---------------------------------------------------------------- the order of checks


@pytest.mark.parametrize("action", ACTIONS)
async def test_who_then_which_then_the_right_then_the_body_then_the_state(
    client, stranger, app, engine, action
):
    path = f"/runs/{{}}/{action}"
    bad: dict[str, Any] = {"content": b"{", "headers": {"Content-Type": "application/json"}}
    for run_id in (RUN, NOBODY, "nonsense"):
        assert refused(await stranger.post(path.format(run_id), **bad), 401, "UNAUTHORIZED")
    transport = httpx.ASGITransport(app)
    reader = httpx.AsyncClient(
        transport=transport, base_url="http://x", headers={"X-API-Key": READER}
    )
    for run_id in (NOBODY, "nonsense"):
        assert refused(await reader.post(path.format(run_id), **bad), 404, "RUN_NOT_FOUND")
        assert refused(await client.post(path.format(run_id), **bad), 404, "RUN_NOT_FOUND")
    engine.begin(RUN)
    engine.complete(RUN, 2)
    assert refused(await reader.post(path.format(RUN), **bad), 403, "FORBIDDEN", "control")
    assert refused(await client.post(path.format(RUN), **bad), 400, "INVALID_INPUT", "body")
    assert engine.asked == []
    if action != "fork":
        assert refused(await client.post(path.format(RUN)), 409, "CONFLICT")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "body", [b"[]", b"1", b'"x"', b'{"reason":1}', b'{"because":"x"}', b'{"reason":"\xff"}']
)
async def test_a_body_of_another_shape_is_400(client, engine, action, body):
    engine.begin(RUN)
    headers = {"Content-Type": "application/json"}
    response = await client.post(f"/runs/{RUN}/{action}", content=body, headers=headers)
    assert refused(response, 400, "INVALID_INPUT", "body")
    assert engine.asked == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_form_of_another_site_is_no_request(client, engine, action):
    engine.begin(RUN)
    response = await client.post(f"/runs/{RUN}/{action}", data={"reason": "x"})
    assert refused(response, 400, "INVALID_INPUT", "Content-Type")
    assert engine.asked == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_body_that_is_too_large_is_413(client, engine, action):
    engine.begin(RUN)
    response = await client.post(f"/runs/{RUN}/{action}", json={"reason": "x" * 3_000_000})
    assert refused(response, 413, "PAYLOAD_TOO_LARGE")


async def test_a_reason_is_kept_up_to_a_thousand_characters(client, engine):
    engine.begin(RUN)
    for action in ("pause", "resume", "cancel"):
        response = await client.post(f"/runs/{RUN}/{action}", json={"reason": "é" * 1000})
        assert response.status_code == 200
        long = await client.post(f"/runs/{RUN}/{action}", json={"reason": "x" * 1001})
        assert refused(long, 400, "INVALID_INPUT", "reason")
    assert [row[:3] for row in engine.asked] == [
        (action, "key:ops", "é" * 1000) for action in ("pause", "resume", "cancel")
    ]


async def test_a_cancel_may_be_by_force(client, engine):
    engine.begin(RUN)
    await client.post(f"/runs/{RUN}/cancel", json={"force": True, "reason": "stuck"})
    await client.post(f"/runs/{RUN}/cancel", json=None)
    assert engine.asked == [("cancel", "key:ops", "stuck", True), ("cancel", "key:ops", "", False)]


async def test_a_purge_takes_its_reason_from_the_query(client, engine):
    engine.begin(RUN)
    engine.complete(RUN, 2)
    await client.delete(f"/runs/{RUN}?reason=asked%20for")
    assert engine.asked == [("purge", "key:ops", "asked for")]


async def test_a_fork_answers_a_run_and_its_token(client, engine):
    engine.begin(RUN)
    body = {"fromStep": "charge", "input": None, "results": {"a": [1]}, "reason": "why"}
    response = await client.post(f"/runs/{RUN}/fork", json=body)
    assert set(response.json()) == {"runId", "publicAccessToken"}
    assert engine.asked == [("fork", "key:ops", "why", "charge", b"null", {"a": b"[1]"})]
    await client.post(f"/runs/{RUN}/fork", json={"fromStep": "charge"})
    assert engine.asked[-1] == ("fork", "key:ops", "", "charge", None, {})
    missing = await client.post(f"/runs/{RUN}/fork", json={})
    assert refused(missing, 400, "INVALID_INPUT", "fromStep")
    unknown = await client.post(f"/runs/{RUN}/fork", json={"fromStep": "unknown"})
    assert refused(unknown, 400, "INVALID_INPUT", "unknown")


async def test_new_work_is_refused_while_the_service_drains(client, engine):
    engine.begin(RUN)
    engine.begin_shutdown()
    for action in ("fork", "retry"):
        response = await client.post(f"/runs/{RUN}/{action}", json={"fromStep": "x"})
        assert refused(response, 503, "UNAVAILABLE")


# ---------------------------------------------------------------- on the real engine


def make_flow(broken: list[bool]) -> Stepflow:
    flow = Stepflow(MEMORY)

    async def charge(n: int) -> int:
        if broken:
            raise ValueError("the bank is down")
        return n

    @flow.workflow("order", retry=RetryPolicy(max_attempts=1))
    async def order(ctx: Context, n: int) -> list[int]:
        first = await ctx.step("reserve", charge_nothing, n)
        return [first, await ctx.step("charge", charge, n)]

    async def charge_nothing(n: int) -> int:
        return n

    @flow.workflow("waits")
    async def waits(ctx: Context, value: Any) -> Any:
        return await ctx.wait_for_event("go", timeout=None)

    return flow


@pytest.fixture
def broken() -> list[bool]:
    return [True]


@pytest_asyncio.fixture
async def live(
    monkeypatch: pytest.MonkeyPatch, broken: list[bool]
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    async with make_flow(broken) as flow:
        transport = httpx.ASGITransport(flow.asgi())
        headers = {"X-API-Key": KEY}
        yield httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers)


async def until(live: httpx.AsyncClient, run_id: str, **wanted: Any) -> dict[str, Any]:
    while True:
        shown: dict[str, Any] = (await live.get(f"/runs/{run_id}")).json()
        if all(shown.get(key) == value for key, value in wanted.items()):
            return shown
        await asyncio.sleep(0)


async def begin(live: httpx.AsyncClient, workflow: str, value: Any) -> str:
    run_id: str = (await live.post(f"/trigger/{workflow}", json=value)).json()["runId"]
    return run_id


async def test_a_run_is_paused_resumed_cancelled_and_retried(live):
    run_id = await begin(live, "waits", None)
    await until(live, run_id, state="waiting")
    shown = (await live.post(f"/runs/{run_id}/pause")).json()
    assert (shown["status"], shown["state"]) == ("running", "paused")
    assert refused(await live.post(f"/runs/{run_id}/pause"), 409, "CONFLICT", "paused")
    assert (await live.get("/runs?status=running")).json()["runs"][0]["state"] == "paused"
    assert (await live.post(f"/runs/{run_id}/resume")).json()["state"] != "paused"
    assert refused(await live.post(f"/runs/{run_id}/resume"), 409, "CONFLICT")
    assert refused(await live.post(f"/runs/{run_id}/retry"), 409, "CONFLICT")
    await live.post(f"/runs/{run_id}/cancel", json={"force": True})
    await until(live, run_id, status="cancelled")
    shown = (await live.post(f"/runs/{run_id}/retry")).json()
    assert shown["status"] == "running"
    await until(live, run_id, state="waiting")
    await live.post("/notify/go", json=5)
    assert (await until(live, run_id, status="completed"))["result"] == 5
    for action in ("pause", "resume", "cancel", "retry"):
        assert refused(await live.post(f"/runs/{run_id}/{action}"), 409, "CONFLICT")


async def test_a_failed_run_is_retried_and_forked(live, broken):
    run_id = await begin(live, "order", 7)
    await until(live, run_id, status="failed")
    forked = await live.post(
        f"/runs/{run_id}/fork", json={"fromStep": "charge", "results": {"charge": 1}}
    )
    fork_id = forked.json()["runId"]
    shown = await until(live, fork_id, status="completed")
    assert shown["result"] == [7, 1]
    assert shown["lineage"] == {"runId": run_id, "fromStep": "charge"}
    broken.clear()
    await live.post(f"/runs/{run_id}/retry")
    assert (await until(live, run_id, status="completed"))["result"] == [7, 7]
    stream = await live.get(f"/runs/{run_id}/stream")
    assert stream.text.count("event: error") == 0
    assert stream.text.count("event: complete") == 1
    bad = await live.post(f"/runs/{run_id}/fork", json={"fromStep": "charge", "input": "x"})
    assert refused(bad, 400, "INVALID_INPUT")


# ---------------------------------------------------------------- why, audit, bulk


async def test_why_and_audit_are_read_by_whoever_reads_everything(client, stranger, engine, signer):
    engine.begin(RUN)
    for path in (f"/runs/{RUN}/why", f"/runs/{RUN}/audit", "/audit?limit=5"):
        assert (await client.get(path)).status_code == 200
        assert refused(await stranger.get(path), 401, "UNAUTHORIZED")
    token = signer.sign_run(RUN, 1 << 45)
    for path in (f"/runs/{RUN}/why", f"/runs/{RUN}/audit"):
        # They tell of other runs, and of who operates this one.
        assert refused(await stranger.get(f"{path}?token={token}"), 403, "FORBIDDEN")
    for rest in ("why", "audit"):
        assert refused(await client.get(f"/runs/{NOBODY}/{rest}"), 404, "RUN_NOT_FOUND")
    assert refused(await client.get("/audit?limit=0"), 400, "INVALID_INPUT", "limit")


async def test_a_bulk_action_is_read_checked_and_handed_on(client, app, engine):
    where = {"status": ["running"], "workflowId": "w", "tag": "t"}
    body = {"action": "cancel", "filter": where, "dryRun": True, "force": True, "limit": 7}
    response = await client.post("/runs/bulk", json=body)
    assert response.json()["dryRun"] is True
    (asked,) = engine.asked
    assert asked[:4] == ("bulk", "key:ops", "", "cancel")
    assert (asked[4].workflow_id, asked[4].tag) == ("w", "t")
    assert asked[5:] == (True, True, 7, None)
    for bad in (
        {},
        {"action": "fork", "filter": {}},
        {"action": "cancel"},
        {"action": "cancel", "filter": {"status": ["odd"]}},
        {"action": "cancel", "filter": {"createdAfter": "2024-01-15T10:30:00"}},
        {"action": "cancel", "filter": {"nobody": 1}},
    ):
        assert refused(await client.post("/runs/bulk", json=bad), 400, "INVALID_INPUT")
    transport = httpx.ASGITransport(app)
    reader = httpx.AsyncClient(
        transport=transport, base_url="http://x", headers={"X-API-Key": READER}
    )
    assert refused(await reader.post("/runs/bulk", json=body), 403, "FORBIDDEN", "control")
    assert len(engine.asked) == 1


async def test_a_bulk_purge_asks_for_more_than_the_right_to_control(client, app, engine):
    transport = httpx.ASGITransport(app)
    operator = httpx.AsyncClient(
        transport=transport, base_url="http://x", headers={"X-API-Key": OPERATOR}
    )
    for dry in (False, True):
        purge = {"action": "purge", "filter": {"status": ["failed"]}, "dryRun": dry}
        assert refused(await operator.post("/runs/bulk", json=purge), 403, "FORBIDDEN", "admin")
        assert engine.asked == []
    cancel = purge | {"action": "cancel"}
    assert (await operator.post("/runs/bulk", json=cancel)).status_code == 200
    assert (await client.post("/runs/bulk", json=purge)).status_code == 200
    assert [row[3] for row in engine.asked] == ["cancel", "purge"]


async def test_the_real_engine_explains_records_and_acts_on_many(live):
    run_id = await begin(live, "waits", None)
    await until(live, run_id, state="waiting")
    await live.post("/notify/GO", json=1)
    why = (await live.get(f"/runs/{run_id}/why")).json()
    assert "'GO' was sent once" in why["summary"]
    assert why["waitingFor"][0]["nearMisses"][0]["eventId"] == "GO"
    body = {"action": "pause", "filter": {"workflowId": "waits"}, "reason": "deploy"}
    dry = (await live.post("/runs/bulk", json=body | {"dryRun": True})).json()
    assert dry["runIds"] == [run_id]
    await live.post("/runs/bulk", json=body)
    (act,) = (await live.get(f"/runs/{run_id}/audit")).json()["audit"]
    assert (act["action"], act["reason"]) == ("pause", "deploy")
    assert act["by"]
    newest = (await live.get("/audit")).json()["audit"][0]
    assert newest["action"] == "bulk"
    everything = await live.post("/runs/bulk", json={"action": "cancel", "filter": {}})
    assert refused(everything, 400, "INVALID_INPUT", "filter")
