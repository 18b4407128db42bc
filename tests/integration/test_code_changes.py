"""Code may change while runs are in flight: each goes on to its end, or is parked and says why."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import StepFailedError
from stepflow.clock import next_pass
from stepflow.model import records as rec
from tests.harness import (
    DONE,
    Life,
    World,
    check_replayed,
    decoded,
    result_of,
    results,
    without_end,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow import Context

pytestmark = pytest.mark.asyncio


class Shop:
    """Code before and after seven changes; each step notes that it ran and takes a random time."""

    def __init__(self) -> None:
        self.world = World()
        self.seed = 0

    async def take(self, *args: Any) -> str:
        ran = self.world.ran(*args)
        for _ in range(random.Random(f"{self.seed} {ran.key}").randrange(30)):
            await next_pass()
        return f"{ran.name}{args}"

    async def f(self, value: Any) -> str:
        return await self.take(value)

    async def g(self, value: Any) -> str:
        return await self.take(value)

    async def old(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            first = await ctx.step("a", self.f, number)
            second = await ctx.step("b", self.g, 1)
            return [first, second]

        both = await asyncio.gather(branch(1), branch(2))
        return [both, await ctx.step("c", self.f, 3), await ctx.step("d", self.g, 4)]

    async def removed(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            return [await ctx.step("b", self.g, 1)]

        both = await asyncio.gather(branch(1), branch(2))
        return [both, await ctx.step("d", self.g, 4)]

    async def in_front(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            zero = await ctx.step("a", self.f, 0)
            return [zero, await ctx.step("a", self.f, number), await ctx.step("b", self.g, 1)]

        both = await asyncio.gather(branch(1), branch(2))
        return [both, await ctx.step("c", self.f, 3), await ctx.step("d", self.g, 4)]

    async def after(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            first = await ctx.step("a", self.f, number)
            second = await ctx.step("b", self.g, 1)
            return [first, second, await ctx.step("b", self.g, 2)]

        both = await asyncio.gather(branch(1), branch(2))
        return [both, await ctx.step("c", self.f, 3), await ctx.step("d", self.g, 4)]

    async def renamed(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            first = await ctx.step("a2", self.f, number)
            return [first, await ctx.step("b", self.g, 1)]

        both = await asyncio.gather(branch(1), branch(2))
        return [both, await ctx.step("c2", self.f, 3), await ctx.step("d", self.g, 4)]

    async def other_function(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            first = await ctx.step("a", self.g, number)
            return [first, await ctx.step("b", self.g, 1)]

        both = await asyncio.gather(branch(1), branch(2))
        return [both, await ctx.step("c", self.f, 3), await ctx.step("d", self.g, 4)]

    async def reordered(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            second = await ctx.step("b", self.g, 1)
            return [await ctx.step("a", self.f, number), second]

        last = await ctx.step("d", self.g, 4)
        both = await asyncio.gather(branch(2), branch(1))
        return [both, await ctx.step("c", self.f, 3), last]

    async def branch_in_front(self, ctx: Context) -> Any:
        async def branch(number: int) -> Any:
            first = await ctx.step("a", self.f, number)
            return [first, await ctx.step("b", self.g, 1)]

        both = await asyncio.gather(branch(0), branch(1), branch(2))
        return [both, await ctx.step("c", self.f, 3), await ctx.step("d", self.g, 4)]

    def deploy(self, body: Callable[[Context], Any], **options: Any) -> None:
        async def w(ctx: Context) -> Any:
            value = await body(ctx)
            self.world.note(value)
            return value

        self.world.redeploy(w, **options)

    async def live(self, seed: int) -> tuple[Life, str, Any]:
        """Go on until the run has ended or is parked."""
        self.seed = seed
        async with self.world as world:
            runs = list(world.engine.sup.runs)
            run_id = runs[0] if runs else await world.trigger("w")
            how = await world.ended_or_parked(run_id)
            return world.life, how, await world.engine.get_run(run_id)


CHANGES = (
    "removed",
    "in_front",
    "after",
    "renamed",
    "other_function",
    "reordered",
    "branch_in_front",
)


def check_keys(lives: list[Life]) -> None:
    """No idempotency key names two calls, and none is used again once its call had its result."""
    calls: dict[str, Any] = {}
    for life in lives:
        for ran in life.ran:
            call = (ran.name, ran.args)
            assert calls.setdefault(ran.idempotency_key, call) == call, "a key used twice"


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_ends_or_parks_and_a_second_crash_changes_nothing(change: str) -> None:
    ended = 0
    for seed in range(3):
        shop = Shop()
        world = shop.world
        with world.clock.driving():
            shop.deploy(shop.old)
            first, _, _ = await shop.live(seed)
            for cut in range(1, len(without_end(first.groups)) + 1):
                prefix = first.groups[:cut]
                shop.deploy(getattr(shop, change))
                world.cut(prefix)
                second, how, view = await shop.live(100 * seed + cut)
                assert how in {"completed", "parked"}
                check_keys([second])
                if how == "parked":
                    assert view.reason
                    continue
                ended += 1
                await second_crashes(shop, [*prefix, *second.groups], len(prefix), view)
    assert ended


async def second_crashes(shop: Shop, log: list[list[bytes]], since: int, view: Any) -> None:
    """Cut what the new code left after some records more; it ends, and a whole replay is alike."""
    world = shop.world
    whole = without_end(log)
    for cut in range(since, len(whole) + 1, 3):
        world.cut(whole[:cut])
        third, how, last = await shop.live(7 * cut)
        assert how == "completed"
        assert not results(whole[:cut]) & {ran.key for ran in third.ran}
        check_keys([third])
        if cut >= len(whole) - 1:
            assert result_of(last) == result_of(view)
        rest = without_end([*whole[:cut], *third.groups])
        world.cut(rest)
        fourth, how, again = await shop.live(3)
        assert how == "completed"
        check_replayed(rest, third, last, fourth, again)


async def test_two_keys_exchanged_keep_their_results_through_two_crashes() -> None:
    world = World()

    async def f(value: int) -> str:
        world.ran(value)
        return f"result of {value}"

    def body(order: tuple[int, int]) -> Any:
        async def w(ctx: Context) -> Any:
            values = await asyncio.gather(*(ctx.step("s", f, value) for value in order))
            await ctx.wait_for_event("go", timeout=None)
            return values

        return w

    with world.clock.driving():
        world.redeploy(body((1, 2)))
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
        for order in ((2, 1), (2, 1), (1, 2)):
            world.redeploy(body(order))
            async with world:
                world.actor(run_id).activate()
                await world.settle(200)
                assert world.state(run_id) is None
                assert not world.life.ran
        async with world:
            await world.engine.notify("go", b"null")
            view = await world.finished(run_id)
            assert result_of(view) == ["result of 1", "result of 2"]
            assert not world.life.ran


async def test_a_renamed_function_is_no_divergence_when_it_is_declared() -> None:
    world = World()

    async def charge() -> int:
        return 1

    async def charge_card() -> int:
        return 2

    def body(fn: Any) -> Any:
        async def w(ctx: Context) -> Any:
            value = await ctx.step("pay", fn)
            await ctx.sleep("s", "1h")
            return value

        return w

    with world.clock.driving():
        world.redeploy(body(charge))
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.timers) == 1)
        await world.saved()
        await world.crash()
        before, after = charge.__qualname__, charge_card.__qualname__
        world.redeploy(body(charge_card), renamed={before: after})
        async with world:
            assert result_of(await world.finished(run_id)) == 1


async def test_changed_arguments_warn_in_the_root_and_are_an_error_when_strict(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for strict in (False, True):
        world = World(strict=strict)

        async def f(value: int) -> int:
            return value

        def body(value: int, f: Any = f) -> Any:
            async def w(ctx: Context) -> Any:
                got = await ctx.step("s", f, value)
                await ctx.sleep("z", "1h")
                return got

            return w

        with world.clock.driving():
            world.redeploy(body(1))
            await world.start()
            run_id = await world.trigger("w")
            await world.until(lambda w=world: len(w.engine.sup.timers) == 1)
            await world.saved()
            await world.crash()
            world.redeploy(body(2))
            async with world:
                how = await world.ended_or_parked(run_id)
                assert how == ("parked" if strict else "completed")
    assert "arguments have changed" in caplog.text


async def parked_under(wrap: Any) -> World:
    """Return a world, stopped, whose run diverges where `wrap` awaits two steps."""
    world = World()

    async def f() -> str:
        return "f"

    async def g() -> str:
        return "g"

    def body(fn: Any) -> Any:
        async def w(ctx: Context) -> Any:
            got = await wrap(ctx.step("one", fn), ctx.step("two", f))
            world.note("went on", got)
            await ctx.step("after", f)
            await ctx.wait_for_event("go", timeout=None)
            return "end"

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
            await world.settle()
            view = await world.engine.get_run(run_id)
            assert view.status == "running"
            assert view.state == "parked"
            assert "one#1" in str(view.reason)
            assert f.__qualname__ in str(view.reason)
            assert g.__qualname__ in str(view.reason)
            assert not world.life.ran
            assert not world.life.groups
            assert not world.engine.sup.active
            # It still takes events while it is parked, and swallows none.
            assert await world.engine.notify("go", b"null") == 1
        world.redeploy(body(f))
        async with world:
            assert result_of(await world.finished(run_id)) == "end"
    return world


async def test_divergence_parks_the_run_under_gather_that_returns_exceptions() -> None:
    await parked_under(lambda *parts: asyncio.gather(*parts, return_exceptions=True))


async def test_divergence_parks_the_run_under_wait() -> None:
    async def wrap(*parts: Any) -> Any:
        tasks = [asyncio.create_task(part) for part in parts]
        done, _ = await asyncio.wait(tasks)
        return len(done)

    await parked_under(wrap)


async def test_divergence_parks_the_run_under_a_task_group() -> None:
    async def wrap(*parts: Any) -> Any:
        tasks: list[Any] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in parts]
        except* BaseException:  # noqa: BLE001  swallows what it can
            tasks.clear()
        return [task.result() for task in tasks]

    await parked_under(wrap)


async def test_divergence_parks_the_run_under_code_that_catches_everything() -> None:
    async def wrap(*parts: Any) -> Any:
        values = []
        for part in parts:
            try:
                values.append(await part)
            except BaseException:  # noqa: BLE001  swallows what it can
                values.append(None)
        return values

    await parked_under(wrap)


async def test_a_divergence_ends_the_run_where_its_workflow_says_so() -> None:
    world = World()

    async def f() -> int:
        return 1

    async def g() -> int:
        return 1

    def body(fn: Any) -> Any:
        async def w(ctx: Context) -> Any:
            await ctx.step("s", fn)
            await ctx.sleep("z", "1h")

        return w

    with world.clock.driving():
        world.redeploy(body(f))
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.timers) == 1)
        await world.saved()
        await world.crash()
        world.redeploy(body(g), on_divergence="fail")
        async with world:
            view = await world.finished(run_id)
            assert view.status == "failed"
            assert b"DivergenceError" in bytes(view.error)  # type: ignore[arg-type]


async def test_a_workflow_that_is_not_registered_waits_and_goes_on_when_it_is_back() -> None:
    world = World()

    async def f() -> int:
        return 1

    async def w(ctx: Context) -> Any:
        await ctx.step("s", f)
        await ctx.sleep("z", "1h")
        return await ctx.step("t", f)

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.timers) == 1)
        await world.saved()
        await world.crash()
        world.redeploy()
        async with world:
            await world.clock.advance(7200)
            view = await world.engine.get_run(run_id)
            assert (view.status, view.state) == ("running", "missing-workflow")
            assert world.engine.readiness()["degraded"]["missingWorkflows"] == ["w"]  # type: ignore[index]
            world.flow.workflow("w")(w)
            assert result_of(await world.finished(run_id)) == 1
            assert not world.engine.readiness()["degraded"]["missingWorkflows"]  # type: ignore[index]


async def test_a_step_cut_in_flight_whose_arguments_change_gets_a_new_idempotency_key() -> None:
    world = World()

    async def f(value: int) -> int:
        world.ran(value)
        if value == 1:
            await asyncio.Event().wait()
        return value

    def body(value: int) -> Any:
        async def w(ctx: Context) -> Any:
            return await ctx.step("s", f, value)

        return w

    with world.clock.driving():
        world.redeploy(body(1))
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.life.ran)
        await world.clock.advance(1)
        used = world.life.ran[0].idempotency_key
        await world.saved()
        await world.crash()
        world.redeploy(body(2))
        async with world:
            assert result_of(await world.finished(run_id)) == 2
            assert world.life.ran[0].idempotency_key != used


async def test_an_adoption_is_a_record_that_names_the_result() -> None:
    world = World()

    async def f() -> str:
        world.ran()
        return "once"

    def body(*, moved: bool) -> Any:
        async def w(ctx: Context) -> Any:
            if moved:
                value = await asyncio.create_task(inner(ctx))
            else:
                value = await inner(ctx)
            await ctx.wait_for_event("go", timeout=None)
            return value

        async def inner(ctx: Context) -> Any:
            return await ctx.step("s", f)

        return w

    with world.clock.driving():
        world.redeploy(body(moved=False))
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
            (done,) = world.records(rec.StepCompleted)
        world.redeploy(body(moved=True))
        async with world:
            world.actor(run_id).activate()
            await world.until(lambda: world.records(rec.CallAdopted))
            (adopted,) = world.records(rec.CallAdopted)
            assert adopted.of == done.lsn
        async with world:
            await world.engine.notify("go", b"null")
            assert result_of(await world.finished(run_id)) == "once"
            assert not world.records(rec.CallAdopted)
            assert not world.life.ran
    assert sum(isinstance(r, DONE) for group in world.before for r in decoded(group)) == 1


@pytest.mark.parametrize("crash", [False, True])
async def test_steps_of_one_name_that_changed_places_keep_their_results(*, crash: bool) -> None:
    world = World()

    async def same(n: int) -> int:
        world.ran(n)
        return n

    def body(*order: int) -> Any:
        async def w(ctx: Context) -> list[int]:
            got = [await ctx.step("s", same, n) for n in order]
            await ctx.wait_for_event("go", timeout=None)
            return got

        return w

    with world.clock.driving():
        world.redeploy(body(1, 2, 3))
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
        world.redeploy(body(3, 1, 2))
        async with world:
            world.actor(run_id).activate()
            await world.until(lambda: len(world.records(rec.CallAdopted)) == 3)
            await world.saved()
            if crash:
                await world.restart()
            await world.engine.notify("go", b"null")
            assert result_of(await world.finished(run_id)) == [3, 1, 2]
            assert not world.life.ran


async def test_a_removed_step_leaves_an_unused_result_and_later_waits_go_on() -> None:
    world = World()

    async def f(value: int) -> int:
        return value

    def body(*, short: bool) -> Any:
        async def w(ctx: Context) -> Any:
            if not short:
                await ctx.step("gone", f, 0)
            values = [await ctx.step("kept", f, n) for n in range(3)]
            await ctx.sleep("z", "1h")
            values.append(await ctx.step("new", f, 9))
            return values

        return w

    with world.clock.driving():
        world.redeploy(body(short=False))
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.timers) == 1)
        await world.saved()
        await world.crash()
        world.redeploy(body(short=True))
        async with world:
            assert result_of(await world.finished(run_id)) == [0, 1, 2, 9]


async def test_a_step_that_failed_stays_failed_though_its_code_is_mended() -> None:
    world = World()
    mended: list[bool] = []

    async def f() -> str:
        if not mended:
            raise ValueError("broken")
        return "mended"

    async def w(ctx: Context) -> Any:
        try:
            await ctx.step("s", f, key="k")
        except StepFailedError as error:
            world.note(error.message)
        await ctx.sleep("z", "1h")
        return "went on"

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: world.life.trace)
        await world.saved()
        await world.crash()
        mended.append(True)
        async with world:
            assert result_of(await world.finished(run_id)) == "went on"
            assert world.life.trace == [("broken",)]
