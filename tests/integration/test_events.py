"""Events reach those that wait, are kept for those that will, and are swallowed by nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import EventTimeoutError
from stepflow.errors import EventNotFoundError, InvalidInputError, RateLimitedError
from stepflow.model import records as rec
from tests.harness import World, crash_everywhere, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def wait_ready(world: World, count: int = 1) -> None:
    await world.until(lambda: len(world.engine.sup.waiters) == count)


async def test_an_event_wakes_every_run_that_waits_in_one_frame() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        return await ctx.wait_for_event("go", "order:1", timeout=None)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            runs = [await world.trigger("w") for _ in range(5)]
            await wait_ready(world, 5)
            assert await world.engine.notify("order:1", b'{"n":1}') == 5
            assert [result_of(await world.finished(r)) for r in runs] == [{"n": 1}] * 5
            (frame,) = [g for g in world.life.groups if b"event.received" in g[0]]
            assert len(frame) >= 6


async def test_more_takers_than_a_frame_holds_get_further_frames() -> None:
    world = World(notify_frame_waiters=3)

    async def w(ctx: Context) -> Any:
        return await ctx.wait_for_event("go", timeout=None)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            runs = [await world.trigger("w") for _ in range(7)]
            await wait_ready(world, 7)
            assert await world.engine.notify("go", b"1") == 7
            assert len(world.records(rec.EventReceived)) == 3
            await world.saved()
        async with world:
            assert [result_of(await world.finished(r)) for r in runs] == [1] * 7


async def test_an_event_nobody_takes_is_not_found_and_not_recorded() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            with pytest.raises(EventNotFoundError):
                await world.engine.notify("nobody", b"1")
            assert not world.life.groups


async def test_declared_events_are_kept_in_order_until_they_are_waited_for() -> None:
    world = World()

    async def w(ctx: Context, order: dict[str, Any]) -> Any:
        await ctx.sleep("s", "1h")
        return [await ctx.wait_for_event("paid", f"paid-{order['id']}") for _ in range(3)]

    with world.clock.driving():
        world.redeploy(w, events=["paid-{id}"])
        await world.start()
        run_id = await world.trigger("w", {"id": 7})
        for value in (b"1", b"2"):
            assert await world.engine.notify("paid-7", value) == 1
        with pytest.raises(EventNotFoundError):
            await world.engine.notify("paid-8", b"1")
        await world.restart()
        assert await world.engine.notify("paid-7", b"3") == 1
        assert result_of(await world.finished(run_id)) == [1, 2, 3]
        await world.stop()


async def test_an_addressed_event_is_kept_for_its_run_alone() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        await ctx.sleep("s", "1h")
        return await ctx.wait_for_event("go", default="nothing", timeout="1m")

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            one, two = await world.trigger("w"), await world.trigger("w")
            assert await world.engine.notify("go", b"1", run_id=two) == 1
            assert result_of(await world.finished(one)) == "nothing"
            assert result_of(await world.finished(two)) == 1
            with pytest.raises(EventNotFoundError):
                await world.engine.notify("go", b"1", run_id=two)


async def test_a_run_keeps_so_many_events_and_then_refuses_recording_nothing() -> None:
    world = World(kept_events_max=3)

    async def w(ctx: Context) -> Any:
        await ctx.sleep("s", "1h")
        return [await ctx.wait_for_event("go") for _ in range(3)]

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            run_id = await world.trigger("w")
            for value in range(3):
                await world.engine.notify("go", b"%d" % value)
            groups = len(world.life.groups)
            with pytest.raises(RateLimitedError):
                await world.engine.notify("go", b"9")
            assert len(world.life.groups) == groups
            assert result_of(await world.finished(run_id)) == [0, 1, 2]


async def test_a_run_keeps_so_many_bytes_of_events() -> None:
    world = World(kept_bytes_max=100)

    async def w(ctx: Context) -> Any:
        await ctx.sleep("s", "1h")

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            await world.trigger("w")
            await world.engine.notify("go", b'"%s"' % (b"x" * 60))
            with pytest.raises(RateLimitedError):
                await world.engine.notify("go", b'"%s"' % (b"x" * 60))


async def test_a_timed_out_wait_raises_or_gives_its_default_and_swallows_nothing() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            await ctx.wait_for_event("first", "go", timeout="10s")
        except EventTimeoutError as error:
            world.note(error.name, error.event_id)
        got = [await ctx.wait_for_event("second", "go", timeout="10s", default=None)]
        got.append(await ctx.wait_for_event("third", "go", timeout="10s"))
        return got

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            run_id = await world.trigger("w")
            await world.clock.advance(10.5)
            assert world.life.trace == [("first", "go")]
            await world.clock.advance(10)
            await world.engine.notify("go", b'"third"')
            assert result_of(await world.finished(run_id)) == [None, "third"]


async def test_notify_and_timeout_at_one_moment_the_first_record_wins() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        first = await ctx.wait_for_event("first", "go", timeout="10s", default="timed out")
        second = await ctx.wait_for_event("second", "go", timeout="10s", default="timed out")
        return [first, second]

    with world.clock.driving():
        for late in (False, True):
            world.redeploy(w, events=["go"])
            async with world:
                run_id = await world.trigger("w")
                await wait_ready(world)
                actor = world.actor(run_id)
                (call,) = actor.state.pending_calls()
                fire = world.engine.sup._timer_fired
                if late:
                    # The timer's message first, the event in the same turn.
                    fire(run_id, call.key, call.due)
                    await world.engine.notify("go", b'"came"')
                    expected = ["timed out", "came"]
                else:
                    notifying = asyncio.ensure_future(world.engine.notify("go", b'"came"'))
                    await world.until(lambda: world.records(rec.WaitResolved))
                    fire(run_id, call.key, call.due)
                    await notifying
                    expected = ["came", "timed out"]
                assert result_of(await world.finished(run_id)) == expected


async def test_a_cancelled_wait_swallows_nothing() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        waiting = asyncio.create_task(ctx.wait_for_event("first", "go", timeout=None))
        await ctx.sleep("s", "10s")
        waiting.cancel()
        # In the very turn of the cancel, before its task has run.
        assert await ctx.notify("other", None) == 0
        return await ctx.wait_for_event("second", "go", timeout="1h")

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            run_id = await world.trigger("w")
            await world.clock.advance(11)
            await world.engine.notify("go", b'"second"')
            assert result_of(await world.finished(run_id)) == "second"


async def test_an_event_in_the_turn_of_a_waits_cancel_is_kept_for_the_next_wait() -> None:
    world = World()
    sent: list[Any] = []

    async def w(ctx: Context) -> Any:
        waiting = asyncio.create_task(ctx.wait_for_event("first", "go", timeout=None))
        await ctx.sleep("s", "10s")
        waiting.cancel()
        sent.append(asyncio.ensure_future(send()))
        await asyncio.gather(waiting, return_exceptions=True)
        return await ctx.wait_for_event("second", "go", timeout="1h")

    async def send() -> int:
        return world.engine.sup.delivery.deliver("go", b'"kept"', by="")

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            run_id = await world.trigger("w")
            assert result_of(await world.finished(run_id)) == "kept"


async def test_an_event_and_a_cancel_the_first_record_wins() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        try:
            return await ctx.wait_for_event("go", timeout=None)
        except asyncio.CancelledError:
            world.note("cancelled")
            return await ctx.wait_for_event("again", "go", timeout="1s", default="nothing")

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            run_id = await world.trigger("w")
            await wait_ready(world)
            cancelling = asyncio.ensure_future(world.engine.cancel(run_id))
            await asyncio.sleep(0)
            assert await world.engine.notify("go", b"1") == 1
            await cancelling
            assert (await world.finished(run_id)).status == "cancelled"
            assert world.life.trace == [("cancelled",)]
            kinds = [type(r) for r in world.records()]
            # The wait was gone when the event came, or its result is the run's, in order.
            assert kinds.index(rec.CancelRequested) < max(
                i for i, k in enumerate(kinds) if k in {rec.WaitResolved, rec.EventKept}
            )


async def test_a_payload_that_no_taker_can_read_is_refused_and_not_recorded() -> None:
    world = World()

    async def w(ctx: Context) -> int:
        return await ctx.wait_for_event("go", type=int, timeout=None)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            run_id = await world.trigger("w")
            await wait_ready(world)
            groups = len(world.life.groups)
            with pytest.raises(InvalidInputError):
                await world.engine.notify("go", b'"no number"')
            assert len(world.life.groups) == groups
            assert await world.engine.notify("go", b"5") == 1
            assert result_of(await world.finished(run_id)) == 5


async def test_ctx_notify_is_sent_once_across_a_crash_after_every_record() -> None:
    world = World()

    async def taker(ctx: Context) -> Any:
        first = await ctx.wait_for_event("go", timeout=None)
        return [first, await ctx.wait_for_event("again", "go", timeout="1m", default="no more")]

    async def w(ctx: Context) -> Any:
        child = await ctx.start("taker")
        await ctx.sleep("s", "1s")
        count = await ctx.notify("go", {"from": "w"})
        nobody = await ctx.notify("nobody", None)
        await ctx.sleep("t", "1h")
        world.note(child != "", count, nobody)
        return [count, nobody]

    with world.clock.driving():
        world.redeploy(w, taker)
        async with world:
            assert await world.result("w") == [1, 0]
            first = world.life
        ends = [i for i, g in enumerate(first.groups) if b"run.completed" in g[0]]
        for cut in range(1, ends[-1]):
            world.cut(first.groups[:cut])
            async with world:
                runs = list(world.engine.sup.runs)
                assert result_of(await world.finished(runs[0])) == [1, 0]
                taker_id = next(r for r in world.engine.sup.runs if r != runs[0])
                assert result_of(await world.finished(taker_id)) == [{"from": "w"}, "no more"]


async def test_a_notify_does_not_come_back_to_its_sender() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        return await ctx.notify("go", 1)

    with world.clock.driving():
        world.redeploy(w, events=["go"])
        async with world:
            assert await world.result("w") == 0


async def test_an_event_starts_the_workflows_that_are_on_it() -> None:
    world = World()

    async def w(ctx: Context, payload: dict[str, int]) -> int:
        return payload["n"]

    with world.clock.driving():
        world.redeploy(w, on="order.created")
        async with world:
            assert await world.engine.notify("order.created", b'{"n":3}') == 1
            (run_id,) = world.engine.sup.runs
            assert result_of(await world.finished(run_id)) == 3


async def test_waits_that_race_pick_one_winner_for_ever() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        tasks = {
            name: asyncio.create_task(ctx.wait_for_event(name, timeout=None)) for name in "abc"
        }
        done, pending = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        winner = next(name for name, task in tasks.items() if task in done)
        world.note(winner)
        return [winner, await ctx.wait_for_event("end", timeout=None)]

    async def send(world: World) -> None:
        for name in ("b", "a", "c"):
            await asyncio.sleep(1)
            try:
                await world.engine.notify(name, b"1")
            except EventNotFoundError:
                continue
        while True:
            await asyncio.sleep(1)
            try:
                await world.engine.notify("end", b'"end"')
            except EventNotFoundError:
                continue

    with world.clock.driving():
        world.redeploy(w)
        first, later = await crash_everywhere(world, "w", drive=send)
    assert first.trace == [("b",)]
    assert {result_of(view)[1] for _, view in later} == {"end"}


async def test_a_finished_run_waits_for_nothing_any_more() -> None:
    world = World()

    async def w(ctx: Context) -> None:
        asyncio.create_task(ctx.wait_for_event("go", timeout=None))  # noqa: RUF006  an orphan
        await ctx.sleep("s", 1)

    with world.clock.driving():
        world.redeploy(w, events=["declared"])
        async with world:
            await world.run("w")
            assert len(world.engine.sup.waiters) == 0
            for event in ("go", "declared"):
                with pytest.raises(EventNotFoundError):
                    await world.engine.notify(event, b"1")
            assert not await world.engine.waiting_events()
