"""`at_most_once=True` with `retry=`, in a map, given up, caught, after a crash at any record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RetryPolicy, StepFailedError, StepInterruptedError
from stepflow.model import records as rec
from tests.harness import Life, World, crash_everywhere, decoded, error_of, result_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow import Context
    from stepflow.model.records import Record
    from stepflow.model.views import RunView

pytestmark = pytest.mark.asyncio

POLICY = RetryPolicy(max_attempts=3, initial="1s", jitter=False)
INTERRUPTED = "StepInterruptedError"


def error_type(record: rec.StepFailed) -> str:
    told: dict[str, Any] = msgspec.json.decode(bytes(record.error))
    return str(told["type"])


def check_once(log: list[Record]) -> dict[str, str]:
    """No attempt follows one whose end is not known; return how each such step ended."""
    open_attempts: set[str] = set()
    once: set[str] = set()
    ends: dict[str, str] = {}
    for record in log:
        match record:
            case rec.StepStarted(key=key):
                if record.once:
                    once.add(key)
                    assert key not in open_attempts, f"{key} ran beside an attempt that was cut"
                open_attempts.add(key)
            case rec.StepRetrying(key=key):
                open_attempts.remove(key)
            case rec.StepCompleted(key=key):
                ends[key] = "completed"
            case rec.StepFailed(key=key):
                ends[key] = error_type(record)
            case _:
                pass
    return {key: end for key, end in ends.items() if key in once}


def lives_of(
    first: Life, later: list[tuple[Life, RunView]]
) -> Iterator[tuple[list[Record], list[Record], Life, Any]]:
    """Yield for each cut what was recorded before it, all that was, the second life and its end."""
    for cut, (second, view) in enumerate(later, 1):
        before = decoded(data for group in first.groups[:cut] for data in group)
        yield before, [*before, *second.records()], second, view


def cut_attempts(log: list[Record]) -> set[str]:
    """Return the keys of once-steps that have an attempt without an end."""
    found: set[str] = set()
    for record in log:
        if isinstance(record, rec.StepStarted) and record.once:
            found.add(record.key)
        elif isinstance(record, rec.StepRetrying | rec.StepCompleted | rec.StepFailed):
            found.discard(record.key)
    return found


@pytest.mark.parametrize("fails", [0, 1, 3])
async def test_known_failures_are_retried_and_what_a_crash_cut_is_not_at_any_record(
    fails: int,
) -> None:
    world = World()

    async def pay(n: int) -> str:
        if world.ran(n).attempt <= fails:
            raise ValueError("again")
        return "paid"

    async def look() -> str:
        return "looked"

    async def w(ctx: Context) -> Any:
        try:
            return await ctx.step("pay", pay, 1, retry=POLICY, at_most_once=True)
        except StepInterruptedError as error:
            world.note("interrupted", error.name)
            await ctx.step("look", look)
            return "caught"
        except StepFailedError as error:
            return error.attempts

    world.redeploy(w)
    with world.clock.driving():
        first, later = await crash_everywhere(world, "w")
    whole = "paid" if fails < 3 else 3
    interrupted = 0
    for before, log, second, view in lives_of(first, later):
        ends = check_once(log)
        cut = cut_attempts(before)
        if cut:
            interrupted += 1
            assert ends == {"pay#1": INTERRUPTED}
            assert not [ran for ran in second.ran if ran.key == "pay#1"]
            assert second.trace == [("interrupted", "pay")]
        else:
            assert INTERRUPTED not in ends.values()
        assert result_of(view) == ("caught" if cut else whole)
        # One start in the journal for each time that the function ran.
        starts = [r.attempt for r in second.records() if isinstance(r, rec.StepStarted) if r.once]
        assert [ran.attempt for ran in second.ran if ran.name == "pay"] == starts
    assert interrupted == min(fails + 1, 3)


@pytest.mark.parametrize("limit", [None, 2])
async def test_in_a_map_each_item_is_run_at_most_once_whatever_record_a_crash_follows(
    limit: int | None,
) -> None:
    world = World()

    async def pay(n: int) -> int:
        ran = world.ran(n)
        await asyncio.sleep(n / 1000)
        if n == 2 and ran.attempt == 1:
            raise ValueError("again")
        return n

    async def w(ctx: Context) -> Any:
        try:
            return await ctx.map("m", pay, [3, 1, 2], limit=limit, retry=POLICY, at_most_once=True)
        except StepInterruptedError as error:
            return error.name

    world.redeploy(w)
    with world.clock.driving():
        first, later = await crash_everywhere(world, "w")
    caught = 0
    for before, log, second, view in lives_of(first, later):
        ends = check_once(log)
        cut = cut_attempts(before)
        assert not cut & {ran.key for ran in second.ran}
        caught += bool(cut)
        if cut:
            assert result_of(view) == "m"
            assert INTERRUPTED in ends.values()
        else:
            assert result_of(view) == [3, 1, 2]
    assert caught > 3


async def test_items_of_a_map_that_have_their_result_keep_it_when_another_is_interrupted() -> None:
    world = World()

    async def pay(n: int) -> int:
        world.ran(n)
        if n == 2:
            await asyncio.sleep(3600)
        return n

    async def undo(n: int) -> None:
        world.note(n)

    async def w(ctx: Context) -> Any:
        await ctx.map("m", pay, [1, 2], at_most_once=True, compensate=undo)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.StepCompleted))
            await world.saved()
            await world.restart()
            view = await world.finished(run_id)
            error = error_of(view)
            assert error["type"] == INTERRUPTED
            assert "compensation" not in error
            # The one that was interrupted is not known to be done: it is not undone.
            assert world.life.trace == [(1,)]
            assert not world.life.ran


@pytest.mark.parametrize("mapped", [False, True])
async def test_what_was_given_up_is_not_run_again_at_any_record(*, mapped: bool) -> None:
    world = World()

    async def pay(n: int) -> int:
        world.ran(n)
        await asyncio.sleep(3600)
        return n

    async def bad(_: int) -> int:
        await asyncio.sleep(0.001)
        raise ValueError("no")

    async def either(n: int) -> int:
        return await (bad(n) if n == 2 else pay(n))

    async def w(ctx: Context) -> str:
        try:
            if mapped:
                await ctx.map(
                    "m", either, [1, 2], retry=RetryPolicy(max_attempts=1), at_most_once=True
                )
            else:
                won, _ = await ctx.first(
                    pay=ctx.step("pay", pay, 1, at_most_once=True), nap=ctx.sleep("nap", "1ms")
                )
                return str(won)
        except StepInterruptedError:
            return "interrupted"
        except StepFailedError as error:
            return error.error_type
        return ""

    world.redeploy(w)
    with world.clock.driving():
        first, later = await crash_everywhere(world, "w")
    seen: set[str] = set()
    for before, log, second, view in lives_of(first, later):
        check_once(log)
        assert not cut_attempts(before) & {ran.key for ran in second.ran}
        seen.add(result_of(view))
    assert "interrupted" in seen
    assert seen <= {"interrupted", "ValueError" if mapped else "nap"}


async def test_uncaught_it_fails_the_run_and_an_operators_retry_makes_the_step_again() -> None:
    world = World()

    async def pay() -> str:
        if world.ran().attempt == 1:
            await asyncio.sleep(3600)
        return "paid"

    async def w(ctx: Context) -> str:
        return await ctx.step("pay", pay, retry=POLICY, at_most_once=True)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            (ran,) = world.life.ran
            await world.restart()
            view = await world.finished(run_id)
            assert view.status == "failed"
            error = error_of(view)
            assert (error["type"], error["step"], error["attempts"]) == (INTERRUPTED, "pay", 1)
            await world.engine.retry(run_id)
            assert result_of(await world.finished(run_id)) == "paid"
            (again,) = world.life.ran
            assert (again.attempt, again.idempotency_key) == (2, ran.idempotency_key)


async def test_the_wait_before_a_retry_survives_a_crash_and_interrupts_nothing() -> None:
    world = World()
    policy = RetryPolicy(max_attempts=2, initial="1h", max_delay="1h", jitter=False)

    async def pay() -> str:
        if world.ran().attempt == 1:
            raise ValueError("again")
        return "paid"

    async def w(ctx: Context) -> str:
        return await ctx.step("pay", pay, retry=policy, at_most_once=True)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.StepRetrying))
            await world.saved()
            await world.restart()
            assert result_of(await world.finished(run_id)) == "paid"
            assert [ran.attempt for ran in world.life.ran] == [2]


async def test_the_runs_error_names_the_step_also_out_of_a_task_group() -> None:
    world = World()

    async def pay() -> None:
        world.ran()
        await asyncio.sleep(3600)

    async def w(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("pay", pay, at_most_once=True))

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.life.ran)
            await world.restart()
            error = error_of(await world.finished(run_id))
            assert (error["type"], error["step"]) == (INTERRUPTED, "pay")
