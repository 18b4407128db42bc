"""Schedules and delays over HTTP."""

from __future__ import annotations

import pytest

from tests.web.conftest import READER

pytestmark = pytest.mark.asyncio


def refused(response, status, code):
    body = response.json()
    assert set(body) == {"error", "code"}
    return (response.status_code, body["code"]) == (status, code)


async def test_schedules_are_listed_and_read(client):
    (row,) = (await client.get("/schedules")).json()["schedules"]
    assert (row["id"], row["workflowId"], row["spec"]) == ("nightly", "checkout", "0 2 * * * UTC")
    assert (await client.get("/schedules/nightly")).json() == row
    told = (await client.get("/schedules/nightly?next=3")).json()
    assert len(told["next"]) == 3


@pytest.mark.parametrize("text", ["0", "101", "x", "", "1.5", "9999"])
async def test_a_count_of_times_that_is_none_is_400(client, text):
    response = await client.get(f"/schedules/nightly?next={text}")
    assert refused(response, 400, "INVALID_INPUT")


async def test_a_schedule_is_paused_resumed_and_triggered(client, engine):
    assert (await client.post("/schedules/nightly/pause")).json()["state"] == "paused"
    assert (await client.post("/schedules/nightly/resume")).json()["state"] == "active"
    made = (await client.post("/schedules/nightly/trigger")).json()
    assert set(made) == {"runId", "publicAccessToken"}
    assert made["runId"] in engine.runs


async def test_a_backfill_has_a_range_of_aware_times(client, engine):
    body = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T01:00:00+01:00", "dryRun": True}
    answer = (await client.post("/schedules/nightly/backfill", json=body)).json()
    assert answer == {"runs": [], "existing": 2, "dryRun": True}
    assert engine.ranges == [(1_704_067_200_000, 1_704_153_600_000)]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"from": "2024-01-01T00:00:00Z"},
        {"from": "2024-01-01", "to": "2024-01-02"},
        {"from": "x", "to": "y"},
        {"from": "2024-01-01T00:00:00Z", "to": "2024-01-01T00:00:00Z", "dryrun": True},
    ],
)
async def test_a_backfill_without_a_range_is_400(client, engine, body):
    response = await client.post("/schedules/nightly/backfill", json=body)
    assert refused(response, 400, "INVALID_INPUT")
    assert engine.ranges == []


@pytest.mark.parametrize("action", ["pause", "resume", "trigger", "backfill"])
async def test_acting_on_a_schedule_takes_the_scope(app, stranger, call_with, action):
    path = f"/schedules/nightly/{action}"
    assert refused(await stranger.post(path), 401, "UNAUTHORIZED")
    assert refused(await call_with(app, READER).post(path), 403, "FORBIDDEN")
    assert refused(await stranger.post(f"/schedules/other/{action}"), 401, "UNAUTHORIZED")
    assert refused(await call_with(app, READER).post("/schedules/other/pause"), 404, "NOT_FOUND")


async def test_reading_schedules_takes_the_scope(app, stranger, call_with):
    for path in ("/schedules", "/schedules/nightly"):
        assert refused(await stranger.get(path), 401, "UNAUTHORIZED")
        assert (await call_with(app, READER).get(path)).status_code == 200


@pytest.mark.parametrize(
    ("text", "delay_ms"), [("15m", 900_000), ("1.5", 1500), ("0", 0), ("1h30m", 5_400_000)]
)
async def test_a_trigger_and_a_batch_take_a_delay(client, engine, text, delay_ms):
    assert (await client.post(f"/trigger/checkout?delay={text}", json=1)).status_code == 200
    assert engine.delays == [delay_ms]
    answer = await client.post(f"/trigger/checkout/batch?delay={text}", json=[1])
    assert set(answer.json()[0]) == {"runId", "publicAccessToken"}
    assert delay_ms in engine.delays[1:]


@pytest.mark.parametrize("text", ["soon", "-1", "1e9", "nan", "", "9" * 40, "101y", "40000d"])
async def test_a_delay_that_is_none_is_400_and_starts_nothing(client, engine, text):
    for path in ("/trigger/checkout", "/trigger/checkout/batch"):
        response = await client.post(f"{path}?delay={text}", json=[])
        assert refused(response, 400, "INVALID_INPUT")
    assert engine.runs == {}
