"""A newcomer's commands lead to a completed run in an environment with nothing but the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_an_empty_environment_to_the_first_completed_run(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "newcomer.py", "--short", "--json", kept],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'completed  "Hello, Ada! Hello yourself!"' in done.stdout
    commands = [name.split(" hello")[0] for name in json.loads(kept.read_text())["seconds"]]
    assert commands == [
        "python -m venv venv",
        'pip install "stepflow[cli,fast]"',
        "stepflow new",
        "stepflow serve app.py",
        "stepflow trigger",
        'stepflow notify answer-Ada "Hello yourself!"',
        "stepflow runs watch RUN",
    ]
    readme = (ROOT / "README.md").read_text()
    # What is timed is what the README tells newcomers to type.
    for line in ('pip install "stepflow[cli,fast]"', "stepflow new hello", "stepflow serve app.py"):
        assert f"\n{line}" in readme
