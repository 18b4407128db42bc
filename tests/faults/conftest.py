"""Every test of faults leaves the machine as it found it: no process, no mount, no loop device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.ledger import until

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Generator[None]:
    """All that a test starts bears its folder's name, so that it can be told from others'."""
    yield
    # A name space's mounts are taken down behind the end of its last process.
    until(lambda: not list(_left(tmp_path)), lambda: f"left behind: {list(_left(tmp_path))}")


def _left(folder: Path) -> Iterator[str]:
    name = folder.name
    for process in Path("/proc").glob("[0-9]*"):
        if name in _text(process / "cmdline"):
            yield f"process {process.name}: {_text(process / 'cmdline')}"
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        if name in line:
            yield f"mount {line}"
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        if name in _text(loop):
            yield f"loop device of {_text(loop)}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return ""
