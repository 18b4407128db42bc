"""Compensation: whole after a crash at any record, and what was not undone is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import (
    AuthoringError,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    StepFailedError,
)
from stepflow.client import wire
from stepflow.model import records as rec
from stepflow.web.schemas import RunError
from tests.harness import World, crash_everywhere, decoded, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow import Context
    from stepflow.model.records import Record
    from stepflow.model.views import RunView
    from tests.harness import Life

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_attempts=1)
UNDO = "undo:"
BEFORE = {"type": "RunCancelledError", "message": "the run was ended before this step was undone"}
AMID = {
    "type": "StepInterruptedError",
    "message": "the run was ended while this step was being undone",
}


def logs(first: Life, later: list[tuple[Life, RunView]]) -> Iterator[tuple[list[Record], Any]]:
    """Yield the whole history of the run for each cut, and how it ended."""
    for cut, (second, view) in enumerate(later, 1):
        groups = [*first.groups[:cut], *second.groups]
        yield decoded(data for group in groups for data in group), view


def undone(log: list[Record]) -> list[str]:
    """Return the keys of the compensations that have their end, in its order."""
    ends = rec.StepCompleted | rec.StepFailed
    return [r.key for r in log if isinstance(r, ends) and r.key.startswith(UNDO)]


def begun(log: list[Record]) -> list[str]:
    """Return the keys of the compensations in the order in which they were begun first."""
    starts = [r.key for r in log if isinstance(r, rec.StepStarted) and r.key.startswith(UNDO)]
    return list(dict.fromkeys(starts))


async def do(name: Any) -> Any:
    return name


async def bad() -> None:
    raise ValueError("the end")


async def cancel_at_go(world: World) -> None:
    """Cancel the run when it waits for `go`, in whichever life that is."""
    await world.until(lambda: world.engine.sup.runs)
    run_id = next(iter(world.engine.sup.runs))
    actor = world.actor(run_id)
    await world.until(lambda: "go#1" in actor.state.calls or actor.state.cancelling)
    if not actor.state.cancelling:
        await world.engine.cancel(run_id)


@pytest.mark.parametrize("ends", ["fails", "cancelled"])
@pytest.mark.parametrize("stuck", ["none", "two", "three"])
async def test_after_a_crash_at_any_record_each_step_is_undone_once_in_reverse_order(
    ends: str, stuck: str
) -> None:
    world = World()

    async def undo(name: str) -> None:
        world.ran(name)
        if name == stuck:
            raise ValueError("stuck")

    async def w(ctx: Context) -> None:
        for name in ("one", "two", "three"):
            await ctx.step(name, do, name, retry=ONCE, compensate=undo)
        if ends == "cancelled":
            await ctx.wait_for_event("go", "go", timeout=None)
        await ctx.step("bad", bad, retry=ONCE)

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        first, later = await crash_everywhere(
            world, "w", drive=cancel_at_go if ends == "cancelled" else None
        )
    assert len(later) > 10
    told = {"name": stuck, "key": f"{stuck}#1", "error": {"type": "ValueError", "message": "stuck"}}
    in_order = ["undo:three#1", "undo:two#1", "undo:one#1"]
    for log, view in logs(first, later):
        assert view.status == ("cancelled" if ends == "cancelled" else "failed")
        assert begun(log) == undone(log) == in_order
        assert error_of(view).get("compensation") == (None if stuck == "none" else [told])


async def test_a_compensation_is_retried_as_its_workflow_says_and_a_crash_costs_none() -> None:
    world = World()
    policy = RetryPolicy(max_attempts=2, initial="1s", jitter=False)

    async def undo(name: str) -> None:
        if name == "two" or world.ran(name).attempt == 1:
            raise ValueError("again")

    async def w(ctx: Context) -> None:
        for name in ("one", "two"):
            await ctx.step(name, do, name, compensate=undo)
        await ctx.step("bad", bad, retry=ONCE)

    world.redeploy(w, retry=policy)
    with world.clock.driving():
        first, later = await crash_everywhere(world, "w")
    for log, view in logs(first, later):
        assert undone(log) == ["undo:two#1", "undo:one#1"]
        failures = [r.key for r in log if isinstance(r, rec.StepRetrying)]
        assert failures.count("undo:two#1") == 1
        assert [row["key"] for row in error_of(view)["compensation"]] == ["two#1"]


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("stuck", [0, 2])
async def test_a_map_is_undone_in_the_reverse_order_of_its_ends_whatever_record_a_crash_follows(
    limit: int | None, stuck: int
) -> None:
    world = World()

    async def slow(n: int) -> int:
        await asyncio.sleep(n / 1000)
        return n

    async def undo(n: int) -> None:
        world.ran(n)
        if n == stuck:
            raise ValueError("stuck")

    async def w(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            for n in (3, 1):
                group.create_task(ctx.step("alone", slow, n, compensate=undo))
        await ctx.map("m", slow, [3, 1, 2], limit=limit, retry=ONCE, compensate=undo)
        await ctx.step("bad", bad, retry=ONCE)

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        first, later = await crash_everywhere(world, "w")
    for log, view in logs(first, later):
        undos = [r for r in log if isinstance(r, rec.StepStarted) and r.key.startswith(UNDO)]
        args = {r.key: r.args for r in undos}
        done = [r.key for r in log if isinstance(r, rec.StepCompleted) and UNDO not in r.key]
        asked = {r.key: r.args for r in log if isinstance(r, rec.StepStarted) if r.undo}
        assert [args[key] for key in undone(log)] == [asked[key] for key in reversed(done)]
        assert len(done) == 5
        told = [row["name"] for row in error_of(view).get("compensation", ())]
        assert told == (["m"] if stuck else [])


async def test_what_a_failed_map_has_completed_is_undone_and_what_it_gave_up_is_not() -> None:
    world = World()

    async def item(n: int) -> int:
        if n == 2:
            await asyncio.sleep(1)
            raise ValueError("two")
        await asyncio.sleep(3600 if n == 3 else 0)
        return n

    async def undo(n: int) -> None:
        world.note(n)

    async def w(ctx: Context) -> None:
        await ctx.map("m", item, [1, 2, 3], limit=2, retry=ONCE, compensate=undo)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            view = await world.run("w")
            assert view.status == "failed"
            assert world.life.trace == [(1,)]
            assert "compensation" not in error_of(view)


async def test_what_the_graces_end_cuts_and_what_it_leaves_undone_is_in_the_error() -> None:
    world = World(cancel_grace_s=5.0)

    async def undo(name: str) -> None:
        world.note(name)
        if name == "two":
            await asyncio.sleep(3600)

    async def w(ctx: Context) -> None:
        for name in ("one", "two", "three"):
            await ctx.step(name, do, name, compensate=undo)
        await ctx.wait_for_event("go", "go", timeout=None)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.WaitStarted))
            await world.engine.cancel(run_id)
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            told = error_of(view)["compensation"]
            assert told == [
                {"name": "two", "key": "two#1", "error": AMID},
                {"name": "one", "key": "one#1", "error": BEFORE},
            ]
            assert world.life.trace == [("three",), ("two",)]
            stream = await world.engine.stream(run_id)
            last = stream.read_events(1000)[-1].json()
            stream.close()
            assert last["error"]["compensation"] == told
            assert error_of(await world.engine.get_run(run_id))["compensation"] == told
        async with world:
            assert error_of(await world.engine.get_run(run_id))["compensation"] == told


@pytest.mark.parametrize("crash", [False, True])
async def test_what_the_grace_has_left_goes_on_undoing_after_a_restart(*, crash: bool) -> None:
    world = World(cancel_grace_s=30.0)
    slow = True

    async def undo(name: str) -> None:
        world.note(name)
        if name == "two" and slow:
            await asyncio.sleep(3600)

    async def w(ctx: Context) -> None:
        for name in ("one", "two", "three"):
            await ctx.step(name, do, name, compensate=undo)
        await ctx.wait_for_event("go", "go", timeout=None)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.WaitStarted))
            await world.engine.cancel(run_id)
            await world.until(lambda: world.life.trace[-1:] == [("two",)])
            await world.saved()
            await (world.crash() if crash else world.stop())
            slow = False
            await world.start()
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            assert "compensation" not in error_of(view)
            assert world.life.trace == [("two",), ("one",)]


@pytest.mark.parametrize("how", ["deaf", "forced", "missing"])
async def test_a_run_that_is_ended_before_it_could_undo_anything_says_so(how: str) -> None:
    world = World(cancel_grace_s=5.0)

    async def w(ctx: Context) -> None:
        for name in ("one", "two"):
            await ctx.step(name, do, name, compensate=do)
        await ctx.step("plain", do, "p")
        while True:
            try:
                await ctx.wait_for_event("go", timeout=None)
            except asyncio.CancelledError:
                await asyncio.sleep(3600)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.WaitStarted))
        if how == "missing":
            world.redeploy()
        async with world:
            await world.engine.cancel(run_id, force=how == "forced")
            view = await world.finished(run_id)
            rows = [{"name": n, "key": f"{n}#1", "error": BEFORE} for n in ("two", "one")]
            assert error_of(view)["compensation"] == rows


async def test_a_timeout_undoes_within_the_grace_and_says_what_it_did_not() -> None:
    world = World(cancel_grace_s=5.0)

    async def undo(name: str) -> None:
        if name == "one":
            await asyncio.sleep(3600)

    async def w(ctx: Context) -> None:
        for name in ("one", "two"):
            await ctx.step(name, do, name, compensate=undo)
        await ctx.wait_for_event("go", timeout=None)

    world.redeploy(w, timeout="1m")
    with world.clock.driving():
        async with world:
            error = error_of(await world.run("w"))
            assert error["type"] == "RunTimeoutError"
            assert error["compensation"] == [{"name": "one", "key": "one#1", "error": AMID}]


async def test_a_run_that_completes_tells_nothing_and_undoes_nothing() -> None:
    world = World()

    async def w(ctx: Context) -> str:
        await ctx.step("one", do, 1, compensate=bad)
        try:
            await ctx.step("bad", bad, retry=ONCE)
        except StepFailedError:
            return "caught"
        return ""

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w") == "caught"


async def test_what_is_told_is_bounded_and_counts_the_rest() -> None:
    world = World()

    async def undo(n: int) -> None:
        raise ValueError("x" * 5000)

    async def w(ctx: Context) -> None:
        await ctx.map("m", do, range(130), compensate=undo)
        raise ValueError("the end")

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        async with world:
            view = await world.run("w")
            error = error_of(view)
            assert error["message"] == "the end"
            assert len(error["compensation"]) == 100
            assert error["compensationMore"] == 30
            assert msgspec.convert(error, RunError).compensation_more == 30
            assert len(bytes(view.error)) < 100 * 1024  # type: ignore[arg-type]


async def test_what_a_child_has_not_undone_is_told_of_the_child_alone() -> None:
    world = World()

    async def undo(_: int) -> None:
        raise ValueError("stuck")

    async def child(ctx: Context) -> None:
        await ctx.step("one", do, 1, compensate=undo)
        raise ValueError("the end")

    async def w(ctx: Context) -> None:
        await ctx.call("child", None)

    world.redeploy(child, w, retry=ONCE)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            view = await world.finished(run_id)
            assert view.status == "failed"
            assert "compensation" not in error_of(view)
            whole = await world.engine.get_run(run_id)
            assert isinstance(whole.children, list)
            told = error_of(await world.engine.get_run(whole.children[0].run_id))
            assert [row["key"] for row in told["compensation"]] == ["one#1"]


async def test_a_retry_of_the_run_takes_the_told_back_and_undoes_anew() -> None:
    world = World()
    stuck = True

    async def undo(name: str) -> None:
        world.note(name)
        if stuck:
            raise ValueError("stuck")

    async def w(ctx: Context) -> None:
        await ctx.step("one", do, "one", compensate=undo)
        await ctx.step("bad", bad, retry=ONCE)

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            assert "compensation" in error_of(await world.finished(run_id))
            stuck = False
            await world.engine.retry(run_id)
            assert "compensation" not in error_of(await world.finished(run_id))
            assert world.life.trace == [("one",), ("one",)]


async def test_no_step_of_an_author_is_called_as_one_that_undoes() -> None:
    world = World()

    async def w(ctx: Context) -> None:
        try:
            await ctx.step("undo:one", do, 1)
        except AuthoringError as error:
            world.note(str(error))
        await ctx.step("undo", do, 1)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            await world.result("w")
            assert "undo:one" in world.life.trace[0][0]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_error_of_a_handles_result_has_what_was_not_undone(*, cancelled: bool) -> None:
    world = World()

    async def undo(_: int) -> None:
        raise ValueError("stuck")

    async def w(ctx: Context) -> None:
        await ctx.step("one", do, 1, compensate=undo)
        await ctx.wait_for_event("go", timeout=None)
        await ctx.step("bad", bad)

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        async with world:
            handle = await world.flow.trigger("w")
            await world.until(lambda: world.records(rec.WaitStarted))
            if cancelled:
                await handle.cancel()
            else:
                await world.engine.notify("go", b"1")
            with pytest.raises(RunCancelledError if cancelled else RunFailedError) as caught:
                await handle.result()
            assert [row["key"] for row in caught.value.compensation] == ["one#1"]
            view = await handle.get()
            with pytest.raises(type(caught.value)) as of_client:
                wire.result_of(view)
            assert of_client.value.compensation == caught.value.compensation


async def test_a_compensation_that_is_cut_from_inside_ends_the_run_and_tells_the_rest() -> None:
    world = World()

    async def undo(name: str) -> None:
        if name == "two":
            await asyncio.sleep(3600)

    async def w(ctx: Context) -> None:
        for name in ("one", "two"):
            await ctx.step(name, do, name, compensate=undo)
        raise ValueError("the end")

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: "undo:two#1" in world.actor(run_id).state.calls)
            session = world.actor(run_id).session
            assert session is not None
            assert session.root is not None
            session.root.cancel()
            error = error_of(await world.finished(run_id))
            assert error["message"] == "the end"
            assert [row["error"] for row in error["compensation"]] == [AMID, BEFORE]


async def test_a_retry_keeps_what_was_not_begun_and_runs_again_what_was_being_undone() -> None:
    world = World(cancel_grace_s=5.0)
    first = True

    async def does(name: str) -> str:
        world.ran(name)
        return name

    async def undo(name: str) -> None:
        if name == "two" and first:
            await asyncio.sleep(3600)

    async def w(ctx: Context) -> None:
        for name in ("one", "two", "three"):
            await ctx.step(name, does, name, compensate=undo)
        if first:
            await ctx.wait_for_event("go", timeout=None)

    world.redeploy(w, retry=ONCE)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.WaitStarted))
            await world.engine.cancel(run_id)
            error = error_of(await world.finished(run_id))
            assert [row["error"] for row in error["compensation"]] == [AMID, BEFORE]
            first = False
            world.life.ran.clear()
            await world.engine.retry(run_id)
            assert (await world.finished(run_id)).status == "completed"
            assert [ran.name for ran in world.life.ran] == ["two", "three"]
