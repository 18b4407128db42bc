"""The body sees the same results in the same order, however often it is run."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import AuthoringError
from stepflow.clock import next_pass
from tests.harness import Life, World, crash_everywhere, error_of, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


class Lab:
    """A world with one kind of step, which takes as many passes as its name is told to."""

    def __init__(self, **options: Any) -> None:
        self.world = World(**options)
        self.takes: dict[str, int] = {}
        """Key or name to the passes that the step takes; 0 unless told."""
        self.look: Any = lambda: None

    async def work(self, value: Any = None) -> str:
        ran = self.world.ran(value)
        self.look()
        for _ in range(self.takes.get(ran.key, self.takes.get(ran.name, 0))):
            await next_pass()
        return f"{ran.key}={value}"

    def workflow(self, function: Any) -> Any:
        return self.world.flow.workflow("w")(function)

    def shuffled(self, *names: str) -> Any:
        """Return what gives each life other times."""

        def between(life: int) -> None:
            order = [names[(i * 7 + life * 3) % len(names)] for i in range(len(names))]
            self.takes = {name: 5 * i * (1 + life % 3) for i, name in enumerate(order)}

        return between


async def everywhere(lab: Lab, *names: str) -> tuple[Life, list[Any]]:
    with lab.world.clock.driving():
        first, later = await crash_everywhere(lab.world, "w", between=lab.shuffled(*names))
    return first, later


async def test_first_completed_picks_the_same_winner_after_a_restart() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        tasks = [
            asyncio.create_task(ctx.step(name, lab.work), name=name) for name in ("a", "b", "c")
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winners = sorted(task.get_name() for task in done)
        lab.world.note(winners)
        await ctx.step("after", lab.work, winners)
        return winners

    lab.takes = {"a": 50, "b": 3, "c": 20}
    with lab.world.clock.driving():
        async with lab.world as world:
            assert await world.result("w") == ["b"]
        groups = [g for g in world.before if b'"b#1"' not in g[0] or b"completed" in g[0]]
        recorded = next(i for i, g in enumerate(groups) if b"completed" in g[0]) + 1
        world.cut(world.before[: recorded + len(world.before) - len(groups)])
        lab.takes = {"a": 0, "b": 50, "c": 0}
        async with world:
            view = await world.finished(next(iter(world.engine.sup.runs)))
        assert result_of(view) == ["b"]
    await everywhere(lab, "a", "b", "c", "after")


async def test_two_results_in_one_turn_make_one_winner() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        tasks = [asyncio.create_task(ctx.step(n, lab.work), name=n) for n in ("a", "b")]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        lab.world.note(sorted(task.get_name() for task in done))
        return len(done)

    lab.takes = {}
    with lab.world.clock.driving():
        first, later = await crash_everywhere(lab.world, "w")
    assert len(first.trace[0][0]) == 1
    assert all(result_of(view) == 1 for _, view in later)


async def test_equal_calls_keep_their_own_results_when_one_was_in_flight() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        async def branch(first: str) -> str:
            await ctx.step(first, lab.work)
            return await ctx.step("equal", lab.work, 1)

        return await asyncio.gather(branch("slow"), branch("fast"))

    def between(life: int) -> None:
        # The branch that was behind is ahead in the next life.
        times = {"slow": 40, "fast": 0} if life % 2 == 0 else {"slow": 0, "fast": 40}
        lab.takes = times | {"equal": 3 * (life % 4)}

    with lab.world.clock.driving():
        _, later = await crash_everywhere(lab.world, "w", between=between)
    name = "test_equal_calls_keep_their_own_results_when_one_was_in_flight.<locals>.w.<locals>"
    expected = [f"{name}.branch~{n}/equal#1=1" for n in (1, 2)]
    assert all(result_of(view) == expected for _, view in later)


async def test_gather_nested_five_deep_sees_one_order() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        async def nest(depth: int) -> Any:
            if not depth:
                return await ctx.step("leaf", lab.work)
            inner = await asyncio.gather(nest(depth - 1), ctx.step(f"side{depth}", lab.work))
            lab.world.note(depth, inner)
            return inner

        return await nest(5)

    await everywhere(lab, "leaf", "side1", "side2", "side3", "side4", "side5")


async def test_a_chain_of_eight_events_is_quiet_only_at_its_end() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        events = [asyncio.Event() for _ in range(8)]

        async def link(number: int) -> None:
            await events[number].wait()
            lab.world.note("link", number)
            if number < 7:
                events[number + 1].set()

        async def head() -> None:
            await ctx.step("head", lab.work)
            events[0].set()

        async def other() -> None:
            lab.world.note(await ctx.step("other", lab.work))

        await asyncio.gather(head(), other(), *(link(n) for n in range(8)))
        lab.world.note(await ctx.step("last", lab.work))

    await everywhere(lab, "head", "other", "last")


async def test_a_chain_of_bare_futures_is_quiet_only_at_its_end() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        loop = asyncio.get_running_loop()
        links = [loop.create_future() for _ in range(6)]
        for one, two in pairwise(links):
            one.add_done_callback(lambda _, two=two: two.set_result(None))

        async def head() -> None:
            await ctx.step("head", lab.work)
            links[0].set_result(None)

        async def tail() -> None:
            await links[-1]
            lab.world.note("tail")
            lab.world.note(await ctx.step("tail", lab.work))

        async def other() -> None:
            lab.world.note(await ctx.step("other", lab.work))

        await asyncio.gather(head(), tail(), other())

    await everywhere(lab, "head", "other", "tail")


async def test_a_semaphore_lets_the_same_through_after_a_restart() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        gate = asyncio.Semaphore(2)

        async def one(name: str) -> Any:
            async with gate:
                lab.world.note("in", name)
                return await ctx.step(name, lab.work)

        return await asyncio.gather(*map(one, "abcdef"))

    await everywhere(lab, *"abcdef")


async def test_orphans_of_a_failed_gather_replay_as_they_ran() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        async def orphan(name: str) -> None:
            for number in range(2):
                lab.world.note(await ctx.step(f"{name}{number}", lab.work))

        async def fails() -> None:
            await ctx.step("bad", lab.work)
            raise ValueError("one of them")

        try:
            await asyncio.gather(orphan("x"), fails(), orphan("y"))
        except ValueError as error:
            lab.world.note(str(error))
        return await ctx.step("after", lab.work)

    await everywhere(lab, "x0", "x1", "y0", "y1", "bad", "after")


async def test_map_gives_its_results_in_order_and_never_again() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        async def side() -> Any:
            return await ctx.step("side", lab.work)

        values = await asyncio.gather(ctx.map("m", lab.work, range(5), limit=2), side())
        lab.world.note(values)
        return values

    first, _ = await everywhere(lab, "m#1.0", "m#1.3", "m#1.1", "side", "m#1.2")
    assert [v.split("=")[1] for v in first.trace[0][0][0]] == ["0", "1", "2", "3", "4"]


async def test_as_completed_over_bare_coroutines_is_refused_and_names_ctx_map() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        with pytest.raises(AuthoringError, match=r"ctx\.map"):
            for part in asyncio.as_completed([ctx.step("a", lab.work), ctx.step("b", lab.work)]):
                await part
        tasks = [asyncio.create_task(ctx.step(name, lab.work)) for name in ("c", "d")]
        return [await part for part in asyncio.as_completed(tasks)]

    with lab.world.clock.driving():
        async with lab.world as world:
            assert sorted(await world.result("w")) == ["c#1=None", "d#1=None"]


async def test_no_new_step_starts_while_a_recorded_result_is_outstanding() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        async def chain(name: str) -> None:
            for number in range(3):
                await ctx.step(name, lab.work, number)

        await asyncio.gather(chain("a"), chain("b"))

    lab.takes = {"a": 30, "b": 1}
    with lab.world.clock.driving():
        async with lab.world as world:
            await world.result("w")
        groups = world.before
        done = [i for i, g in enumerate(groups) if b"step.completed" in g[0]]
        world.cut(groups[: done[3] + 1])
        gate_was_empty: list[bool] = []

        def look() -> None:
            (actor,) = world.engine.sup.runs.values()
            assert actor.session is not None
            gate_was_empty.append(not actor.session.gate._heap)

        lab.look = look
        async with world:
            await world.finished(next(iter(world.engine.sup.runs)))
        assert gate_was_empty
        assert all(gate_was_empty)


async def test_the_late_result_of_a_cancelled_call_is_not_recorded() -> None:
    lab = Lab()
    freed = asyncio.Event()

    async def stubborn() -> str:
        lab.world.ran()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            freed.set()
            return "late"
        return "never"

    @lab.workflow
    async def w(ctx: Context) -> Any:
        task = asyncio.create_task(ctx.step("slow", stubborn))
        await ctx.step("quick", lab.work)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ctx.step("after", lab.work)
        return task.cancelled()

    with lab.world.clock.driving():
        async with lab.world as world:
            assert await world.result("w") is True
            await freed.wait()
            await world.settle()
            assert not any(b'"late"' in row for group in world.life.groups for row in group)
        await crash_everywhere(lab.world, "w")


async def test_a_run_that_gave_up_a_call_ends_alike_with_thread_steps() -> None:
    lab = Lab()

    def thread(number: int) -> int:
        lab.world.ran(number)
        return number * 2

    @lab.workflow
    async def w(ctx: Context) -> Any:
        return await asyncio.gather(*(ctx.step("t", thread, n) for n in range(4)))

    with lab.world.clock.driving():
        _, later = await crash_everywhere(lab.world, "w")
    assert all(result_of(view) == [0, 2, 4, 6] for _, view in later)


async def test_a_body_that_raises_ends_the_run_alike() -> None:
    lab = Lab()

    @lab.workflow
    async def w(ctx: Context) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("a", lab.work))
            group.create_task(ctx.step("b", lab.work))
        raise RuntimeError("at the end")

    with lab.world.clock.driving():
        _, later = await crash_everywhere(lab.world, "w", between=lab.shuffled("a", "b"))
    assert {error_of(view)["message"] for _, view in later} == {"at the end"}
