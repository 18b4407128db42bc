"""Threads that go on after their step hold their places, and whoever waits is told of them."""

from __future__ import annotations

import contextvars
import logging
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RetryPolicy, StepFailedError, StepInterruptedError
from stepflow.runtime import threads
from tests.harness import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow import Context
    from stepflow.model.why import WaitingFor

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_attempts=1)


class Stuck:
    """A service of few threads, and sync steps that go on until they are let go."""

    def __init__(self, threads: int) -> None:
        self.world = World(threads=threads)
        self.free = threading.Event()
        self.began: list[str] = []

    def stuck(self, name: str) -> str:
        self.began.append(name)
        self.free.wait()
        return name

    def deploy(self, *bodies: Callable[..., Any]) -> World:
        async def holds(ctx: Context, name: str) -> str:
            try:
                await ctx.step("hold", self.stuck, name, timeout="5s", retry=ONCE)
            except StepFailedError as error:
                return error.error_type
            return ""

        async def waits(ctx: Context) -> str:
            return await ctx.step("next", lambda: "went on")

        self.world.redeploy(holds, waits, *bodies)
        return self.world

    async def fill(self, *names: str) -> list[str]:
        """Return the runs whose steps have timed out and hold a thread each."""
        world = self.world
        runs = [await world.trigger("holds", name) for name in names]
        await world.until(lambda: len(self.began) == len(names))
        await world.clock.advance(6)
        for run_id in runs:
            await world.finished(run_id)
        return runs

    async def let_go(self) -> None:
        self.free.set()
        await self.world.until(lambda: self.world.engine.sup.steps.zombies == 0, 10_000_000)


async def why(world: World, run_id: str) -> tuple[str, WaitingFor]:
    view = await world.engine.why(run_id)
    (row,) = view.waiting_for
    return view.summary, row


async def test_a_step_says_that_it_waits_for_a_thread_and_which_steps_hold_them() -> None:
    scene = Stuck(2)
    world = scene.deploy()
    with world.clock.driving():
        async with world:
            held = await scene.fill("a", "b")
            waiting = [await world.trigger("waits") for _ in range(2)]
            await world.until(lambda: world.engine.sup.steps.waiting == 2)
            await world.clock.advance(3600)
            summary, row = await why(world, waiting[1])
            on_the_wire = msgspec.json.decode(msgspec.json.encode(row))
            assert set(on_the_wire["heldThreads"][0]) == {
                *("runId", "workflowId", "key", "attempt", "since")
            }
            assert on_the_wire["zombies"] == 2
            assert (row.kind, row.name, row.key) == ("thread", "next", "next#1")
            assert (row.ahead, row.limit, row.zombies) == (1, "2 threads", 2)
            rows = row.held_threads
            assert isinstance(rows, list)
            assert [t.run_id for t in rows] == held
            assert {(t.key, t.attempt, t.workflow_id) for t in rows} == {("hold#1", 1, "holds")}
            assert rows[0].since < str(row.since)
            assert "Step 'next' waits since 1h 00m for a free thread, 1 ahead of it" in summary
            assert "2 of 2 are held by steps that timed out or were given up" in summary
            assert f"the oldest 'hold#1' of {held[0]} since 1h 00m" in summary
            assert "restart of the process" in summary
            body: Any = world.engine.readiness()
            pool = body["degraded"]["stepThreads"]
            assert (pool["limit"], pool["waiting"], pool["zombies"]) == (2, 2, 2)
            assert pool["zombiesSince"] == rows[0].since
            assert held[0] not in str(body)
            figures = world.engine.metrics()
            assert figures["stepflow_step_threads"] == 2
            assert figures["stepflow_step_zombies"] == 2
            assert figures["stepflow_steps_waiting_for_thread"] == 2
            await scene.let_go()
            for run_id in waiting:
                assert (await world.finished(run_id)).status == "completed"
            assert world.engine.metrics()["stepflow_steps_waiting_for_thread"] == 0


async def test_a_pool_that_is_merely_busy_says_so_and_a_step_in_a_thread_runs() -> None:
    scene = Stuck(1)

    async def busy(ctx: Context) -> str:
        return await ctx.step("long", scene.stuck, "a")

    world = scene.deploy(busy)
    with world.clock.driving():
        async with world:
            running = await world.trigger("busy")
            await world.until(lambda: scene.began)
            waiting = await world.trigger("waits")
            await world.until(lambda: world.engine.sup.steps.waiting)
            summary, row = await why(world, waiting)
            assert (row.kind, row.ahead, row.zombies) == ("thread", 0, 0)
            assert isinstance(row.held_threads, msgspec.UnsetType)
            assert "all 1 run other steps (STEPFLOW_THREADS)" in summary
            summary, row = await why(world, running)
            assert row.kind == "step"
            assert "runs since" in summary
            scene.free.set()
            assert (await world.finished(waiting)).status == "completed"


