"""What others' generators make of the document: clients that work, and types that hold."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from fake_engine import FakeEngine

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "tests" / "browser" / "node_modules"
RUN = "run_0123456789abcdefABCDEF"

TYPED = """
import type { components, paths } from "./api";

type Run = components["schemas"]["Run"];
type Trigger = paths["/trigger/{workflowId}"]["post"];
type Started = Trigger["responses"][200]["content"]["application/json"];

export function isLive(run: Run): boolean {
  return run.status === "running" || run.status === "pending";
}
export function watch(started: Started): string {
  return `/runs/${started.runId}/stream?token=${started.publicAccessToken}`;
}
export function result(event: components["schemas"]["StepEvent"]): unknown {
  // @ts-expect-error there is no such status
  if (event.status === "done") return null;
  return event.result;
}
"""


def run(*command: str, cwd: Path) -> str:
    # The generators call ruff and the like by name.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.asyncio
async def test_openapi_python_client_makes_a_client_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: Any, engine: FakeEngine
):
    command = "import sys; from openapi_python_client.cli import app; app(sys.argv[1:])"
    told = run(
        *(sys.executable, "-c", command, "generate"),
        *("--path", str(ROOT / "openapi.yaml"), "--output-path", "made"),
        cwd=tmp_path,
    )
    # It leaves out two things, which are no JSON: a reader for the document, and for a run's file.
    left_out = {"GET /openapi.yaml", "GET /runs/{runId}/export"}
    assert set(re.findall(r"parsing (\w+ \S+) within", told)) == left_out

    monkeypatch.syspath_prepend(str(tmp_path / "made"))
    made = importlib.import_module("stepflow_client")
    calls = {
        name: importlib.import_module(f"stepflow_client.api.{name}").asyncio
        for name in ("workflows.trigger_workflow", "runs.get_run", "runs.list_runs")
    }
    client = made.AuthenticatedClient(
        base_url="http://stepflow",
        token="test-key-0123456789",
        prefix="",
        auth_header_name="X-API-Key",
        httpx_args={"transport": httpx.ASGITransport(app)},
    )
    started = await calls["workflows.trigger_workflow"]("checkout", client=client, body={"a": 1})
    assert started.run_id in engine.runs
    found = await calls["runs.get_run"](started.run_id, client=client)
    assert (found.workflow_id, found.status.value, found.input_) == (
        "checkout",
        "running",
        {"a": 1},
    )
    page = await calls["runs.list_runs"](client=client, limit=1)
    assert [each.id for each in page.runs] == [started.run_id]
    refused = await calls["runs.get_run"](RUN, client=client)
    assert refused.code.value == "RUN_NOT_FOUND"


@pytest.mark.tool("node")
def test_openapi_typescript_makes_types_that_hold(tmp_path: Path):
    if not NODE_MODULES.is_dir():
        pytest.skip("no openapi-typescript here: make node-deps")
    bin_dir = NODE_MODULES / ".bin"
    run(
        str(bin_dir / "openapi-typescript"),
        str(ROOT / "openapi.yaml"),
        *("-o", "api.d.ts"),
        cwd=tmp_path,
    )
    (tmp_path / "use.ts").write_text(TYPED)
    run(str(bin_dir / "tsc"), "--noEmit", "--strict", "use.ts", cwd=tmp_path)
