"""Every request that the document allows, and many that it does not, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from served import KEY, flow_of_welcome, served

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = os.environ.get("STEPFLOW_SCHEMATHESIS_EXAMPLES", "25")


@pytest.mark.timeout(600)
def test_no_check_of_schemathesis_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    with served(flow_of_welcome()) as url:
        # So that lists and reads have something to show.
        user = {"userId": "u", "email": "a@example.com"}
        httpx.post(f"{url}/trigger/welcome-user", json=user, headers={"X-API-Key": KEY})
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.yaml"),
                *("-H", f"X-API-Key: {KEY}", "--checks", "all", "--max-examples", EXAMPLES),
                *("--seed", "1", "--no-color", "--generation-database", "none"),
            ],
            cwd=ROOT,
            env=os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    print(done.stdout[-1500:])  # noqa: T201  how many cases there were
