"""Retry: a failed or cancelled run goes on from where it failed, under its own id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RetryPolicy, StepFailedError
from stepflow.errors import ConflictError, RunNotFoundError
from tests.harness import World, error_of, result_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepflow import Context

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_attempts=1)
BOTH = pytest.mark.parametrize("crash", [False, True])


class Scene:
    """A world with steps that fail until they are mended."""

    def __init__(self) -> None:
        self.world = World()
        self.broken: set[Any] = set()

    def step(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def step(value: Any = None) -> Any:
            self.world.ran(value)
            if name in self.broken:
                raise ValueError(name)
            return value

        step.__qualname__ = name
        return step

    async def failed(self, body: Any, *, crash: bool = False) -> str:
        """Run the body to its failure; return the run's id."""
        self.world.redeploy(body, retry=ONCE)
        run_id = await self.world.trigger(body.__name__)
        view = await self.world.finished(run_id)
        assert view.status == "failed", view
        await self.world.saved()
        if crash:
            assert await self.world.engine.snapshot()
            await self.world.restart()
        self.world.life.ran.clear()
        return run_id

    async def retried(self, run_id: str, *, crash: bool = False) -> Any:
        """Retry the run; return its result."""
        await self.world.engine.retry(run_id, by="key:ops")
        if crash:
            ran = self.world.life.ran
            await self.world.restart()
            self.world.life.ran[:0] = ran
        view = await self.world.finished(run_id)
        assert view.status == "completed", view
        return result_of(view)

    def ran(self) -> list[str]:
        return self.world.ran_keys()


@BOTH
async def test_only_the_failed_step_and_what_follows_run(*, crash: bool) -> None:
    scene = Scene()
    scene.broken = {"b"}

    async def w(ctx: Context) -> list[Any]:
        first = await ctx.step("a", scene.step("a"), 1)
        second = await ctx.step("b", scene.step("b"), 2)
        return [first, second, await ctx.step("c", scene.step("c"), 3)]

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w, crash=crash)
            scene.broken.clear()
            assert await scene.retried(run_id, crash=crash) == [1, 2, 3]
            assert set(scene.ran()) == {"b#1", "c#1"}
            again = [ran for ran in scene.world.life.ran if ran.key == "b#1"]
            # The same call once more: whoever knows idempotency keys is asked under the same one.
            assert {ran.idempotency_key for ran in again} == {f"{run_id}/b#1"}
            assert again[0].attempt in ({2, 3} if crash else {2})


async def test_it_may_fail_again_and_be_retried_again() -> None:
    scene = Scene()
    scene.broken = {"a"}

    async def w(ctx: Context) -> Any:
        return await ctx.step("a", scene.step("a"), 1)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            for attempt in (2, 3):
                await scene.world.engine.retry(run_id)
                view = await scene.world.finished(run_id)
                assert view.status == "failed"
                assert [s.attempts for s in view.steps or await steps(scene, run_id)] == [attempt]
            scene.broken.clear()
            assert await scene.retried(run_id) == 1


async def steps(scene: Scene, run_id: str) -> Any:
    return (await scene.world.engine.get_run(run_id)).steps


async def test_it_has_all_its_attempts_again() -> None:
    scene = Scene()
    scene.broken = {"a"}

    async def w(ctx: Context) -> Any:
        policy = RetryPolicy(max_attempts=2, initial="1s", jitter=False)
        return await ctx.step("a", scene.step("a"), 1, retry=policy)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            await scene.world.engine.retry(run_id)
            assert (await scene.world.finished(run_id)).status == "failed"
            assert [ran.attempt for ran in scene.world.life.ran] == [3, 4]


async def test_a_step_that_runs_at_most_once_runs_again_when_somebody_wants_it() -> None:
    scene = Scene()

    async def stuck() -> Any:
        scene.world.ran()
        if not scene.broken:
            await asyncio.Event().wait()
        return 1

    async def w(ctx: Context) -> Any:
        return await ctx.step("a", stuck, at_most_once=True)

    with scene.world.clock.driving():
        async with scene.world:
            scene.world.redeploy(w, retry=ONCE)
            run_id = await scene.world.trigger("w")
            await scene.world.until(lambda: scene.world.life.ran)
            await scene.world.restart()
            view = await scene.world.finished(run_id)
            assert error_of(view)["type"] == "StepInterruptedError"
            scene.broken = {"no more"}
            assert await scene.retried(run_id) == 1


