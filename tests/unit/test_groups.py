"""Tests that must not run beside each other are kept on one worker."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.xdist_group("held-together")


def test_a_group_is_known_to_who_shares_out_the_tests(request: pytest.FixtureRequest) -> None:
    """pytest 9.2 keeps a test's id where pytest-xdist 3.8 does not write: groups are forgotten."""
    is_shared_out = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@held-together") == is_shared_out
