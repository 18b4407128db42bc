"""A short form of `make cluster-losses`: nothing acknowledged is lost when processes are killed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.losses.losses import Plan, killed, lose_nothing

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.tool("postgres"),
    pytest.mark.tool("nginx"),
    pytest.mark.xdist_group("cluster"),
]


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_when_each_kind_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(
        runs=150, workers=2, rounds=1, claim_timeout_s=1, in_flight=20, subscribers=10, seed=7
    )
    seen = lose_nothing(plan, tmp_path)
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(seen.lines()) + "\n")
    assert seen.faults == []
    assert killed(seen) == {"worker": 1, "api": 1, "database": 1}
    assert seen.report["runs"] >= 150
    assert all(seen.report[kind] for kind in ("steps", "events", "ends", "letters", "cancels"))
