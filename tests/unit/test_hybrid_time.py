"""Hybrid time is the later of the wall clock and what has gone by; it never runs backwards."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stepflow.clock import HybridTime


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000
        self.s = 1_000.0

    def wall_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.s


class Plain:
    """The definition, word for word."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.last_ms = 0
        self.last_mono_s = clock.monotonic_s()

    def now_ms(self) -> int:
        mono = self.clock.monotonic_s()
        gone_ms = int((mono - self.last_mono_s) * 1000)
        wall = self.clock.wall_ms()
        behind = self.last_ms + gone_ms
        if wall >= behind:
            self.last_ms, self.last_mono_s = wall, mono
            return wall
        if gone_ms:
            self.last_ms, self.last_mono_s = behind, self.last_mono_s + gone_ms / 1000
        return behind


moves = st.tuples(
    st.sampled_from([0.0, 0.0001, 0.0005, 0.001, 0.0015, 0.002, 0.9999, 60.0])
    | st.floats(0, 100, allow_nan=False),
    st.integers(-5_000, 5_000) | st.just(0),
)


@given(st.lists(moves))
def test_it_is_the_definitions_whatever_the_clocks_do(moved: list[tuple[float, int]]) -> None:
    clock: Any = Hands()
    time, plain = HybridTime(clock), Plain(clock)
    before = 0
    for gone_s, jump_ms in moved:
        clock.s += gone_s
        clock.ms += int(gone_s * 1000) + jump_ms
        now = time.now_ms()
        assert now == plain.now_ms()
        assert now >= before
        before = now
