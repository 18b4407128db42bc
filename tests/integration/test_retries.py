"""A step is tried again by its policy; the waits are durable, and hold nothing."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import (
    NonRetryableError,
    RetryAfterError,
    RetryPolicy,
    StepFailedError,
    StepInterruptedError,
    current_step,
)
from stepflow.model import records as rec
from stepflow.model.codec import RemoteCause
from tests.harness import World, crash_everywhere, error_of, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio

STEADY = RetryPolicy(max_attempts=4, initial="10s", jitter=False)


class Flaky:
    """A step that fails so often, and notes when it ran."""

    def __init__(self, world: World, failures: int, error: type[Exception] = OSError) -> None:
        self.world = world
        self.failures = failures
        self.error = error

    async def __call__(self) -> str:
        ran = self.world.ran()
        self.world.note(ran.attempt, self.world.clock.monotonic_s())
        if ran.attempt <= self.failures:
            raise self.error(f"attempt {ran.attempt}")
        return "done"


async def ends(world: World, step: Any, **options: Any) -> Any:
    async def w(ctx: Context) -> Any:
        return await ctx.step("s", step, **options)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            return await world.run("w")


async def test_the_default_is_four_attempts_with_growing_waits() -> None:
    world = World()
    view = await ends(world, Flaky(world, 9))
    assert view.status == "failed"
    assert error_of(view)["attempts"] == 4
    assert [row[0] for row in world.life.trace] == [1, 2, 3, 4]
    times = [row[1] for row in world.life.trace]
    waits = [b - a for a, b in pairwise(times)]
    assert all(0 <= wait <= limit + 0.01 for wait, limit in zip(waits, (1, 2, 4), strict=True))


async def test_waits_follow_the_policy_and_hold_no_thread() -> None:
    world = World(threads=1)

    def thread() -> str:
        world.ran()
        return "other"

    def flaky() -> str:
        world.note(world.clock.monotonic_s())
        if len(world.life.trace) < 4:
            raise OSError("again")
        return "done"

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(
            ctx.step("s", flaky, retry=STEADY), ctx.map("others", lambda _: thread(), range(3))
        )

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert (await world.result("w"))[0] == "done"
    times = [row[0] for row in world.life.trace]
    waits = [b - a for a, b in pairwise(times)]
    assert waits == pytest.approx([10, 20, 40], abs=0.01)


async def test_a_wait_survives_a_restart_and_ends_when_it_would_have() -> None:
    world = World()
    step = Flaky(world, 1)

    async def w(ctx: Context) -> Any:
        return await ctx.step("s", step, retry=STEADY)

    world.redeploy(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.records(rec.StepRetrying))
        await world.saved()
        failed_s = world.clock.monotonic_s()
        await world.clock.advance(4)
        await world.restart()
        assert result_of(await world.finished(run_id)) == "done"
        ((attempt, ran_s),) = world.life.trace
        assert attempt == 2
        assert ran_s - failed_s == pytest.approx(10, abs=0.1)
        await world.stop()


async def test_a_wait_that_ended_while_the_process_was_down_is_over() -> None:
    world = World()
    step = Flaky(world, 1)

    async def w(ctx: Context) -> Any:
        return await ctx.step("s", step, retry=STEADY)

    world.redeploy(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.records(rec.StepRetrying))
        await world.saved()
        await world.crash()
        await world.clock.advance(60)
        back_s = world.clock.monotonic_s()
        async with world:
            assert result_of(await world.finished(run_id)) == "done"
            assert world.life.trace[0][1] - back_s < 1


async def test_a_crash_after_any_record_of_a_retried_step_changes_nothing() -> None:
    world = World()
    step = Flaky(world, 2)

    async def quiet() -> str:
        trace = list(world.life.trace)
        try:
            return await step()
        finally:
            world.life.trace[:] = trace

    async def w(ctx: Context) -> Any:
        value = await ctx.step("s", quiet, retry=STEADY)
        world.note(value)
        return value

    world.redeploy(w)
    with world.clock.driving():
        _, later = await crash_everywhere(world, "w")
    assert all(result_of(view) == "done" for _, view in later)


@pytest.mark.parametrize("error", [NonRetryableError, NameError, ImportError, NotImplementedError])
async def test_some_errors_are_not_tried_again(error: type[Exception]) -> None:
    world = World()
    view = await ends(world, Flaky(world, 9, error))
    assert error_of(view)["type"] == error.__name__
    assert len(world.life.ran) == 1


async def test_a_policy_names_further_errors_that_are_final() -> None:
    world = World()
    policy = RetryPolicy(non_retryable=(OSError,))
    await ends(world, Flaky(world, 9), retry=policy)
    assert len(world.life.ran) == 1


async def test_retry_after_says_when() -> None:
    world = World()

    async def step() -> str:
        world.note(world.clock.monotonic_s())
        if len(world.life.trace) < 2:
            raise RetryAfterError("90s")
        return "done"

    assert result_of(await ends(world, step)) == "done"
    (first,), (second,) = world.life.trace
    assert second - first == pytest.approx(90, abs=0.01)


async def test_retry_after_does_not_give_more_attempts() -> None:
    world = World()

    async def step() -> str:
        world.ran()
        raise RetryAfterError(1)

    view = await ends(world, step, retry=RetryPolicy(max_attempts=2))
    assert view.status == "failed"
    assert len(world.life.ran) == 2


async def test_a_failed_step_is_equal_live_and_on_replay() -> None:
    world = World()
    seen: list[Any] = []

    class CardError(Exception):
        data = {"card": "c-1"}  # noqa: RUF012  what the exception carries

    async def fails() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise CardError("no such card") from error

    async def w(ctx: Context) -> Any:
        try:
            await ctx.step("charge", fails, retry=RetryPolicy(max_attempts=1))
        except StepFailedError as error:
            cause = error.__cause__
            seen.append(
                (
                    type(error),
                    error.name,
                    error.error_type,
                    error.message,
                    error.attempts,
                    error.data,
                    str(error),
                    type(cause),
                    str(cause),
                    str(cause.__cause__) if cause else None,
                )
            )
        await ctx.wait_for_event("go", timeout=None)

    world.redeploy(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.waiters))
        await world.saved()
        await world.restart()
        await world.engine.notify("go", b"null")
        await world.finished(run_id)
        await world.stop()
    live, replayed = seen
    assert live == replayed
    assert live[1:6] == ("charge", "CardError", "no such card", 1, {"card": "c-1"})
    assert live[7] is RemoteCause
    assert live[9] == "KeyError: 'inner'"


async def test_an_async_step_is_stopped_at_its_timeout_and_tried_again() -> None:
    world = World()

    async def slow() -> str:
        ran = world.ran()
        await asyncio.sleep(0 if ran.attempt == 2 else 1000)
        return f"attempt {ran.attempt}"

    view = await ends(world, slow, timeout="5s", retry=STEADY)
    assert result_of(view) == "attempt 2"
    (failed,) = world.records(rec.StepRetrying)
    assert b"TimeoutError" in bytes(failed.error)


async def test_an_async_step_that_swallows_its_cancellation_is_left_after_its_timeout() -> None:
    world = World()
    free = asyncio.Event()

    async def stubborn() -> str:
        ran = world.ran()
        if ran.attempt == 2:
            return "second"
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                world.note("swallowed")
        return "late"

    async def w(ctx: Context) -> Any:
        value = await ctx.step("s", stubborn, timeout="5s", retry=STEADY)
        free.set()
        await ctx.sleep("while", 1)
        return value

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == "second"
            assert len(world.records(rec.StepCompleted)) == 1


async def test_a_thread_step_that_times_out_is_a_zombie_and_its_late_result_is_dropped() -> None:
    world = World(threads=2)
    free = threading.Event()

    def stuck() -> str:
        ran = world.ran()
        if ran.attempt > 1:
            return "second"
        free.wait()
        return "late"

    async def w(ctx: Context) -> Any:
        return await ctx.step("s", stuck, timeout="5s", retry=STEADY)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            await world.clock.advance(6)
            steps = world.engine.sup.steps
            assert steps.zombies == 1
            assert world.engine.metrics()["stepflow_step_zombies"] == 1
            assert world.engine.readiness()["degraded"]["zombies"] == 1  # type: ignore[index]
            assert result_of(await world.finished(run_id)) == "second"
            free.set()
            # A thread ends in real time, so the test really waits for it.
            await asyncio.get_running_loop().run_in_executor(None, free.wait)
            await world.until(lambda: steps.zombies == 0, 10_000_000)
            assert len(world.records(rec.StepCompleted)) == 1


async def test_a_zombie_holds_its_slot_and_what_timed_out_in_the_queue_never_begins() -> None:
    world = World(threads=1)
    free = threading.Event()

    def stuck() -> str:
        world.ran()
        free.wait()
        return "late"

    def queued() -> str:
        world.note("began")
        return "queued"

    once = RetryPolicy(max_attempts=1)

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(
            ctx.step("stuck", stuck, timeout="5s", retry=once),
            ctx.step("queued", queued, timeout="7s", retry=once),
            return_exceptions=True,
        )

    async def after(ctx: Context) -> Any:
        return await ctx.step("after", queued)

    world.redeploy(w, after)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            await world.clock.advance(8)
            await world.finished(run_id)
            # The other one had no thread yet: it was taken out of the queue.
            assert world.engine.sup.steps.zombies == 1
            assert world.engine.sup.steps.waiting == 0
            assert not world.life.trace
            free.set()
            assert await world.result("after") == "queued"
            assert world.life.trace == [("began",)]
            assert world.engine.sup.steps.zombies == 0


async def test_at_most_once_is_not_run_again_after_a_crash() -> None:
    world = World()

    async def pays() -> None:
        world.ran()
        await asyncio.Event().wait()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.step("pay", pays, at_most_once=True)
        except StepInterruptedError as error:
            return str(error)

    world.redeploy(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.life.ran)
        await world.restart()
        said = result_of(await world.finished(run_id))
        assert "may have taken effect" in said
        assert not world.life.ran
        await world.restart()
        assert result_of(await world.finished(run_id)) == said
        await world.stop()


async def test_at_most_once_has_its_start_on_disk_before_it_runs() -> None:
    world = World()
    durable: list[bool] = []

    async def pays() -> None:
        journal = world.engine.sup.journal
        (started,) = world.records(rec.StepStarted)
        durable.append(journal.durable_lsn >= started.lsn)

    await ends(world, pays, at_most_once=True)
    assert durable == [True]


async def test_a_step_knows_its_attempt() -> None:
    world = World()

    async def step() -> int:
        if current_step().attempt < 3:
            raise OSError("again")
        return current_step().attempt

    assert result_of(await ends(world, step)) == 3
