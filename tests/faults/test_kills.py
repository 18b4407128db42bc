"""kill -9 at random moments and at the N-th system call of each kind: no promise is broken."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.kills import CALLS, KILLED, kill_at_calls, kill_at_random
from tests.faults.processes import Served, strace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)
OFTEN = (1, 2, 4, 8)
SELDOM = (1, 4)
"""Of the calls that make, cut and drop files a short life has few."""


def test_kills_at_random_moments_break_no_promise(tmp_path: Path) -> None:
    told = kill_at_random(tmp_path, lives=6, rng=random.Random(1))
    assert told["kills"] == 6
    assert told["acknowledged"] > 200


@pytest.mark.tool("strace")
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_the_nth_call_breaks_no_promise(call: str, tmp_path: Path) -> None:
    numbers = OFTEN if call in {"pwrite64", "fdatasync"} else SELDOM
    if call == "unlink":
        numbers = (1, 1)  # the next one comes with a later snapshot
    told = kill_at_calls(tmp_path, call, numbers, seed=1)
    assert told["kills"] == len(numbers)


def test_a_server_that_acknowledges_before_it_writes_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"lost: run_|SFW|was promised"):
        kill_at_random(tmp_path, lives=4, rng=random.Random(2), unsafe="late-write")


@pytest.mark.tool("strace")
@pytest.mark.parametrize(
    ("call", "number"), [("pwrite64", 2), ("fsync", 2), ("fsync", 4), ("rename", 1)]
)
def test_a_kill_in_the_first_start_leaves_a_directory_that_starts(
    call: str, number: int, tmp_path: Path
) -> None:
    with Served(tmp_path / "data", tmp_path, wrap=strace(f"{call}:signal=KILL:when={number}")) as s:
        assert s.ended() == KILLED
    with Served(tmp_path / "data", tmp_path) as s:
        s.ready()
        assert s.result(s.trigger("tiny", 1)) == 4
