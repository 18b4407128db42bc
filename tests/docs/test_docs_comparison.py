"""The comparison links each of our claims to a page and to a test that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.docs.test_docs_promises import NAMED, exists

ROOT: Final = Path(__file__).resolve().parents[2]
TEXT: Final = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
PEERS: Final = ["DBOS", "Temporal", "Restate", "Inngest", "Hatchet", "Trigger.dev", "Absurd"]


def rows() -> list[list[str]]:
    table = TEXT.split("## Table")[1]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_peer_has_a_column_and_every_cell_is_filled() -> None:
    head, _, *body = rows()
    assert head[1:] == ["Stepflow", *PEERS, "llama-agents-server"]
    assert len(body) > 15
    assert [row for row in body if len(row) != len(head) or not all(row)] == []


def test_each_claim_of_ours_has_a_page_and_a_test() -> None:
    for row in rows()[2:]:
        if row[0] in {"Needs", "Scale-out"}:
            continue
        tests = [match[1] for match in NAMED.finditer(row[1])]
        assert re.search(r"\[page\]\([\w-]+\.md(#[\w-]+)?\)", row[1]), row[0]
        assert tests, row[0]
        assert len(tests) == row[1].count("tests/"), row[0]
        assert [test for test in tests if not exists(test)] == [], row[0]


def test_the_facts_have_a_date_and_what_is_weaker_is_said_first() -> None:
    assert "November 2026" in TEXT
    assert 0 < TEXT.index("## Where we are weaker") < TEXT.index("## Table")
    assert "docs/comparison.md" in (ROOT / "README.md").read_text(encoding="utf-8")
