"""Pause: a run is held before its next effect, whatever it does, and goes on when it is resumed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RetryPolicy
from stepflow.errors import ConflictError, UnavailableError
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def fine(value: Any = None) -> Any:
    return value


def waiting_for_go(world: World) -> Any:
    async def step(n: int) -> int:
        world.ran(n)
        return n

    async def w(ctx: Context) -> Any:
        await ctx.step("a", step, 1)
        got = await ctx.wait_for_event("go", timeout=None)
        return [got, await ctx.step("b", step, 2)]

    return w


async def begun(world: World, body: Any) -> str:
    """Trigger the body and return when it waits for an event."""
    world.redeploy(body)
    run_id = await world.trigger(body.__name__)
    await world.until(lambda: len(world.engine.sup.waiters))
    await world.saved()
    return run_id


async def shows(world: World, run_id: str) -> tuple[str, str]:
    view = await world.engine.get_run(run_id)
    return view.status, str(view.state)


@pytest.mark.parametrize("crash", [False, True])
async def test_an_event_is_taken_while_paused_and_heard_afterwards(*, crash: bool) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world, waiting_for_go(world))
            view = await world.engine.pause(run_id, by="key:ops", reason="look at it")
            assert (view.status, view.state) == ("running", "paused")
            assert await world.engine.notify("go", b"7") == 1
            if crash:
                await world.restart()
            await asyncio.sleep(3600)
            assert await shows(world, run_id) == ("running", "paused")
            assert "b#1" not in world.ran_keys()
            view = await world.engine.get_run(run_id)
            assert [(s.key, s.status) for s in view.steps or ()] == [
                ("a#1", "completed"),
                ("go#1", "completed"),
            ]
            assert (await world.engine.resume(run_id)).state != "paused"
            assert result_of(await world.finished(run_id)) == [7, 2]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_timer_fires_while_paused_and_nothing_begins(*, crash: bool) -> None:
    world = World()

    async def step() -> None:
        world.ran()

    async def w(ctx: Context) -> str:
        await ctx.sleep("nap", "10s")
        await ctx.step("after", step)
        return "done"

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.timers))
            await world.engine.pause(run_id)
            if crash:
                await world.restart()
            await asyncio.sleep(60)
            assert world.records(rec.SleepEnded)
            assert await shows(world, run_id) == ("running", "paused")
            assert not world.life.ran
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == "done"


async def test_a_step_that_runs_is_let_end_and_its_result_is_kept() -> None:
    world = World()
    gate = asyncio.Event()

    async def slow() -> int:
        world.ran()
        await gate.wait()
        return 5

    async def w(ctx: Context) -> int:
        got = await ctx.step("slow", slow)
        world.note("heard")
        return await ctx.step("next", fine, got) + 1

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            await world.engine.pause(run_id)
            gate.set()
            await asyncio.sleep(30)
            view = await world.engine.get_run(run_id)
            assert view.state == "paused"
            assert not world.life.trace
            assert [(s.key, s.status) for s in view.steps or ()] == [("slow#1", "completed")]
            # Nothing of it runs: its task was given up.
            assert run_id not in world.engine.sup.active
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == 6
            assert len(world.life.ran) == 1


async def test_what_a_body_asks_for_while_it_is_paused_begins_when_it_goes_on() -> None:
    """It is paused while its own code runs, beside a step: that is let do nothing new."""
    world = World()
    gate, own = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    async def w(ctx: Context) -> list[Any]:
        running = asyncio.ensure_future(ctx.step("slow", slow))
        await own.wait()
        await ctx.emit("said", 1)
        world.note("asks")
        last = await ctx.step("new", fine, 3)
        await running
        return [last]

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: world.engine.sup.steps.running)
            await world.engine.pause(run_id)
            own.set()
            await world.settle()
            assert not world.life.trace
            assert not world.records(rec.Emitted)
            # Resumed while its step still runs: it goes on in the same task.
            await world.engine.resume(run_id)
            await world.until(lambda: world.records(rec.StepCompleted))
            await world.engine.pause(run_id)
            gate.set()
            await world.settle()
            assert [r.key for r in world.records(rec.StepCompleted)] == ["new#1", "slow#1"]
            assert await shows(world, run_id) == ("running", "paused")
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == [3]
            assert len(world.records(rec.Emitted)) == 1


async def test_parallel_calls_that_are_asked_for_meanwhile_are_held_too() -> None:
    world = World()
    gate, own = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    async def several(ctx: Context) -> Any:
        await own.wait()
        return await asyncio.gather(
            ctx.map("each", fine, [1, 2]), ctx.sleep("nap", "1s"), ctx.step("one", fine, 3)
        )

    async def w(ctx: Context) -> Any:
        _, (each, _, one) = await asyncio.gather(ctx.step("slow", slow), several(ctx))
        return [each, one]

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: world.engine.sup.steps.running)
            await world.engine.pause(run_id)
            own.set()
            await world.settle()
            assert len(world.records(rec.StepStarted)) == 1
            assert not world.records(rec.SleepStarted)
            await world.engine.resume(run_id)
            await world.until(lambda: len(world.records(rec.StepStarted)) == 4)
            gate.set()
            assert result_of(await world.finished(run_id)) == [[1, 2], 3]


async def test_a_retry_that_comes_due_waits() -> None:
    world = World()

    async def fails() -> int:
        if world.ran().attempt == 1:
            raise ValueError("once")
        return 1

    async def w(ctx: Context) -> int:
        return await ctx.step("s", fails, retry=RetryPolicy(initial="5s", jitter=False))

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.StepRetrying))
            await world.engine.pause(run_id)
            await asyncio.sleep(60)
            assert len(world.life.ran) == 1
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == 1
            assert [ran.attempt for ran in world.life.ran] == [1, 2]


async def test_a_retry_that_comes_due_beside_a_running_step_waits_too() -> None:
    world = World()
    gate = asyncio.Event()

    async def fails() -> int:
        if world.ran().attempt == 1:
            raise ValueError("once")
        return 1

    async def w(ctx: Context) -> Any:
        policy = RetryPolicy(initial="5s", jitter=False)
        return await asyncio.gather(ctx.step("s", fails, retry=policy), ctx.step("slow", gate.wait))

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.StepRetrying))
            await world.engine.pause(run_id)
            await asyncio.sleep(60)
            assert len(world.life.ran) == 1
            await world.engine.resume(run_id)
            await world.until(lambda: len(world.life.ran) == 2)
            gate.set()
            assert result_of(await world.finished(run_id)) == [1, True]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_paused_run_is_cancelled_and_its_cleanup_runs(*, crash: bool) -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("go", timeout=None)
        finally:
            await ctx.step("cleanup", fine)

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.engine.pause(run_id)
            if crash:
                await world.restart()
            view = await world.engine.cancel(run_id)
            assert view.state == "cancelling"
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            assert [r.key for r in world.records(rec.StepCompleted)] == ["cleanup#1"]


async def test_cancel_hears_what_came_before_it_first() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        world.note(await ctx.wait_for_event("go", timeout=None))
        try:
            await ctx.sleep("nap", "1d")
        except asyncio.CancelledError:
            world.note("cancelled")
            raise

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.engine.pause(run_id)
            await world.engine.notify("go", b"1")
            await world.engine.cancel(run_id)
            await world.finished(run_id)
            assert world.life.trace[0] == (1,)


@pytest.mark.parametrize("crash", [False, True])
async def test_a_delayed_run_that_is_paused_does_not_begin(*, crash: bool) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(waiting_for_go(world))
            run_id = await world.trigger("w", delay_ms=5000)
            view = await world.engine.pause(run_id)
            assert (view.status, view.state) == ("pending", "paused")
            if crash:
                await world.restart()
            await asyncio.sleep(60)
            assert await shows(world, run_id) == ("pending", "paused")
            await world.engine.resume(run_id)
            await world.until(lambda: len(world.engine.sup.waiters))
            assert (await shows(world, run_id))[0] == "running"
            await world.engine.notify("go", b"1")
            assert result_of(await world.finished(run_id)) == [1, 2]


async def test_a_delayed_run_that_goes_on_in_time_begins_when_its_delay_is_over() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(waiting_for_go(world))
            run_id = await world.trigger("w", delay_ms=60_000)
            await world.engine.pause(run_id)
            await asyncio.sleep(1)
            await world.engine.resume(run_id)
            assert await shows(world, run_id) == ("pending", "queued")
            await asyncio.sleep(58)
            assert (await shows(world, run_id))[0] == "pending"
            await asyncio.sleep(2)
            assert (await shows(world, run_id))[0] == "running"


async def test_a_paused_run_survives_a_snapshot_and_being_put_to_sleep() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world, waiting_for_go(world))
            await world.engine.pause(run_id)
            await asyncio.sleep(5)
            assert run_id not in world.engine.sup.active
            assert await world.engine.snapshot()
            await world.restart()
            assert await shows(world, run_id) == ("running", "paused")
            assert await world.engine.notify("go", b"7") == 1
            assert await world.engine.snapshot()
            await world.restart()
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == [7, 2]


async def test_an_end_is_an_effect_and_waits() -> None:
    world = World()
    own = asyncio.Event()

    async def w(ctx: Context) -> int:
        del ctx
        await own.wait()
        return 1

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.settle()
            await world.engine.pause(run_id)
            own.set()
            await asyncio.sleep(5)
            assert await shows(world, run_id) == ("running", "paused")
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == 1


async def test_wrong_states_are_conflicts_and_change_nothing() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world, waiting_for_go(world))
            with pytest.raises(ConflictError, match="nor is it paused"):
                await world.engine.resume(run_id)
            await world.engine.pause(run_id)
            with pytest.raises(ConflictError, match="paused already"):
                await world.engine.pause(run_id)
            await world.engine.resume(run_id)
            await world.engine.cancel(run_id)
            with pytest.raises(ConflictError):
                await world.engine.pause(run_id)
            await world.finished(run_id)
            for act in (world.engine.pause, world.engine.resume, world.engine.cancel):
                with pytest.raises(ConflictError, match="cancelled"):
                    await act(run_id)
            assert len(world.records(rec.RunPaused)) == len(world.records(rec.RunResumed)) == 1


async def test_the_stream_says_that_it_is_paused_and_that_it_goes_on() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world, waiting_for_go(world))
            await world.engine.pause(run_id)
            await world.engine.resume(run_id)
            stream = await world.engine.stream(run_id)
            told = [msgspec.json.decode(e.data) for e in stream.read_events(100)]
            stream.close()
            assert told[-2:] == [{"status": "running", "state": "paused"}, {"status": "running"}]


async def test_a_pause_needs_room_and_a_running_engine() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world, waiting_for_go(world))
            journal = world.engine.sup.journal
            journal.has_room = lambda *_, **__: False  # type: ignore[method-assign]
            with pytest.raises(UnavailableError):
                await world.engine.pause(run_id)
            del journal.has_room
            world.engine.begin_shutdown()
            with pytest.raises(UnavailableError, match="stopping"):
                await world.engine.pause(run_id)
            assert not world.records(rec.RunPaused)
