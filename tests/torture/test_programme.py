"""The frame of `make torture` with made-up parts: it passes, fails and ends as it should."""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import textwrap
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.torture import __main__ as command
from tests.torture.parts import PARTS, Part
from tests.torture.report import Report
from tests.torture.runner import OTHER_SEEDS, Programme
from tests.torture.show import Lively, Plain
from tests.torture.test_hang_safety import ROOT, living
from tools.torture_table import filled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.process import Outcome

    MakePart = Callable[..., Part]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a part that failed leaves for whoever looks into it is left in the test's own directory.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def make_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePart:
    """A function that makes a part of the body of its `torture`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(body: str, *, name: str = "made-up", share: float = 1.0, many: bool = False) -> Part:
        module = f"made_up_{len(list(tmp_path.glob('*.py')))}"
        text = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        source = "import os, subprocess, sys, time\ndef torture(seconds, seed, say):\n"
        (tmp_path / f"{module}.py").write_text(f"{source}{text}\n")
        return Part(name, module, share, "a made-up part", many)

    return make


def run(tmp_path: Path, *parts: Part, seconds: float = 60.0, **others: float) -> list[Outcome]:
    programme = Programme(
        parts=parts,
        seconds=seconds,
        seed=7,
        jobs=int(others.get("jobs", 1)),
        seeds=int(others.get("seeds", 0)),
        grace_s=others.get("grace_s", 60.0),
        logs=tmp_path / "logs",
        show=Plain(),
    )
    return asyncio.run(programme.run())


def test_a_part_gets_its_time_and_seed_and_what_it_counts_is_kept(
    make_part: MakePart, tmp_path: Path
) -> None:
    part = make_part("return {'cases': int(seconds), 'sweeps': seed, 'seeds': 1, 'x_per_hour': 9}")
    [outcome] = run(tmp_path, part, seconds=60)
    assert outcome.passed
    assert outcome.counts == {"cases": 59, "sweeps": 7}


@pytest.mark.parametrize(
    ("body", "verdict", "why"),
    [
        ("raise AssertionError(f'seed {seed}: a timer fired early')", "failed", "seed 7: a timer"),
        ("return {'acknowledged': 9, 'lost': 1}", "failed", "1 lost"),
        ("return {'violations': 2}", "failed", "2 violations"),
        ("return {'planted_found': 19, 'planted_total': 20}", "failed", "1 of 20 planted bugs"),
        ("os._exit(3)", "crashed", "status 3"),
        ("sys.exit('no')", "failed", "SystemExit: no"),
    ],
)
def test_a_broken_rule_is_a_failure_however_it_shows(
    make_part: MakePart, tmp_path: Path, body: str, verdict: str, why: str
) -> None:
    [outcome] = run(tmp_path, make_part(body))
    assert (outcome.verdict, outcome.passed) == (verdict, False)
    assert why in outcome.why


def test_a_part_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    [outcome] = run(tmp_path, Part("gone", "tests.no_such.torture", 1, "nothing"))
    assert outcome.verdict == "failed"
    assert "ModuleNotFoundError" in outcome.why


def test_a_part_that_does_not_end_is_ended_with_all_it_started(
    make_part: MakePart, tmp_path: Path
) -> None:
    mark = str(tmp_path / "server-of-a-part")
    server = f"import time; time.sleep(600); {mark!r}"
    part = make_part(f"""
        subprocess.Popen([sys.executable, "-c", {server!r}], start_new_session=True)
        time.sleep(600)
    """)
    after = make_part("return {'cases': 1}", name="after")
    outcomes = run(tmp_path, part, after, seconds=1, grace_s=1)
    assert [outcome.verdict for outcome in outcomes] == ["hung", "passed"]
    assert living(mark) == []
    log = (tmp_path / "logs" / "made-up-7.log").read_text()
    assert "in torture" in log, "the stacks say where it hung"


def test_what_a_part_leaves_running_is_named_and_killed(
    make_part: MakePart, tmp_path: Path
) -> None:
    mark = str(tmp_path / "server-left")
    server = f"import time; time.sleep(600); {mark!r}"
    part = make_part(f"""
        subprocess.Popen([sys.executable, "-c", {server!r}], start_new_session=True)
        return {{}}
    """)
    [outcome] = run(tmp_path, part)
    assert outcome.passed
    assert mark in " ".join(outcome.left)
    assert living(mark) == []


def test_time_that_one_part_takes_too_long_the_next_ones_lose(
    make_part: MakePart, tmp_path: Path
) -> None:
    greedy = make_part("time.sleep(4); return {}", name="greedy", share=3)
    modest = make_part("return {'cases': int(seconds * 1000)}", name="modest", share=1)
    outcomes = run(tmp_path, greedy, modest, seconds=4)
    # A quarter of the time was its share; a second at least is given to each.
    assert outcomes[1].counts == {"cases": 1000}


def test_parts_are_dealt_to_lanes_of_about_the_same_length(tmp_path: Path) -> None:
    def lanes(jobs: int) -> list[list[tuple[str, int]]]:
        programme = Programme(PARTS, 600, 7, jobs, tmp_path, Plain())
        return [[(part.name, seed) for part, seed in lane] for lane in programme.lanes()]

    shares = {part.name: part.share for part in PARTS}
    for jobs in (1, 2, 3):
        dealt = lanes(jobs)
        assert sorted(name for lane in dealt for name, _ in lane) == sorted(shares)
        lengths = [sum(shares[name] for name, _ in lane) for lane in dealt]
        assert max(lengths) - min(lengths) <= max(shares.values()) / 3
    more = lanes(len(PARTS) + 1)[-1]
    assert more == [("sim", 7 + len(PARTS) * OTHER_SEEDS)], "more worlds may be simulated at once"


def test_more_worlds_are_simulated_until_there_are_as_many_as_asked_for(
    make_part: MakePart, tmp_path: Path
) -> None:
    sim = make_part("return {'seeds': 40}", many=True)
    outcomes = run(tmp_path, sim, seconds=1, seeds=100)
    assert sum(outcome.counts["seeds"] for outcome in outcomes) == 120
    assert len({outcome.seed for outcome in outcomes}) == 3, "no seed is taken twice"


def test_in_a_terminal_each_part_has_a_line_that_changes(
    make_part: MakePart, tmp_path: Path
) -> None:
    screen = io.StringIO()
    with Lively(Console(file=screen, force_terminal=True, width=120)) as show:
        parts = [make_part("say('half way'); return {'cases': 5}", name="good")]
        parts += [make_part("raise AssertionError('a step ran twice')", name="bad")]
        asyncio.run(Programme(parts, 9, 7, 1, tmp_path / "logs", show).run())
    assert "passed: 5 cases" in screen.getvalue()
    assert "FAILED: AssertionError: a step ran twice" in screen.getvalue()


def test_the_command_says_in_its_status_whether_every_rule_held(
    make_part: MakePart,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = "say('half way'); return {'seeds': 5, 'acknowledged': 1234}"
    good = make_part(body, name="good", many=True)
    bad = make_part("raise AssertionError('a step ran twice')", name="bad")
    monkeypatch.setattr(command, "PARTS", (good, bad))
    monkeypatch.setattr(command, "BUILD", tmp_path / "build")

    monkeypatch.setattr(
        sys, "argv", ["torture", "--seconds=9", "--seed=3", "--parts=good", "--jobs=1"]
    )
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert "1,234 acknowledged, 0 lost, 0 of 0 planted bugs found; every rule held" in printed
    assert "half way" in printed

    few = ["torture", "--seconds=9", "--seed=3", "--parts=bad", "--jobs=1", "--seeds=6"]
    monkeypatch.setattr(sys, "argv", few)
    assert command.main() == 1
    assert "6 simulated worlds were asked for: 0." in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["torture", "--seconds=9", "--seed=3"])
    assert command.main() == 1
    printed = capsys.readouterr().out
    assert "a step ran twice" in printed
    assert "again: make torture PARTS=bad JOBS=1 SECONDS=9 SEED=3" in printed
    assert "NOT ALL RULES HELD" in printed

    report = Report.load(tmp_path / "build" / "torture.json")
    assert {outcome.part: outcome.verdict for outcome in report.outcomes} == {
        "good": "passed",
        "bad": "failed",
    }
    page = filled((ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), report)
    assert "| seeds | simulated worlds" in page
    assert filled(page, report) == page
