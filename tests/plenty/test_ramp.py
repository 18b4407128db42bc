"""After a kill with very many live runs they are woken in a ramp, not in a stampede."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plenty.ramp import climb, per_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
def test_many_live_runs_are_woken_in_a_ramp_and_triggers_are_answered_meanwhile(
    tmp_path: Path,
) -> None:
    ramp = climb(tmp_path, busy=2000, asleep=3000, rate=1000)
    assert ramp.answered >= 3
    assert ramp.samples > ramp.answered
    # A run with its task and its step under way, and one that sleeps.
    assert per_run(ramp) < 20
