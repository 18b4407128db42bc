"""Each promise and each bug in the documents names a test that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)(?:\[[^`]*\])?`")
PROMISES: Final = ("guarantees.md", "security.md")
OTHERS: Final = ("asvs.md", "complaints.md")
BUGS: Final = "durability-bugs.md"
EXCLUDED: Final = re.compile(r"^## What is not promised.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests of the file as pytest names them, without parameters."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for name in functions(node.body)}
        found |= functions([node])
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


def functions(nodes: list[ast.stmt]) -> set[str]:
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    return (ROOT / path).exists() and name in names_in(path)


def promises(name: str) -> list[str]:
    """The entries of the document's lists, but for those under what is not promised."""
    text = EXCLUDED.sub("", (DOCS / name).read_text(encoding="utf-8"))
    entries = re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE)
    # A definition, such as who attacks, is no promise.
    return [entry for entry in entries if not entry.startswith("- **")]


@pytest.mark.parametrize("name", PROMISES)
def test_each_promise_ends_with_a_test(name: str) -> None:
    found = promises(name)
    assert len(found) > 20
    assert [entry for entry in found if not re.search(NAMED.pattern + r"\.?\Z", entry)] == []


@pytest.mark.parametrize("name", [*PROMISES, *OTHERS, BUGS])
def test_each_named_test_is_there(name: str) -> None:
    named = [match[1] for match in NAMED.finditer((DOCS / name).read_text(encoding="utf-8"))]
    assert named
    assert [test for test in named if not exists(test)] == []


def test_each_bug_names_its_test() -> None:
    text = (DOCS / BUGS).read_text(encoding="utf-8")
    bugs = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(bugs) > 10
    assert [bug.partition("\n")[0] for bug in bugs if not NAMED.search(bug)] == []


def test_a_test_that_is_not_there_is_missed() -> None:
    here = "tests/docs/test_docs_promises.py"
    assert exists(f"{here}::test_a_test_that_is_not_there_is_missed")
    assert not exists(f"{here}::exists")
    assert not exists(f"{here}::test_no_such_thing")
    assert not exists("tests/docs/test_no_such_file.py::test_no_such_thing")
