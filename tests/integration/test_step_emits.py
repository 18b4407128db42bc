"""What steps emit: durable, in order with their end, many in one frame, from threads too."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import (
    AuthoringError,
    NonRetryableError,
    RetryPolicy,
    StepInterruptedError,
    current_step,
)
from stepflow.model import records as rec
from stepflow.runtime.emitting import AHEAD
from tests.harness import World, result_of

if TYPE_CHECKING:
    from collections.abc import Callable

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


async def spin(condition: Callable[[], Any]) -> None:
    """Let the loop go round until it holds: virtual time stands still while a thread runs."""
    while not condition():
        await asyncio.sleep(0)


class SlowDisk:
    """Lets nothing of the journal become durable for the runtime until it is told to."""

    def __init__(self, world: World) -> None:
        self._journal = world.engine.sup.journal
        self.waiting: list[Any] = []

    def stop(self) -> None:
        self._journal.when_durable = self._keep  # type: ignore[method-assign]
        self._journal.hurry = lambda _: None  # type: ignore[method-assign]

    def _keep(self, lsn: int, told: Any) -> None:
        self.waiting.append((lsn, told))

    def go_on(self) -> None:
        del self._journal.when_durable, self._journal.hurry
        waiting, self.waiting = self.waiting, []
        for lsn, told in waiting:
            self._journal.hurry(lsn)
            self._journal.when_durable(lsn, told)


async def test_awaiting_an_emit_lets_the_loop_go_on_each_time() -> None:
    world = World()
    passes: list[int] = []
    tick = 0

    async def talk() -> None:
        nonlocal tick

        def count() -> None:
            nonlocal tick
            tick += 1
            if len(passes) < 50:
                asyncio.get_running_loop().call_soon(count)

        count()
        for n in range(50):
            await current_step().emit(n)
            passes.append(tick)

    async def w(ctx: Context) -> None:
        await ctx.step("talk", talk)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            await world.run("w")
            assert passes == sorted(set(passes))


@pytest.mark.parametrize("by", ["step", "thread", "body"])
async def test_what_emits_faster_than_the_disk_takes_it_waits(by: str) -> None:
    world = World(lazy_delay_s=3600.0)
    total, emitted = AHEAD * 3, 0
    slow: SlowDisk

    async def talk() -> None:
        nonlocal emitted
        slow.stop()
        for n in range(total):
            await current_step().emit(n)
            emitted += 1

    def shout() -> None:
        nonlocal emitted
        slow.stop()
        for n in range(total):
            current_step().emit(n)
            emitted += 1

    async def w(ctx: Context) -> None:
        nonlocal emitted
        if by != "body":
            await ctx.step("talk", talk if by == "step" else shout)
            return
        slow.stop()
        for n in range(total):
            await ctx.emit("n", n)
            emitted += 1

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            slow = SlowDisk(world)
            run_id = await world.trigger("w")
            await spin(lambda: slow.waiting)
            assert emitted == AHEAD
            slow.go_on()
            await world.finished(run_id)
            assert emitted == total
            assert [d for e, d in await said(world, run_id) if e == "emit"] == [*range(total)]


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize(
    ("bound", "kept", "name"),
    [
        ({"run_emits_max": 3}, 3, "run_emits_max"),
        ({"run_emit_bytes_max": 25}, 2, "run_emit_bytes_max"),
        ({"event_bytes_max": 11}, 0, "at most 11"),
    ],
)
async def test_a_run_emits_so_much_and_what_is_more_is_refused_where_it_is_emitted(
    in_thread: object, bound: dict[str, int], kept: int, name: str
) -> None:
    world = World(**bound)
    refused: list[str] = []

    def talk() -> int:
        for n in range(5):
            try:
                current_step().emit("x" * 10)
            except AuthoringError as error:
                refused.append(str(error))
                return n
        return 5

    async def talk_on() -> int:
        return talk()

    async def w(ctx: Context, again: object) -> int:
        emitted = await ctx.step("talk", talk if in_thread else talk_on)
        if again:
            await ctx.restart()
        return emitted

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            assert result_of(await world.finished(run_id)) == kept
            assert name in refused[0]
            assert len([d for e, d in await said(world, run_id) if e == "emit"]) == kept
            # A fresh history has emitted nothing yet.
            assert result_of(await world.finished(await world.trigger("w", 1))) == kept
            assert len(refused) == 3


async def test_the_bounds_of_emits_hold_after_a_crash_and_for_the_body() -> None:
    world = World(run_emits_max=4)

    async def talk() -> None:
        for n in range(3):
            await current_step().emit(n)

    async def w(ctx: Context) -> None:
        await ctx.step("talk", talk)
        await ctx.sleep("nap", 60)
        await ctx.emit("fourth")
        await ctx.emit("fifth")

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.SleepStarted))
            await world.saved()
            await world.crash()
            await world.start()
            run = await world.finished(run_id)
            assert run.status == "failed"
            assert b"emitted 4 events" in bytes(run.error or b"")
            assert [d for e, d in await said(world, run_id) if e == "emit"] == [0, 1, 2, None]


async def test_an_async_attempt_that_is_over_is_refused_what_it_emits() -> None:
    world = World()
    refused: list[str] = []

    async def stubborn() -> str:
        step, attempt = current_step(), current_step().attempt
        await step.emit("in time")
        if attempt == 2:
            return "second"
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            try:
                await step.emit("late")
            except StepInterruptedError as error:
                refused.append(str(error))
            raise
        return "first"

    async def w(ctx: Context, cancelled: object) -> str:
        if cancelled:
            async with asyncio.timeout(5):
                return await ctx.step("talk", stubborn)
        policy = RetryPolicy(max_attempts=2, initial="1s", jitter=False)
        return await ctx.step("talk", stubborn, timeout="5s", retry=policy)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            assert result_of(await world.finished(run_id)) == "second"
            await world.finished(await world.trigger("w", 1))
            assert len(refused) == 2
            assert "'talk' is over" in refused[0]
            assert {bytes(record.data) for record in world.records(rec.Emitted)} == {b'"in time"'}


async def test_a_thread_that_is_late_by_the_time_the_loop_hears_of_it_is_refused() -> None:
    world = World(threads=2)
    refused: list[str] = []
    asked, free = threading.Event(), threading.Event()

    def slow() -> str:
        step = current_step()
        asked.set()
        free.wait()
        try:
            # Its attempt is open here, and over when the loop comes to it: the loop is held below.
            step.emit("late")
        except StepInterruptedError as error:
            refused.append(error.name)
        return "late"

    async def w(ctx: Context) -> None:
        await ctx.step("slow", slow)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await spin(asked.is_set)
            sup = world.engine.sup
            attempt = next(iter(sup.steps._running.values()))
            posted = threading.Event()
            post = attempt.session.loop.call_soon_threadsafe

            def note(*args: Any, **options: Any) -> Any:
                handle = post(*args, **options)
                posted.set()
                return handle

            attempt.session.loop.call_soon_threadsafe = note  # type: ignore[method-assign]
            free.set()
            # The loop is held until the thread has asked, and the run is ended before it answers.
            posted.wait()
            sup.steps.cancel(attempt.session, attempt.ask)
            await spin(lambda: refused)
            assert refused == ["slow"]
            assert not world.records(rec.Emitted)
            del attempt.session.loop.call_soon_threadsafe
            await world.engine.cancel(run_id, force=True)


async def test_an_emit_says_its_step_and_attempt_and_what_a_failed_attempt_emitted_stays() -> None:
    world = World()

    async def talk() -> str:
        attempt = current_step().attempt
        await current_step().emit(f"try {attempt}")
        if attempt == 1:
            message = "no"
            raise ValueError(message)
        if attempt == 2:
            await asyncio.sleep(3600)
        return "done"

    async def gone() -> None:
        await current_step().emit("kept")
        message = "never"
        raise NonRetryableError(message)

    async def w(ctx: Context) -> None:
        await ctx.emit("begin", 0)
        policy = RetryPolicy(max_attempts=5, initial="1s", jitter=False)
        await ctx.step("talk", talk, key="a@1.1", retry=policy)
        await ctx.step("gone", gone)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.records(rec.Emitted)) == 3, 10_000)
            await world.saved()
            await world.crash()
            await world.start()
            await world.finished(run_id)
            stream = await world.engine.stream(run_id)
            told = [e.json() for e in stream.read_events(1000) if e.event == "emit"]
            stream.close()
    key = told[1]["step"]
    assert told == [
        {"name": "begin", "data": 0},
        *({"name": "talk", "data": f"try {n}", "step": key, "attempt": n} for n in (1, 2, 3)),
        {"name": "gone", "data": "kept", "step": "gone#1", "attempt": 1},
    ]
    assert "a@1.1" in key
