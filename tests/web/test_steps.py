"""`GET /runs/{runId}/steps/{stepKey}`, and ids in paths that have slashes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from served import KEY, served

from stepflow import MEMORY, Context, Stepflow
from stepflow.client import Client, SyncClient
from stepflow.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator

EVENT = "orders/7/paid <now>?#"


async def double(number: int) -> int:
    return number * 2


def flow_of_slashes() -> Stepflow:
    flow = Stepflow(MEMORY)

    @flow.workflow("slashes", events=[EVENT])
    async def slashes(ctx: Context) -> object:
        await ctx.step("double", double, 21, key="a/b c/ü")
        return await ctx.wait_for_event("paid", EVENT)

    return flow


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPFLOW_API_KEYS", KEY)
        with served(flow_of_slashes()) as found:
            yield found


@pytest.fixture
def api(url: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=30) as client:
        yield client


@pytest.fixture
def run(api: httpx.Client) -> dict[str, str]:
    told: dict[str, str] = api.post("/trigger/slashes").json()
    with SyncClient(str(api.base_url), api_key=KEY) as client:
        client.notify(EVENT, "7")
        assert client.wait(told["runId"]).status == "completed"
    return told


def test_a_step_is_the_entry_of_the_runs_steps_with_its_key(api, run) -> None:
    steps = api.get(f"/runs/{run['runId']}").json()["steps"]
    assert [step["name"] for step in steps] == ["double", "paid"]
    for step, path in zip(steps, ("double%5Ba%2Fb%20c%2F%C3%BC%5D", "paid%231"), strict=True):
        answer = api.get(f"/runs/{run['runId']}/steps/{path}")
        assert (answer.status_code, answer.json()) == (200, step)
    assert api.get(f"/runs/{run['runId']}/steps/double[a/b c/ü]").json() == steps[0]


def test_what_is_not_there_or_not_allowed_is_said(url, api, run) -> None:
    path = f"/runs/{run['runId']}/steps/double"
    answer = api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert answer.json()["error"] == "The run has asked for no step with this key"
    assert api.get("/runs/run_00000000000000/steps/x").json()["code"] == "RUN_NOT_FOUND"
    assert api.get(f"/runs/{run['runId']}/steps/").json()["code"] == "NOT_FOUND"
    assert httpx.get(url + path).status_code == 401
    token = {"token": run["publicAccessToken"]}
    assert httpx.get(url + path, params=token).status_code == 403


def test_an_event_with_slashes_is_told_by_its_encoded_id(api) -> None:
    told = api.post("/trigger/slashes").json()
    answer = api.post("/notify/orders%2F7%2Fpaid%20%3Cnow%3E%3F%23", json="now")
    assert (answer.status_code, answer.content) == (200, b'{"success":true}')
    with SyncClient(str(api.base_url), api_key=KEY) as client:
        assert bytes(client.wait(told["runId"]).result) == b'"now"'
    assert api.post("/notify/a/b", json=1).json()["code"] == "EVENT_NOT_FOUND"
    assert api.post("/notify/", json=1).json()["code"] == "NOT_FOUND"


@pytest.mark.asyncio
async def test_both_clients_read_a_step(url, run) -> None:
    async with Client(url, api_key=KEY) as client:
        step = await client.get_step(run["runId"], "double[a/b c/ü]")
        assert (step.name, bytes(step.result)) == ("double", b"42")
        with pytest.raises(NotFoundError):
            await client.get_step(run["runId"], "no")


def test_the_blocking_client_reads_a_step(url, run) -> None:
    with SyncClient(url, api_key=KEY) as client:
        assert client.get_step(run["runId"], "paid#1").event_id == EVENT
