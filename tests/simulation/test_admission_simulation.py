"""Limits and schedules under crashes: no rule of theirs is broken, and a broken one is found."""

from __future__ import annotations

import pytest

from tests.sim.admission import run_seed
from tests.sim.world import simulating
from tests.sim.worlds import SEEDS_MAX, WORLDS, find

pytestmark = pytest.mark.timeout(300)

BLOCKS = 4
SEEDS = 25


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_crash_breaks_a_limit_or_a_schedule(block: int) -> None:
    with simulating():
        for seed in range(block * SEEDS, (block + 1) * SEEDS):
            assert run_seed(seed) == [], f"seed {seed}"


@pytest.mark.parametrize("name", sorted(WORLDS["admission"].bugs))
def test_a_planted_bug_of_limits_and_schedules_is_found(name: str) -> None:
    assert find(WORLDS["admission"], name) is not None, f"{name} survived {SEEDS_MAX} seeds"
