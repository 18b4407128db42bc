"""`ctx.version`: a choice between old and new code, kept for the life of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepflow import AuthoringError
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


def tax(known: int, *, called: bool = True) -> Any:
    """Return a workflow whose code knows so many versions of its tax."""

    async def old() -> int:
        return 1

    async def new() -> int:
        return known

    async def w(ctx: Context) -> Any:
        await ctx.step("before", old)
        version = ctx.version("tax", known) if called else 1
        await ctx.sleep("nap", "1h")
        again = ctx.version("tax", known) if called else 1
        step = await ctx.step("tax", new if version >= 2 else old)
        return [version, again, step]

    return w


async def asleep(world: World, body: Any) -> str:
    """Run until the sleep, and crash."""
    world.redeploy(body)
    await world.start()
    run_id = await world.trigger("w")
    await world.until(lambda: len(world.engine.sup.timers))
    await world.saved()
    await world.crash()
    return run_id


async def test_a_run_that_begins_with_the_code_gets_its_version() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(tax(2))
        async with world:
            assert await world.result("w") == [2, 2, 2]
            (chosen,) = world.records(rec.VersionChosen)
            assert (chosen.name, chosen.n) == ("tax", 2)


async def test_a_run_that_was_past_the_place_before_there_was_the_call_stays_with_the_old() -> None:
    world = World()
    with world.clock.driving():
        run_id = await asleep(world, tax(1, called=False))
        world.redeploy(tax(2))
        async with world:
            assert result_of(await world.finished(run_id)) == [1, 1, 1]


async def test_a_run_keeps_its_choice_when_the_code_knows_more() -> None:
    world = World()
    with world.clock.driving():
        run_id = await asleep(world, tax(2))
        world.redeploy(tax(3))
        async with world:
            assert result_of(await world.finished(run_id)) == [2, 2, 3]


async def test_a_choice_outlives_snapshot_and_sleep() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(tax(2))
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.engine.sup.runs[run_id].session is None)
            assert await world.engine.snapshot()
        world.redeploy(tax(4))
        async with world:
            assert result_of(await world.finished(run_id)) == [2, 2, 4]


async def test_code_that_is_too_old_for_the_choice_parks_the_run_until_newer_is_deployed() -> None:
    world = World()
    with world.clock.driving():
        run_id = await asleep(world, tax(3))
        world.redeploy(tax(2))
        async with world:
            assert await world.ended_or_parked(run_id) == "parked"
            assert "version 3" in world.actor(run_id).reason
        world.redeploy(tax(3))
        async with world:
            assert result_of(await world.finished(run_id)) == [3, 3, 3]


async def test_versions_are_counted_from_one_and_named_like_steps() -> None:
    world = World()

    async def w(ctx: Context) -> None:
        for bad in (0, -1, True, "2"):
            with pytest.raises(AuthoringError, match="counted from 1"):
                ctx.version("v", bad)  # type: ignore[arg-type]
        with pytest.raises(AuthoringError, match="version name"):
            ctx.version("no spaces", 1)

    world.redeploy(w)
    async with world:
        assert (await world.run("w")).status == "completed"
