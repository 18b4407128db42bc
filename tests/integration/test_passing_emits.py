"""`durable=False`: told to who reads now, at once, without an id; on no disk, and never again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import AuthoringError, RetryPolicy, StepInterruptedError, current_step
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


def emits(stream: Any) -> list[tuple[int, Any]]:
    return [(e.id, e.json()) for e in stream.read_events(10_000) if e.event == "emit"]


async def waiting(world: World, value: Any = None) -> str:
    run_id = await world.trigger("w", value)
    await world.until(lambda: world.records(rec.WaitStarted))
    await world.saved()
    return run_id


@pytest.mark.parametrize("by", ["step", "thread", "body"])
async def test_present_readers_are_told_without_an_id_and_nothing_is_recorded(by: str) -> None:
    world = World()

    async def talk() -> None:
        await current_step().emit({"n": 1}, durable=False)

    def shout() -> None:
        current_step().emit({"n": 1}, durable=False)

    async def w(ctx: Context) -> None:
        await ctx.wait_for_event("go", "go", timeout=None)
        if by == "body":
            await ctx.emit("talk", {"n": 1}, durable=False)
        else:
            await ctx.step("talk", talk if by == "step" else shout)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            first, second = [await world.engine.stream(run_id) for _ in range(2)]
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            told: dict[str, Any] = {"name": "talk", "data": {"n": 1}}
            if by != "body":
                told |= {"step": "talk#1", "attempt": 1}
            assert emits(first) == [(0, told)]
            data = second.read(1_000_000)
            assert b'\n\nevent: emit\ndata: {"name":"talk"' in b"\n\n" + data
            assert data.count(b"event: emit") == 1
            assert first.ended
            assert second.ended
            late = await world.engine.stream(run_id)
            assert emits(late) == []
            for stream in (first, second, late):
                stream.close()
            assert not world.records(rec.Emitted)


async def test_it_is_told_before_anything_is_on_disk() -> None:
    world = World(lazy_delay_s=3600.0)
    seen: list[Any] = []

    async def talk() -> None:
        await current_step().emit("kept")
        await current_step().emit("passing", durable=False)
        while not seen:
            await stream.changed()
            seen.extend(emits(stream))

    async def w(ctx: Context) -> None:
        await ctx.wait_for_event("go", "go", timeout=None)
        await ctx.step("talk", talk)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            stream = await world.engine.stream(run_id)
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            assert [(n, told["data"]) for n, told in seen] == [(0, "passing")]
            assert [told["data"] for _, told in emits(stream)] == ["kept"]
            stream.close()


async def test_when_nobody_reads_nothing_is_even_encoded() -> None:
    world = World()
    refused: list[str] = []

    async def talk() -> None:
        try:
            await current_step().emit(object(), durable=False)
        except AuthoringError as error:
            refused.append(str(error))

    async def w(ctx: Context, wait: object) -> None:
        if wait:
            await ctx.wait_for_event("go", "go", timeout=None)
        await ctx.step("talk", talk)
        await ctx.emit("x", None if wait else object(), durable=False)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            assert (await world.finished(run_id)).status == "completed"
            assert not refused
            run_id = await waiting(world, 1)
            stream = await world.engine.stream(run_id)
            await world.engine.notify("go", b"1")
            assert (await world.finished(run_id)).status == "completed"
            assert len(refused) == 1
            stream.close()


async def test_a_replayed_body_does_not_tell_it_again_and_keys_stay_what_they_were() -> None:
    world = World()

    async def w(ctx: Context) -> None:
        await ctx.emit("said", "one", durable=False)
        await ctx.emit("said", "two")
        await ctx.wait_for_event("go", "go", timeout=None)
        await ctx.emit("said", "three", durable=False)
        await ctx.emit("said", "four")

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            await world.crash()
            await world.start()
            stream = await world.engine.stream(run_id)
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            told = [(bool(n), each["data"]) for n, each in emits(stream)]
            stream.close()
            assert sorted(told) == [(False, "three"), (True, "four"), (True, "two")]
            assert [r.key for r in world.records(rec.Emitted)] == ["@emit:said#2"]


async def test_a_reader_that_is_far_behind_misses_some_and_nothing_else() -> None:
    world = World()

    async def talk() -> None:
        for n in range(200):
            await current_step().emit(n, durable=False)
        await current_step().emit("kept")

    async def w(ctx: Context) -> None:
        await ctx.wait_for_event("go", "go", timeout=None)
        await ctx.step("talk", talk)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            stream = await world.engine.stream(run_id)
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            assert [each["data"] for _, each in emits(stream)] == [*range(64), "kept"]
            stream.close()


async def test_what_is_too_large_or_late_is_refused_here_too() -> None:
    world = World(event_bytes_max=20)
    refused: list[str] = []

    async def talk() -> None:
        step = current_step()
        try:
            await step.emit("x" * 20, durable=False)
        except AuthoringError as error:
            refused.append(str(error))
        if step.attempt == 2:
            return
        try:
            await asyncio.sleep(3600)
        finally:
            try:
                await step.emit("late", durable=False)
            except StepInterruptedError as error:
                refused.append(str(error))

    async def w(ctx: Context) -> None:
        await ctx.wait_for_event("go", "go", timeout=None)
        policy = RetryPolicy(max_attempts=2, initial="1s", jitter=False)
        await ctx.step("talk", talk, timeout="5s", retry=policy)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            stream = await world.engine.stream(run_id)
            await world.engine.notify("go", b"1")
            assert result_of(await world.finished(run_id)) is None
            assert emits(stream) == []
            stream.close()
            assert ["at most 20" in refused[0], "is over" in refused[1]] == [True, True]
