"""What retention forgets, under crashes: no rule of it is broken, and a broken one is found."""

from __future__ import annotations

import pytest

from tests.sim.kept import run_seed
from tests.sim.world import simulating
from tests.sim.worlds import SEEDS_MAX, WORLDS, find

pytestmark = pytest.mark.timeout(300)

BLOCKS = 4
SEEDS = 50


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_crash_forgets_what_is_to_be_kept_or_keeps_what_is_not(block: int) -> None:
    with simulating():
        for seed in range(block * SEEDS, (block + 1) * SEEDS):
            assert run_seed(seed) == [], f"seed {seed}"


@pytest.mark.parametrize("name", sorted(WORLDS["kept"].bugs))
def test_a_planted_bug_of_retention_is_found(name: str) -> None:
    assert find(WORLDS["kept"], name) is not None, f"{name} survived {SEEDS_MAX} seeds"
