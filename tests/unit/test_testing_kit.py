"""The kit: virtual time, stubs, crashes, replays, and the mistakes it must find."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepflow import (
    Context,
    EventNotFoundError,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    StepFailedError,
    Stepflow,
    current_step,
)
from stepflow.testing import DivergedError, StuckError, WorkflowTest

pytestmark = pytest.mark.asyncio

BOTH = pytest.mark.parametrize("replay", ["never", "always"])


async def charge(order: str) -> dict[str, Any]:
    raise AssertionError("the real card was charged")


def reserve(item: str) -> str:
    return f"reserved {item}"


@pytest.fixture
def flow() -> Stepflow:
    flow = Stepflow()

    @flow.workflow("checkout")
    async def checkout(ctx: Context, order: str) -> dict[str, Any]:
        charged = await ctx.step("charge", charge, order, retry=RetryPolicy(max_attempts=3))
        items = await asyncio.gather(*(ctx.step("reserve", reserve, i, key=i) for i in "abc"))
        payment = await ctx.wait_for_event("payment", f"paid-{order}", timeout=None)
        await ctx.sleep("cool-off", "3d")
        return {"charged": charged, "items": items, "payment": payment}

    @flow.workflow("nap")
    async def nap(ctx: Context, duration: str) -> str:
        await ctx.sleep("nap", duration)
        return ctx.now().isoformat()

    return flow


async def test_three_days_take_no_time(flow) -> None:
    async with WorkflowTest(flow) as t:
        assert await t.run("nap", "3d") == "2024-01-04T00:00:00+00:00"
        assert t.now == datetime(2024, 1, 4, tzinfo=UTC)


@BOTH
async def test_a_run_goes_through_steps_an_event_and_time(flow, replay) -> None:
    async with WorkflowTest(flow, replay=replay) as t:
        t.stub("charge", {"ok": True})
        run = await t.trigger("checkout", "o1")
        assert await t.notify("paid-o1", {"amount": 5}) == 1
        assert await t.result(run) == {
            "charged": {"ok": True},
            "items": ["reserved a", "reserved b", "reserved c"],
            "payment": {"amount": 5},
        }
        assert t.calls("charge") == [("o1",)]
        assert sorted(t.calls("reserve")) == [("a",), ("b",), ("c",)]


async def test_time_passes_only_as_far_as_it_is_told(flow) -> None:
    async with WorkflowTest(flow) as t:
        run = await t.trigger("nap", "1h")
        await t.advance("59m")
        assert (await t.get(run)).state == "sleeping"
        await t.advance(timedelta(minutes=1))
        assert (await t.get(run)).status == "completed"
        assert t.now == datetime(2024, 1, 1, 1, tzinfo=UTC)


async def test_a_timer_of_the_loop_is_due_a_hundred_years_on(flow) -> None:
    async with WorkflowTest(flow) as t:
        await t.clock.advance(100 * 365 * 86_400)
        async with asyncio.timeout(1):
            await asyncio.sleep(0.1)


async def test_settling_takes_no_time(flow) -> None:
    async with WorkflowTest(flow) as t:
        await t.trigger("nap", "1ms")
        before = t.now
        await t.settle()
        assert t.now == before


@BOTH
async def test_a_crash_loses_nothing_and_runs_no_recorded_step_again(flow, replay) -> None:
    async with WorkflowTest(flow, replay=replay) as t:
        t.stub("charge", {"ok": True})
        run = await t.trigger("checkout", "o1")
        await t.settle()
        await t.crash()
        await t.notify("paid-o1", 1)
        await t.crash(power_cut=True)
        assert (await t.result(run))["payment"] == 1
        assert len(t.calls("charge")) == 1
        assert len(t.calls("reserve")) == 3


async def test_a_step_cut_by_a_crash_runs_again_as_another_attempt() -> None:
    flow = Stepflow()
    attempts: list[int] = []
    keys: set[str] = set()
    begun = asyncio.Event()

    async def slow() -> int:
        attempts.append(current_step().attempt)
        keys.add(current_step().idempotency_key)
        begun.set()
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return 7

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> int:
        return await ctx.step("slow", slow, retry=RetryPolicy(max_attempts=1))

    async with WorkflowTest(flow) as t:
        run = await t.trigger("w")
        await begun.wait()
        await t.crash()
        assert await t.result(run) == 7
    assert attempts == [1, 2]
    assert len(keys) == 1


async def test_who_waits_for_a_result_waits_on_through_a_crash(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", {})
        run = await t.trigger("checkout", "o1")
        await t.settle()
        waiting = asyncio.ensure_future(t.result(run))
        await t.crash()
        await t.notify("paid-o1", "yes")
        assert (await waiting)["payment"] == "yes"


async def test_an_answer_that_was_not_durable_is_unknown_and_what_was_is_there(flow) -> None:
    async with WorkflowTest(flow) as t:
        first = await t.trigger("nap", "1h", run_id="run_firstfirst")
        await t.crash(power_cut=True)
        assert (await first.get()).status == "running"
        assert await t.result("run_firstfirst")


# ---------------------------------------------------------------- stubs


async def test_a_stub_may_be_a_value_an_error_or_a_function(flow) -> None:
    outcomes = itertools.chain([RuntimeError("busy")], itertools.repeat({"ok": 1}))

    def flaky(order: str) -> dict[str, Any]:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return {**outcome, "order": order}

    async with WorkflowTest(flow) as t:
        t.stub("reserve", "stubbed")
        t.stub("charge", flaky)
        run = await t.trigger("checkout", "o1")
        await t.advance("1m")
        await t.notify("paid-o1")
        result = await t.result(run)
        assert result["charged"] == {"ok": 1, "order": "o1"}
        assert result["items"] == ["stubbed"] * 3
        assert t.calls("charge") == [("o1",), ("o1",)]

        t.stub("charge", ValueError("declined"))
        with pytest.raises(RunFailedError, match="declined"):
            await t.run("checkout", "o2")
        assert len(t.calls("charge")) == 5, "three attempts"


async def test_a_stub_may_be_an_async_function_and_an_error_class(flow) -> None:
    async def answer(order: str) -> dict[str, Any]:
        await asyncio.sleep(5)
        return {"order": order}

    async with WorkflowTest(flow) as t:
        t.stub("charge", answer)
        run = await t.trigger("checkout", "o1")
        await t.advance(5)
        assert (await t.get(run)).steps[0].status == "completed"
        t.stub("charge", TimeoutError)
        with pytest.raises(RunFailedError, match="TimeoutError"):
            await t.run("checkout", "o2")


async def test_retries_wait_in_virtual_time() -> None:
    flow = Stepflow()

    def fail() -> None:
        raise RuntimeError("always")

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> int:
        try:
            await ctx.step("fail", fail, retry=RetryPolicy(4, initial="1h", jitter=False))
        except StepFailedError as error:
            return error.attempts
        return 0

    async with WorkflowTest(flow) as t:
        assert await t.run(w) == 4
        waited = (t.now - datetime(2024, 1, 1, tzinfo=UTC)).total_seconds()
        assert waited == 60 + 60 + 60, "the policy's max_delay"


@pytest.mark.parametrize("threads", [False, True])
async def test_sync_steps_run_in_the_loop_or_in_threads(threads) -> None:
    flow = Stepflow()

    @flow.workflow("w")
    async def w(ctx: Context, n: int) -> list[int]:
        return await ctx.map("double", lambda i: i * 2, list(range(n)))

    async with WorkflowTest(flow, threads=threads) as t:
        assert await t.run("w", 20) == [2 * i for i in range(20)]


# ---------------------------------------------------------------- what it must find


async def test_a_body_that_is_not_deterministic_fails_the_test_under_replay() -> None:
    flow = Stepflow()
    dice = random.Random(1)

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> None:
        await ctx.step("first", reserve, "x")
        await ctx.step("second", reserve, str(dice.random()))
        await ctx.step("third", reserve, "y")

    async with WorkflowTest(flow) as t:
        await t.run("w")
    async with WorkflowTest(flow, replay="always") as t:
        with pytest.raises(DivergedError, match="second"):
            await t.run("w")


@pytest.mark.parametrize("last", [True, False])
async def test_a_replay_that_takes_another_way_is_found(last) -> None:
    flow = Stepflow()
    ways = itertools.cycle(["left", "right"])

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> None:
        await ctx.step(next(ways), reserve, "x")
        if not last:
            await ctx.step("after", reserve, "y")

    async with WorkflowTest(flow, replay="always") as t:
        with pytest.raises(DivergedError, match="left"):
            await t.run("w")


async def test_a_replay_that_asks_for_less_is_found() -> None:
    flow = Stepflow()
    visits = itertools.count()

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> None:
        if next(visits) == 0:
            await ctx.step("once", reserve, "x")

    async with WorkflowTest(flow, replay="always") as t:
        with pytest.raises(DivergedError, match="once"):
            await t.run("w")


@BOTH
async def test_deterministic_bodies_pass_under_replay(replay) -> None:
    flow = Stepflow()

    def fail() -> None:
        raise ValueError("no")

    @flow.workflow("child")
    async def child(ctx: Context, n: int) -> int:
        await ctx.sleep("nap", "1m")
        return await ctx.step("double", lambda i: i * 2, n)

    @flow.workflow("w")
    async def w(ctx: Context, n: int) -> dict[str, Any]:
        seen = [ctx.now().isoformat(), ctx.random(), str(ctx.uuid())]
        failed = ""
        try:
            await ctx.step("fail", fail, retry=RetryPolicy(max_attempts=2))
        except StepFailedError as error:
            failed = error.message
        doubled = await ctx.call("child", n)
        mapped = await ctx.map("map", reserve, ["a", "b", "c"], limit=2)
        missed = await ctx.wait_for_event("gone", timeout="1h", default="nobody")
        fast = asyncio.ensure_future(ctx.sleep("fast", "1s"))
        slow = asyncio.ensure_future(ctx.sleep("slow", "1h"))
        done, _ = await asyncio.wait({fast, slow}, return_when=asyncio.FIRST_COMPLETED)
        slow.cancel()
        again = [ctx.now().isoformat(), ctx.random(), str(ctx.uuid())]
        sent = await ctx.notify("nobody-there", 1)
        seen += again
        return {
            "seen": len(set(seen)),
            "failed": failed,
            "doubled": doubled,
            "mapped": mapped,
            "missed": missed,
            "fast": done == {fast},
            "sent": sent,
        }

    async with WorkflowTest(flow, replay=replay) as t:
        assert await t.run("w", 4) == {
            "seen": 6,
            "failed": "no",
            "doubled": 8,
            "mapped": ["reserved a", "reserved b", "reserved c"],
            "missed": "nobody",
            "fast": True,
            "sent": 0,
        }
        assert len(t.calls("fail")) == 2, "a replay runs no step again"


@pytest.mark.parametrize("strict", [True, False])
async def test_other_arguments_under_a_recorded_step_are_an_error_when_strict(strict) -> None:
    flow = Stepflow()
    arguments = iter(["old", "new"])

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> str:
        result = await ctx.step("same", reserve, next(arguments, "new"))
        await ctx.sleep("nap", "1h")
        return result

    async with WorkflowTest(flow, strict=strict) as t:
        run = await t.trigger("w")
        await t.settle()
        await t.crash()
        if strict:
            with pytest.raises(DivergedError, match="other arguments"):
                await t.result(run)
        else:
            assert await t.result(run) == "reserved old"


async def test_a_divergence_that_nobody_looked_at_fails_at_the_end() -> None:
    flow = Stepflow()
    ways = itertools.cycle(["left", "right"])

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> None:
        await ctx.step(next(ways), reserve, "x")

    async def look_away() -> None:
        async with WorkflowTest(flow, replay="always") as t:
            run = await t.trigger("w")
            await asyncio.sleep(1)
            assert (await run.get()).state == "parked"

    with pytest.raises(DivergedError):
        await look_away()


async def test_a_wait_for_what_cannot_come_is_said_at_once(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", {})
        run = await t.trigger("checkout", "o1")
        with pytest.raises(StuckError, match="waits for event 'paid-o1'"):
            await t.result(run)


async def test_a_stuck_test_is_ended_wherever_it_waits(flow) -> None:
    async def wait_for_ever() -> None:
        async with WorkflowTest(flow) as t:
            t.stub("charge", {})
            run = await t.trigger("checkout", "o1")
            await run.result()

    with pytest.raises(StuckError, match="checkout"):
        await wait_for_ever()


async def test_an_error_of_the_test_itself_stays_what_it_is(flow) -> None:
    async def go_wrong() -> None:
        async with WorkflowTest(flow) as t:
            await t.trigger("nap", "1h")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await go_wrong()


async def test_a_cancelled_run_says_so(flow) -> None:
    async with WorkflowTest(flow) as t:
        run = await t.trigger("nap", "1h")
        await t.settle()
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await t.result(run)


# ---------------------------------------------------------------- the flow


async def test_inside_the_flow_is_the_tests_and_after_it_is_its_own_again(flow) -> None:
    before = flow.swap_engine(None)
    flow.swap_engine(before)
    async with WorkflowTest(flow) as t:
        run = await flow.trigger("nap", "1h")
        assert await t.result(run)
        with pytest.raises(EventNotFoundError):
            await flow.notify("nobody")
    assert flow.swap_engine(None) is before


async def test_ids_and_jitter_are_the_same_each_time(flow) -> None:
    ids: list[str] = []
    for _ in range(2):
        async with WorkflowTest(flow, seed=7) as t:
            ids.append((await t.trigger("nap", "1h")).id)
            await t.crash()
            ids.append((await t.trigger("nap", "1h")).id)
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2, "no id is given twice, not after a crash either"


async def test_a_public_token_can_be_had(flow) -> None:
    async with WorkflowTest(flow) as t:
        assert (await t.trigger("nap", "1h")).public_access_token.startswith("pat_")