@BOTH
async def test_cleanup_runs_again_at_the_next_end(*, crash: bool) -> None:
    """`finally` and `except` ran for an end that is undone."""
    scene = Scene()
    scene.broken = {"b"}

    async def w(ctx: Context) -> Any:
        try:
            await ctx.step("a", scene.step("a"), 1)
            return await ctx.step("b", scene.step("b"), 2)
        except StepFailedError:
            await ctx.step("tell", scene.step("tell"))
            raise
        finally:
            await ctx.step("close", scene.step("close"))

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w, crash=crash)
            scene.broken.clear()
            assert await scene.retried(run_id, crash=crash) == 2
            assert scene.ran()[-1] == "close#1"
            assert set(scene.ran()) == {"b#1", "close#1"}
            closed = scene.world.life.ran[-1]
            assert closed.idempotency_key == f"{run_id}/close#1~1"


async def test_a_failure_that_was_handled_stays_handled() -> None:
    scene = Scene()
    scene.broken = {"a", "c"}

    async def w(ctx: Context) -> Any:
        try:
            await ctx.step("a", scene.step("a"))
        except StepFailedError:
            await ctx.step("b", scene.step("b"))
            return await ctx.step("c", scene.step("c"), 3)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            scene.broken.clear()
            assert await scene.retried(run_id) == 3
            assert scene.ran() == ["c#1"]


@pytest.mark.parametrize("how", ["group", "gather", "wrapped", "hidden", "judged", "first"])
async def test_the_failed_step_is_found_whatever_the_body_makes_of_it(how: str) -> None:
    scene = Scene()
    scene.broken = {"b"}

    async def two(ctx: Context) -> Any:
        a = ctx.step("a", scene.step("a"), 1)
        b = ctx.step("b", scene.step("b"), 2)
        if how == "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(a), group.create_task(b)]
            return [task.result() for task in tasks]
        if how == "judged":
            results = await asyncio.gather(a, b, return_exceptions=True)
            if any(isinstance(r, BaseException) for r in results):
                raise RuntimeError("one of them failed")
            return results
        return await asyncio.gather(a, b)

    async def w(ctx: Context) -> Any:
        if how in {"wrapped", "hidden"}:
            try:
                return await two(ctx)
            except StepFailedError as error:
                if how == "wrapped":
                    raise RuntimeError("no good") from error
                raise RuntimeError("no good") from None
        return await two(ctx)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            scene.broken.clear()
            assert await scene.retried(run_id) == [1, 2]
            assert "b#1" in "".join(scene.ran())


async def test_steps_of_other_branches_keep_their_results() -> None:
    """One branch fails early, the others go on for long: none of theirs runs again."""
    scene = Scene()
    scene.broken = {"bad"}

    async def good(ctx: Context, n: int) -> Any:
        for i in range(3):
            await ctx.step("good", scene.step("good"), [n, i])
        return n

    async def bad(ctx: Context) -> Any:
        return await ctx.step("bad", scene.step("bad"), 9)

    async def w(ctx: Context) -> Any:
        limit = asyncio.Semaphore(2)

        async def one(n: int) -> Any:
            async with limit:
                return await (bad(ctx) if n == 0 else good(ctx, n))

        results = await asyncio.gather(*(one(n) for n in range(5)), return_exceptions=True)
        for each in results:
            if isinstance(each, BaseException):
                raise each
        return results

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            scene.broken.clear()
            assert await scene.retried(run_id) == [9, 1, 2, 3, 4]
            assert [ran.name for ran in scene.world.life.ran] == ["bad"]


async def test_cleanup_of_the_tasks_that_a_group_cancels_is_forgotten() -> None:
    scene = Scene()
    scene.broken = {"b"}

    async def other(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("never", timeout=None if scene.broken else "1s", default=None)
        finally:
            await ctx.step("close", scene.step("close"))

    async def w(ctx: Context) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(other(ctx))
            await ctx.step("b", scene.step("b"))

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            scene.broken.clear()
            await scene.retried(run_id)
            assert [ran.name for ran in scene.world.life.ran] == ["b", "close"]


@BOTH
async def test_a_compensated_step_counts_as_not_done(*, crash: bool) -> None:
    scene = Scene()
    scene.broken = {"c"}

    async def w(ctx: Context) -> Any:
        charged = await ctx.step("charge", scene.step("charge"), 1, compensate=scene.step("refund"))
        kept = await ctx.step("look", scene.step("look"), 2)
        booked = await ctx.step("book", scene.step("book"), 3, compensate=scene.step("unbook"))
        return [charged, kept, booked, await ctx.step("c", scene.step("c"), 4)]

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w, crash=crash)
            first = {r.idempotency_key for r in scene.world.life.ran}
            scene.broken.clear()
            assert await scene.retried(run_id, crash=crash) == [1, 2, 3, 4]
            assert list(dict.fromkeys(scene.ran())) == ["charge#1", "book#1", "c#1"]
            keys = {r.key: r.idempotency_key for r in scene.world.life.ran}
            assert keys["charge#1"] == f"{run_id}/charge#1~1"
            assert keys["book#1"] == f"{run_id}/book#1~1"
            assert not first & set(keys.values())


