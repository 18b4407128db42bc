"""Each SFW code that the code raises has a row with cause, action and next move, and a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.damage.table import TABLE, Row

ROOT: Final = Path(__file__).resolve().parents[2]
CODE: Final = re.compile(r"\bSFW\d{3}\b")


def raised() -> set[str]:
    """Return the codes that stand in the package."""
    found: set[str] = set()
    for path in (ROOT / "stepflow").rglob("*.py"):
        found.update(CODE.findall(path.read_text()))
    return found


def documented() -> dict[str, list[str]]:
    """Return the rows of the operations page: found, done and next move by code."""
    text = (ROOT / "docs" / "operations.md").read_text()
    rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if match := re.fullmatch(r"`(SFW\d{3})`", cells[0]):
            assert match[1] not in rows, f"{match[1]} stands twice"
            rows[match[1]] = cells[1:]
    return rows


def asserted() -> dict[str, set[str]]:
    """Return, by code, the test files that name it."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name == Path(__file__).name:
            continue
        for code in CODE.findall(path.read_text()):
            found.setdefault(code, set()).add(path.name)
    return found


def test_the_code_and_the_page_have_the_same_codes() -> None:
    assert raised() == set(documented())


@pytest.mark.parametrize("code", sorted(raised()))
def test_each_code_has_cause_action_and_next_move_and_a_test(code: str) -> None:
    found, done, move = documented()[code]
    assert found
    assert done
    assert move
    assert asserted().get(code), f"no test names {code}"


@pytest.mark.parametrize("row", [row for row in TABLE if row.codes], ids=str)
def test_each_case_of_the_table_does_what_the_page_says(row: Row) -> None:
    for code in row.codes:
        _, done, _ = documented()[code]
        starts = "start" in done or "all others go on" in done
        assert starts == (row.exit_code == 0), code
        if row.exit_code:
            assert "refused" in done
            told = re.search(r"exit (\d+)", done)
            assert row.exit_code == (int(told[1]) if told else 65)
