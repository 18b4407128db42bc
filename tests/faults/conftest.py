"""Every test of faults leaves the machine as it found it: no process, no mount, no loop device.

What a test starts bears its folder's name in its command line, its mount point or its image's name,
so that it can be told from what others do on the machine.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.ledger import until
from tests.faults.power import why_no_power

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Generator[None]:
    yield
    _assert_nothing_left(str(tmp_path))


@pytest.fixture
def disks(request: pytest.FixtureRequest) -> Generator[Path]:
    """A folder in memory for images of file systems; skips where none can be mounted."""
    if why := why_no_power():
        pytest.skip(why)
    memory = Path("/dev/shm")  # noqa: S108  it is memory that is wanted
    folder = tempfile.mkdtemp(prefix="stepflow-disks-", dir=memory if memory.is_dir() else None)
    yield Path(folder)
    _assert_nothing_left(Path(folder).name)
    shutil.rmtree(folder)


def _assert_nothing_left(name: str) -> None:
    # A name space's mounts are taken down behind the end of its last process.
    until(lambda: not list(_left(name)), lambda: f"left behind: {list(_left(name))}")


def _left(name: str) -> Iterator[str]:
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
    except OSError:
        return ""
