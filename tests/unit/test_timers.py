"""Timers fire in order, not early, not all at once; those of ended runs do not pile up."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.clock import HybridTime
from stepflow.config import Settings
from stepflow.runtime.timers import Timers, slice_of
from stepflow.testing.clock import VirtualClock


class Bench:
    """Timers on a virtual clock, and what they fired when."""

    def __init__(self, **settings: int) -> None:
        self.clock = VirtualClock()
        self.time = HybridTime(self.clock)
        self.fired: list[tuple[str, int, int]] = []
        self.timers = Timers(self.clock, self.time, Settings(**settings), self._fire)
        self.start = self.time.now_ms()

    def _fire(self, run_id: str, key: str, due_ms: int) -> None:
        self.fired.append((run_id, due_ms - self.start, self.time.now_ms() - self.start))

    def add(self, after_ms: int, run_id: str = "run") -> None:
        self.timers.add(self.start + after_ms, run_id, "key")


DAY_MS = 86_400_000


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60))
def test_timers_fire_in_order_at_their_very_millisecond(delays: list[int]) -> None:
    async def main() -> None:
        bench = Bench()
        with bench.clock.driving():
            for delay in delays:
                bench.add(delay)
            await bench.clock.advance(200)
        assert [due for _, due, _ in bench.fired] == sorted(delays)
        assert all(due == at for _, due, at in bench.fired)

    asyncio.run(main())


@given(
    st.lists(
        st.integers(0, 200_000)
        | st.integers(0, 90 * DAY_MS)
        | st.integers(59_990, 60_010)
        | st.integers((1 << 26) - 5, (1 << 26) + 5),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 1 << 27),
)
def test_timers_of_far_days_fire_in_order_and_not_early(delays: list[int], begin_ms: int) -> None:
    async def main() -> None:
        bench = Bench()
        bench.clock.jump_wall(begin_ms)
        bench.start = bench.time.now_ms()
        with bench.clock.driving():
            for delay in delays:
                bench.add(delay)
            assert len(bench.timers) == len(delays)
            await bench.clock.advance(91 * 86_400)
        assert len(bench.timers) == 0
        assert [due for _, due, _ in bench.fired] == sorted(delays)
        # A clock of floats may have it a millisecond later, after days.
        assert all(due <= at <= due + 1 for _, due, at in bench.fired)

    asyncio.run(main())


@pytest.mark.asyncio
async def test_many_that_are_due_at_once_fire_ten_thousand_a_second_fifty_at_a_time() -> None:
    bench = Bench()
    with bench.clock.driving():
        for number in range(30_000):
            bench.add(1000, f"run{number}")
        await bench.clock.advance(10)
    times = [at for _, _, at in bench.fired]
    assert len(times) == 30_000
    assert times == sorted(times)
    assert min(times) == 1000
    assert 3900 <= max(times) <= 4000
    assert max(Counter(times).values()) <= 50


@pytest.mark.parametrize("per_second", [1, 40, 199, 1000, 10_000])
def test_slices_keep_to_the_rate_and_are_short(per_second: int) -> None:
    count, pause_s = slice_of(per_second)
    assert 0.8 * per_second <= count / pause_s <= per_second
    assert count <= 50


@pytest.mark.asyncio
async def test_a_timer_that_is_due_sooner_than_the_armed_one_fires_first() -> None:
    bench = Bench()
    with bench.clock.driving():
        bench.add(50_000, "late")
        await bench.clock.advance(1)
        bench.add(2_000, "soon")
        bench.add(1_500, "sooner")
        await bench.clock.advance(60)
    assert [run_id for run_id, _, _ in bench.fired] == ["sooner", "soon", "late"]


@pytest.mark.asyncio
async def test_a_timer_made_while_another_fires_is_not_lost() -> None:
    bench = Bench()
    again = bench.timers._fire

    def fire(run_id: str, key: str, due_ms: int) -> None:
        again(run_id, key, due_ms)
        if len(bench.fired) < 10:
            bench.add(bench.time.now_ms() - bench.start + 100)

    bench.timers._fire = fire
    with bench.clock.driving():
        bench.add(100)
        await bench.clock.advance(10)
    assert [at for _, _, at in bench.fired] == [100 * n for n in range(1, 11)]


@pytest.mark.asyncio
@pytest.mark.parametrize("jump_ms", [-86_400_000, -1])
async def test_a_backward_jump_of_the_wall_clock_delays_nothing(jump_ms: int) -> None:
    bench = Bench()
    with bench.clock.driving():
        bench.add(30_000)
        await bench.clock.advance(10)
        bench.clock.jump_wall(jump_ms)
        await bench.clock.advance(19.999)
        assert bench.fired == []
        await bench.clock.advance(0.002)
    assert [at for _, _, at in bench.fired] in ([30_000], [30_001])


@pytest.mark.asyncio
async def test_a_forward_jump_fires_what_is_due_within_a_second_or_so() -> None:
    bench = Bench()
    with bench.clock.driving():
        bench.add(3_600_000, "hour")
        bench.add(90_000_000, "day")
        await bench.clock.advance(1)
        bench.clock.jump_wall(7_200_000)
        await bench.clock.advance(2)
        assert [run_id for run_id, _, _ in bench.fired] == ["hour"]


@pytest.mark.asyncio
async def test_timers_of_ended_runs_are_left_out_and_the_others_fire_meanwhile() -> None:
    bench = Bench()
    dice = random.Random(1)
    delays = [dice.randrange(1, 90_000) for _ in range(10_000)]
    with bench.clock.driving():
        for number, delay in enumerate(delays):
            bench.add(delay, f"run{number}")
        assert bench.timers.is_untidy()
        tidying = asyncio.ensure_future(bench.timers.tidy(lambda run_id, *_: run_id.endswith("7")))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not tidying.done()
        assert not bench.timers.is_untidy()
        bench.add(5, "run_new7")
        bench.add(95_000, "run_last7")
        await bench.clock.advance(0.005)
        await tidying
        assert len(bench.timers) < 1100
        assert not bench.timers.is_untidy()
        await bench.clock.advance(200)
    fired = [run_id for run_id, _, _ in bench.fired]
    kept = {f"run{n}" for n in range(10_000) if n % 10 == 7} | {"run_new7", "run_last7"}
    assert {run_id for run_id in fired if run_id.endswith("7")} == kept
    assert len(fired) == len(set(fired))
    assert all(at >= due for _, due, at in bench.fired)


@pytest.mark.asyncio
async def test_far_timers_of_ended_runs_are_left_out_and_the_others_fire() -> None:
    bench = Bench()
    dice = random.Random(2)
    delays = [dice.randrange(30_000, 3 * DAY_MS) for _ in range(5_000)]
    with bench.clock.driving():
        for number, delay in enumerate(delays):
            bench.add(delay, f"run{number}")
        tidying = asyncio.ensure_future(bench.timers.tidy(lambda run_id, *_: run_id.endswith("7")))
        await asyncio.sleep(0)
        assert not tidying.done()
        bench.add(40_000, "run_new7")
        bench.add(DAY_MS, "run_last7")
        await tidying
        assert len(bench.timers) == 502
        await bench.clock.advance(4 * 86_400)
        assert len(bench.timers) == 0
    kept = {f"run{n}" for n in range(5_000) if n % 10 == 7} | {"run_new7", "run_last7"}
    assert {run_id for run_id, _, _ in bench.fired} == kept
    assert len(bench.fired) == len(kept)
    assert all(due <= at <= due + 1 for _, due, at in bench.fired)


@pytest.mark.asyncio
async def test_a_forward_jump_over_days_fires_all_in_order_and_keeps_to_the_rate() -> None:
    bench = Bench()
    dice = random.Random(3)
    with bench.clock.driving():
        for number in range(5_000):
            bench.add(dice.randrange(1000, 20 * DAY_MS), f"run{number}")
        await bench.clock.advance(0.5)
        bench.clock.jump_wall(21 * DAY_MS)
        await bench.clock.advance(10)
    dues = [due for _, due, _ in bench.fired]
    assert len(dues) == 5_000
    assert dues == sorted(dues)
    seconds = Counter(at // 1000 for _, _, at in bench.fired)
    assert max(seconds.values()) <= 10_100


@pytest.mark.asyncio
async def test_sleepers_that_sleep_again_when_they_are_woken_keep_to_the_rate() -> None:
    bench = Bench()
    again = bench.timers._fire

    def fire(run_id: str, key: str, due_ms: int) -> None:
        again(run_id, key, due_ms)
        bench.timers.add(due_ms + DAY_MS, run_id, key)

    bench.timers._fire = fire
    with bench.clock.driving():
        for number in range(1_000):
            bench.add(1000, f"run{number}")
        await bench.clock.advance(5)
    assert len(bench.fired) == 1_000
    assert max(Counter(at for _, _, at in bench.fired).values()) <= 50


@pytest.mark.asyncio
async def test_a_tidying_that_the_stop_cuts_comes_to_its_end() -> None:
    bench = Bench()
    with bench.clock.driving():
        for number in range(3_000):
            bench.add(DAY_MS + number, f"run{number}")
        tidying = asyncio.ensure_future(bench.timers.tidy(lambda *_: False))
        await asyncio.sleep(0)
        bench.timers.stop()
        await tidying
    assert len(bench.timers) == 0


@pytest.mark.asyncio
async def test_a_far_timer_takes_some_twenty_bytes_and_many_are_made_ready_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready: list[int] = []
    monkeypatch.setattr(
        Timers,
        "_make_ready",
        lambda timers, now_ms, was=Timers._make_ready: (
            ready.append(-len(timers._heap)),
            was(timers, now_ms),
            ready.append(ready.pop() + len(timers._heap)),
        ),
    )
    bench = Bench()
    count = 30_000
    runs = [f"run{number}" for number in range(count)]
    with bench.clock.driving():
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number, run_id in enumerate(runs):
                bench.add(30 * DAY_MS + number, run_id)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / count < 26
        await bench.clock.advance(31 * 86_400)
    assert sum(ready) == count
    assert max(ready) <= 1_000
    assert len(bench.fired) == count
    assert [due for _, due, _ in bench.fired] == [30 * DAY_MS + number for number in range(count)]
    assert all(due <= at <= due + 1 for _, due, at in bench.fired)


@pytest.mark.asyncio
async def test_nothing_fires_after_the_stop() -> None:
    bench = Bench()
    with bench.clock.driving():
        bench.add(10)
        bench.add(DAY_MS)
        bench.timers.stop()
        await bench.clock.advance(2 * 86_400)
    assert bench.fired == []
    assert len(bench.timers) == 0
