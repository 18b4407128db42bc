"""What a run held is free when it has ended or sleeps: nothing of it waits for a collection.

The collector counts objects, not bytes: a few hundred large runs in cycles would fill the memory
before it looked at them.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Context, RetryPolicy, StepFailedError, current_step
from stepflow.runtime.actor import RunActor
from stepflow.runtime.session import Session
from tests.engine_kit import Service, service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio
ONCE = RetryPolicy(max_attempts=1)
MANY = 20


async def double(n: int) -> int:
    await current_step().emit(n)
    return 2 * n


def in_a_thread(n: int) -> int:
    return n


def refuse() -> None:
    raise ValueError("no")


async def steps(ctx: Context) -> int:
    return await ctx.step("double", double, 2) + await ctx.step("thread", in_a_thread, 3)


async def maps(ctx: Context) -> list[int]:
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(ctx.step("double", double, n))
    return await ctx.map("each", double, [1, 2, 3])


async def fails(ctx: Context) -> None:
    await ctx.step("refuse", refuse, retry=ONCE)


async def catches(ctx: Context) -> str:
    try:
        await ctx.step("refuse", refuse, retry=ONCE)
    except StepFailedError:
        return "caught"
    return "not"


async def sleeps(ctx: Context) -> None:
    await ctx.sleep("nap", "1h")


async def times_out(ctx: Context) -> Any:
    async with asyncio.timeout(60):
        return await ctx.wait_for_event("never", timeout="10s", default="late")


async def parent(ctx: Context) -> Any:
    return await ctx.call("steps")


BEFORE: Counter[type] = Counter()
"""What other tests of this process left, which a failed one keeps for its report."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    BEFORE.clear()
    BEFORE.update(map(type, gc.get_objects()))
    yield
    gc.enable()


def held() -> list[str]:
    """Return what there is more of runs than before the test, by type and number."""
    found: Counter[type] = Counter(map(type, gc.get_objects()))
    return [
        f"{found[kind] - BEFORE[kind]} {kind.__name__}"
        for kind in (RunActor, Session)
        if found[kind] > BEFORE[kind]
    ]


async def purged(world: Service) -> None:
    """Forget all runs, which have ended."""
    await world.settle()
    for run_id in list(world.engine.sup.runs):
        await world.engine.purge(run_id)
    # What has ended is packed a little later, and is not there to be packed any more.
    await world.engine.sup.pack_ended()
    for _ in range(200):
        # A thread lets go of its last job when it has told of its end.
        await world.settle()
        if not held():
            return
        time.sleep(0.005)  # noqa: ASYNC251  the thread's time, not the loop's


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "workflow", [steps, maps, fails, catches, sleeps, times_out, parent], ids=lambda w: w.__name__
)
async def test_an_ended_run_leaves_nothing_for_the_collector(workflow: Any) -> None:
    async with service() as world:
        world.redeploy(steps, maps, fails, catches, sleeps, times_out, parent)
        runs = [await world.trigger(workflow.__name__) for _ in range(MANY)]
        for run_id in runs:
            await world.finished(run_id)
        await purged(world)
        assert held() == []


@pytest.mark.usefixtures("uncollected")
async def test_a_cancelled_run_leaves_nothing_for_the_collector() -> None:
    async with service() as world:
        world.redeploy(sleeps)
        for run_id in [await world.trigger("sleeps") for _ in range(MANY)]:
            await world.engine.cancel(run_id)
            await world.finished(run_id)
        await purged(world)
        assert held() == []


@pytest.mark.usefixtures("uncollected")
async def test_a_run_that_was_put_to_sleep_leaves_nothing_for_the_collector() -> None:
    async with service() as world:
        world.redeploy(sleeps)
        runs = [await world.trigger("sleeps") for _ in range(MANY)]
        await world.until(lambda: not world.engine.sup.active)
        await world.settle()
        assert held() == []
        views = [await world.engine.get_run(run_id) for run_id in runs]
        assert {view.state for view in views} == {"sleeping"}