async def test_a_step_whose_compensation_failed_counts_as_done() -> None:
    scene = Scene()
    scene.broken = {"c", "refund"}

    async def w(ctx: Context) -> Any:
        for n in (1, 2):
            await ctx.step("charge", scene.step("charge"), n, compensate=scene.step("refund"))
        return await ctx.step("c", scene.step("c"), 4)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            scene.broken.clear()
            assert await scene.retried(run_id) == 4
            assert scene.ran() == ["c#1"]


async def test_compensations_run_again_at_the_next_failure() -> None:
    scene = Scene()
    scene.broken = {"c"}

    async def w(ctx: Context) -> Any:
        await ctx.step("charge", scene.step("charge"), 1, compensate=scene.step("refund"))
        return await ctx.step("c", scene.step("c"), 4)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            await scene.world.engine.retry(run_id)
            assert (await scene.world.finished(run_id)).status == "failed"
            assert [r.name for r in scene.world.life.ran] == ["charge", "c", "undo:charge"]
            undone = scene.world.life.ran[-1].idempotency_key
            assert undone == f"{run_id}/undo:charge#1~1"


@BOTH
async def test_a_cancelled_run_goes_on_where_it_was_cancelled(*, crash: bool) -> None:
    scene = Scene()

    async def w(ctx: Context) -> Any:
        await ctx.step("a", scene.step("a"), 1)
        try:
            got = await ctx.wait_for_event("go", timeout=None)
        except asyncio.CancelledError:
            await ctx.emit("bye", ctx.random())
            await ctx.step("clean", scene.step("clean"))
            raise
        await ctx.emit("bye", 2)
        return [got, await ctx.step("clean", scene.step("clean"), 3)]

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            world.redeploy(w, retry=ONCE)
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.cancel(run_id)
            assert (await world.finished(run_id)).status == "cancelled"
            if crash:
                await world.restart()
            world.life.ran.clear()
            await world.engine.retry(run_id)
            if crash:
                await world.restart()
            await world.until(lambda: len(world.engine.sup.waiters))
            assert await world.engine.notify("go", b"7") == 1
            assert result_of(await world.finished(run_id)) == [7, 3]
            assert scene.ran() == ["clean#1"]
            events = await told(world, run_id)
            assert [e for e in events if "data" in e][-1]["data"] == 2


async def told(world: World, run_id: str, after: int | None = None) -> list[Any]:
    stream = await world.engine.stream(run_id, after)
    try:
        return [msgspec.json.decode(e.data) for e in stream.read_events(1000)]
    finally:
        stream.close()


async def test_a_wait_that_timed_out_waits_anew() -> None:
    scene = Scene()

    async def w(ctx: Context) -> Any:
        return await ctx.wait_for_event("go", timeout="10s")

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            await scene.world.engine.retry(run_id)
            await asyncio.sleep(5)
            assert await scene.world.engine.notify("go", b"7") == 1
            assert result_of(await scene.world.finished(run_id)) == 7


async def test_a_child_that_failed_is_started_anew() -> None:
    scene = Scene()
    scene.broken = {"s"}

    async def child(ctx: Context) -> Any:
        return await ctx.step("s", scene.step("s"), 5)

    async def w(ctx: Context) -> Any:
        return await ctx.call("child")

    with scene.world.clock.driving():
        async with scene.world:
            scene.world.redeploy(w, child, retry=ONCE)
            run_id = await scene.world.trigger("w")
            assert (await scene.world.finished(run_id)).status == "failed"
            scene.broken.clear()
            assert await scene.retried(run_id) == 5


@pytest.mark.parametrize("force", [False, True])
async def test_a_child_that_was_cancelled_with_its_parent_is_started_anew(*, force: bool) -> None:
    scene = Scene()

    async def child(ctx: Context) -> Any:
        return await ctx.wait_for_event("go", timeout=None)

    async def w(ctx: Context) -> Any:
        return await ctx.call("child")

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            world.redeploy(w, child, retry=ONCE)
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.cancel(run_id, force=force)
            assert (await world.finished(run_id)).status == "cancelled"
            await world.until(lambda: not world.engine.sup.live)
            await world.engine.retry(run_id)
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("go", b"6")
            assert result_of(await world.finished(run_id)) == 6


async def test_mended_code_goes_on_without_anything_run_again() -> None:
    scene = Scene()
    wrong = [True]

    async def w(ctx: Context) -> Any:
        got = await ctx.step("a", scene.step("a"), 1)
        if wrong:
            raise KeyError("a mistake in the body")
        return got

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            wrong.clear()
            assert await scene.retried(run_id) == 1
            assert scene.ran() == []


