"""`GET /system` and the pace of a workflow: for whoever may read everything."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio


async def test_the_service_is_shown_to_whoever_may_read_everything(
    client, stranger, signer, app, call_with
):
    answer = await client.get("/system")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        *("state", "timestamp", "uptimeS", "recoveryS", "version", "runs", "journal", "snapshot"),
        *("loop", "streams", "memory", "timers", "eventWaiters", "zombies", "missingWorkflows"),
        "workflows",
    }
    assert body["journal"]["commits"]["p99S"] == 0.0025
    assert (await call_with(app, "reader-key-0123456789").get("/system")).status_code == 200
    assert (await stranger.get("/system")).status_code == 401
    token = signer.sign_tag("red", 1 << 45)
    assert (await stranger.get(f"/system?token={token}")).status_code == 403


async def test_it_goes_with_the_metrics(make_app, call_with):
    from stepflow.web.presets import Endpoints

    client = call_with(make_app(endpoints=Endpoints(metrics=False)))
    assert (await client.get("/system")).status_code == 404


async def test_a_workflow_is_shown_with_its_pace(client):
    body = (await client.get("/workflows/checkout")).json()
    assert body["pace"]["workflowId"] == "checkout"
    assert body["pace"]["latencyP50S"] is None
    listed = (await client.get("/workflows")).json()["workflows"]
    assert all("pace" not in workflow for workflow in listed)
