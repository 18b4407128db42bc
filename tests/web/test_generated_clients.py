"""What others' generators make of the document: clients that work, and types that hold."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from stepflow import api_key_auth
from tests.served import KEY, flow_of_welcome, served

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


USE_SDK = """
import { client } from "./made/client.gen";
import { getRun, notifyEvent, streamRun, triggerWorkflow } from "./made/sdk.gen";

declare const process: { argv: string[] };

async function main(url: string, key: string): Promise<void> {
  client.setConfig({ baseUrl: url, auth: ({ name }) => (name === "X-API-Key" ? key : "") });
  const user = { userId: "u_1", email: "ada@example.com" };
  const started = await triggerWorkflow({ path: { workflowId: "welcome-user" }, body: user });
  if (started.data === undefined) throw new Error(started.error.code);
  const path = { runId: started.data.runId };
  const seen: string[] = [];
  const onSseEvent = (event: { event?: string }): void => void seen.push(event.event ?? "");
  const { stream } = await streamRun({ path, onSseEvent, sseMaxRetryAttempts: 1 });
  await notifyEvent({ path: { eventId: "opened-u_1" }, body: { at: 1 } });
  for await (const event of stream) void event;
  const run = await getRun({ path });
  const status: "pending" | "running" | "completed" | "failed" | "cancelled" | undefined =
    run.data?.status;
  const none = await getRun({ path: { runId: "run_0123456789abcdefABCDEF" } });
  // @ts-expect-error there is no such field
  void run.data?.colour;
  // @ts-expect-error a run is needed
  void (() => getRun({}));
  const told = { last: seen.at(-1), status, result: run.data?.result, none: none.error?.code };
  console.log(JSON.stringify(told));
}
void main(process.argv[2] ?? "", process.argv[3] ?? "");
"""
TSCONFIG = """{"compilerOptions": {
  "strict": true, "exactOptionalPropertyTypes": false, "target": "ES2022", "module": "CommonJS",
  "moduleResolution": "Node10", "lib": ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
  "types": [], "outDir": "built"
}, "include": ["use.ts", "made"]}"""


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


@pytest.mark.tool("node")
@pytest.mark.timeout(120)
def test_hey_api_makes_a_client_that_triggers_streams_and_reads(tmp_path: Path):
    """`@hey-api/openapi-ts` with nothing configured: its fetch client, its reader of streams."""
    bin_dir = NODE_MODULES / ".bin"
    if not (bin_dir / "openapi-ts").exists():
        pytest.skip("no @hey-api/openapi-ts here: make node-deps")
    told = run(
        str(bin_dir / "openapi-ts"),
        *("-i", str(ROOT / "openapi.yaml"), "-o", "made", "--no-log-file"),
        cwd=tmp_path,
    )
    assert "warn" not in told.lower()
    (tmp_path / "use.ts").write_text(USE_SDK)
    (tmp_path / "tsconfig.json").write_text(TSCONFIG)
    (tmp_path / "package.json").write_text('{"type": "commonjs"}')
    run(str(bin_dir / "tsc"), "-p", ".", cwd=tmp_path)
    with served(flow_of_welcome(), auth=api_key_auth(KEY)) as url:
        out = run("node", "built/use.js", url, KEY, cwd=tmp_path)
    assert json.loads(out) == {
        "last": "complete",
        "status": "completed",
        "result": {"success": True},
        "none": "RUN_NOT_FOUND",
    }


@pytest.mark.tool("node")
def test_postman_imports_every_operation_with_its_credentials_and_can_send_one(tmp_path: Path):
    if not (NODE_MODULES / "openapi-to-postmanv2").is_dir():
        pytest.skip("no openapi-to-postmanv2 here: make node-deps")
    script = str(Path(__file__).with_name("to_postman.cjs"))
    made = json.loads(
        run("node", script, str(NODE_MODULES), str(ROOT / "openapi.yaml"), cwd=tmp_path)
    )
    requests = [entry["request"] for folder in made["item"] for entry in folder["item"]]
    found = {
        (each["method"].lower(), "/" + "/".join(each["url"]["path"])): each for each in requests
    }
    document = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    operations = {
        (method, re.sub(r"\{(\w+)\}", r":\1", path)): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in {"get", "post", "put", "patch", "delete"}
    }
    assert len(requests) == len(found)
    assert set(found) == set(operations)
    for key, operation in operations.items():
        asks = operation.get("security", document.get("security", []))
        # A sign-in has its key in the body, a sign-out its cookie.
        if any("apiKey" in scheme for scheme in asks):
            values = {each["key"]: each["value"] for each in found[key]["auth"]["apikey"]}
            assert values == {"key": "X-API-Key", "value": "{{apiKey}}", "in": "header"}, key
    trigger = found["post", "/trigger/:workflowId"]
    # What is optional is off: made-up values would be sent otherwise.
    headers = {each["key"]: each["value"] for each in trigger["header"] if not each.get("disabled")}
    query = [each["key"] for each in trigger["url"]["query"] if not each.get("disabled")]
    assert (query, set(headers)) == ([], {"Content-Type", "Accept"})
    with served(flow_of_welcome(), auth=api_key_auth(KEY)) as url:
        path = "/".join(trigger["url"]["path"]).replace(":workflowId", "anything")
        answer = httpx.post(
            f"{trigger['url']['host'][0].replace('{{baseUrl}}', url)}/{path}",
            headers={**headers, "X-API-Key": KEY},
            content=trigger["body"]["raw"],
        )
    assert answer.status_code == 200, answer.text
