"""What a run keeps over `ctx.restart`: who acted on it, its place under limits, its priority."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Concurrency
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


def rounds(world: World, **options: Any) -> None:
    """Register `w`: it waits for `go`, then restarts with its input's `n` one higher, up to 2."""

    async def w(ctx: Context, given: dict[str, Any]) -> Any:
        world.note(given["who"], given["n"])
        await ctx.wait_for_event("go", f"go-{given['who']}-{given['n']}", timeout=None)
        if given["n"] < 2:
            await ctx.restart(given | {"n": given["n"] + 1})
        return given

    world.flow.workflow("w", **options)(w)


def given(who: str, **more: Any) -> dict[str, Any]:
    return {"who": who, "n": 0, **more}


async def go(world: World, who: str, n: int) -> None:
    event = f"go-{who}-{n}"
    await world.until(lambda: world.engine.sup.waiters.takers(event))
    await world.engine.notify(event, b"1")


async def restarted(world: World, run_id: str, times: int) -> None:
    await world.until(lambda: world.actor(run_id).peek().restarts == times)
    await world.saved()


def begun(world: World) -> list[str]:
    return [who for who, n in dict.fromkeys(world.life.trace) if n == 0]


@pytest.mark.parametrize("crash", [False, True])
async def test_who_acted_on_a_run_is_told_after_it_restarted(*, crash: bool) -> None:
    world = World()
    rounds(world)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w", given("a"))
        await world.engine.pause(run_id, by="ada", reason="lunch")
        await world.engine.resume(run_id, by="bob")
        told = await world.engine.run_audit(run_id)
        assert [(e.action, e.by) for e in told] == [("pause", "ada"), ("resume", "bob")]
        for n in range(2):
            await go(world, "a", n)
            await restarted(world, run_id, n + 1)
            if crash:
                await world.engine.snapshot()
                await world.crash()
                await world.start()
        assert await world.engine.run_audit(run_id) == told
        # The table of all runs has each of them once.
        assert (await world.engine.audit(run_id=run_id)).audit == told[::-1]
        await world.engine.pause(run_id, by="eve")
        assert [e.by for e in await world.engine.run_audit(run_id)] == ["ada", "bob", "eve"]
        await world.engine.resume(run_id)
        await go(world, "a", 2)
        await world.finished(run_id)
        await world.stop()


@pytest.mark.parametrize("crash", [False, True])
async def test_a_run_holds_its_slot_over_its_restarts(*, crash: bool) -> None:
    world = World()
    rounds(world, concurrency=1)
    with world.clock.driving():
        await world.start()
        first, second = [await world.trigger("w", given(who)) for who in "ab"]
        for n in range(2):
            await go(world, "a", n)
            await restarted(world, first, n + 1)
            if crash:
                await world.crash()
                await world.start()
            await world.settle()
            assert world.actor(second).status == "pending"
            assert (await world.engine.get_run(second)).queue.held_by == (first,)  # type: ignore[union-attr]
        await go(world, "a", 2)
        await world.finished(first)
        for n in range(3):
            await go(world, "b", n)
        assert result_of(await world.finished(second))["n"] == 2
        assert begun(world)[-1] == "b"
        # A restart is no beginning: each was let in once.
        assert len(world.records(rec.RunReleased)) <= 1
        await world.stop()


@pytest.mark.parametrize("crash", [False, True])
async def test_a_slot_is_kept_under_the_key_it_was_taken_with(*, crash: bool) -> None:
    world = World()

    async def w(ctx: Context, tenant: str) -> str:
        if tenant != "other":
            await ctx.restart("other")
        await ctx.wait_for_event("go", timeout=None)
        return tenant

    world.flow.workflow("w", concurrency=Concurrency(1, key="input"))(w)
    with world.clock.driving():
        await world.start()
        first = await world.trigger("w", "mine")
        await restarted(world, first, 1)
        if crash:
            await world.crash()
            await world.start()
        queued = await world.trigger("w", "mine")
        free = await world.trigger("w", "other")
        assert (world.actor(queued).status, world.actor(free).status) == ("pending", "running")
        await world.engine.notify("go", b"1", run_id=first)
        await world.finished(first)
        await restarted(world, queued, 1)
        await world.stop()


async def test_the_highest_priority_is_next_when_a_run_that_restarted_ends() -> None:
    world = World()
    rounds(world, concurrency=1, priority="input.urgency")
    with world.clock.driving():
        async with world:
            first = await world.trigger("w", given("a"))
            await world.trigger("w", given("low"))
            await world.trigger("w", given("high", urgency=9))
            for n in range(3):
                await go(world, "a", n)
            await world.finished(first)
            # Its restarts do not let the other before it.
            for who in ("high", "low"):
                for n in range(3):
                    await go(world, who, n)
            assert begun(world) == ["a", "high", "low"]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_fork_of_a_run_that_restarted_waits_for_a_slot_like_any_other(
    *, crash: bool
) -> None:
    world = World()

    async def add(n: int) -> int:
        return n + 1

    async def w(ctx: Context, n: int) -> int:
        n = await ctx.step("add", add, n)
        if n < 2:
            await ctx.restart(n)
        await ctx.wait_for_event("go", timeout=None)
        return n

    world.flow.workflow("w", concurrency=1)(w)
    with world.clock.driving():
        await world.start()
        first = await world.trigger("w", 0)
        await restarted(world, first, 1)
        fork = await world.engine.fork(first, "add", results={"add": b"7"})
        assert world.actor(fork).status == "pending"
        await world.saved()
        if crash:
            await world.crash()
            await world.start()
        await world.until(lambda: world.engine.sup.waiters.takers("go"))
        await world.engine.notify("go", b"1", run_id=first)
        assert result_of(await world.finished(first)) == 2
        await world.until(lambda: world.engine.sup.waiters.takers("go") == [fork])
        await world.engine.notify("go", b"1", run_id=fork)
        view = await world.finished(fork)
        assert result_of(view) == 7
        assert view.restarts == 0 or not view.restarts
        await world.stop()


async def test_a_child_that_restarted_still_names_its_parent_and_its_tags() -> None:
    world = World()

    async def w(ctx: Context, n: int) -> list[str]:
        if n < 2:
            await ctx.restart(n + 1)
        await ctx.wait_for_event("go", timeout=None)
        return list(ctx.tags)

    async def parent(ctx: Context) -> Any:
        return await ctx.call("w", 0)

    world.flow.workflow("w", tags=["mine"])(w)
    world.flow.workflow("parent")(parent)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("parent")
        await world.until(lambda: world.records(rec.ChildStarted))
        child = world.records(rec.ChildStarted)[0].child
        await restarted(world, child, 2)
        await world.engine.snapshot()
        await world.crash()
        await world.start()
        view = await world.engine.get_run(child)
        assert (view.parent_run_id, view.tags, view.restarts) == (run_id, ("mine",), 2)
        await world.until(lambda: len(world.engine.sup.waiters))
        await world.engine.notify("go", b"1")
        assert result_of(await world.finished(run_id)) == ["mine"]
        await world.stop()
