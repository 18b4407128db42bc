"""The served document against the served routes, by someone who has read only the document.

The stateful phase goes on with what answers gave (the id of a triggered run, say), along the links
between the operations.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from served import doomed, end_group

from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY = "fuzz-key-0123456789"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fuzz_app:app", "--app-dir", str(HERE)]
    log = (tmp_path / "server.log").open("wb")
    server = subprocess.Popen(
        doomed([*command, "--port", str(port), "--log-level", "warning"]),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "STEPFLOW_API_KEYS": KEY, "PATH": "/usr/bin:/bin"},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        while not is_ready(base):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
        yield base
        server.terminate()
        server.wait(60)
    finally:
        end_group(server)
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
            *("-H", f"X-API-Key: {KEY}", "--checks", "all", "--max-examples", "15"),
            *("--seed", "1", "--no-color", "--generation-database", "none"),
        ],
        cwd=ROOT,  # where schemathesis.toml is
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    # Each phase has run, and the stateful one went along links from one answer to the next.
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in found.stdout, found.stdout[-8000:]
    links = re.search(r"API Links: +(\d+) covered", found.stdout)
    assert links is not None, found.stdout[-8000:]
    assert int(links[1]) >= 8
