"""For how long finished runs are kept, reckoned from how they end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.runtime.horizon import Flow, horizon_s

_flows = st.lists(
    st.builds(
        Flow,
        st.floats(0.001, 1000),
        st.floats(1, 10_000),
        st.floats(0.001, 1e7),
        st.floats(1, 1e6) | st.just(float("inf")),
    ),
    max_size=5,
)


@pytest.mark.parametrize(
    ("flows", "bytes_max", "runs_max", "seconds"),
    [
        ([], 1000, 1000, 0),
        # A run a second, of ten bytes.
        ([Flow(1, 10, 3600)], 1000, 1e9, 100),
        ([Flow(1, 10, 3600)], 1e9, 50, 50),
        ([Flow(1, 10, 60)], 1e9, 1e9, 60),
        ([Flow(1, 10, 3600, 20)], 1e9, 1e9, 20),
        ([Flow(1, 10, 3600)], 0, 1e9, 0),
        # One that keeps ten runs leaves the rest of the room to the other.
        ([Flow(1, 10, 3600, 10), Flow(1, 10, 3600)], 1000, 1e9, 90),
        ([Flow(1, 10, 3600), Flow(3, 10, 3600)], 1e9, 400, 100),
    ],
)
def test_the_first_limit_that_is_reached_decides(
    flows: list[Flow], bytes_max: float, runs_max: float, seconds: float
) -> None:
    assert horizon_s(flows, bytes_max=bytes_max, runs_max=runs_max) == pytest.approx(seconds)


@given(_flows, st.floats(0, 1e7), st.floats(0, 1e6))
def test_more_room_keeps_no_run_for_less(
    flows: list[Flow], bytes_max: float, runs_max: float
) -> None:
    before = horizon_s(flows, bytes_max=bytes_max, runs_max=runs_max)
    after = horizon_s(flows, bytes_max=bytes_max * 2, runs_max=runs_max * 2)
    assert before <= after * (1 + 1e-9)
    assert after <= max((flow.kept_s for flow in flows), default=0)
