"""Counting instructions leaves nothing behind in the process that counts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.instructions import Count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@pytest.fixture
def tracer() -> Iterator[Any]:
    """Have somebody trace already, as whoever measures coverage does."""
    before = sys.gettrace()

    def traced(_frame: FrameType, _event: str, _arg: Any) -> None:
        return None

    sys.settrace(traced)
    yield traced
    sys.settrace(before)


def test_who_traced_before_a_count_traces_after_it(tracer: Any) -> None:
    with Count() as count:
        sorted([3, 1, 2], key=lambda number: number)
    after = sys.gettrace()
    assert count.calls.total() >= 3
    assert after is tracer


def test_a_count_that_fails_gives_the_tracer_back_too(tracer: Any) -> None:
    with pytest.raises(ZeroDivisionError), Count():
        _ = 1 / 0
    after = sys.gettrace()
    assert after is tracer
