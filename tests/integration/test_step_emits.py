"""What steps emit: durable, in order with their end, many in one frame, from threads too."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RetryPolicy, StepInterruptedError, current_step
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def said(world: World, run_id: str) -> list[Any]:
    stream = await world.engine.stream(run_id)
    events = stream.read_events(10_000)
    stream.close()
    return [(e.event, e.json().get("data")) for e in events if e.event in {"emit", "step"}]


async def test_the_tokens_of_a_step_share_frames_and_come_before_its_end() -> None:
    world = World()

    async def talk() -> int:
        for n in range(200):
            await current_step().emit(n)
        return 200

    async def w(ctx: Context) -> int:
        return await ctx.step("talk", talk)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            syncs = world.engine.sup.journal.stats().syncs
            run_id = await world.trigger("w")
            assert result_of(await world.finished(run_id)) == 200
            assert world.engine.sup.journal.stats().syncs - syncs < 20
            assert await said(world, run_id) == [*(("emit", n) for n in range(200)), ("step", None)]


async def test_a_step_in_a_thread_emits_by_a_plain_call_and_in_order() -> None:
    world = World()

    def talk() -> int:
        for n in range(50):
            current_step().emit(n)
        return 50

    async def w(ctx: Context) -> int:
        return await ctx.step("talk", talk)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.finished(run_id)
            assert await said(world, run_id) == [*(("emit", n) for n in range(50)), ("step", None)]


async def test_a_thread_that_timed_out_is_a_zombie_and_cannot_write_late() -> None:
    world = World(threads=2)
    free, over = threading.Event(), threading.Event()
    refused: list[str] = []

    def slow() -> str:
        step, ran = current_step(), world.ran()
        if ran.attempt == 2:
            return "second"
        free.wait()
        try:
            step.emit("late")
        except StepInterruptedError as error:
            refused.append(error.name)
        over.set()
        return "late"

    async def w(ctx: Context) -> str:
        policy = RetryPolicy(max_attempts=2, initial="1s", jitter=False)
        return await ctx.step("slow", slow, timeout="5s", retry=policy)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            await world.clock.advance(6)
            steps = world.engine.sup.steps
            assert steps.zombies == 1
            assert result_of(await world.finished(run_id)) == "second"
            free.set()
            # A thread ends in real time, so the test really waits for it.
            await asyncio.get_running_loop().run_in_executor(None, over.wait)
            await world.until(lambda: steps.zombies == 0, 10_000_000)
            assert refused == ["slow"]
            assert not world.records(rec.Emitted)
            assert len(world.records(rec.StepCompleted)) == 1


async def test_an_at_most_once_step_whose_thread_goes_on_after_its_timeout_is_not_run_again() -> (
    None
):
    world = World(threads=2)
    free = threading.Event()

    def slow() -> str:
        world.ran()
        free.wait()
        return "late"

    async def w(ctx: Context) -> str:
        try:
            await ctx.step("slow", slow, timeout="5s", at_most_once=True)
        except StepInterruptedError as error:
            return error.name
        return "done"

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            await world.clock.advance(6)
            assert result_of(await world.finished(run_id)) == "slow"
            assert len(world.life.ran) == 1
            free.set()
            await asyncio.get_running_loop().run_in_executor(None, free.wait)
            await world.until(lambda: world.engine.sup.steps.zombies == 0, 10_000_000)
