"""Each rule of durability is broken on purpose, and the simulation has to find it."""

from __future__ import annotations

import pytest

from tests.sim.bugs import BUGS, SEEDS_MAX, find

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", sorted(BUGS))
def test_the_simulation_finds_a_planted_bug(name: str) -> None:
    bug = BUGS[name]
    found = find(bug)
    assert bug.executed, f"the broken code of {name} was never reached: the core has moved on"
    assert found is not None, f"{name} survived {SEEDS_MAX} seeds"
