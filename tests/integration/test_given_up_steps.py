"""A step that the body gave up and asks for again: a replay cannot know that it will give it up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import current_step
from stepflow.errors import StepInterruptedError
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


class Lives:
    """A body that gives its step up when the process says so, which no record tells."""

    def __init__(self, *, at_most_once: bool) -> None:
        self.at_most_once = at_most_once
        self.began: list[tuple[int, str]] = []
        self.enough = asyncio.Event()
        self.world = World()
        self.world.redeploy(self.parent)

    async def pays(self) -> None:
        step = current_step()
        self.began.append((step.attempt, step.idempotency_key))
        await asyncio.Event().wait()

    async def parent(self, ctx: Context) -> str:
        step = asyncio.create_task(ctx.step("pay", self.pays, at_most_once=self.at_most_once))
        racers: list[asyncio.Task[Any]] = [step, asyncio.create_task(self.enough.wait())]
        done, late = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.wait(racers)
        await ctx.sleep("rest", "2h")
        try:
            return str(done.pop().result())
        except StepInterruptedError:
            return "interrupted"

    async def live_twice(self) -> Any:
        world = self.world
        with world.clock.driving():
            async with world:
                run_id = await world.trigger("parent")
                await world.until(lambda: self.began)
                self.enough.set()
                await world.until(lambda: "rest#1" in world.actor(run_id).state.calls)
                await world.saved()
                self.enough.clear()
                await world.restart()
                ending = asyncio.create_task(world.finished(run_id))
                while not ending.done() and len(self.began) < 2:
                    await asyncio.sleep(600)
                self.enough.set()
                return result_of(await ending)


async def test_it_goes_on_counting_its_attempts_under_the_same_idempotency_key() -> None:
    lives = Lives(at_most_once=False)
    assert await lives.live_twice() == "True"
    assert [attempt for attempt, _ in lives.began] == [1, 2]
    assert len({key for _, key in lives.began}) == 1


async def test_at_most_once_is_not_run_again_though_it_was_given_up() -> None:
    lives = Lives(at_most_once=True)
    assert await lives.live_twice() == "interrupted"
    assert [attempt for attempt, _ in lives.began] == [1]
