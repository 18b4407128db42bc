"""Child runs: awaited or left running, found again after a crash, reached by a cancel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RunCancelledError, RunFailedError
from stepflow.errors import InvalidInputError, WorkflowNotFoundError
from stepflow.model import records as rec
from tests.harness import ENDS, World, decoded, error_of, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


class Family:
    """A parent that awaits two children."""

    def __init__(self) -> None:
        self.world = world = World()

        async def work(name: str) -> str:
            world.ran(name)
            return name.upper()

        async def child(ctx: Context, name: str) -> str:
            await ctx.sleep("nap", "1h")
            return await ctx.step("work", work, name)

        async def parent(ctx: Context) -> Any:
            one = await ctx.call("child", "a")
            both = await asyncio.gather(ctx.call(child, "b"), ctx.call("child", "c"))
            return [one, *both]

        world.redeploy(parent, child)


async def test_a_child_gives_its_result_to_its_parent() -> None:
    world = Family().world
    with world.clock.driving():
        async with world:
            assert await world.result("parent") == ["A", "B", "C"]
            assert len(world.engine.sup.runs) == 4


async def test_a_crash_after_any_record_makes_no_child_twice() -> None:
    world = Family().world
    with world.clock.driving():
        async with world:
            await world.result("parent")
            first = world.life
        parent_ended = next(
            i
            for i, g in enumerate(first.groups)
            if isinstance(decoded(g)[0], ENDS) and decoded(g)[0].r == decoded(first.groups[0])[0].r
        )
        for cut in range(1, parent_ended):
            world.cut(first.groups[:cut])
            async with world:
                run_id = next(iter(world.engine.sup.runs))
                assert result_of(await world.finished(run_id)) == ["A", "B", "C"]
                assert len(world.engine.sup.runs) == 4
                done = {
                    (r.r, r.key)
                    for group in first.groups[:cut]
                    for r in decoded(group)
                    if isinstance(r, rec.StepCompleted)
                }
                again = {(r.r, r.key) for r in world.records(rec.StepCompleted)}
                assert not done & again


async def test_a_failed_child_raises_in_its_parent_alike_live_and_on_replay() -> None:
    world = World()
    seen: list[Any] = []

    async def child(ctx: Context) -> None:
        raise ValueError("broken")

    async def parent(ctx: Context) -> Any:
        try:
            await ctx.call("child")
        except RunFailedError as error:
            seen.append((error.error_type, error.message, error.run_id))
        await ctx.wait_for_event("go", timeout=None)

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            run_id = await world.trigger("parent")
            await world.until(lambda: len(world.engine.sup.waiters))
        async with world:
            await world.engine.notify("go", b"null")
            await world.finished(run_id)
    live, replayed = seen
    assert live == replayed
    assert live[:2] == ("ValueError", "broken")


async def test_a_cancel_reaches_the_awaited_children_and_theirs() -> None:
    world = World()

    async def grandchild(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    async def child(ctx: Context) -> None:
        await ctx.call("grandchild")

    async def free(ctx: Context) -> str:
        await ctx.sleep("s", "1h")
        return "free"

    async def parent(ctx: Context) -> None:
        world.note(await ctx.start("free"))
        await ctx.call("child")

    with world.clock.driving():
        world.redeploy(parent, child, grandchild, free)
        async with world:
            run_id = await world.trigger("parent")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.cancel(run_id)
            for each in list(world.engine.sup.runs):
                view = await world.finished(each)
                expected = "completed" if view.workflow_id == "free" else "cancelled"
                assert view.status == expected


async def test_a_cancelled_child_is_told_to_its_parent() -> None:
    world = World()

    async def child(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    async def parent(ctx: Context) -> Any:
        try:
            await ctx.call("child")
        except RunCancelledError as error:
            return error.run_id

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            run_id = await world.trigger("parent")
            await world.until(lambda: len(world.engine.sup.waiters))
            (child_id,) = (r for r in world.engine.sup.runs if r != run_id)
            await world.engine.cancel(child_id)
            assert result_of(await world.finished(run_id)) == child_id


async def test_a_started_child_goes_on_after_its_parent() -> None:
    world = World()

    async def child(ctx: Context, value: int) -> int:
        await ctx.sleep("s", "1h")
        return value

    async def parent(ctx: Context) -> str:
        return await ctx.start("child", 7)

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            child_id = await world.result("parent")
            assert result_of(await world.finished(child_id)) == 7


async def test_a_child_that_ended_while_its_parent_was_down_is_heard_of() -> None:
    world = World()

    async def child(ctx: Context) -> str:
        await ctx.sleep("s", "1h")
        return "ended"

    async def parent(ctx: Context) -> Any:
        return await ctx.call("child")

    with world.clock.driving():
        world.redeploy(parent, child)
        await world.start()
        run_id = await world.trigger("parent")
        await world.until(lambda: len(world.engine.sup.timers))
        await world.saved()
        await world.crash()
        await world.clock.advance(7200)
        async with world:
            assert result_of(await world.finished(run_id)) == "ended"


async def test_what_a_child_cannot_take_is_its_callers_error() -> None:
    world = World()

    async def child(ctx: Context, value: int) -> int:
        return value

    async def parent(ctx: Context) -> Any:
        with pytest.raises(InvalidInputError):
            await ctx.call("child", "no number")
        with pytest.raises(WorkflowNotFoundError):
            await ctx.call("nobody")
        return await ctx.call("child", 1)

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            assert await world.result("parent") == 1
            assert len(world.engine.sup.runs) == 2


async def test_a_child_that_is_no_longer_registered_is_waited_for_until_it_is() -> None:
    world = World()

    @dataclass
    class Grown:
        years: int

    async def child(ctx: Context) -> Grown:
        await ctx.wait_for_event("go", timeout=None)
        return Grown(3)

    async def parent(ctx: Context) -> Any:
        async with asyncio.TaskGroup() as group:
            grown = group.create_task(ctx.call("child"))
            group.create_task(ctx.sleep("nap", "1h"))
        return grown.result().years + (await ctx.call(child)).years

    with world.clock.driving():
        world.redeploy(parent, child)
        await world.start()
        run_id = await world.trigger("parent")
        await world.until(lambda: len(world.engine.sup.waiters) == 1)
        await world.saved()
        await world.crash()
        world.redeploy(parent)
        async with world:
            await world.clock.advance(7200)
            view = await world.engine.get_run(run_id)
            assert (view.status, view.state) == ("running", "waiting")
            (child_id,) = (r for r in world.engine.sup.runs if r != run_id)
            await world.engine.notify("go", b"1")
            await world.clock.advance(1)
            assert (await world.engine.get_run(child_id)).state == "missing-workflow"
            # The one parent waits for it, asked by a function that is not registered, too.
            world.flow.workflow("child")(child)
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
            await world.engine.notify("go", b"1")
            assert result_of(await world.finished(run_id)) == 6


async def test_what_a_child_returned_stays_though_it_is_no_longer_registered() -> None:
    world = World()

    async def child(ctx: Context, value: int) -> int:
        return value + 1

    async def parent(ctx: Context) -> Any:
        found = [await ctx.call("child", n) for n in (1, 2)]
        await ctx.wait_for_event("go", timeout=None)
        try:
            await ctx.call("child", 3)
        except WorkflowNotFoundError:
            return found
        return "called"

    with world.clock.driving():
        world.redeploy(parent, child)
        await world.start()
        run_id = await world.trigger("parent")
        await world.until(lambda: len(world.engine.sup.waiters) == 1)
        await world.saved()
        await world.crash()
        world.redeploy(parent)
        async with world:
            assert await world.engine.notify("go", b"1") == 1
            assert result_of(await world.finished(run_id)) == [2, 3]


async def test_a_child_that_was_given_up_is_cancelled() -> None:
    world = World()

    async def grandchild(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    async def child(ctx: Context) -> None:
        await ctx.call("grandchild")

    async def parent(ctx: Context) -> Any:
        task = asyncio.create_task(ctx.call("child"))
        await ctx.sleep("bit", "1m")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ctx.sleep("long", "2h")
        return "parent"

    with world.clock.driving():
        world.redeploy(parent, child, grandchild)
        async with world:
            assert await world.result("parent") == "parent"
            views = [await world.finished(r) for r in world.engine.sup.runs]
            status = {view.workflow_id: view.status for view in views}
            assert status == {
                "parent": "completed",
                "child": "cancelled",
                "grandchild": "cancelled",
            }
            # One frame: no crash leaves a child that nobody waits for.
            groups = [decoded(group) for group in world.life.groups]
            (both,) = [g for g in groups if any(isinstance(r, rec.CallCancelled) for r in g)]
            assert any(isinstance(r, rec.CancelRequested) for r in both)


async def test_children_that_are_awaited_when_their_parent_ends_are_cancelled() -> None:
    world = World()

    async def child(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    async def parent(ctx: Context) -> Any:
        # Held, but never awaited: the body returns all the same.
        world.note(asyncio.create_task(ctx.call("child")))
        await ctx.sleep("bit", "1m")
        return "parent"

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            run_id = await world.trigger("parent")
            await world.finished(run_id)
            (child_id,) = (r for r in world.engine.sup.runs if r != run_id)
            view = await world.finished(child_id)
            assert view.status == "cancelled"
            assert "the parent run has ended" in error_of(view)["message"]


async def test_children_that_lose_a_first_are_cancelled() -> None:
    world = World()

    async def child(ctx: Context, days: int) -> int:
        await ctx.sleep("s", days * 86400)
        return days

    async def parent(ctx: Context) -> Any:
        return await ctx.first(
            slow=ctx.call(child, 3, name="slow"), quick=ctx.call(child, 1, name="quick")
        )

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            assert await world.result("parent") == ["quick", 1]
            views = [await world.finished(r) for r in world.engine.sup.runs]
            assert sorted(v.status for v in views) == ["cancelled", "completed", "completed"]


async def test_a_child_given_up_on_a_full_disk_is_cancelled_at_the_next_start() -> None:
    world = World()

    async def child(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    async def parent(ctx: Context) -> Any:
        task = asyncio.create_task(ctx.call("child"))
        await ctx.sleep("bit", "1m")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ctx.sleep("long", "2h")

    with world.clock.driving():
        world.redeploy(parent, child)
        await world.start()
        run_id = await world.trigger("parent")
        await world.until(lambda: len(world.engine.sup.waiters))
        (child_id,) = (r for r in world.engine.sup.runs if r != run_id)
        # It has no ear: what it is told stays in its mailbox, as on a full disk.
        world.actor(child_id)._draining = True
        await world.clock.advance(70)
        await world.saved()
        assert world.records(rec.CallCancelled)
        assert not world.records(rec.CancelRequested)
        await world.crash()
        async with world:
            assert (await world.finished(child_id)).status == "cancelled"


@pytest.mark.parametrize("first", ["child", "adult", "function"])
async def test_a_child_whose_workflow_got_another_id_is_the_same_by_its_alias(first: str) -> None:
    world = World()

    async def child(ctx: Context) -> str:
        await ctx.wait_for_event("go", timeout=None)
        return "grown"

    def parent_of(which: Any) -> Any:
        async def parent(ctx: Context) -> Any:
            one = await ctx.call(which)
            return [one, await ctx.call(which, name="second")]

        return parent

    with world.clock.driving():
        world.redeploy(parent_of("child"), child)
        await world.start()
        run_id = await world.trigger("parent")
        await world.until(lambda: len(world.engine.sup.waiters))
        await world.engine.notify("go", b"1")
        await world.until(lambda: len(world.engine.sup.waiters))
        await world.saved()
        await world.crash()
        world.redeploy(parent_of(child if first == "function" else first))
        world.flow.workflow("adult", aliases=["child"])(child)
        async with world:
            await world.engine.notify("go", b"1")
            assert result_of(await world.finished(run_id)) == ["grown", "grown"]
            assert len(world.engine.sup.runs) == 3, "no child was made twice"


async def test_the_tree_of_runs_is_on_each_run() -> None:
    world = World()

    async def child(ctx: Context) -> str:
        return "grown"

    async def parent(ctx: Context) -> Any:
        await ctx.call("child")
        free: str = await ctx.start("child", name="free")
        return free

    with world.clock.driving():
        world.redeploy(parent, child)
        async with world:
            run_id = await world.trigger("parent")
            free = result_of(await world.finished(run_id))
            view = await world.engine.get_run(run_id)
            children = msgspec.to_builtins(view.children)
            assert [(c["workflowId"], c["key"], c.get("awaited")) for c in children] == [
                ("child", "child#1", None),
                ("child", "free#1", False),
            ]
            assert children[1]["runId"] == free
            one = await world.engine.get_run(children[0]["runId"])
            assert msgspec.to_builtins(one.parent) == {"runId": run_id, "key": "child#1"}
            assert msgspec.to_builtins((await world.engine.get_run(free)).parent) == {
                "runId": run_id
            }


async def test_a_child_that_was_given_up_is_the_same_when_its_call_is_made_again() -> None:
    world = World()

    async def child(ctx: Context) -> str:
        await ctx.sleep("nap", "1h")
        return "late"

    async def passes() -> str:
        # Ends by itself after the call was begun: nothing recorded says so to a replay.
        for _ in range(40):
            await asyncio.sleep(0)
        return "passes"

    async def parent(ctx: Context) -> str:
        racers = [asyncio.create_task(ctx.call("child")), asyncio.create_task(passes())]
        done, late = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.wait(racers)
        await ctx.sleep("rest", "2h")
        winner: str = done.pop().result()
        return winner

    world.redeploy(parent, child)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("parent")
            await world.until(lambda: "rest#1" in world.actor(run_id).state.calls)
            journal = world.engine.sup.journal
            await journal.durable(journal.last_lsn)
            before = set(world.engine.sup.runs)
            await world.crash()
            await world.start()
            assert result_of(await world.finished(run_id)) == "passes"
            assert set(world.engine.sup.runs) == before
            call = next(c for c in world.actor(run_id).state.calls.values() if c.kind == "child")
            assert call.child in before
            assert call.cancelled
