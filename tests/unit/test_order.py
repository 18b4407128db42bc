"""Runs in the order of their start: a list in chunks, found in by LSN."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.model.ids import RunId
from stepflow.runtime import order as module
from stepflow.runtime.order import Order


@given(st.lists(st.integers(1, 3), max_size=60), st.integers(0, 3))
def test_places_are_found_as_in_one_list(steps: list[int], bits: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BITS", bits)
        patch.setattr(module, "_CHUNK", 1 << bits)
        patch.setattr(module, "_MASK", (1 << bits) - 1)
        order = Order()
        rows: list[tuple[int, RunId]] = []
        lsn = 0
        for step in steps:
            lsn += step
            rows.append((lsn, RunId(f"run{lsn}")))
            assert order.add(*rows[-1])
            assert not order.add(lsn, RunId("twin"))
            assert not order.add(lsn - 1, RunId("older"))
        assert len(order) == len(rows)
        assert [order.at(place) for place in range(len(order))] == rows
        lsns = [lsn for lsn, _ in rows]
        for asked in range(lsn + 3):
            assert order.before(asked) == bisect_left(lsns, asked)


def test_no_list_grows_beyond_a_chunk() -> None:
    order = Order()
    for lsn in range(1, 20_001):
        order.add(lsn, RunId("run"))
    assert max(len(ids) for _, ids in order._chunks) == module._CHUNK <= 4096
    assert order.before(20_001) == len(order) == 20_000
