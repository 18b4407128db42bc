"""Each template of `stepflow new` starts as its README says, and does what it is there for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stepflow.cli.templates import TEMPLATES
from tests.served import doomed, end_group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "a-key-for-the-templates-01"
LISTENS = re.compile(r"http://127\.0\.0\.1:\d+")


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    program = [sys.executable, "-m", "stepflow.cli.main"]
    made = subprocess.run(
        [*program, "new", "made", "--template", request.param],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    start = TEMPLATES[request.param].start
    assert start.removesuffix(" --reload") in made.stdout
    assert start in (tmp_path / "made" / "README.md").read_text()
    first, *rest = start.removesuffix(" --reload").split()
    module = {"uvicorn": "uvicorn", "stepflow": "stepflow.cli.main"}[first]
    process = subprocess.Popen(
        doomed([sys.executable, "-m", module, *rest, "--port", "0"]),
        cwd=tmp_path / "made",
        env={**os.environ, "STEPFLOW_API_KEYS": KEY, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        found = None
        said = ""
        while found is None:
            line = process.stdout.readline()
            assert line, said
            said += line
            found = LISTENS.search(line)
        headers = {"X-API-Key": KEY}
        with httpx.Client(base_url=found[0], headers=headers, timeout=100) as client:
            while client.get(f"{prefix(request.param)}/ready").status_code != 200:
                assert process.poll() is None
            yield client
        process.terminate()
        process.stdout.read()
        assert process.wait(100) in {0, -15}
    finally:
        end_group(process)
        if process.stdout is not None:
            process.stdout.close()


def prefix(template: str) -> str:
    return "/api/stepflow" if template == "fastapi" else ""


def result(client: httpx.Client, run: str, below: str = "") -> Any:
    text = client.get(f"{below}/runs/{run}/stream").text
    last = [line for line in text.splitlines() if line.startswith("data:")][-1]
    return json.loads(last[5:])["result"]


@pytest.mark.parametrize("served", ["service"], indirect=True)
def test_the_service_takes_its_workflow(served: httpx.Client) -> None:
    answer = served.post("/trigger/hello", json={"name": "Ada"})
    assert served.get(f"/runs/{answer.json()['runId']}").json()["status"] == "running"


@pytest.mark.parametrize("served", ["fastapi"], indirect=True)
def test_the_fastapi_application_takes_orders_and_shows_the_api_in_its_document(
    served: httpx.Client,
) -> None:
    run = served.post("/orders", json={"id": "7", "email": "ada@example.com"}).json()["run"]
    assert served.post("/orders/7/paid").json() == {"ok": True}
    assert result(served, run, "/api/stepflow") == "wrote to ada@example.com"
    paths = served.get("/openapi.json").json()["paths"]
    assert {"/orders", "/api/stepflow/trigger/{workflowId}"} <= set(paths)


@pytest.mark.parametrize("served", ["agent"], indirect=True)
def test_the_agent_uses_its_tool_and_streams_its_words(served: httpx.Client) -> None:
    run = served.post("/trigger/agent", json="Lisbon").json()["runId"]
    assert result(served, run) == "It is sunny in Lisbon."
    assert '"token":"sunny"' in served.get(f"/runs/{run}/stream").text


@pytest.mark.parametrize("served", ["cron"], indirect=True)
def test_the_job_has_its_schedule_and_can_be_started_by_hand(served: httpx.Client) -> None:
    (schedule,) = served.get("/schedules").json()["schedules"]
    run = served.post(f"/schedules/{schedule['id']}/trigger").json()["runId"]
    assert result(served, run) == 42
