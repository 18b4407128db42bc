"""Simulated lives with timers that are far after ten milliseconds: arrays lose and hasten nothing.

A simulated life is short: so a far day begins at once, in spans of some milliseconds each.
"""

from __future__ import annotations

from typing import Any

import pytest

from stepflow.runtime import far_timers, timers
from stepflow.runtime.far_timers import FarTimers
from tests.sim.many import explain, run_block

pytestmark = pytest.mark.timeout(300)

SEEDS = 150


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let far begin soon; how many timers were taken out of arrays each time."""
    taken: list[int] = []
    take = FarTimers.take

    def counted(self: FarTimers, most: int) -> Any:
        found = take(self, most)
        taken.append(len(found))
        return found

    monkeypatch.setattr(far_timers, "_SPANS", ((9, 1, "H"), (5, 0, "B")))
    monkeypatch.setattr(far_timers, "_PART_MAX", 2)
    monkeypatch.setattr(timers, "_LEAD_MS", 10)
    monkeypatch.setattr(timers, "_READY_SLICE", 2)
    monkeypatch.setattr(FarTimers, "take", counted)
    return taken


def test_nothing_is_lost_with_far_timers(far: list[int]) -> None:
    summary = run_block(0, SEEDS)
    assert summary.seeds == SEEDS
    assert sum(far) > SEEDS
    if summary.failures:
        pytest.fail(explain(summary.failures[0].seed))


def test_a_far_timer_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    take = FarTimers.take
    monkeypatch.setattr(FarTimers, "take", lambda self, most: take(self, most)[1:])
    assert run_block(0, SEEDS).failures
