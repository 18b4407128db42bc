"""The routes beyond the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepflow.errors import InvalidInputError
from stepflow.web.additions import run_filter

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.asyncio

RUN = "run_0123456789abcdefABCDEF"
NOBODY = "run_zzzzzzzzzzzzzzzzzzzzzz"


def refused(response: httpx.Response, status: int, code: str, *words: str) -> bool:
    body = response.json()
    assert set(body) == {"error", "code"}
    assert (response.status_code, body["code"]) == (status, code)
    return all(word in body["error"] for word in words)


# ---------------------------------------------------------------- workflows


async def test_workflows_are_listed_and_read(client):
    listed = (await client.get("/workflows")).json()
    assert [workflow["id"] for workflow in listed["workflows"]] == ["welcome-user", "checkout"]
    one = (await client.get("/workflows/checkout")).json()
    pace = one.pop("pace")
    assert pace["workflowId"] == "checkout"
    assert one == listed["workflows"][1]
    assert set(one) == {"id", "description", "inputSchema", "outputSchema", "events", "schedule"}
    assert refused(await client.get("/workflows/unknown"), 404, "WORKFLOW_NOT_FOUND")


# ---------------------------------------------------------------- batch


async def test_a_batch_answers_a_run_or_an_error_for_each_input_in_order(client, engine):
    response = await client.post("/trigger/checkout/batch", json=[{"a": 1}, "refuse", None])
    first, second, third = response.json()
    assert set(first) == set(third) == {"runId", "publicAccessToken"}
    assert second == {"error": "input is refused", "code": "INVALID_INPUT"}
    assert bytes(engine.runs[first["runId"]].view.input) == b'{"a":1}'
    assert bytes(engine.runs[third["runId"]].view.input) == b"null"


async def test_an_empty_batch_starts_nothing(client, engine):
    response = await client.post("/trigger/checkout/batch", json=[])
    assert (response.status_code, response.content, engine.runs) == (200, b"[]", {})


@pytest.mark.parametrize("body", [b"", b"{}", b"1", b"[", b"[1,]", b"[" * 100_000])
async def test_a_batch_that_is_no_array_is_400(client, body):
    response = await client.post("/trigger/checkout/batch", content=body)
    assert refused(response, 400, "INVALID_INPUT", "array")


async def test_a_batch_has_at_most_a_thousand_inputs(client, engine):
    assert len((await client.post("/trigger/checkout/batch", json=[0] * 1000)).json()) == 1000
    response = await client.post("/trigger/checkout/batch", json=[0] * 1001)
    assert refused(response, 400, "INVALID_INPUT", "1001", "1000")
    assert len(engine.runs) == 1000


# ---------------------------------------------------------------- lists


async def test_runs_are_listed_newest_first_in_pages_without_steps(client, engine):
    for number in range(5):
        engine.begin(f"run_{number:08d}")
    first = (await client.get("/runs?limit=2")).json()
    assert set(first) == {"runs", "nextCursor", "streamCursor"}
    assert [run["id"] for run in first["runs"]] == ["run_00000004", "run_00000003"]
    assert all("steps" not in run for run in first["runs"])
    second = (await client.get(f"/runs?limit=9&cursor={first['nextCursor']}")).json()
    assert [run["id"] for run in second["runs"]] == [f"run_0000000{n}" for n in (2, 1, 0)]
    assert second["nextCursor"] is None


async def test_runs_are_filtered_by_status_and_workflow(client, engine):
    engine.begin("run_00000001", "checkout")
    engine.begin("run_00000002")
    engine.begin("run_00000003")
    engine.complete("run_00000003", 2)

    async def ids(query: str) -> list[str]:
        return [run["id"][-1] for run in (await client.get(f"/runs?{query}")).json()["runs"]]

    assert await ids("status=completed") == ["3"]
    assert await ids("status=running") == ["2", "1"]
    assert await ids("status=running&status=completed") == ["3", "2", "1"]
    assert await ids("status=completed,running") == ["3", "2", "1"]
    assert await ids("workflowId=checkout") == ["1"]
    assert await ids("workflowId=&tag=&cursor=") == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-01-15T10:30:00Z", 1_705_314_600_000),
        ("2024-01-15t10:30:00z", 1_705_314_600_000),
        ("2024-01-15T10:30:00.250Z", 1_705_314_600_250),
        ("2024-01-15T12:30:00+02:00", 1_705_314_600_000),
        ("1960-01-01T00:00:00Z", 1),
        ("0001-01-01T00:00:00Z", 1),
    ],
)
async def test_a_moment_is_read_as_rfc_3339(text, ms):
    where = run_filter({"createdAfter": text, "createdBefore": text}, [])
    assert (where.created_after_ms, where.created_before_ms) == (ms, ms)


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("createdAfter=", "createdAfter"),
        ("limit=", "limit"),
        ("createdAfter=yesterday", "createdAfter"),
        ("createdBefore=2024-01-15T10:30:00", "createdBefore"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=%d9%a1", "limit"),
        ("limit=1.5", "limit"),
        ("cursor=nonsense", "cursor"),
    ],
)
async def test_a_bad_parameter_is_named(client, query, word):
    assert refused(await client.get(f"/runs?{query}"), 400, "INVALID_INPUT", word)


async def test_a_page_is_cut_to_two_hundred(client, engine):
    for number in range(210):
        engine.begin(f"run_{number:08d}")
    assert len((await client.get("/runs")).json()["runs"]) == 50
    for limit in ("500", "9" * 400):
        assert len((await client.get(f"/runs?limit={limit}")).json()["runs"]) == 200


# ---------------------------------------------------------------- one run


async def test_a_run_is_cancelled_once_and_again_while_it_is_cancelling(client, engine):
    engine.begin(RUN)
    for _ in range(2):
        response = await client.post(f"/runs/{RUN}/cancel")
        assert response.status_code == 200
        assert (response.json()["status"], response.json()["state"]) == ("running", "cancelling")
    engine.complete(RUN, 4)
    assert refused(await client.post(f"/runs/{RUN}/cancel"), 409, "CONFLICT")
    assert refused(await client.post(f"/runs/{NOBODY}/cancel"), 404, "RUN_NOT_FOUND")


async def test_a_run_that_was_set_aside_is_resumed_and_no_other(client, engine):
    engine.begin(RUN)
    assert refused(await client.post(f"/runs/{RUN}/resume"), 409, "CONFLICT")
    engine.runs[RUN].view.state = "quarantined"
    response = await client.post(f"/runs/{RUN}/resume")
    assert (response.status_code, response.json()["state"]) == (200, "active")
    assert refused(await client.post(f"/runs/{NOBODY}/resume"), 404, "RUN_NOT_FOUND")


async def test_a_finished_run_is_purged_and_a_live_one_is_not(client, engine):
    engine.begin(RUN)
    assert refused(await client.delete(f"/runs/{RUN}"), 409, "CONFLICT")
    engine.complete(RUN, 4)
    response = await client.delete(f"/runs/{RUN}")
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    assert refused(await client.delete(f"/runs/{RUN}"), 404, "RUN_NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "expires"),
    [
        (b"", "2024-01-16T10:30:00.000Z"),
        (b"{}", "2024-01-16T10:30:00.000Z"),
        (b'{"ttl":null}', "2024-01-16T10:30:00.000Z"),
        (b'{"ttl":60}', "2024-01-15T10:31:00.000Z"),
        (b'{"ttl":"2h"}', "2024-01-15T12:30:00.000Z"),
        (b'{"ttl":2592000}', "2024-02-14T10:30:00.000Z"),
    ],
)
async def test_a_token_is_minted_for_as_long_as_it_is_asked(
    client, stranger, engine, body, expires
):
    engine.begin(RUN)
    response = await client.post(f"/runs/{RUN}/token", content=body)
    assert response.status_code == 200
    assert set(response.json()) == {"publicAccessToken", "expiresAt"}
    assert response.json()["expiresAt"] == expires
    token = response.json()["publicAccessToken"]
    assert (await stranger.get(f"/runs/{RUN}?token={token}")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"ttl":59}', b'{"ttl":2592001}', b'{"ttl":"soon"}', b'{"ttl":true}', b'{"ttl":-1}'),
        *(b'{"ttl":[]}', b'{"tll":60}', b"[]", b"{", b"1", b'{"ttl":1e400}', b'{"ttl":"1e9d"}'),
    ],
)
async def test_a_lifetime_out_of_bounds_is_400(client, engine, body):
    engine.begin(RUN)
    response = await client.post(f"/runs/{RUN}/token", content=body)
    assert refused(response, 400, "INVALID_INPUT", "ttl")


# ---------------------------------------------------------------- events, metrics, readiness


async def test_awaited_events_are_listed(client, engine):
    engine.waiting = {"paid-2": ["run_b"], "paid-1": ["run_a", "run_b"]}
    response = await client.get("/events")
    assert response.content == (
        b'{"events":[{"eventId":"paid-1","runs":2,"runIds":["run_a","run_b"]},'
        b'{"eventId":"paid-2","runs":1,"runIds":["run_b"]}]}'
    )


async def test_awaited_events_come_in_pages_by_their_ids(client, engine):
    engine.waiting = {f"é {n:02}&": ["run_a"] for n in range(25)}
    seen: list[str] = []
    query = {"limit": "10"}
    pages = 0
    while True:
        page = (await client.get("/events", params=query)).json()
        pages += 1
        seen += [row["eventId"] for row in page["events"]]
        if "nextCursor" not in page:
            break
        assert len(page["events"]) == 10
        query["cursor"] = page["nextCursor"]
    assert (seen, pages) == (sorted(engine.waiting), 3)
    assert "nextCursor" not in (await client.get("/events", params={"limit": "25"})).json()
    assert len((await client.get("/events", params={"limit": "9999999"})).json()["events"]) == 25
    for bad in ("0", "-1", "x", ""):
        response = await client.get("/events", params={"limit": bad})
        assert refused(response, 400, "INVALID_INPUT", "limit")


async def test_metrics_are_prometheus_text(client, engine):
    response = await client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    assert "# TYPE stepflow_runs_live gauge" in lines
    assert "stepflow_runs_live 0.0" in lines
    assert "# TYPE stepflow_triggers_total counter" in lines
    assert "stepflow_triggers_total 3.0" in lines
    assert 'stepflow_runs{status="running"} 2.0' in lines
    assert lines.count("# TYPE stepflow_runs gauge") == 1


async def test_readiness_shows_what_is_degraded(stranger, engine):
    response = await stranger.get("/ready")
    assert (response.status_code, response.json()["degraded"]) == (200, {"quarantinedRuns": 0})
    assert response.json()["status"] == "ready"
    engine.state = "read-only"
    assert (await stranger.get("/ready")).json()["status"] == "read-only"


@pytest.mark.parametrize("state", ["stopped", "starting", "stalled", "draining", "failed"])
async def test_an_engine_that_is_not_ready_says_so(stranger, engine, state):
    engine.state = state
    assert refused(await stranger.get("/ready"), 503, "UNAVAILABLE", state)


async def test_a_bad_filter_is_an_input_error():
    with pytest.raises(InvalidInputError):
        run_filter({}, ["nothing"])
