"""Types are part of the product: good code passes both checkers, planted mistakes fail both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
SAMPLE: Final = HERE / "shop_sample.py"
MISTAKES: Final = HERE / "shop_mistakes.py"

Findings = dict[int, list[str]]
"""Messages by line."""

# Both checkers share one process each and its cache, so they stay on one worker.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("typing")]


def marked(path: Path) -> set[int]:
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if re.search(r"# E\b", line)}


def by_mypy(path: Path) -> Findings:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"]
    command += ["--python-version=3.11", "--cache-dir=.mypy_cache/samples", "--output=json"]
    done = subprocess.run(
        [*command, path], capture_output=True, text=True, cwd=HERE.parents[1], check=False
    )
    assert not done.stderr, done.stderr
    found: Findings = {}
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        if finding["severity"] == "error":
            assert finding["file"].endswith(path.name), finding
            found.setdefault(finding["line"], []).append(f"{finding['code']}: {finding['message']}")
    return found


def by_pyright(path: Path) -> Findings:
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", HERE]
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, check=False
    )
    found: Findings = {}
    for finding in json.loads(done.stdout)["generalDiagnostics"]:
        if finding["severity"] == "error" and finding["file"].endswith(path.name):
            line = finding["range"]["start"]["line"] + 1
            found.setdefault(line, []).append(f"{finding.get('rule')}: {finding['message']}")
    return found


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_what_a_user_writes_is_typed_strictly(check) -> None:
    assert check(SAMPLE) == {}


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_planted_mistakes_and_nothing_else_are_found(check) -> None:
    found = check(MISTAKES)
    expected = marked(MISTAKES)
    missed = expected - found.keys()
    false_alarms = {line: found[line] for line in found.keys() - expected}
    assert (missed, false_alarms) == (set(), {})
