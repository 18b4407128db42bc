"""The long form of these checks, for three seconds: it works, and it ends."""

from __future__ import annotations

import pytest

from tests.recovery.torture import torture


@pytest.mark.timeout(300)
def test_the_long_form_looks_at_something_of_everything_and_ends() -> None:
    said: list[str] = []
    counts = torture(3, 4, said.append)
    assert len(said) == 3
    assert counts["violations"] == counts["lost"] == 0
    assert counts["planted_found"] == counts["planted_total"] > 0
    for name in ("seeds", "lives", "simulated_cuts", "recoveries", "cases", "sweeps"):
        assert counts[name] > 0, name
