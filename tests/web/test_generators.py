"""Clients can be generated from the document: TypeScript types that compile, a Python package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "openapi.yaml"
NODE_BIN = ROOT / "tests" / "browser" / "node_modules" / ".bin"

SAMPLE = """
import type { components, paths } from "./api";

type Run = components["schemas"]["Run"];
type Trigger = paths["/trigger/{workflowId}"]["post"]["responses"]["200"];
const told: Trigger["content"]["application/json"] = { runId: "run_x", publicAccessToken: "pat_x" };
export function line(run: Run): string { return `${told.runId} ${run.id} ${run.status}`; }
// @ts-expect-error a status is one of five
export const wrong: Run["status"] = "sleeping";
"""


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(yaml.safe_load(DOCUMENT.read_text())).validate()


@pytest.mark.tool("node")
def test_openapi_typescript_makes_types_that_compile(tmp_path: Path) -> None:
    if not (NODE_BIN / "openapi-typescript").exists():
        pytest.skip("no node_modules: make node-deps")
    run(NODE_BIN / "openapi-typescript", DOCUMENT, "-o", tmp_path / "api.ts", cwd=tmp_path)
    (tmp_path / "sample.ts").write_text(SAMPLE)
    run(NODE_BIN / "tsc", "--strict", "--noEmit", "--skipLibCheck", "sample.ts", cwd=tmp_path)


def test_openapi_python_client_makes_a_package_that_imports(tmp_path: Path) -> None:
    tool = Path(sys.executable).parent / "openapi-python-client"
    run(tool, "generate", "--path", DOCUMENT, "--output-path", tmp_path / "made", cwd=tmp_path)
    package = next(path for path in (tmp_path / "made").iterdir() if (path / "api").is_dir())
    modules = [
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in sorted(package.rglob("*.py"))
    ]
    assert any("trigger_workflow" in module for module in modules)
    lines = "\n".join(f"import {module.removesuffix('.__init__')}" for module in modules)
    run(sys.executable, "-W", "error", "-c", lines, cwd=package.parent)
