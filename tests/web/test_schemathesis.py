"""The served document against the served routes, by someone who has read only the document."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY = "fuzz-key-0123456789"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "fuzz_app:app", "--app-dir", str(HERE)]
    log = (tmp_path / "server.log").open("wb")
    server = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "warning"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "STEPFLOW_API_KEYS": KEY, "PATH": "/usr/bin:/bin"},
        stdout=log,
        stderr=log,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        while not is_ready(base):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
        yield base
    finally:
        server.terminate()
        server.wait()
        log.close()
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def is_ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_with_all_checks_finds_nothing(url: str, tmp_path: Path):
    found = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.yaml"),
            *("-H", f"X-API-Key: {KEY}", "--checks", "all", "--max-examples", "40"),
            *("--seed", "1", "--no-color", "--generation-database", "none"),
        ],
        cwd=ROOT,  # where schemathesis.toml is
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
