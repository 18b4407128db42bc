"""What `stepflow new` writes is code as one would write it: linted, typed, its imports named."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stepflow.cli.new import files_of
from stepflow.cli.templates import TEMPLATES
from tests.cli_kit import ROOT, environment

BIN = Path(sys.executable).parent
RULES = "E,F,I,UP,B,ASYNC,RUF"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_is_linted_typed_and_names_what_it_imports(tmp_path: Path, template: str) -> None:
    files = files_of("project", template)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    own = ["--isolated", "--line-length", "100"]
    ours = ["--config", "lint.isort.known-first-party=['stepflow']"]
    for command in (
        ["ruff", "check", *own, *ours, "--select", RULES],
        ["ruff", "format", *own, "--check"],
        ["mypy", "--strict", "--no-incremental", "--config-file", "/dev/null"],
    ):
        done = subprocess.run(
            [BIN / command[0], *command[1:], "app.py"],
            cwd=tmp_path,
            env=environment(MYPYPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    needs = tomllib.loads(files["pyproject.toml"])["project"]["dependencies"]
    named = {re.split(r"[\[>=]", each)[0] for each in needs}
    imported = re.findall(r"^(?:from|import) (\w+)", files["app.py"], re.MULTILINE)
    assert set(imported) - sys.stdlib_module_names - {"__future__"} <= named


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_readme_says_where_the_key_is(template: str) -> None:
    """`stepflow serve` makes one at its first start; inside another application nobody does."""
    served = TEMPLATES[template].start.startswith("stepflow serve")
    readme = files_of("project", template)["README.md"]
    assert ("api.key" in readme, "STEPFLOW_API_KEYS" in readme) == (served, not served)
