"""A run whose code kills the process is set aside at the third time; all others go on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stepflow.journal.marker import SLOTS, Marker, read_marker
from stepflow.journal.suspects import Suspects
from stepflow.model.run import RunState

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio, os, sys
from stepflow import Context, Stepflow

flow = Stepflow(sys.argv[1])

async def die() -> None:
    os._exit(9)

async def fine() -> str:
    return "fine"

@flow.workflow("poison")
async def poison(ctx: Context) -> None:
    await ctx.step("die", die)

@flow.workflow("good")
async def good(ctx: Context) -> str:
    await ctx.sleep("nap", "300ms")
    return await ctx.step("fine", fine)

async def main() -> None:
    async with flow:
        if sys.argv[2] == "begin":
            await flow.trigger("good", run_id="run_good0000")
            await flow.trigger("poison", run_id="run_poison00")
        view = await flow.engine.wait("run_good0000")
        bad = await flow.get_run("run_poison00")
        print(view.status, bad.status, bad.state)

asyncio.run(main())
"""


def run(program: Path, data: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), str(data), how],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_run_that_kills_the_process_is_set_aside_at_the_third_death(tmp_path: Path) -> None:
    program = tmp_path / "poison.py"
    program.write_text(PROGRAM)
    deaths = [run(program, tmp_path / "data", "begin").returncode]
    for _ in range(5):
        done = run(program, tmp_path / "data", "again")
        if done.returncode == 0:
            break
        deaths.append(done.returncode)
    assert deaths == [9, 9, 9]
    assert done.stdout.split() == ["completed", "running", "quarantined"]
    assert "SFW402" in done.stderr


def test_the_marker_names_who_held_the_loop_and_whose_steps_ran(tmp_path: Path) -> None:
    marker = Marker(tmp_path / "marker")
    marker.enter(b"run_loop")
    slot = marker.begin(b"run_step")
    other = marker.begin(b"run_gone")
    marker.end(other)
    assert read_marker(tmp_path / "marker") == ["run_loop", "run_step"]
    marker.leave()
    marker.end(slot)
    assert read_marker(tmp_path / "marker") == []


def test_more_steps_than_slots_are_left_unmarked(tmp_path: Path) -> None:
    marker = Marker(tmp_path / "marker")
    slots = [marker.begin(b"run_%d" % i) for i in range(SLOTS + 5)]
    assert slots.count(0) == 6
    for slot in slots:
        marker.end(slot)
    assert marker.begin(b"run_x") != 0


def test_a_clean_stop_suspects_nobody_and_progress_clears_the_count(tmp_path: Path) -> None:
    state = RunState("run_a")
    marker = Suspects(tmp_path, clean=True).marker()
    marker.enter(b"run_a")
    for _ in range(2):
        suspects = Suspects(tmp_path, clean=False)
        assert suspects.count([state]) == set()
    assert Suspects(tmp_path, clean=True).count([state]) == set()
    state.records.append(b'{"t":"step.started"}')
    assert Suspects(tmp_path, clean=False).count([state]) == {"run_a"}
    state.records.append(b'{"t":"step.completed"}')
    assert Suspects(tmp_path, clean=False).count([state]) == set()


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format":1,"crc":1,"runs":{}}'])
def test_damaged_counts_are_made_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "suspects.json").write_bytes(damage)
    assert Suspects(tmp_path, clean=False).count([]) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["suspects.json"]
