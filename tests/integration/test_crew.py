"""Steps that one commit releases share a task until one of them waits; none notices the others."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RetryPolicy, StepFailedError, current_step
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


async def mapped(step: Any, items: list[Any]) -> list[Any]:
    """Run the step for every item, all released by one commit; return the results."""
    world = World()

    async def w(ctx: Context) -> Any:
        return await ctx.map("s", step, items, retry=RetryPolicy(max_attempts=1))

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            view = await world.run("w")
    return list(result_of(view))


async def test_steps_that_do_not_wait_share_a_task_and_no_context() -> None:
    tasks: set[Any] = set()

    async def step(name: str) -> list[str]:
        tasks.add(asyncio.current_task())
        before = VAR.get()
        VAR.set(name)
        return [before, VAR.get(), current_step().key]

    found = await mapped(step, ["a", "b", "c"])
    assert found == [["unset", name, f"s#1.{n}"] for n, name in enumerate("abc")]
    assert len(tasks) == 1


async def test_more_steps_than_begin_in_one_pass_all_run() -> None:
    async def step(number: int) -> int:
        return number

    assert await mapped(step, list(range(180))) == list(range(180))


async def test_a_step_that_waits_keeps_its_task_and_its_context() -> None:
    tasks: list[Any] = []

    async def step(name: str) -> list[Any]:
        task = asyncio.current_task()
        tasks.append(task)
        VAR.set(name)
        await asyncio.sleep(0)
        return [VAR.get(), current_step().key, asyncio.current_task() is task]

    found = await mapped(step, ["a", "b", "c"])
    assert found == [[name, f"s#1.{n}", True] for n, name in enumerate("abc")]
    assert len(set(tasks)) == 3


async def test_a_timeout_of_the_body_ends_what_waits_in_it_and_nothing_else() -> None:
    async def step(name: str) -> str:
        if name != "slow":
            return name
        try:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "timed out"
        return "never"

    assert await mapped(step, ["a", "slow", "b"]) == ["a", "timed out", "b"]


async def test_a_body_that_cancels_its_own_task_and_returns_hits_no_other() -> None:
    async def step(name: str) -> str:
        task = asyncio.current_task()
        assert task is not None
        if name == "b":
            task.cancel()
            return name
        await asyncio.sleep(0)
        return name

    assert await mapped(step, ["a", "b", "c", "d"]) == ["a", "b", "c", "d"]


async def test_an_error_thrown_into_a_body_that_waits_is_its_own() -> None:
    async def step(name: str) -> str:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(waiter.set_exception, ValueError(name))
        try:
            await waiter
        except ValueError as error:
            return f"caught {error}"
        return "never"

    assert await mapped(step, ["a", "b"]) == ["caught a", "caught b"]


async def test_a_body_may_be_any_object_that_is_called_and_awaited() -> None:
    class Awaited:
        async def __call__(self, name: str) -> str:
            return name

    assert await mapped(Awaited(), ["a", "b"]) == ["a", "b"]


async def test_an_error_of_one_body_is_its_own() -> None:
    seen: list[str] = []

    async def step(name: str) -> str:
        seen.append(name)
        if name == "b":
            raise StopAsyncIteration(name)
        return name

    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.map("s", step, ["a", "b", "c"], retry=RetryPolicy(max_attempts=1))
        except StepFailedError as error:
            return error.error_type

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            view = await world.run("w")
    assert result_of(view) == "StopAsyncIteration"
    assert seen == ["a", "b", "c"]
