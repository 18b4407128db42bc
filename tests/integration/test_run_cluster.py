"""`make run-cluster`: it says what runs, goes on without one of each kind, and ends all of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli_kit import ROOT, environment, until
from tests.served import doomed, end_group
from tools import processes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.tool("postgres"),
    pytest.mark.tool("nginx"),
    pytest.mark.xdist_group("cluster"),
]
_ROW = re.compile(r"^  (\S+) +(127\.0\.0\.1:\d+)  pid (\d+)", re.MULTILINE)


@pytest.mark.timeout(300)
def test_it_starts_runs_goes_on_without_one_of_each_kind_and_ends(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            doomed([sys.executable, "-m", "tools.run_cluster", "tests/conformance/app.py"]),
            cwd=ROOT,
            env=environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def says(text: str) -> str:
        until(lambda: text in said.read_text() or process.poll() is not None, said.read_text)
        assert text in said.read_text(), said.read_text()
        return said.read_text()

    try:
        text = says("is ready; Ctrl-C ends all of it")
        assert "\x1b" not in text, "plain text in a pipe"
        rows = {name: int(pid) for name, _, pid in _ROW.findall(text)}
        assert set(rows) == {"database", "worker-1", "worker-2", "api-1", "api-2", "balancer"}
        url = re.search(r"URL +(http://\S+)", text)
        key = re.search(r"API key +(\S+)", text)
        assert url is not None
        assert key is not None
        with httpx.Client(base_url=url[1], headers={"X-API-Key": key[1]}, timeout=60) as client:
            assert client.get("/ui", follow_redirects=True).status_code == 200
            assert _run(client, 3) == 3
            for name in ("worker-1", "api-1", "database", "balancer"):
                os.kill(rows[name], signal.SIGKILL)
                says(f"{name} is back: pid ")
                assert _run(client, 4) == 4, name
        tree = processes.below(process.pid)
        assert len(tree) >= 6
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0, said.read_text()
        assert said.read_text().endswith("ending\nall has ended\n")
        alive = {each.pid for each in processes.below(1)}
        assert not alive & {each.pid for each in tree}
    finally:
        end_group(process)


def _run(client: httpx.Client, count: int) -> object:
    """Start a run and return its result, through whatever node answers."""
    body = {"id": "x", "count": count}
    headers = {"Idempotency-Key": os.urandom(8).hex()}

    def started() -> str:
        try:
            answer = client.post("/trigger/conformance-count", json=body, headers=headers)
        except httpx.TransportError:
            return ""
        return answer.json()["runId"] if answer.status_code == 200 else ""

    run_id = until(started)

    def ended() -> object:
        try:
            answer = client.get(f"/runs/{run_id}")
        except httpx.TransportError:
            return None
        return answer.json() if answer.json().get("status") == "completed" else None

    return until(ended)["result"]
