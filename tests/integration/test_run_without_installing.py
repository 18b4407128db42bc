"""The wheel, run by `uvx` and by `pipx run` as its readers do: nothing is installed first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stepflow

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FOREIGN = re.compile(r"STEPFLOW_|PYTHON|VIRTUAL_ENV|UV_PROJECT|CONDA|COVERAGE|PYTEST")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The wheel is made from the sdist, so that has all that it takes.
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([BIN / "uv", "--quiet", "build", "--out-dir", out, ROOT], check=True, cwd=out)
    assert len(list(out.glob("*.tar.gz"))) == 1
    return next(out.glob("*.whl"))


def test_the_wheel_is_for_every_machine_and_needs_no_compiler(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.endswith((".so", ".pyd", ".c"))]
    assert {"stepflow/py.typed", "stepflow/web/openapi.yaml", "pytest_stepflow.py"} <= set(names)


def uvx(wheel: Path, home: Path) -> list[str]:
    del home
    return [str(BIN / "uvx"), "--quiet", "--from", f"stepflow[cli] @ file://{wheel}", "stepflow"]


def pipx(wheel: Path, home: Path) -> list[str]:
    return [
        *(str(BIN / "pipx"), "run", "--quiet", "--python", sys.executable),
        *("--spec", f"stepflow[cli] @ file://{wheel}", "stepflow"),
    ]


@pytest.mark.parametrize("way", [uvx, pipx], ids=["uvx", "pipx"])
def test_it_says_its_version_and_makes_a_project(
    wheel: Path, tmp_path: Path, way: Callable[[Path, Path], list[str]]
) -> None:
    command = way(wheel, tmp_path)
    if not Path(command[0]).exists():
        pytest.skip(f"platform: no {Path(command[0]).name} for this machine")
    kept = {name: text for name, text in os.environ.items() if not FOREIGN.match(name)}
    env = kept | {"PIPX_HOME": str(tmp_path / "pipx"), "UV_CACHE_DIR": kept.get("UV_CACHE_DIR", "")}
    env = {name: text for name, text in env.items() if text}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert stepflow.__version__ in run("--version")
    run("new", "hello")
    assert (tmp_path / "hello" / "app.py").exists()
    # What it made is a program that this installation can load.
    assert "/trigger/{workflowId}" in run("openapi")
