"""The shell blocks of the docs that are marked run, in order, from an empty directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.served import doomed
from tools.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(r"<!-- commands -->\n```\n(.*?)```", re.DOTALL)
APP: Final = re.compile(r"```python\n(# app\.py\n.*?)```", re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.tool("curl"), pytest.mark.timeout(300)]


def run(script: str, cwd: Path, port: int) -> str:
    # The commands of whoever has installed the package; what they leave running ends with them.
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", script]
    text = (
        "\n".join(lines)
        .replace(":8000", f":{port}")
        .replace("serve app.py", f"serve app.py --port {port}")
    )
    done = subprocess.run(
        doomed(["/bin/bash", "-c", text]),
        cwd=cwd,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STEPFLOW_URL": f"http://127.0.0.1:{port}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    log = cwd / "server.log"
    told = log.read_text() if log.exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + told
    return done.stdout


def test_the_quickstart_runs_over_a_kill_and_each_effect_is_there_once(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text()
    app = APP.search(page)
    assert app is not None
    (tmp_path / "app.py").write_text(app[1])
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("<!-- commands -->") == 4
    told = run("".join(blocks), tmp_path, free_port())
    assert '"paid 12 EUR"' in told
    assert "event: complete" in told
    effects = (tmp_path / "effects.txt").read_text().splitlines()
    assert effects[0] == "charged 7"
    assert sorted(effects) == ["charged 7", "charged 8", "shipped 7", "shipped 8"]


def test_a_backup_is_restored_as_the_operations_page_says(tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / "operations.md").read_text())
    assert len(blocks) == 2
    backup, restore = blocks
    shutil.copy(ROOT / "examples" / "welcome.py", tmp_path / "app.py")
    serve = """
stepflow serve app.py > server.log 2>&1 &
SERVER=$!
until curl -sf http://127.0.0.1:8000/ready; do sleep 0.1; done
"""
    script = f"""{serve}
RUN=$(stepflow trigger welcome-user '{{"userId":"u","email":"ada@example.com"}}')
{backup}
LATE=$(stepflow trigger welcome-user '{{"userId":"v","email":"bob@example.com"}}')
kill $SERVER; wait $SERVER
{restore}
{serve}
stepflow runs show "$RUN" && ! stepflow runs show "$LATE" && echo restored
stepflow runs list
kill $SERVER; wait $SERVER
"""
    assert "restored" in run(script, tmp_path, free_port())


def test_each_page_is_in_the_index_and_the_readme_leads_there() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"({page})" not in index] == []
    readme = (ROOT / "README.md").read_text()
    for page in ("README.md", "why.md", "quickstart.md", "concepts.md"):
        assert f"(docs/{page})" in readme


def test_each_host_has_its_own_part_with_a_file_that_is_tried() -> None:
    page = (ROOT / "docs" / "hosts.md").read_text()
    index = (ROOT / "docs" / "README.md").read_text()
    for name in ("starlette", "fastapi", "litestar", "django", "flask", "quart"):
        part = re.search(
            rf"^## {name}$(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL | re.IGNORECASE
        )
        assert part is not None, name
        assert f"<!-- generated: examples/hosts/{name}_app.py -->" in part[1]
        assert f"hosts.md#{name}" in index
