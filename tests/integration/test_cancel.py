"""Cancel: recorded, heard by the body in order, 30 s for its cleanup, then by force."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RetryPolicy, StepFailedError
from stepflow.errors import ConflictError
from stepflow.model import records as rec
from tests.harness import World, check_replayed, decoded, error_of, result_of, without_end

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_attempts=1)


async def fine(value: Any = None) -> Any:
    return value


async def begun(world: World, body: Any) -> str:
    """Trigger the body and return when it waits."""
    world.redeploy(body)
    run_id = await world.trigger(body.__name__)
    await world.until(lambda: len(world.engine.sup.waiters) or world.life.trace)
    await world.saved()
    return run_id


async def test_the_body_hears_a_cancelled_error_and_its_cleanup_may_run_steps() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("go", timeout=None)
        except asyncio.CancelledError:
            world.note(await ctx.step("cleanup", fine, "clean"))
            raise

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            view = await world.engine.cancel(run_id, reason="no longer needed")
            assert (view.status, view.state) == ("running", "cancelling")
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            assert world.life.trace == [("clean",)]
            assert error_of(view)["message"] == "no longer needed"
            assert not world.records(rec.RunCancelled)[0].forced


async def test_a_swallowed_cancel_ends_cancelled_all_the_same() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("go", timeout=None)
        except asyncio.CancelledError:
            return "swallowed"

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.engine.cancel(run_id)
            assert (await world.finished(run_id)).status == "cancelled"


async def test_a_body_that_goes_on_is_ended_by_force_after_its_grace() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        while True:
            try:
                await ctx.sleep("s", "10s")
                await ctx.step("s", world_step)
            except asyncio.CancelledError:
                world.note("swallowed")

    async def world_step() -> None:
        world.ran()

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            run_id = await world.trigger("w")
            await world.clock.advance(15)
            await world.engine.cancel(run_id)
            asked_s = world.clock.monotonic_s()
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            assert world.clock.monotonic_s() - asked_s == pytest.approx(30, abs=0.1)
            assert world.records(rec.RunCancelled)[0].forced
            ran, groups = len(world.life.ran), len(world.life.groups)
            await world.clock.advance(100)
            assert (len(world.life.ran), len(world.life.groups)) == (ran, groups)
            assert world.engine.sup.zombies == 0


async def test_a_cancels_grace_goes_on_after_a_restart_with_what_is_left() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("go", timeout=None)
        finally:
            await ctx.sleep("cleanup", "1h")

    with world.clock.driving():
        await world.start()
        run_id = await begun(world, w)
        await world.engine.cancel(run_id)
        await world.clock.advance(20)
        await world.restart()
        restarted_s = world.clock.monotonic_s()
        view = await world.finished(run_id)
        assert view.status == "cancelled"
        assert world.records(rec.RunCancelled)[0].forced
        assert world.clock.monotonic_s() - restarted_s == pytest.approx(10, abs=0.5)
        await world.stop()


async def test_a_crash_after_any_record_of_a_cancel_changes_nothing() -> None:
    world = World()

    async def slow(name: str) -> str:
        world.ran(name)
        await asyncio.sleep(0.01)
        return name

    async def w(ctx: Context) -> Any:
        try:
            await asyncio.gather(ctx.step("a", slow, "a"), ctx.wait_for_event("go", timeout=None))
        except asyncio.CancelledError:
            world.note("cancelled", await ctx.step("c1", slow, "c1"))
            world.note(await ctx.step("c2", slow, "c2"))
            raise

    with world.clock.driving():
        await world.start()
        run_id = await begun(world, w)
        await world.clock.advance(1)
        await world.engine.cancel(run_id)
        await world.finished(run_id)
        first = world.life
        await world.stop()
        cancelled = next(i for i, g in enumerate(first.groups) if b"run.cancelling" in g[0]) + 1
        for cut in range(cancelled, len(without_end(first.groups)) + 1):
            world.cut(first.groups[:cut])
            async with world:
                view = await world.finished(run_id)
                assert view.status == "cancelled"
                assert not world.records(rec.RunCancelled)[0].forced
                second = world.life
            assert second.trace == first.trace
            log = without_end([*first.groups[:cut], *second.groups])
            world.cut(log)
            async with world:
                again = await world.finished(run_id)
                third = world.life
            check_replayed(log, second, view, third, again)


async def test_a_step_that_runs_is_stopped_and_its_late_result_is_not_recorded() -> None:
    world = World()
    stopped: list[str] = []

    async def slow() -> str:
        world.note("runs")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append("stopped")
            return "late"
        return "never"

    async def w(ctx: Context) -> Any:
        return await ctx.step("slow", slow)

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.engine.cancel(run_id)
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            await world.until(lambda: stopped)
            assert not world.records(rec.StepCompleted)


async def test_a_second_cancel_while_cancelling_is_fine_and_one_after_the_end_is_not() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("go", timeout=None)
        finally:
            await ctx.sleep("cleanup", "5s")

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.engine.cancel(run_id)
            assert (await world.engine.cancel(run_id)).state == "cancelling"
            assert len(world.records(rec.CancelRequested)) == 1
            await world.finished(run_id)
            with pytest.raises(ConflictError):
                await world.engine.cancel(run_id)


async def test_a_run_that_has_not_begun_is_cancelled_at_once() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        world.note("began")

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            run_id = await world.trigger("w", delay_ms=60_000)
            assert (await world.engine.get_run(run_id)).status == "pending"
            view = await world.engine.cancel(run_id)
            assert view.status == "cancelled"
            await world.clock.advance(120)
            assert not world.life.trace


async def test_a_passive_run_is_woken_to_hear_its_cancel() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("go", timeout=None)
        finally:
            world.note("cleaned")
            await ctx.step("cleanup", fine)

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.actor(run_id).suspend()
            world.life.trace.clear()
            await world.engine.cancel(run_id)
            assert (await world.finished(run_id)).status == "cancelled"
            assert world.life.trace == [("cleaned",)]
            assert world.records(rec.StepCompleted)


async def test_a_cancel_of_its_own_is_the_bodys_business() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        task = asyncio.create_task(ctx.sleep("s", "1h"))
        await ctx.step("s", fine)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "mine"

    async def escapes(ctx: Context) -> Any:
        raise asyncio.CancelledError

    with world.clock.driving():
        world.redeploy(w, escapes)
        async with world:
            assert await world.result("w") == "mine"
            view = await world.run("escapes")
            assert view.status == "failed"
            assert error_of(view)["type"] == "CancelledError"


async def test_compensations_run_last_first_and_one_that_fails_does_not_stop_the_others() -> None:
    world = World()

    def undo(name: str) -> Any:
        async def undone(value: str) -> None:
            world.note("undo", name, value)
            if name == "two":
                raise ValueError("cannot be undone")

        return undone

    async def fails() -> None:
        raise ValueError("the end")

    async def w(ctx: Context) -> Any:
        for name in ("one", "two", "three"):
            await ctx.step(name, fine, name, compensate=undo(name), retry=ONCE)
        await ctx.step("bad", fails, retry=ONCE, compensate=undo("bad"))

    with world.clock.driving():
        world.redeploy(w, retry=ONCE)
        async with world:
            view = await world.run("w")
            assert view.status == "failed"
            assert error_of(view)["step"] == "bad"
            names = [row[1] for row in world.life.trace]
            assert names == ["three", "two", "one"]
            assert world.life.trace[0] == ("undo", "three", "three")


async def test_compensation_runs_inside_a_cancels_grace_and_once_across_a_crash() -> None:
    world = World()

    async def undone(value: str) -> None:
        world.note("undo", value)
        await asyncio.sleep(1)

    async def w(ctx: Context) -> Any:
        await ctx.step("one", fine, "one", compensate=undone)
        await ctx.step("two", fine, "two", compensate=undone)
        await ctx.wait_for_event("go", timeout=None)

    with world.clock.driving():
        await world.start()
        run_id = await begun(world, w)
        await world.engine.cancel(run_id)
        await world.until(lambda: len(world.life.trace) == 2)
        await world.saved()
        assert [row[1] for row in world.life.trace] == ["two", "one"]
        await world.restart()
        assert (await world.finished(run_id)).status == "cancelled"
        assert [row[1] for row in world.life.trace] == ["one"]
        await world.stop()


async def test_a_step_that_was_not_completed_is_not_compensated() -> None:
    world = World()

    async def undone() -> None:
        world.note("undone")

    async def fails() -> None:
        raise ValueError("no")

    async def w(ctx: Context) -> Any:
        with pytest.raises(StepFailedError):
            await ctx.step("bad", fails, retry=ONCE, compensate=undone)
        raise RuntimeError("the end")

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            assert (await world.run("w")).status == "failed"
            assert not world.life.trace


async def test_nothing_is_compensated_when_the_run_completes_or_is_put_to_sleep() -> None:
    world = World()

    async def undone() -> None:
        world.note("undone")

    async def w(ctx: Context) -> Any:
        await ctx.step("one", fine, compensate=lambda _: undone())
        await ctx.wait_for_event("go", timeout=None)
        return "end"

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.actor(run_id).suspend()
        async with world:
            await world.engine.notify("go", b"null")
            assert result_of(await world.finished(run_id)) == "end"
    assert not world.life.trace


async def test_a_parked_run_can_be_cancelled_though_no_body_of_it_fits() -> None:
    world = World()

    async def f() -> int:
        return 1

    async def g() -> int:
        return 1

    def body(fn: Any) -> Any:
        async def w(ctx: Context) -> Any:
            await ctx.step("s", fn)
            await ctx.wait_for_event("go", timeout=None)

        return w

    with world.clock.driving():
        async with world:
            run_id = await begun(world, body(f))
        world.redeploy(body(g))
        async with world:
            world.actor(run_id).activate()
            await world.until(lambda: world.state(run_id) == "parked")
            await world.engine.cancel(run_id)
            assert (await world.finished(run_id)).status == "cancelled"


@pytest.mark.parametrize("grouped", [True, False])
async def test_parallel_steps_are_compensated_alike_after_a_crash_at_any_record(
    grouped: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    world = World()
    undone: list[str] = []

    async def reserve(item: str) -> str:
        world.ran(item)
        await asyncio.sleep({"a": 1, "b": 2, "c": 2, "d": 9}[item] / 1000)
        if item == "b":
            raise ValueError("sold out")
        return item

    async def release(item: str) -> None:
        world.ran(item)
        await asyncio.sleep(0.004)
        undone.append(item)

    async def w(ctx: Context) -> None:
        steps = [
            ctx.step("reserve", reserve, item, compensate=release, retry=ONCE) for item in "abcd"
        ]
        if grouped:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(step)
        else:
            await asyncio.gather(*steps)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            assert (await world.run("w")).status == "failed"
            first = world.life
        done = {r.args[0] for r in first.ran if r.name == "reserve"} - {"b", "d"}
        assert set(undone) == done
        for cut in range(1, len(without_end(first.groups)) + 1):
            undone.clear()
            world.cut(first.groups[:cut])
            async with world:
                (run_id,) = world.engine.sup.runs
                assert (await world.finished(run_id)).status == "failed"
                assert not [r for r in world.records() if isinstance(r, rec.CallAdopted)]
                second = world.life
            log = without_end([*first.groups[:cut], *second.groups])
            world.cut(log)
            async with world:
                await world.finished(run_id)
                assert not world.life.ran, "a whole replay undid something once more"
            results = [
                r.key for group in log for r in decoded(group) if isinstance(r, rec.StepCompleted)
            ]
            reserved = [key for key in results if key.startswith("reserve")]
            released = [key for key in results if key.startswith("undo:")]
            assert len(released) == len(reserved)
