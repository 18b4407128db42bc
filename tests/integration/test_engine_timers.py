"""Sleeps, timeouts and delays of the real engine, on virtual time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from stepflow.model import records as rec
from tests.engine_kit import Service, service

if TYPE_CHECKING:
    from stepflow.model.views import RunView

pytestmark = pytest.mark.asyncio


def lasted_ms(view: RunView) -> int:
    created, updated = (datetime.fromisoformat(text) for text in (view.created_at, view.updated_at))
    return round((updated - created).total_seconds() * 1000)


async def test_a_sleep_ends_at_its_very_millisecond() -> None:
    async with service() as world:
        for seconds in (0.001, 0.5, 1, 59.999, 3600, 259_200):
            run_id = await world.trigger("sleeps", seconds)
            assert lasted_ms(await world.finished(run_id)) == round(seconds * 1000)
        started = {record.r: record for record in world.records(rec.SleepStarted)}
        for ended in world.records(rec.SleepEnded):
            assert ended.ts == started[ended.r].due


@pytest.mark.parametrize("down_s", [0, 20, 59.5, 60, 600])
async def test_a_sleep_that_goes_over_a_restart_ends_when_it_would_have_or_at_once(
    down_s: float,
) -> None:
    async with service() as world:
        run_id = await world.trigger("sleeps", 60)
        await world.waiting(run_id)
        await world.clock.advance(0.25)
        await world.crash()
        await world.clock.advance(down_s)
        await world.start()
        assert lasted_ms(await world.finished(run_id)) == max(60_000, round(down_s * 1000) + 250)


async def test_ten_thousand_sleepers_wake_in_order_and_none_early() -> None:
    async with service() as world:
        bodies = [b"%d" % (1 + n % 50) for n in range(10_000)]
        ids = [str(run) for run in await world.engine.trigger_many("sleeps", bodies)]
        await world.until(lambda: len(world.engine.sup.timers) >= 10_000)
        await world.clock.advance(10)
        assert sum(actor.is_open for actor in world.engine.sup.runs.values()) < 10_000
        for run_id in ids:
            await world.finished(run_id)
        due = {record.r: record.due for record in world.records(rec.SleepStarted)}
        ended = world.records(rec.SleepEnded)
        assert len(ended) == 10_000
        assert all(record.ts >= due[record.r] for record in ended)
        assert [due[record.r] for record in ended] == sorted(due.values())
        assert max(record.ts - due[record.r] for record in ended) <= 1000


async def test_sleepers_that_are_due_at_a_start_wake_throttled() -> None:
    async with service(timers_per_second=1000) as world:
        await world.engine.trigger_many("sleeps", [b"60"] * 3000)
        await world.until(lambda: len(world.engine.sup.timers) >= 3000)
        await world.durable()
        await world.crash()
        await world.clock.advance(3600)
        begin = world.clock.wall_ms()
        await world.start()
        await world.until(lambda: world.engine.sup.live == 0, 10_000_000)
        times = [record.ts - begin for record in world.records(rec.SleepEnded)]
        assert len(times) == 3000
        assert max(times) >= 2000
        for second in range(3):
            assert sum(second * 1000 <= at < (second + 1) * 1000 for at in times) <= 1050


async def jumped(world: Service, run_id: str, jump_ms: int) -> RunView:
    await world.waiting(run_id)
    await world.clock.advance(5)
    world.clock.jump_wall(jump_ms)
    return await world.finished(run_id)


async def test_a_backward_jump_of_the_wall_clock_delays_no_run() -> None:
    async with service() as world:
        run_id = await world.trigger("sleeps", 60)
        before = world.clock.monotonic_s()
        view = await jumped(world, run_id, -86_400_000)
        assert world.clock.monotonic_s() - before == pytest.approx(60, abs=0.01)
        assert lasted_ms(view) == 60_000
        events = [record.ts for record in world.records()]
        assert events == sorted(events)


async def test_a_forward_jump_ends_the_sleeps_that_are_over_by_then() -> None:
    async with service() as world:
        short = await world.trigger("sleeps", 3600)
        long = await world.trigger("sleeps", 90_000)
        await world.waiting(long)
        before = world.clock.monotonic_s()
        world.clock.jump_wall(7_200_000)
        view = await world.finished(short)
        assert view.status == "completed"
        assert world.clock.monotonic_s() - before <= 2
        assert (await world.get(long)).state == "sleeping"


async def test_a_wait_times_out_at_its_time_and_swallows_nothing() -> None:
    async with service() as world:

        @world.flow.workflow("times")
        async def times(ctx: object) -> str:
            return await ctx.wait_for_event("wait", "ev", timeout="90s", default="nobody")  # type: ignore[attr-defined,no-any-return]

        run_id = await world.trigger("times")
        other = await world.trigger("waits", "ev")
        view = await world.finished(run_id)
        assert lasted_ms(view) == 90_000
        assert await world.engine.notify("ev", b"1") == 1
        assert (await world.finished(other)).status == "completed"
        assert len(world.engine.sup.waiters) == 0


async def test_a_delayed_run_begins_at_its_time_over_restarts_and_not_once_cancelled() -> None:
    async with service() as world:
        run_id = await world.trigger("doubles", 1, delay_ms=100_000)
        cancelled = await world.trigger("doubles", 2, delay_ms=100_000)
        view = await world.get(run_id)
        assert (view.status, view.state) == ("pending", "queued")
        await world.clock.advance(50)
        assert (await world.engine.cancel(cancelled)).status == "cancelled"
        await world.restart()
        assert (await world.get(run_id)).status == "pending"
        view = await world.finished(run_id)
        assert lasted_ms(view) == 100_000
        assert [ran.args for ran in world.life.ran] == [(1,), (2,)]
        await world.clock.advance(1000)
        assert (await world.get(cancelled)).status == "cancelled"


async def test_the_timeouts_of_runs_that_have_ended_do_not_pile_up() -> None:
    async with service() as world:

        @world.flow.workflow("short")
        async def short(ctx: object, n: int) -> None:
            await ctx.wait_for_event("wait", f"ev-{n}", timeout="24h")  # type: ignore[attr-defined]

        sleeper = await world.trigger("sleeps", 3600)
        for turn in range(12):
            await world.engine.trigger_many("short", [b"%d" % n for n in range(300)])
            await world.until(lambda: len(world.engine.sup.waiters) == 300)
            for number in range(300):
                await world.engine.notify(f"ev-{number}", b"1")
            await world.clock.advance(1)
            assert turn < 5 or len(world.engine.sup.timers) < 2500
        assert (await world.finished(sleeper)).status == "completed"


async def test_a_cancels_grace_goes_on_after_a_restart_with_what_was_left_of_it() -> None:
    async with service() as world:

        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    world.note("cancelled")

        @world.flow.workflow("stubborn")
        async def swallows(ctx: object) -> None:
            while True:
                try:
                    await ctx.wait_for_event("wait", "never", timeout=None)  # type: ignore[attr-defined]
                except asyncio.CancelledError:
                    world.note("swallowed")

        run_id = await world.trigger("stubborn")
        await world.waiting(run_id)
        begin = world.clock.wall_ms()
        assert (await world.engine.cancel(run_id)).state == "cancelling"
        await world.clock.advance(10)
        await world.restart()
        view = await world.finished(run_id)
        assert view.status == "cancelled"
        assert world.clock.wall_ms() - begin == 30_000


@pytest.mark.parametrize(("back_ms", "said"), [(0, 0), (86_400_000, 1)])
async def test_a_start_says_that_the_clock_is_behind_the_journal(
    back_ms: int, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with service() as world:
        run_id = await world.trigger("sleeps", 3600)
        await world.settle()
        await world.crash()
        world.clock.jump_wall(-back_ms)
        caplog.clear()
        await world.start()
        texts = [r.getMessage() for r in caplog.records if "SFW106" in r.getMessage()]
        assert len(texts) == said
        assert not said or "86400.0 s behind" in texts[0]
        # It sleeps the hour that it asked for, not a day more.
        before_s = world.clock.monotonic_s()
        await world.finished(run_id)
        assert world.clock.monotonic_s() - before_s == pytest.approx(3600, abs=2)