async def test_events_that_were_kept_are_kept_still() -> None:
    """They were acknowledged before the run failed, and it never got to its wait for them."""
    scene = Scene()
    scene.broken = {"b"}

    async def w(ctx: Context) -> Any:
        first = await ctx.wait_for_event("one", timeout=None)
        await ctx.sleep("nap", "5s")
        await ctx.step("b", scene.step("b"))
        return [first, await ctx.wait_for_event("two", timeout=None)]

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            world.redeploy(w, retry=ONCE, events=["one", "two"])
            run_id = await world.trigger("w")
            for event, payload in (("one", b"1"), ("two", b"2")):
                assert await world.engine.notify(event, payload) == 1
            assert (await world.finished(run_id)).status == "failed"
            await world.restart()
            scene.broken.clear()
            assert await scene.retried(run_id) == [1, 2]


async def test_the_end_that_was_undone_is_not_told_again_and_ids_go_on() -> None:
    scene = Scene()
    scene.broken = {"a"}

    async def w(ctx: Context) -> Any:
        return await ctx.step("a", scene.step("a"), 1)

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            run_id = await scene.failed(w)
            live = await world.engine.stream(run_id)
            before = live.read_events(100)
            assert (before[-1].event, live.finished) == ("error", True)
            await world.engine.retry(run_id)
            scene.broken.clear()
            await world.finished(run_id)
            # One that was there at the first end goes on: ids only rise.
            after = live.read_events(100)
            live.close()
            assert [e.id for e in before + after] == sorted({e.id for e in before + after})
            assert after[-1].event in {"complete", "error"}
            whole = await world.engine.stream(run_id)
            events = whole.read_events(100)
            whole.close()
            assert [e.event for e in events].count("error") == (after[-1].event == "error")
            assert before[-1].id not in {e.id for e in events}
            rest = await world.engine.stream(run_id, before[-1].id)
            assert [e.id for e in rest.read_events(100)] == [e.id for e in after]
            rest.close()
            assert {"status": "running", "retry": True} in await told(world, run_id)
            assert await world.engine.snapshot()
            events = await told(world, run_id)
            await world.restart()
            assert await told(world, run_id) == events


async def test_whoever_waits_for_its_end_waits_for_the_next_one() -> None:
    scene = Scene()
    scene.broken = {"a"}

    async def w(ctx: Context) -> Any:
        await ctx.wait_for_event("go", timeout="1s", default=None)
        return await ctx.step("a", scene.step("a"), 1)

    with scene.world.clock.driving():
        async with scene.world:
            run_id = await scene.failed(w)
            await scene.world.engine.retry(run_id)
            waiter = asyncio.ensure_future(scene.world.finished(run_id))
            scene.broken.clear()
            assert (await waiter).status in {"completed", "failed"}


async def test_only_what_failed_or_was_cancelled_is_retried() -> None:
    scene = Scene()

    async def w(ctx: Context) -> Any:
        await ctx.wait_for_event("go", timeout=None)

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            world.redeploy(w)
            run_id = await world.trigger("w")
            with pytest.raises(ConflictError, match="is running"):
                await world.engine.retry(run_id)
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            with pytest.raises(ConflictError, match="fork it"):
                await world.engine.retry(run_id)
            await world.engine.purge(run_id)
            with pytest.raises(RunNotFoundError):
                await world.engine.retry(run_id)


async def test_a_retried_run_is_not_forgotten_by_age_and_counts_as_live() -> None:
    scene = Scene()
    scene.broken = {"a"}

    async def w(ctx: Context) -> Any:
        await ctx.step("a", scene.step("a"), 1)
        return await ctx.wait_for_event("go", timeout=None)

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            run_id = await scene.failed(w)
            sup = world.engine.sup
            assert (sup.live, len(sup.retention), sup.recorder.live_bytes) == (0, 1, 0)
            scene.broken.clear()
            await world.engine.retry(run_id)
            await world.until(lambda: len(sup.waiters))
            assert (sup.live, len(sup.retention), sup.retention.bytes) == (1, 0, 0)
            assert sup.recorder.live_bytes == world.actor(run_id).peek().nbytes
            await asyncio.sleep(40 * 86400)
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            assert (sup.live, len(sup.retention), sup.recorder.live_bytes) == (0, 1, 0)


async def test_a_retry_that_was_not_synced_never_was() -> None:
    scene = Scene()
    scene.broken = {"a"}

    async def w(ctx: Context) -> Any:
        return await ctx.step("a", scene.step("a"), 1)

    with scene.world.clock.driving():
        async with scene.world:
            world = scene.world
            run_id = await scene.failed(w)
            journal: Any = world.engine.sup.journal
            journal._writing.submit = lambda _: None
            asked = asyncio.ensure_future(world.engine.retry(run_id))
            await world.settle()
            assert not asked.done()
            assert not scene.ran()
            asked.cancel()
            await world.restart()
            assert (await world.engine.get_run(run_id)).status == "failed"
