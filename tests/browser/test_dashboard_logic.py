"""What the dashboard calculates, under Node's own test runner; no browser takes part."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

LOGIC = Path(__file__).parent / "logic"


@pytest.mark.parametrize("suite", sorted(LOGIC.glob("*.test.mjs")), ids=lambda path: path.stem)
def test_the_dashboard_calculates_as_its_own_tests_say(
    tool_path: dict[str, str], suite: Path
) -> None:
    done = subprocess.run(
        [tool_path["node"], "--test", "--test-reporter=tap", str(suite)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout
