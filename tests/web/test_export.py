"""`GET /runs/{runId}/export` and the clients of it: whole, masked, and for those who may read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest
from served import KEY, flow_of_welcome, served

from stepflow.client import Client, SyncClient
from stepflow.testing import replay
from tests.cli_kit import run_cli

if TYPE_CHECKING:
    from collections.abc import Generator

USER = {"userId": "u-1", "email": "ada@example.com"}


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPFLOW_API_KEYS", KEY)
        with served(flow_of_welcome()) as found:
            yield found


@pytest.fixture
def api(url: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=30) as client:
        yield client


@pytest.fixture
def run(api: httpx.Client) -> dict[str, str]:
    told: dict[str, str] = api.post("/trigger/welcome-user", json=USER).json()
    # Read to the end of its stream: the run has ended.
    api.post(f"/notify/opened-{USER['userId']}", json=1)
    api.get(f"/runs/{told['runId']}/stream")
    return told


def test_the_file_is_the_run_and_replays(api, run) -> None:
    answer = api.get(f"/runs/{run['runId']}/export")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    name = f'attachment; filename="{run["runId"]}.sfrun"'
    assert answer.headers["content-disposition"] == name
    again = replay(answer.content, flow_of_welcome())
    assert again.same, str(again)
    head = json.loads(answer.text.splitlines()[0])
    assert (head["run"], head["workflow"]) == (run["runId"], "welcome-user")


def test_names_in_the_query_are_masked_too(api, run) -> None:
    path = f"/runs/{run['runId']}/export"
    assert "ada@example.com" in api.get(path).text
    masked = api.get(path, params={"mask": ["userId", "email"]}).text
    assert "ada@example.com" not in masked
    assert '"userId":"***"' in masked


def test_a_browsers_token_does_not_export_and_what_is_not_there_is_404(url, api, run) -> None:
    path = f"{url}/runs/{run['runId']}/export"
    assert httpx.get(path).status_code == 401
    assert httpx.get(path, params={"token": run["publicAccessToken"]}).status_code == 403
    assert api.get("/runs/run_00000000000000/export").status_code == 404
    assert api.get("/runs/nothing/export").status_code == 404


@pytest.mark.asyncio
async def test_both_clients_export(url, api, run) -> None:
    data = api.get(f"/runs/{run['runId']}/export").content
    async with Client(url, api_key=KEY) as client:
        assert await client.export_run(run["runId"]) == data
    with SyncClient(url, api_key=KEY) as sync:
        assert b"ada@" not in sync.export_run(run["runId"], mask=["email"])


def test_the_command_writes_the_file(url, run, tmp_path) -> None:
    environment = {"STEPFLOW_URL": url, "STEPFLOW_API_KEY": KEY}
    done = run_cli("export", run["runId"], cwd=tmp_path, **environment)
    assert (done.code, done.out) == (0, f"{run['runId']}.sfrun\n")
    assert replay(tmp_path / f"{run['runId']}.sfrun", flow_of_welcome()).same

    words = ("export", run["runId"], "-o", "-", "--mask", "email")
    shown = run_cli(*words, cwd=tmp_path, **environment)
    assert shown.out.startswith('{"stepflow":"run"')
    assert "ada@example.com" not in shown.out

    nowhere = run_cli("export", run["runId"], "-o", "no/such/x", cwd=tmp_path, **environment)
    assert nowhere.code != 0
    assert "cannot write no/such/x" in nowhere.err
    assert run_cli("export", "run_00000000000000", cwd=tmp_path, **environment).code != 0
