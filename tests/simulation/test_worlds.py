"""Every world takes part: in `python -m tests.sim`, in the long programme, with bugs of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sim import __main__ as command
from tests.sim import torture
from tests.sim.bugs import BUGS
from tests.sim.many import RUNS, Summary, run_block
from tests.sim.worlds import WORLDS, world_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(300)


def test_a_bug_has_one_name_and_one_world() -> None:
    names = [*BUGS, *(bug for world in WORLDS.values() for bug in world.bugs)]
    assert len(set(names)) == len(names)
    for world in WORLDS.values():
        assert world.bugs
        assert world.focus.keys() <= world.bugs.keys()
        assert all(world_of(bug) is world for bug in world.bugs)
    assert world_of("acknowledge-before-sync") is None


def test_the_long_programme_simulates_every_world_and_looks_for_every_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, float] = {}
    looked: list[str] = []

    def run_for(seconds: float, first: int, *, world: str, **_: Any) -> Summary:
        assert first == 7_000_000
        asked[world] = seconds
        return Summary(seeds=10, lives=20, seconds=1.0)

    def find(bug: Any) -> object:
        looked.append(bug.name)
        return object()

    def find_in(_world: Any, bug: str) -> object:
        looked.append(bug)
        return object()

    monkeypatch.setattr(torture, "run_for", run_for)
    monkeypatch.setattr(torture, "find", find)
    monkeypatch.setattr(torture, "find_in", find_in)
    figures = torture.torture(60.0, 7, list[str]().append)
    assert asked.keys() == {RUNS, *WORLDS}
    assert sum(asked.values()) > 60.0, "time that one has left over is the next one's"
    assert figures["seeds"] == 10 * len(asked)
    every = [*BUGS, *(bug for world in WORLDS.values() for bug in world.bugs)]
    assert sorted(looked) == sorted(every)
    assert figures["planted_found"] == len(every)


def test_with_too_little_time_other_bugs_are_looked_for_each_time() -> None:
    first = [next(iter(torture._bugs(seed))) for seed in range(100)]
    assert set(first) == set(torture._bugs(0)), "each is the first one of some seed"


def test_a_seed_that_fails_in_any_world_fails_the_programme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bug = "compensation-twice"

    def run_for(*_: Any, world: str, **__: Any) -> Summary:
        return run_block(0, 20, bug, world)

    def no_bugs(*_: Any) -> dict[str, Any]:
        return {}

    real: Callable[..., str] = torture.explain
    monkeypatch.setattr(torture, "SHARES", {"compose": 1})
    monkeypatch.setattr(torture, "_bugs", no_bugs)
    monkeypatch.setattr(torture, "run_for", run_for)
    monkeypatch.setattr(torture, "explain", lambda seed, world: real(seed, bug, world))
    with pytest.raises(AssertionError, match=r"of compose fails:[^$]*undid[^$]*--planted"):
        torture.torture(1.0, 7, list[str]().append)


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_the_command_runs_a_world(
    world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sim", "--world", world, "--seeds", "3"])
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert '"seeds": 3' in printed
    assert '"violations": 0' in printed


def test_the_command_finds_a_bug_in_its_world_and_says_how_to_find_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = "compensation-twice"
    monkeypatch.setattr("sys.argv", ["sim", "--planted", bug, "--seeds", "50"])
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert "of compose fails" in printed
    assert f"--seeds 1 --planted {bug}" in printed
