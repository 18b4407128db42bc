"""A shutdown records nothing of its own: steps get a moment to end, the rest goes on later."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.errors import UnavailableError
from stepflow.model import records as rec
from tests.harness import ENDS, World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def test_a_step_that_ends_within_the_drain_keeps_its_result() -> None:
    world = World()

    async def short() -> str:
        world.ran()
        await asyncio.sleep(0.5)
        return "kept"

    async def w(ctx: Context) -> Any:
        value = await ctx.step("short", short)
        await ctx.sleep("s", "1h")
        return value

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.life.ran)
        await world.stop()
        async with world:
            assert result_of(await world.finished(run_id)) == "kept"
            assert not world.life.ran


async def test_a_thread_that_ends_within_the_drain_keeps_its_result() -> None:
    world = World()
    free = threading.Event()

    def thread() -> str:
        world.ran()
        free.wait()
        return "kept"

    async def w(ctx: Context) -> Any:
        value = await ctx.step("thread", thread)
        await ctx.sleep("s", "1h")
        return value

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.life.ran)
        stopping = asyncio.ensure_future(world.stop())
        await asyncio.sleep(0)
        free.set()
        await stopping
        async with world:
            assert result_of(await world.finished(run_id)) == "kept"
            assert not world.life.ran


async def test_a_step_that_takes_longer_is_cut_and_the_cut_does_not_count_as_an_attempt() -> None:
    world = World()
    long_s = [100.0]
    cut: list[str] = []

    async def long() -> int:
        ran = world.ran()
        try:
            await asyncio.sleep(long_s[0])
        except asyncio.CancelledError:
            cut.append(ran.key)
            raise
        if ran.attempt < 6:
            raise OSError("fails, and that does count")
        return ran.attempt

    async def w(ctx: Context) -> Any:
        return await ctx.step("long", long)

    with world.clock.driving():
        world.redeploy(w)
        for _ in range(5):
            await world.start()
            runs = list(world.engine.sup.runs) or [await world.trigger("w")]
            await world.until(lambda: world.life.ran)
            await world.saved()
            await world.stop()
        assert len(cut) == 5
        assert not world.records(rec.StepRetrying)
        long_s[0] = 0.0
        async with world:
            # Five attempts were cut; with the default of four this is still the first that counts.
            assert result_of(await world.finished(runs[0])) == 6
            assert world.life.ran[0].attempt == 6


async def test_the_end_of_the_process_does_not_cancel_a_run() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            return await ctx.wait_for_event("go", timeout=None)
        except asyncio.CancelledError:
            world.note("cancelled")
            raise
        except Exception:
            world.note("failed")
            raise

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.waiters))
        life = world.life
        await world.stop()
        assert not life.trace
        assert not [r for r in life.records() if isinstance(r, rec.CancelRequested)]
        async with world:
            assert (await world.engine.get_run(run_id)).status == "running"
            await world.engine.notify("go", b"7")
            assert result_of(await world.finished(run_id)) == 7


async def test_a_service_that_stops_takes_no_new_work() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        return 1

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            world.engine.begin_shutdown()
            with pytest.raises(UnavailableError):
                await world.trigger("w")


async def test_a_cancel_that_comes_while_the_service_stops_is_kept_or_refused_in_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    kept: list[str] = []
    refused: list[str] = []

    async def w(ctx: Context) -> Any:
        return await ctx.wait_for_event("w", timeout=None)

    async def cancel(run_id: str) -> None:
        try:
            await world.engine.cancel(run_id)
        except UnavailableError:
            refused.append(run_id)
        else:
            kept.append(run_id)

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        runs = [await world.trigger("w") for _ in range(200)]
        left = iter(runs)
        stopping = asyncio.create_task(world.engine.stop())
        cancels: list[asyncio.Task[None]] = []
        while not stopping.done():
            # One in each pass of the loop, to the last.
            cancels.append(asyncio.create_task(cancel(next(left))))
            await asyncio.sleep(0)
        await asyncio.gather(stopping, *cancels)
        world._engine = None
        async with world:
            states = {r: (await world.engine.get_run(r)).status for r in refused}
            for run_id in kept:
                assert (await world.finished(run_id)).status == "cancelled"
    assert refused
    assert set(states.values()) == {"running"}
    assert not [r for r in caplog.records if "the actor failed" in r.getMessage()]


async def test_no_new_step_begins_while_the_service_stops() -> None:
    world = World()

    async def short() -> str:
        world.ran()
        await asyncio.sleep(0.2)
        return "x"

    async def w(ctx: Context) -> Any:
        return [await ctx.step("short", short) for _ in range(4)]

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.life.ran)
        life = world.life
        await world.stop()
        assert [ran.key for ran in life.ran] == ["short#1"]
        async with world:
            assert result_of(await world.finished(run_id)) == ["x"] * 4
            assert world.ran_keys() == ["short#2", "short#3", "short#4"]


async def test_children_sleeps_and_retries_under_way_go_on_after_a_shutdown() -> None:
    world = World()
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("again")
        return "at last"

    async def child(ctx: Context) -> Any:
        await ctx.sleep("nap", "2h")
        return "child"

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(
            ctx.call("child"), ctx.sleep("s", "1h"), ctx.step("flaky", flaky)
        )

    with world.clock.driving():
        world.redeploy(w, child)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.records(rec.StepRetrying))
        await world.stop()
        async with world:
            assert result_of(await world.finished(run_id)) == ["child", None, "at last"]


@pytest.mark.parametrize("begun", [False, True], ids=["going", "stopping"])
async def test_a_loop_that_cancels_all_its_tasks_ends_no_run_and_fails_no_step(
    *, begun: bool
) -> None:
    world = World(drain_timeout_s=1.0)
    first = [True]

    async def long() -> str:
        ran = world.ran()
        if first:
            await asyncio.sleep(1000)
        return ran.key

    async def swallowing() -> str:
        ran = world.ran()
        with contextlib.suppress(asyncio.CancelledError):
            if first:
                await asyncio.sleep(1000)
            return ran.key
        return "cut"

    async def steps(ctx: Context) -> Any:
        return await ctx.map("m", swallowing_or_long, ["long", "swallowing"])

    async def swallowing_or_long(which: str) -> str:
        return await (long() if which == "long" else swallowing())

    async def waits(ctx: Context) -> Any:
        return await ctx.wait_for_event("go", timeout=None)

    async def cleans_up(ctx: Context) -> Any:
        try:
            return await ctx.wait_for_event("go", timeout=None)
        except asyncio.CancelledError:
            return await ctx.step("clean up", long)

    with world.clock.driving():
        world.redeploy(steps, waits, cleans_up)
        await world.start()
        runs = [await world.trigger(name) for name in ("steps", "waits", "cleans_up")]
        await world.until(lambda: len(world.life.ran) == 2)
        await world.saved()
        stopping = asyncio.ensure_future(world.engine.stop()) if begun else None
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert stopping is None or stopping.cancelled()
        first.clear()
        life = world.life
        await world.crash()
        kinds = {type(record) for record in life.records()}
        assert not kinds & {rec.StepFailed, rec.StepRetrying, rec.StepCompleted, *ENDS}
        async with world:
            assert result_of(await world.finished(runs[0])) == ["m#1.0", "m#1.1"]
            await world.engine.notify("go", b"7")
            for run_id in runs[1:]:
                assert result_of(await world.finished(run_id)) == 7


async def test_a_body_that_cancels_itself_fails_its_run_all_the_same() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ctx.sleep("s", "1h")

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            view = await world.finished(await world.trigger("w"))
            assert view.status == "failed"
