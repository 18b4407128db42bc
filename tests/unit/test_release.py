"""Whoever waits for an LSN is told in the order of LSNs, and of coming, however they came."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stepflow.journal.release import Releases


def kept(heard: list[Any], name: object) -> Any:
    return lambda error: heard.append((name, error))


# An LSN to wait for, or, below zero, how far is released.
@given(st.lists(st.integers(-12, 12).filter(bool)))
def test_they_are_told_as_a_heap_of_all_would_tell_them(steps: list[int]) -> None:
    releases, heard = Releases(), []
    heap: list[tuple[int, int]] = []
    expected: list[tuple[int, None]] = []
    durable = 0
    for number, step in enumerate(steps):
        if step < 0:
            durable = max(durable, -step)
            releases.release(durable)
            while heap and heap[0][0] <= durable:
                expected.append((heappop(heap)[1], None))
        elif step > durable:
            # What is durable already is nothing to wait for.
            releases.add(step, kept(heard, number))
            heappush(heap, (step, number))
        assert heard == expected
    failure = OSError("no disk")
    releases.fail(failure)
    rest = [(heappop(heap)[1], failure) for _ in range(len(heap))]
    assert heard == expected + rest


def test_who_comes_while_others_are_told_is_told_with_its_lsn() -> None:
    releases, heard = Releases(), []

    def more(_error: BaseException | None) -> None:
        heard.append("first")
        releases.add(3, kept(heard, "third"))
        releases.add(2, kept(heard, "second"))

    releases.add(1, more)
    releases.release(1)
    assert heard == ["first"]
    releases.release(3)
    assert heard == ["first", ("second", None), ("third", None)]
