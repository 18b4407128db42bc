"""Rate limits of the real engine: exact in every window, over restarts, purges and clock jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Concurrency, Context, RateLimit
from stepflow.model import records as rec
from tests.engine_kit import Service, service

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.asyncio


def rated(world: Service, *limits: RateLimit, **options: Any) -> None:
    @world.flow.workflow("rated", rate_limit=list(limits), **options)
    async def quick(ctx: Context, given: Any) -> Any:
        return given


def begun(world: Service, ids: Sequence[str]) -> list[int]:
    """When the runs were let in, since the start of the world."""
    times: list[int] = []
    for run_id in ids:
        state = world.actor(run_id).peek()
        start = state.started
        assert start is not None
        told = [rec.decode_record(data) for data in state.records]
        released = [r.ts for r in told if isinstance(r, rec.RunReleased)]
        times.append((released or [start.ts])[0] - 1_704_067_200_000)
    return times


async def test_ten_begin_in_a_minute_and_the_others_wait_their_turn() -> None:
    async with service() as world:
        rated(world, RateLimit(3, per="1m"))
        ids = [await world.trigger("rated", n) for n in range(8)]
        shown = await world.engine.get_run(ids[4])
        assert shown.queue.position == 2  # type: ignore[union-attr]
        assert shown.queue.free_at == "2024-01-01T00:01:00.000Z"  # type: ignore[union-attr]
        assert shown.queue.limit == "rated 1m: at most 3 begin in 1m"  # type: ignore[union-attr]
        for run_id in ids:
            await world.finished(run_id)
        assert begun(world, ids) == [0] * 3 + [60_000] * 3 + [120_000] * 2


async def test_a_window_is_not_laid_by_the_clock() -> None:
    async with service() as world:
        rated(world, RateLimit(2, per="1m"))
        first = [await world.trigger("rated", 0)]
        await world.clock.advance(59)
        rest = [await world.trigger("rated", n) for n in range(3)]
        for run_id in rest:
            await world.finished(run_id)
        assert begun(world, first + rest) == [0, 59_000, 60_000, 119_000]


@pytest.mark.parametrize("accident", ["crash", "snapshot", "purge", "purge and snapshots"])
async def test_what_began_is_known_over_restarts_and_purges(accident: str) -> None:
    async with service() as world:
        rated(world, RateLimit(2, per="1m"))
        ids = [await world.trigger("rated", n) for n in range(2)]
        for run_id in ids:
            await world.finished(run_id)
        if "purge" in accident:
            for run_id in ids:
                await world.engine.purge(run_id)
        for _ in range(2 if "snapshot" in accident else 0):
            assert await world.engine.snapshot()
        await world.restart()
        await world.clock.advance(30)
        third = await world.trigger("rated", 3)
        assert world.actor(third).status == "pending"
        await world.restart()
        await world.finished(third)
        assert begun(world, [third]) == [60_000]


async def test_a_clock_that_jumps_lets_nobody_in_too_early_by_its_time() -> None:
    async with service() as world:
        rated(world, RateLimit(1, per="1h"))
        ids = [await world.trigger("rated", n) for n in range(3)]
        world.clock.jump_wall(-7_200_000)
        await world.clock.advance(3599)
        assert world.actor(ids[1]).status == "pending"
        await world.finished(ids[1])
        assert begun(world, ids[:2]) == [0, 3_600_000]
        world.clock.jump_wall(20_000_000)
        before = world.clock.monotonic_s()
        await world.finished(ids[2])
        assert world.clock.monotonic_s() - before < 5


async def test_keys_have_a_rate_each_and_two_rates_hold_together() -> None:
    async with service() as world:
        rated(world, RateLimit(1, per="1s", key="input.host"), RateLimit(3, per="1m"))
        hosts = [{"host": host} for host in "aabb"]
        ids = [await world.trigger("rated", given) for given in hosts]
        for run_id in ids:
            await world.finished(run_id)
        assert begun(world, ids) == [0, 1000, 0, 60_000]


async def test_a_rate_and_slots_hold_together() -> None:
    async with service() as world:

        @world.flow.workflow("pair", rate_limit="2/m", concurrency=Concurrency(1))
        async def pair(ctx: Context) -> None:
            await ctx.sleep("work", 10)

        ids = [await world.trigger("pair") for _ in range(4)]
        for run_id in ids:
            await world.finished(run_id)
        assert begun(world, ids) == [0, 10_000, 60_000, 70_000]
