"""Every test of faults leaves the machine as it found it: no process, no mount, no loop device.

What a test starts bears its folder's name in its command line, its mount point or its image's name,
so that it can be told from what others do on the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.ledger import until
from tests.faults.power import image_token, why_no_power

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Generator[None]:
    if sys.platform != "linux":
        pytest.skip("platform: faults are done to processes by Linux's means")
    yield
    names = {str(tmp_path), image_token(tmp_path)}
    # A name space's mounts are taken down behind the end of its last process.
    until(lambda: not list(_left(names)), lambda: f"left behind: {list(_left(names))}")


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """A folder for images of file systems; skips where none can be mounted."""
    if why := why_no_power():
        pytest.skip(why)
    return tmp_path


def _left(names: Collection[str]) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        if any(name in _text(process / "cmdline") for name in names):
            yield f"process {process.name}: {_text(process / 'cmdline')}"
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        if any(name in line for name in names):
            yield f"mount {line}"
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        if any(name in _text(loop) for name in names):
            yield f"loop device of {_text(loop)}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
