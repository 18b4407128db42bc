"""The power of a whole file system goes under a real server: what was promised before is there.

Each test runs in a mount and pid name space of its own, and the images are in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.power import cut_power

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.root,
    pytest.mark.tool("unshare"),
    pytest.mark.tool("setpriv"),
    pytest.mark.tool("losetup"),
    pytest.mark.tool("mkfs.ext4"),
    pytest.mark.tool("mkfs.xfs"),
]


def test_clones_of_a_live_disk_hold_all_that_was_promised_before(disks: Path) -> None:
    told = cut_power(disks, "clone", 4, seed=1)
    assert told["block_cuts"] == 4
    assert told["acknowledged"] > 400


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_that_is_shut_down_ends_the_server_and_loses_nothing(
    kind: str, disks: Path
) -> None:
    told = cut_power(disks, kind, 2, seed=2)
    assert told["block_cuts"] == 2
    assert told["acknowledged"] > 100


@pytest.mark.tool("strace")
def test_what_a_start_shows_survives_the_next_power_cut(disks: Path) -> None:
    told = cut_power(disks, "seen", 2, seed=3)
    assert told["block_cuts"] == 2


@pytest.mark.parametrize(
    ("way", "unsafe"),
    [
        ("clone", "never-sync"),
        ("ext4", "never-sync"),
        pytest.param("seen", "no-sync-before-serving", marks=pytest.mark.tool("strace")),
    ],
)
def test_a_server_that_breaks_the_rule_is_caught(way: str, unsafe: str, disks: Path) -> None:
    # The first cut that shows it ends the test; the kernel may have written back before a few.
    with pytest.raises(AssertionError, match=r"lost: run_|SFW\d|promised"):
        cut_power(disks, way, 20, seed=4, unsafe=unsafe)
