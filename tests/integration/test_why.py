"""Why a run waits: one sentence and data, for everything that can hold it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UnsetType

from stepflow import Concurrency, RateLimit, RetryPolicy
from stepflow.errors import EventNotFoundError, RunNotFoundError
from stepflow.model.likeness import alike, likeness
from tests.engine_kit import service
from tests.harness import World
from tests.integration.test_engine_disk_full import fill, make_room

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_event("paid", "order-42:paid", timeout="1d")


async def begun(world: World, body: Any = waits, **options: Any) -> str:
    world.redeploy(body, **options)
    run_id = await world.trigger(body.__name__)
    await world.until(lambda: world.actor(run_id).peek().pending_calls())
    return run_id


async def test_the_event_that_nobody_sent_and_the_one_that_somebody_meant() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            await asyncio.sleep(3 * 3600)
            view = await world.engine.why(run_id)
            (row,) = view.waiting_for
            assert (row.kind, row.name, row.event_id) == ("event", "paid", "order-42:paid")
            assert isinstance(row.due_at, str)
            assert "since 3h" in view.summary
            assert "nobody has sent it" in view.summary
            for event in ("order:42:paid", "order-42:pai", "another-thing"):
                with pytest.raises(EventNotFoundError):
                    await world.engine.notify(event, b"1")
            view = await world.engine.why(run_id)
            near = view.waiting_for[0].near_misses
            assert isinstance(near, list)
            assert [m.event_id for m in near] == ["order:42:paid", "order-42:pai"]
            assert "'order:42:paid' was sent once" in view.summary


async def test_a_sleep_a_retry_a_running_step_and_own_code() -> None:
    world = World()
    gate = asyncio.Event()

    async def fails() -> None:
        raise ValueError("the bank is down")

    RetryPolicy(initial="30m", max_delay="1h", jitter=False)

    async def w(ctx: Context) -> None:
        await asyncio.gather(
            ctx.sleep("nap", "1h"),
            ctx.step(
                "charge", fails, retry=RetryPolicy(initial="30m", max_delay="1h", jitter=False)
            ),
            ctx.step("slow", gate.wait),
        )

    async def own(ctx: Context) -> None:
        del ctx
        await gate.wait()

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await asyncio.sleep(60)
            rows = {row.kind: row for row in (await world.engine.why(run_id)).waiting_for}
            assert set(rows) == {"sleep", "retry", "step"}
            assert "the bank is down" in rows["retry"].says
            assert isinstance(rows["retry"].due_at, str)
            assert rows["step"].attempts == 1
            gate.clear()
            world.redeploy(own)
            own_id = await world.trigger("own")
            await world.settle()
            (row,) = (await world.engine.why(own_id)).waiting_for
            assert row.kind == "code"


async def test_a_child_is_explained_one_level_down() -> None:
    world = World()

    async def parent(ctx: Context) -> Any:
        return await ctx.call("waits")

    with world.clock.driving():
        async with world:
            world.redeploy(waits, parent)
            run_id = await world.trigger("parent")
            await world.until(lambda: len(world.engine.sup.waiters))
            (row,) = (await world.engine.why(run_id)).waiting_for
            assert row.kind == "child"
            assert "order-42:paid" in row.says


async def test_a_pause_and_a_cancel_name_who_did_it() -> None:
    world = World()

    async def w(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go", timeout=None)
        finally:
            await ctx.sleep("cleanup", "20s")

    with world.clock.driving():
        async with world:
            run_id = await begun(world, w)
            await world.engine.pause(run_id, by="key:ops", reason="look at it")
            await world.restart()
            view = await world.engine.why(run_id)
            assert [row.kind for row in view.waiting_for] == ["pause", "event"]
            assert "by key:ops: look at it" in view.summary
            await world.engine.cancel(run_id, by="key:boss")
            await world.until(lambda: len(world.engine.sup.timers) > 1)
            first = (await world.engine.why(run_id)).waiting_for[0]
            assert (first.kind, first.by) == ("cancelling", "key:boss")
            await world.finished(run_id)
            view = await world.engine.why(run_id)
            assert (view.summary, view.waiting_for) == (
                "It is cancelled: it waits for nothing.",
                [],
            )


async def test_a_delay_a_missing_workflow_and_a_run_set_aside() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(waits)
            delayed = await world.trigger("waits", delay_ms=60_000)
            (row,) = (await world.engine.why(delayed)).waiting_for
            assert row.kind == "delay"
            run_id = await begun(world)
            await world.crash()

            async def waitz(ctx: Context) -> None:
                del ctx

            world.redeploy(waitz)
            await world.start()
            await world.engine.notify("order-42:paid", b"1")
            await world.until(lambda: world.state(run_id))
            rows = (await world.engine.why(run_id)).waiting_for
            assert (rows[0].kind, rows[0].names) == ("missing-workflow", ["waitz"])
            world.engine.sup.set_aside(world.actor(run_id), "SFW402 for a test")
            assert (await world.engine.why(run_id)).waiting_for[0].kind == "quarantine"
            with pytest.raises(RunNotFoundError):
                await world.engine.why("run_nobodyknows")


@pytest.mark.parametrize(
    ("wanted", "name", "far"),
    [
        ("paid-42", "paid-42", None),
        ("paid-42", "PAID_42", 0),
        ("paid-42", "padi-42", 1),
        ("paid-42", "paid-4", 1),
        ("paid-42", "paid-425", 1),
        ("paid-42", "paid-42-now", 3),
        ("paid-42", "sold-17", None),
        ("a", "b", None),
        ("x" * 100, "y" * 100, None),
        ("ab", "abcdefgh", None),
    ],
)
async def test_likeness(wanted: str, name: str, far: int | None) -> None:
    assert likeness(wanted, name) == far
    assert alike(wanted, [name]) == ([] if far is None else [name])


async def test_the_queue_says_how_many_are_ahead_who_goes_on_and_until_when() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(waits, concurrency=Concurrency(1, key="input.tenant"))
            holder, first, second = [
                await world.trigger("waits", {"tenant": "acme"}) for _ in range(3)
            ]
            await world.until(lambda: world.actor(holder).peek().pending_calls())
            for ahead, run_id in enumerate((first, second)):
                (row,) = (await world.engine.why(run_id)).waiting_for
                assert (row.kind, row.position, row.ahead) == ("queue", ahead + 1, ahead)
                assert row.held_by == (holder,)
                assert f"{ahead} ahead of it" in row.says
                assert '(here "acme")' in row.says
                assert f"under way is {holder}" in row.says
                assert isinstance(row.due_at, UnsetType)
            await world.restart()
            (row,) = (await world.engine.why(second)).waiting_for
            assert (row.kind, row.ahead, row.held_by) == ("queue", 1, (holder,))
            await world.engine.notify("order-42:paid", b"1")
            await world.until(lambda: world.actor(first).peek().pending_calls())
            (row,) = (await world.engine.why(second)).waiting_for
            assert (row.ahead, row.held_by) == (0, (first,))


async def test_a_rate_says_when_the_next_run_begins() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(waits, rate_limit=RateLimit(1, per="1h"))
            await world.trigger("waits")
            queued = await world.trigger("waits")
            await world.clock.advance(1800)
            (row,) = (await world.engine.why(queued)).waiting_for
            assert (row.kind, row.ahead) == ("queue", 0)
            assert isinstance(row.due_at, str)
            assert "the next one begins in 30m" in row.says
            assert "under way" not in row.says


async def test_a_full_disk_comes_first_and_goes_when_there_is_room() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        await fill(world)
        view = await world.engine.why(run_id)
        assert [row.kind for row in view.waiting_for] == ["disk", "event"]
        assert view.waiting_for[0].reason == world.engine.sup.journal.why_no_room
        assert world.engine.sup.journal.why_no_room in view.summary
        make_room(world)
        await world.until(lambda: world.engine.state == "ready")
        view = await world.engine.why(run_id)
        assert [row.kind for row in view.waiting_for] == ["event"]


async def test_a_divergence_names_the_call_that_does_not_fit() -> None:
    world = World()

    async def f() -> None: ...

    async def g() -> None: ...

    def body(fn: Any) -> Any:
        async def w(ctx: Context) -> Any:
            await ctx.step("one", fn)
            return await ctx.wait_for_event("go", timeout=None)

        return w

    with world.clock.driving():
        world.redeploy(body(f))
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
        world.redeploy(body(g))
        async with world:
            world.actor(run_id).activate()
            await world.until(lambda: world.state(run_id) == "parked")
            view = await world.engine.why(run_id)
            row = view.waiting_for[0]
            assert (row.kind, row.name) == ("divergence", "w")
            assert "one#1" in str(row.reason)
            assert g.__qualname__ in str(row.reason)
            assert view.summary.startswith("Its code has changed")
        world.redeploy(body(f))
        async with world:
            rows = (await world.engine.why(run_id)).waiting_for
            assert [row.kind for row in rows] == ["event"]
