"""What a test may put in a step's place, attempt by attempt, and what it may claim of its steps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepflow import Context, RetryPolicy, RunFailedError, Stepflow, current_step
from stepflow.testing import WorkflowTest

pytestmark = pytest.mark.asyncio

BOTH = pytest.mark.parametrize("replay", ["never", "always"])


async def charge(order: str) -> dict[str, Any]:
    raise AssertionError("the real card was charged")


def reserve(item: str) -> str:
    return f"reserved {item}"


async def tokens(prompt: str) -> str:
    for word in prompt.split():
        await current_step().emit(word)
    return prompt


@pytest.fixture
def flow() -> Stepflow:
    flow = Stepflow()

    @flow.workflow("buy")
    async def buy(ctx: Context, items: list[str]) -> dict[str, Any]:
        charged = await ctx.step("charge", charge, "o1", retry=RetryPolicy(3, initial="1h"))
        held = await asyncio.gather(*(ctx.step("reserve", reserve, i, key=i) for i in items))
        return {"charged": charged, "held": held}

    @flow.workflow("talk")
    async def talk(ctx: Context, prompt: str) -> str:
        await ctx.emit("began", 1)
        return await ctx.step("model", tokens, prompt)

    @flow.workflow("nap")
    async def nap(ctx: Context, _: None) -> None:
        await ctx.sleep("nap", "1h")

    return flow


@BOTH
async def test_each_attempt_has_an_outcome_of_its_own_and_the_last_one_stays(flow, replay) -> None:
    async with WorkflowTest(flow, replay=replay) as t:
        t.stub("charge", RuntimeError("busy"), TimeoutError, {"ok": True})
        assert (await t.run("buy", []))["charged"] == {"ok": True}
        assert [a.number for a in t.attempts] == [1, 2, 3]
        assert (await t.run("buy", []))["charged"] == {"ok": True}
        t.stub("charge", RuntimeError("busy"), ValueError("declined"))
        with pytest.raises(RunFailedError, match="declined"):
            await t.run("buy", [])


async def test_an_attempt_of_the_sequence_may_be_a_function(flow) -> None:
    async def later(order: str) -> dict[str, Any]:
        return {"order": order, "attempt": current_step().attempt}

    async with WorkflowTest(flow) as t:
        t.stub("charge", RuntimeError, later)
        assert (await t.run("buy", []))["charged"] == {"order": "o1", "attempt": 2}


async def test_an_attempt_that_a_crash_cut_counts_in_the_sequence(flow) -> None:
    begun = asyncio.Event()

    async def hang(order: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with WorkflowTest(flow) as t:
        t.stub("charge", hang, {"ok": 2})
        run = await t.trigger("buy", [])
        await begun.wait()
        await t.crash()
        assert (await t.result(run))["charged"] == {"ok": 2}


async def test_one_step_among_equals_is_stubbed_by_its_key(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", {})
        t.stub("reserve", "none left", key="b")
        result = await t.run("buy", ["a", "b", "c"])
        assert result["held"] == ["reserved a", "none left", "reserved c"]
        t.stub("reserve", "other")
        result = await t.run("buy", ["a", "b"])
        assert result["held"] == ["other", "none left"], "the key is more exact than the name"


async def test_a_stub_without_an_outcome_is_refused(flow) -> None:
    t = WorkflowTest(flow)
    with pytest.raises(TypeError, match="say what 'charge' comes to"):
        t.stub("charge")


async def test_what_a_step_was_called_with_can_be_claimed(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", RuntimeError, {})
        await t.run("buy", ["a"])
        t.assert_called("charge")
        t.assert_called("charge", "o1", times=2)
        t.assert_called("reserve", "a", times=1)
        t.assert_not_called("refund")
        for wrong in (
            lambda: t.assert_called("reserve", "b"),
            lambda: t.assert_called("charge", times=1),
            lambda: t.assert_not_called("reserve"),
        ):
            with pytest.raises(AssertionError, match=r"reserve.*'a'"):
                wrong()
        with pytest.raises(AssertionError, match=r"charge ran 2 time\(s\), not 1"):
            t.assert_called("charge", times=1)


async def test_a_runs_steps_are_seen_with_decoded_results(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", RuntimeError, {"ok": True})
        run = await t.trigger("buy", ["a"])
        await t.result(run)
        first, second = await t.steps(run)
        assert (first.name, first.status, first.attempts) == ("charge", "completed", 2)
        assert first.result == {"ok": True}
        assert (second.key, second.result) == ("reserve[a]", "reserved a")
        assert await t.step(run, "reserve") == await t.step(run, "reserve[a]") == second
        assert str(first) == "step charge completed after 2 attempts: {'ok': True}"
        with pytest.raises(AssertionError, match=r"(?s)did not ask for 'refund'.*reserve\[a\]"):
            await t.step(run, "refund")


async def test_a_failed_step_is_seen_with_its_error(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", ValueError("declined"))
        run = await t.trigger("buy", [])
        with pytest.raises(RunFailedError):
            await t.result(run)
        step = await t.step(run, "charge")
        assert (step.status, step.error["message"]) == ("failed", "declined")
        assert "ValueError: declined" in str(step)


async def test_a_sleep_is_seen_while_it_lasts(flow) -> None:
    async with WorkflowTest(flow) as t:
        run = await t.trigger("nap")
        step = await t.step(run, "nap")
        assert (step.kind, step.status, step.attempts) == ("sleep", "pending", 0)
        assert str(step) == "sleep nap pending"


@BOTH
async def test_live_events_can_be_read(flow, replay) -> None:
    async with WorkflowTest(flow, replay=replay) as t:
        run = await t.trigger("talk", "one two")
        await t.result(run)
        assert await t.emitted(run) == [1, "one", "two"]
        assert await t.emitted(run.id, "model") == ["one", "two"]


async def test_many_attempts_are_listed_shortly(flow) -> None:
    async with WorkflowTest(flow) as t:
        t.stub("charge", {})
        await t.run("buy", [str(i) for i in range(40)])
        with pytest.raises(AssertionError, match="and 21 more"):
            t.assert_called("nothing")
    async with WorkflowTest(flow) as t:
        with pytest.raises(AssertionError, match="no step ran"):
            t.assert_called("nothing")
