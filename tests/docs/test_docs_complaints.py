"""Each complaint has its public thread, what Stepflow does, and the test that holds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.test_docs_promises import NAMED, exists

ROOT: Final = Path(__file__).resolve().parents[2]
TEXT: Final = (ROOT / "docs" / "complaints.md").read_text(encoding="utf-8")
THREAD: Final = re.compile(
    r"\[([\w.-]+)#(\d+)\]\(https://github\.com/([\w.-]+)/([\w.-]+)/issues/(\d+)\)"
)


def rows() -> list[list[str]]:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in found if row[0] != "complaint"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_complaint_has_its_thread_what_is_done_and_tests_that_are_there(row: list[str]) -> None:
    said, done, held = row
    threads = THREAD.findall(said)
    assert threads
    assert len(threads) == said.count("](")
    for name, number, _, repository, linked in threads:
        assert (name, number) == (repository, linked)
    assert len(done) > 20
    named = [match[1] for match in NAMED.finditer(held)]
    assert named
    assert len(named) == held.count("::")
    assert [test for test in named if not exists(test)] == []


def test_there_are_many_and_no_thread_stands_twice() -> None:
    threads = THREAD.findall(TEXT)
    assert len(rows()) > 40
    assert len(threads) == len(set(threads)) > 80


def test_the_page_can_be_found() -> None:
    assert "complaints.md" in (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
