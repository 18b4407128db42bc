"""The wall clock jumps under a real server: no timer is early or kept waiting, order is kept."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.clocks import CACHED_S, FAKETIME, Clock
from tests.faults.processes import Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not FAKETIME.exists(), reason="no libfaketime: make system-deps"),
]
NAP_S: Final = 4


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def begin(tmp_path: Path, clock: Clock) -> Callable[[], Served]:
    return lambda: Served(tmp_path / "data", tmp_path, env=clock.env)


def test_a_jump_wakes_no_run_early_and_keeps_none_waiting(
    tmp_path: Path, clock: Clock, begin: Callable[[], Served]
) -> None:
    created: list[str] = []
    with begin() as server:
        server.ready()
        hours = server.trigger("nap", 1800)
        years = server.trigger("nap", 20 * 365 * 86_400)
        for jump in ("-1h", "-365d", "+1h", "+3650d"):
            began = time.monotonic()
            nap = server.trigger("nap", NAP_S)
            clock.jump(jump)
            time.sleep(CACHED_S)
            done = server.trigger("tiny", 1)
            assert server.result(done) == 4
            # A jump back would keep it for as long, if it were waited out.
            assert server.result(nap) == 2
            if not jump.startswith("+"):
                assert woke(tmp_path, nap) >= began + NAP_S
            if jump == "+1h":
                # By the clock of the records half an hour has passed.
                assert server.result(hours) == 2
            elif jump.startswith("-"):
                assert server.get(f"/runs/{hours}")["status"] == "running"
            assert server.get(f"/runs/{years}")["status"] == "running"
            # At once: what ended ten years ago is not kept.
            created += [server.get(f"/runs/{run}")["createdAt"] for run in (nap, done)]
    assert created == sorted(created)


def test_a_jump_while_it_was_down_wakes_no_run_early_and_is_said(
    clock: Clock, begin: Callable[[], Served]
) -> None:
    with begin() as server:
        server.ready()
        hours = server.trigger("nap", 1800)
        years = server.trigger("nap", 20 * 365 * 86_400)
        done = [server.trigger("tiny", 1)]
        assert server.result(done[0]) == 4
        server.kill()
    for jump in ("-365d", "+1h"):
        clock.jump(jump)
        with begin() as server:
            server.ready()
            done.append(server.trigger("tiny", 2))
            assert server.result(done[-1]) == 8
            if jump == "+1h":
                assert server.result(hours) == 2
            else:
                assert "SFW106" in server.said, server.said
                assert server.get(f"/runs/{hours}")["status"] == "running"
            assert server.get(f"/runs/{years}")["status"] == "running"
            assert in_order(server, [hours, years, *done])
            server.kill()


def test_summer_time_is_nobodys_business(tmp_path: Path) -> None:
    """Two seconds before the clocks of Berlin go back, and go forward."""
    for number, moment in enumerate(("2026-10-25 02:59:58", "2026-03-29 01:59:58")):
        folder = tmp_path / str(number)
        folder.mkdir()
        clock = Clock(folder)
        clock.jump(f"@{moment}")
        env = clock.env | {"TZ": "Europe/Berlin"}
        with Served(folder / "data", folder, env=env) as server:
            server.ready()
            began = time.monotonic()
            naps = [server.trigger("nap", seconds) for seconds in (3, 4, 3600)]
            assert [server.result(nap) for nap in naps[:2]] == [2, 2]
            # An hour is what would be lost; the pretended clock itself may step by milliseconds.
            assert woke(folder, naps[0]) >= began + 2.5
            assert server.get(f"/runs/{naps[2]}")["status"] == "running"
            assert server.get(f"/runs/{naps[0]}")["createdAt"].startswith(moment[:10])


@pytest.mark.root
@pytest.mark.tool("unshare")
def test_a_machine_that_starts_anew_counts_from_another_moment(tmp_path: Path) -> None:
    """A deadline on the monotonic clock means nothing after a reboot: none is kept."""
    uptimes = itertools.cycle(["1000000", "0"])
    naps: dict[str, float] = {}
    for _ in range(3):
        uptime = next(uptimes)
        space = ["unshare", "--time", f"--boottime={uptime}", f"--monotonic={uptime}", "--fork"]
        with Served(tmp_path / "data", tmp_path, wrap=[*space, "--kill-child"]) as server:
            server.ready()
            for run, ends in naps.items():
                assert server.result(run) == 2
                assert woke_at(tmp_path, run) >= ends
            began = time.time()
            naps = {server.trigger("nap", NAP_S): began + NAP_S}
            forever = server.trigger("nap", 900_000)
            assert server.get(f"/runs/{forever}")["status"] == "running"
            server.kill()


def in_order(server: Served, runs: list[str]) -> bool:
    """Say whether the runs are as old as their order says."""
    created = [server.get(f"/runs/{run}")["createdAt"] for run in runs]
    return created == sorted(created)


def woke(folder: Path, run_id: str) -> float:
    """Return when the run woke, on the monotonic clock."""
    return float(_row(folder, run_id)[0])


def woke_at(folder: Path, run_id: str) -> float:
    """Return when the run woke, on the wall clock."""
    return float(_row(folder, run_id)[1])


def _row(folder: Path, run_id: str) -> list[str]:
    rows = [line.split(" ") for line in (folder / "steps.log").read_text().splitlines()]
    return next(row for row in rows if row[2] == run_id and "awake" in row[3])
