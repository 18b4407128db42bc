"""`ctx.first`, any and all of several events: one wins, the others are given up with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import AuthoringError, EventTimeoutError, RetryPolicy, StepFailedError
from stepflow.model import records as rec
from tests.harness import ENDS, World, decoded, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def test_the_first_of_several_calls_wins_and_the_others_are_shown_as_given_up() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        name, value = await ctx.first(
            paid=ctx.wait_for_event("paid", timeout=None), late=ctx.sleep("patience", "3d")
        )
        await ctx.sleep("after", "10d")
        return [name, value]

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("paid", b'{"amount":7}')
            view = await world.finished(run_id)
            assert result_of(view) == ["paid", {"amount": 7}]
            steps = (await world.engine.get_run(run_id)).steps
            shown = {s.name: (s.status, s.cancelled) for s in steps}  # type: ignore[union-attr]
            assert shown["patience"] == ("pending", True)
            assert not world.records(rec.CallCancelled), "the winner's record says it all"
            assert len(world.records(rec.SleepEnded)) == 1


async def test_a_step_that_wins_gives_the_others_up_by_its_record() -> None:
    world = World()

    async def quick() -> str:
        return "quick"

    async def w(ctx: Context) -> Any:
        first = await ctx.first(
            paid=ctx.wait_for_event("paid", timeout=None),
            late=ctx.sleep("patience", "1h"),
            step=ctx.step("quick", quick),
        )
        await ctx.sleep("more", "2h")
        return [first.name, await ctx.wait_for_event("paid", timeout=None)]

    world.flow.workflow("w", events=["paid"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.records(rec.SleepStarted)) == 2)
            steps = (await world.engine.get_run(run_id)).steps
            shown = {s.name: (s.status, s.cancelled) for s in steps}  # type: ignore[union-attr]
            assert shown["patience"] == ("pending", True)
            await world.engine.notify("paid", b"7")
            assert result_of(await world.finished(run_id)) == ["step", 7]
            assert not world.records(rec.CallCancelled), "the winner's record says it all"
            assert len(world.records(rec.SleepEnded)) == 1, "the patience was given up"


async def test_a_timer_that_wins_leaves_the_event_to_the_next_wait() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        first = await ctx.first(
            paid=ctx.wait_for_event("paid", timeout=None), late=ctx.sleep("patience", "1h")
        )
        await ctx.sleep("more", "1h")
        return [first.name, await ctx.wait_for_event("paid", timeout=None)]

    world.flow.workflow("w", events=["paid"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.clock.advance(3700)
            assert not len(world.engine.sup.waiters)
            assert await world.engine.notify("paid", b"1") == 1
            assert result_of(await world.finished(run_id)) == ["late", 1]


async def test_events_kept_for_the_losers_stay_kept() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        await ctx.wait_for_event("go", timeout=None)
        got = [
            await ctx.first(
                a=ctx.wait_for_event("a", timeout=None), b=ctx.wait_for_event("b", timeout=None)
            )
            for _ in range(2)
        ]
        return [*got, await ctx.wait_for_any("rest", ["c", "d"], timeout="1h")]

    world.flow.workflow("w", events=["a", "b", "c", "d"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            for event in ("d", "c", "b", "a"):
                await world.engine.notify(event, msgspec.json.encode(event))
            await world.engine.notify("go", b"null")
            assert result_of(await world.finished(run_id)) == [["a", "a"], ["b", "b"], ["c", "c"]]


async def test_two_results_in_one_turn_make_one_winner() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        first = await ctx.first(
            one=ctx.wait_for_event("one", timeout=None), two=ctx.wait_for_event("two", timeout=None)
        )
        return [first.name, await ctx.wait_for_event("two", timeout="1h", default="lost")]

    world.flow.workflow("w", events=["one", "two"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters) == 2)
            # Both are decided before the body gets a turn.
            sup = world.engine.sup
            assert sup.delivery.deliver("one", b"1", by="") == 1
            assert sup.delivery.deliver("two", b"2", by="") == 1
            assert result_of(await world.finished(run_id)) == ["one", 2]


async def test_both_waits_for_one_event_take_it_once() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        first = await ctx.first(
            a=ctx.wait_for_event("x", timeout=None), b=ctx.wait_for_event("y", "x", timeout=None)
        )
        return first.name

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            assert await world.engine.notify("x", b"1") == 1
            assert result_of(await world.finished(run_id)) == "a"
            assert len(world.records(rec.WaitResolved)) == 1
            assert not len(world.engine.sup.waiters)


async def test_a_step_that_loses_is_stopped_and_its_late_result_is_not_recorded() -> None:
    world = World()
    cut: list[str] = []

    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append("cut")
            # It swallows its cancellation and goes on: what it returns is nobody's.
        return "late"

    async def quick() -> str:
        return "quick"

    async def w(ctx: Context) -> Any:
        first = await ctx.first(slow=ctx.step("slow", slow), quick=ctx.step("quick", quick))
        await ctx.sleep("rest", "1h")
        return list(first)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == ["quick", "quick"]
            assert cut == ["cut"]
            assert [r.key for r in world.records(rec.StepCompleted)] == ["quick#1"]


async def test_the_first_to_fail_raises_its_error() -> None:
    world = World()

    async def broken() -> None:
        raise ValueError("no")

    async def w(ctx: Context) -> Any:
        once = RetryPolicy(max_attempts=1)
        try:
            await ctx.first(a=ctx.step("a", broken, retry=once), b=ctx.sleep("b", "1h"))
        except StepFailedError as error:
            return error.name

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == "a"


async def test_a_step_that_is_tried_again_has_not_ended_yet() -> None:
    world = World()
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("again")
        return "third"

    async def w(ctx: Context) -> Any:
        policy = RetryPolicy(initial="1m", jitter=False)
        return await ctx.first(a=ctx.step("a", flaky, retry=policy), b=ctx.sleep("b", "1h"))

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == ["a", "third"]


async def test_a_run_that_waits_for_the_first_can_be_put_to_sleep_and_stays_so_over_a_restart() -> (
    None
):
    world = World()

    async def w(ctx: Context) -> Any:
        world.note("body")
        return await ctx.first(
            go=ctx.wait_for_event("go", timeout=None), late=ctx.sleep("late", "30d")
        )

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.saved()
            await world.until(lambda: world.engine.sup.runs[run_id].session is None)
            assert not world.engine.sup.runs[run_id].is_open
        async with world:
            await world.settle(300)
            assert not world.life.trace, "nothing was woken by the start"
            await world.engine.notify("go", b"1")
            assert result_of(await world.finished(run_id)) == ["go", 1]


async def test_an_event_for_a_loser_is_not_taken_while_the_winner_sleeps() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        first = await ctx.first(
            a=ctx.wait_for_event("a", timeout=None), b=ctx.wait_for_event("b", timeout=None)
        )
        return [first.name, await ctx.wait_for_event("b", timeout="1h", default="swallowed")]

    world.flow.workflow("w", events=["a", "b"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.engine.sup.runs[run_id].session is None)
            sup = world.engine.sup
            sup.delivery.deliver("a", b"1", by="")
            sup.delivery.deliver("b", b"2", by="")
            assert result_of(await world.finished(run_id)) == ["a", 2]


async def test_a_crash_after_any_record_has_the_same_winner() -> None:
    world = World()

    async def f(value: str) -> str:
        world.ran(value)
        return value

    async def w(ctx: Context) -> Any:
        seen = []
        for number in range(3):
            first = await ctx.first(
                step=ctx.step("step", f, str(number)),
                nap=ctx.sleep("nap", "1h" if number else 0),
                event=ctx.wait_for_event("event", timeout=None),
            )
            world.note(first.name)
            seen.append(first.name)
        return seen

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            view = await world.run("w")
            first = world.life
        for cut in range(1, len(first.groups)):
            if any(isinstance(r, ENDS) for r in decoded(first.groups[cut - 1])):
                continue
            world.cut(first.groups[:cut])
            seen = first.trace[: first.marks[cut]]
            async with world:
                again = await world.finished(view.id)
                assert world.life.trace[: len(seen)] == seen
                assert again.status == "completed"
                losers = [r for r in world.records(rec.StepCompleted) if r.key == "step#1"]
                nap_won = any(
                    isinstance(r, rec.SleepEnded) for g in first.groups[:cut] for r in decoded(g)
                )
                assert not (losers and nap_won), "a loser's result was recorded late"


async def test_a_first_that_is_cancelled_gives_all_its_calls_up() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        task = asyncio.create_task(
            ctx.first(a=ctx.wait_for_event("a", timeout=None), b=ctx.sleep("b", "1h"))
        )
        await ctx.sleep("bit", "1m")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await ctx.wait_for_event("a", timeout=None)

    world.flow.workflow("w", events=["a"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.clock.advance(70)
            assert len(world.records(rec.CallCancelled)) == 2
            await world.engine.notify("a", b"5")
            assert result_of(await world.finished(run_id)) == 5


async def test_first_takes_calls_of_its_own_run_alone() -> None:
    world = World()

    async def f(_: int = 0) -> int:
        return 1

    async def other() -> int:
        return 2

    async def child(ctx: Context) -> None:
        return None

    async def w(ctx: Context) -> Any:
        bad: list[Any] = [
            other(),
            ctx.map("m", f, [1]),
            ctx.notify("e"),
            ctx.start("child"),
            7,
            asyncio.create_task(ctx.step("s", f)),
        ]
        for call in bad:
            with pytest.raises(AuthoringError, match="takes a call of ctx"):
                await ctx.first(bad=call)
            if asyncio.iscoroutine(call):
                call.close()
        await bad[-1]
        with pytest.raises(AuthoringError, match="was given no calls"):
            await ctx.first()
        with pytest.raises(AuthoringError, match="given no events"):
            await ctx.wait_for_any("none", [])
        with pytest.raises(AuthoringError, match="names an event twice"):
            await ctx.wait_for_all("twice", ["a", "a"])
        with pytest.raises(AuthoringError, match="takes a list of events"):
            await ctx.wait_for_any("text", "abc")
        return await ctx.wait_for_all("none", [])

    world.redeploy(w, child)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == {}


async def test_any_of_several_events_takes_the_one_that_came() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        event, payload = await ctx.wait_for_any("answer", ["yes", "no"], timeout="1h", type=int)
        return [event, payload]

    async def late(ctx: Context) -> Any:
        try:
            await ctx.wait_for_any("answer", ["yes", "no"], timeout="1h")
        except EventTimeoutError as error:
            return error.name

    world.redeploy(w, late)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters) == 2)
            await world.engine.notify("no", b"3")
            assert result_of(await world.finished(run_id)) == ["no", 3]
            assert not len(world.engine.sup.waiters)
            assert await world.result("late") == "answer"
            assert len(world.records(rec.WaitTimedOut)) == 1
            assert not len(world.engine.sup.waiters)


async def test_all_of_several_events_come_in_any_order_over_restarts() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        return await ctx.wait_for_all("parts", ["a", "b", "c"], timeout="1d")

    world.redeploy(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w")
        for event in ("c", "a", "b"):
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify(event, msgspec.json.encode(event * 2))
            await world.restart()
        assert result_of(await world.finished(run_id)) == {"a": "aa", "b": "bb", "c": "cc"}
        await world.stop()


async def test_all_of_several_events_with_a_default_lose_nothing_that_came() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        return await ctx.wait_for_all("parts", ["a", "b"], timeout="1d", default=None)

    async def strict(ctx: Context) -> Any:
        try:
            await ctx.wait_for_all("parts", ["a", "b"], timeout="1d")
        except EventTimeoutError as error:
            return error.event_id

    world.redeploy(w, strict)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            other = await world.trigger("strict")
            await world.until(lambda: len(world.engine.sup.waiters) == 4)
            assert await world.engine.notify("a", b"1") == 2
            assert result_of(await world.finished(run_id)) == {"a": 1, "b": None}
            assert result_of(await world.finished(other)) == "b"


async def test_an_any_of_events_whose_list_was_reordered_goes_on() -> None:
    world = World()

    def body(events: list[str]) -> Any:
        async def w(ctx: Context) -> Any:
            got = await ctx.wait_for_any("any", events, timeout=None)
            await ctx.sleep("z", "1h")
            return got

        return w

    world.redeploy(body(["a", "b"]))
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.waiters) == 2)
        await world.engine.notify("b", b"2")
        await world.until(lambda: len(world.engine.sup.timers))
        await world.saved()
        await world.crash()
        world.redeploy(body(["b", "c", "a"]))
        async with world:
            assert result_of(await world.finished(run_id)) == ["b", 2]
