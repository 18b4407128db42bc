"""Simulated lives of a service, with power cuts, kills and failing disks: nothing is lost.

How it works is said in `tests/sim`; `python -m tests.sim` runs more seeds, or one again.
"""

from __future__ import annotations

import pytest

from tests.sim.many import explain, run_block

pytestmark = pytest.mark.timeout(300)

BLOCKS = 20
SEEDS = 100


@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_that_anybody_was_told_is_lost(block: int) -> None:
    summary = run_block(block * SEEDS, SEEDS)
    assert summary.seeds == SEEDS
    assert summary.cuts > SEEDS
    if summary.failures:
        pytest.fail(explain(summary.failures[0].seed))
