"""The tables notice when a defence is gone: two dozen holes, planted one at a time."""

from __future__ import annotations

import pytest

from tests.attacks.holes import HOLES, opened
from tests.attacks.run import run_table


@pytest.mark.parametrize("name", HOLES)
def test_a_planted_hole_is_found(name: str) -> None:
    with opened(name) as tables:
        found = [line for table in tables for line in run_table(table)[1]]
    assert found
