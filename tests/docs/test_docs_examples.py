"""Every Python block of README.md and docs/*.md runs.

The blocks of a document share one module, in order, so that a later block may use what an earlier
one defined; `<!-- new -->` before a block starts a fresh one. `await` may stand at the top level.
A block whose first line is `# name.py` is also written to that file, next to which all blocks run.
A function named `test_…` is called. A block that cannot run says why in its info string:
`python notest: reason`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from markdown_it import MarkdownIt

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE_NAME: Final = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True, slots=True)
class Block:
    code: str
    line: int
    info: str
    fresh: bool


def blocks_of(text: str) -> list[Block]:
    found: list[Block] = []
    fresh = True
    for token in MarkdownIt().parse(text):
        if token.type == "html_block" and token.content.strip() == "<!-- new -->":
            fresh = True
        if token.type == "fence" and token.info.split(" ")[0] == "python" and token.map:
            found.append(Block(token.content, token.map[0] + 1, token.info, fresh))
            fresh = False
    return found


def refused(block: Block) -> bool:
    _, _, rest = block.info.partition(" ")
    if not rest:
        return False
    assert re.fullmatch(r"notest: .{8,}", rest), f"line {block.line}: say why: notest: reason"
    return True


class Runner:
    """Runs a document's blocks in one module at a time."""

    def __init__(self, path: Path, loop: asyncio.Runner) -> None:
        self.path = path
        self.loop = loop
        self.modules = 0
        self.module = self.fresh_module()

    def fresh_module(self) -> types.ModuleType:
        # A real module: annotations of a workflow are looked up in sys.modules.
        self.modules += 1
        module = types.ModuleType(f"documented_{self.path.stem.lower()}_{self.modules}")
        sys.modules[module.__name__] = module
        return module

    def run(self, block: Block) -> None:
        if block.fresh:
            self.module = self.fresh_module()
        if name := FILE_NAME.match(block.code):
            Path(name[1]).write_text(block.code)
        known = set(vars(self.module))
        source = "\n" * block.line + block.code
        code = compile(
            source,
            str(self.path),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        self.call(types.FunctionType(code, vars(self.module)))
        for name in vars(self.module).keys() - known:
            if name.startswith("test_"):
                self.call(getattr(self.module, name))

    def call(self, function: types.FunctionType) -> None:
        outcome = function()
        if inspect.iscoroutine(outcome):
            self.loop.run(outcome)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_python_block_runs(path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    # Frameworks set logging up for the whole process, Litestar above all.
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        with asyncio.Runner() as loop:
            runner = Runner(path, loop)
            for block in blocks_of(path.read_text()):
                if not refused(block):
                    runner.run(block)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        for name in set(sys.modules) - before:
            if name.startswith("documented_") or (tmp_path / f"{name}.py").exists():
                del sys.modules[name]


def test_a_block_that_does_not_run_says_why() -> None:
    silent = blocks_of("```python notest\nx\n```\n")
    with pytest.raises(AssertionError, match="line 1: say why"):
        refused(silent[0])
    assert refused(blocks_of("```python notest: needs a second machine\nx\n```\n")[0])


def test_blocks_share_a_module_until_a_fresh_one_is_asked_for() -> None:
    text = "```python\na = 1\n```\n```python\nb = a\n```\n\n<!-- new -->\n\n```python\nc = 2\n```\n"
    assert [block.fresh for block in blocks_of(text)] == [True, False, True]