async def test_a_step_that_the_body_gave_up_holds_its_thread_too() -> None:
    scene = Stuck(1)

    async def gives_up(ctx: Context) -> str:
        won, _ = await ctx.first(
            held=ctx.step("long", scene.stuck, "a"), late=ctx.sleep("nap", "1s")
        )
        return won

    world = scene.deploy(gives_up)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("gives_up")
            await world.until(lambda: scene.began)
            await world.clock.advance(2)
            assert bytes((await world.finished(run_id)).result) == b'"late"'  # type: ignore[arg-type]
            assert world.engine.sup.steps.zombies == 1
            waiting = await world.trigger("waits")
            await world.until(lambda: world.engine.sup.steps.waiting)
            _, row = await why(world, waiting)
            assert row.zombies == 1
            await scene.let_go()
            assert (await world.finished(waiting)).status == "completed"


async def test_no_more_than_ten_are_listed_and_a_full_pool_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Stuck(12)
    world = scene.deploy()
    with world.clock.driving(), caplog.at_level(logging.ERROR):
        async with world:
            await scene.fill(*map(str, range(12)))
            waiting = await world.trigger("waits")
            await world.until(lambda: world.engine.sup.steps.waiting)
            _, row = await why(world, waiting)
            assert row.zombies == 12
            assert isinstance(row.held_threads, list)
            assert len(row.held_threads) == 10
            said = [m for m in caplog.messages if m.startswith("all 12 threads are held")]
            assert len(said) == 1
            await scene.let_go()


async def test_what_times_out_before_it_has_a_thread_is_gone_from_the_queue() -> None:
    scene = Stuck(1)

    async def patient(ctx: Context) -> Any:
        policy = RetryPolicy(max_attempts=3, initial="1s", jitter=False)
        try:
            return await ctx.step("next", scene.stuck, "b", timeout="5s", retry=policy)
        except StepFailedError as error:
            return [error.error_type, error.attempts]

    world = scene.deploy(patient)
    with world.clock.driving():
        async with world:
            await scene.fill("a")
            run_id = await world.trigger("patient")
            await world.until(lambda: world.engine.sup.steps.waiting)
            await world.clock.advance(60)
            view = await world.finished(run_id)
            assert bytes(view.result) == b'["TimeoutError",3]'  # type: ignore[arg-type]
            assert scene.began == ["a"]
            steps = world.engine.sup.steps
            assert (steps.waiting, steps.zombies) == (0, 1)
            await scene.let_go()


async def test_at_most_once_is_tried_again_where_it_is_known_not_to_have_begun() -> None:
    scene = Stuck(1)

    async def pays(ctx: Context) -> Any:
        policy = RetryPolicy(max_attempts=3, initial="1m", jitter=False)
        try:
            return await ctx.step(
                "pay", scene.stuck, "pay", timeout="5s", retry=policy, at_most_once=True
            )
        except StepInterruptedError:
            return "interrupted"

    world = scene.deploy(pays)
    with world.clock.driving():
        async with world:
            await scene.fill("a")
            run_id = await world.trigger("pays")
            await world.until(lambda: world.engine.sup.steps.waiting)
            await world.clock.advance(10)
            assert scene.began == ["a"]
            await scene.let_go()
            view = await world.finished(run_id)
            assert scene.began == ["a", "pay"]
            assert bytes(view.result) == b'"pay"'  # type: ignore[arg-type]


async def test_the_place_in_a_very_long_queue_is_counted_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_LOOKED_MAX", 2)
    pool = threads.StepThreads(0)
    attempts: list[Any] = [object() for _ in range(4)]
    for attempt in attempts:
        pool.submit(attempt, contextvars.Context(), print, print)
    assert pool.withdraw(attempts[0])
    assert not pool.withdraw(attempts[0])
    assert pool.ahead_of([*attempts, object()]) == {  # type: ignore[list-item]
        attempts[1]: 0,
        attempts[2]: 1,
        attempts[3]: 2,
    }


async def test_jobs_in_the_queue_are_each_taken_once() -> None:
    world = World(threads=3)
    ran: list[int] = []

    async def w(ctx: Context) -> int:
        return len(await ctx.map("m", ran.append, range(200), limit=50))

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == 200
            assert sorted(ran) == list(range(200))
            steps = world.engine.sup.steps
            assert (steps.waiting, steps.zombies, steps.running) == (0, 0, 0)
