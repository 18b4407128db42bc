"""`make coverage` fails for one branch that is not taken where all must be, and names it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tools import check_coverage

if TYPE_CHECKING:
    from pathlib import Path

WHOLE: dict[str, Any] = {
    "summary": {"num_statements": 2, "covered_lines": 2, "num_branches": 2, "covered_branches": 2}
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(check_coverage, "ROOT", tmp_path)
    room = tmp_path / "stepflow" / "model"
    room.mkdir(parents=True)
    (room / "run.py").write_text("if late():\n    refuse()\n")
    (room / "__init__.py").touch()
    return tmp_path


def check(root: Path, measured: dict[str, Any] | None) -> int:
    files = {"stepflow/model/run.py": measured} if measured else {}
    report = root / "coverage.json"
    report.write_text(json.dumps({"files": files, "totals": WHOLE["summary"]}))
    return check_coverage.main(report)


def test_a_room_that_is_reached_whole_is_good(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(root, WHOLE) == 0
    assert "100.00 %  stepflow/model/*.py: 2 of 2 branches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"missing_lines": [2]}, "stepflow/model/run.py:2: refuse()"),
        ({"missing_branches": [[1, 2]]}, "run.py:1: never goes on at line 2: if late():"),
        ({"missing_branches": [[1, -1]]}, "run.py:1: never goes on at the end: if late():"),
    ],
)
def test_a_line_or_branch_that_is_not_reached_is_named(
    root: Path, capsys: pytest.CaptureFixture[str], missing: dict[str, Any], said: str
) -> None:
    assert check(root, WHOLE | missing) == 1
    assert said in capsys.readouterr().out


def test_a_file_that_no_test_imports_is_named_and_an_empty_one_is_not(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(root, None) == 1
    printed = capsys.readouterr().out
    assert "stepflow/model/run.py: no test imports it" in printed
    assert "__init__" not in printed
