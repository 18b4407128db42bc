"""A run whose code kills the process is set aside at the third time; all others go on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stepflow.journal.marker import SLOTS, Marker, NoMarker, read_marker
from stepflow.journal.suspects import Suspects
from stepflow.model.run import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


class Loop:
    """The next pass of a loop, by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def next_pass(self) -> int:
        """Run what was asked for; return how many callbacks."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        return len(soon)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def marker(tmp_path: Path, loop: Loop) -> Iterator[Marker]:
    marker = Marker(tmp_path / "marker", loop.call_soon)
    yield marker
    marker.close()


def test_the_marker_names_who_holds_the_loop_and_whose_steps_run(
    tmp_path: Path, loop: Loop, marker: Marker
) -> None:
    marker.enter(b"run_before")
    marker.enter(b"run_loop")
    assert read_marker(tmp_path / "marker") == ["run_loop"]
    slot = marker.begin(b"run_step")
    other = marker.begin(b"run_gone")
    marker.end(other)
    assert loop.next_pass() == 1
    assert read_marker(tmp_path / "marker") == ["run_step"]
    marker.end(slot)
    assert loop.next_pass() == 1
    assert read_marker(tmp_path / "marker") == []


def test_a_step_that_starts_in_this_turn_is_marked_by_a_flush(
    tmp_path: Path, marker: Marker
) -> None:
    marker.begin(b"run_thread")
    marker.flush()
    assert read_marker(tmp_path / "marker") == ["run_thread"]


def test_an_idle_loop_is_left_alone_by_the_marker(loop: Loop, marker: Marker) -> None:
    marker.enter(b"run_a")
    loop.next_pass()
    assert loop.next_pass() == 0


def test_more_steps_than_slots_are_left_unmarked(marker: Marker) -> None:
    slots = [marker.begin(b"run_%d" % i) for i in range(SLOTS + 5)]
    assert slots.count(0) == 6
    for slot in slots:
        marker.end(slot)
    assert marker.begin(b"run_x") != 0


def test_a_marker_whose_disk_is_full_or_gone_says_it_once_and_never_raises(
    tmp_path: Path, loop: Loop, marker: Marker, caplog: pytest.LogCaptureFixture
) -> None:
    marker.enter(b"run_old")
    held = os.dup(marker.fileno())
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, marker.fileno())
    for name in (b"run_a", b"run_b"):
        marker.enter(name)
        marker.end(marker.begin(name))
        loop.next_pass()
    assert [record.message for record in caplog.records if "marker" in record.message] == [
        "the marker cannot be written, nobody is suspected: [Errno 28] No space left on device"
    ]
    os.dup2(held, marker.fileno())
    os.close(held)
    os.close(full)
    # What could not be written is made good: nobody stays marked.
    marker.end(marker.begin(b"run_c"))
    loop.next_pass()
    assert read_marker(tmp_path / "marker") == []


def test_a_paused_marker_leaves_the_disk_alone(tmp_path: Path, loop: Loop, marker: Marker) -> None:
    slot = marker.begin(b"run_before")
    loop.next_pass()
    marker.pause(paused=True)
    marker.end(slot)
    marker.begin(b"run_during")
    marker.enter(b"run_loop")
    loop.next_pass()
    assert read_marker(tmp_path / "marker") == ["run_before"]
    marker.pause(paused=False)
    assert read_marker(tmp_path / "marker") == ["run_during"]


def test_a_closed_marker_is_silent(tmp_path: Path, loop: Loop, marker: Marker) -> None:
    slot = marker.begin(b"run_a")
    marker.close()
    marker.end(slot)
    marker.enter(b"run_b")
    loop.next_pass()
    marker.close()
    assert read_marker(tmp_path / "marker") == []


def mark(data: Path, run_id: bytes) -> None:
    """Leave a mark as a killed process would."""
    loop = Loop()
    Suspects(data, clean=True).marker(loop.call_soon).enter(run_id)


def test_a_marker_that_cannot_be_made_is_said_and_nothing_is_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "marker").mkdir()
    marker = Suspects(tmp_path, clean=True).marker(lambda callback: None)
    marker.enter("run_a")
    assert type(marker) is NoMarker
    assert "cannot be made, so nothing is marked" in caplog.text


def test_a_clean_stop_suspects_nobody_and_progress_clears_the_count(tmp_path: Path) -> None:
    state = RunState("run_a")
    mark(tmp_path, b"run_a")
    for _ in range(2):
        suspects = Suspects(tmp_path, clean=False)
        assert suspects.count([state]) == set()
    assert Suspects(tmp_path, clean=True).count([state]) == set()
    state.records.append(b'{"t":"step.completed"}')
    for _ in range(2):
        assert Suspects(tmp_path, clean=False).count([state]) == set()
    state.records.append(b'{"t":"step.started"}')
    assert Suspects(tmp_path, clean=False).count([state]) == {"run_a"}


HAPPENINGS = (
    b'{"t":"step.started"}',
    b'{"t":"event.kept","event":"e"}',
    b'{"t":"wait.resolved"}',
    b'{"t":"wait.timed-out"}',
    b'{"t":"sleep.ended"}',
    b'{"t":"child.ended"}',
    b'{"t":"run.released"}',
    b'{"t":"run.cancelling"}',
)


@pytest.mark.parametrize("happened", HAPPENINGS)
def test_what_happens_to_a_run_is_no_progress_of_its_code(tmp_path: Path, happened: bytes) -> None:
    state = RunState("run_a")
    mark(tmp_path, b"run_a")
    for _ in range(2):
        assert Suspects(tmp_path, clean=False).count([state]) == set()
        state.records.append(happened)
    assert Suspects(tmp_path, clean=False).count([state]) == {"run_a"}


def test_a_run_that_was_set_aside_stays_aside_until_it_is_released(tmp_path: Path) -> None:
    state = RunState("run_a")
    other = RunState("run_b")
    mark(tmp_path, b"run_a")
    found = [Suspects(tmp_path, clean=False).count([state, other]) for _ in range(3)]
    assert found == [set(), set(), {"run_a"}]
    # Neither records nor a clean stop, nor a death in which it was not running, bring it back.
    (tmp_path / "marker").unlink()
    for record in (*HAPPENINGS, b'{"t":"step.completed"}'):
        state.records.append(record)
        assert Suspects(tmp_path, clean=True).count([state, other]) == {"run_a"}
        assert Suspects(tmp_path, clean=False).count([state, other]) == {"run_a"}
    suspects = Suspects(tmp_path, clean=True)
    suspects.count([state, other])
    suspects.release("run_a")
    assert Suspects(tmp_path, clean=True).count([state, other]) == set()
    mark(tmp_path, b"run_a")
    assert Suspects(tmp_path, clean=False).count([state, other]) == set()


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format":1,"crc":1,"runs":{}}'])
def test_damaged_counts_are_made_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "suspects.json").write_bytes(damage)
    assert Suspects(tmp_path, clean=False).count([]) == set()
    assert [path.name for path in tmp_path.iterdir()] == ["suspects.json"]
