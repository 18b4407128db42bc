"""All planted bugs by name, and the search for them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.sim import planted_answers, planted_runs
from tests.sim.plan import draw
from tests.sim.planted import BUGS, Bug
from tests.sim.world import run_plan, simulating

__all__ = ["BUGS", "Bug", "Found", "find", "planted_answers", "planted_runs"]

SEEDS_MAX = 600


@dataclass(frozen=True, slots=True)
class Found:
    """A seed that fails with the bug and because of it."""

    seed: int
    violation: str


def find(bug: Bug, first: int = 0, seeds: int = SEEDS_MAX) -> Found | None:
    """Return the first seed that finds the bug: its code ran, something was wrong, and is not
    without it.
    """
    with simulating():
        for seed in range(first, first + seeds):
            before = bug.executed
            plan = draw(seed, bug.focus)
            with bug.enter():
                report = run_plan(plan)
            if report.violations and bug.executed > before and not run_plan(plan).violations:
                return Found(seed, report.violations[0])
    return None
