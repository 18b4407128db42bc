"""A run that waits gives up its task and goes on from its records, whatever its body does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.clock import SystemClock, next_pass
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from stepflow import Context


async def step() -> int:
    return 1


async def go(ctx: Context) -> Any:
    return await ctx.wait_for_event("go", timeout=None)


# ---------------------------------------------------------------- bodies


async def spins(ctx: Context) -> Any:
    while True:
        try:
            return await go(ctx)
        except BaseException:  # noqa: BLE001  a body that catches everything
            pass


async def spins_in_new_tasks(ctx: Context) -> Any:
    while True:
        try:
            return await asyncio.create_task(go(ctx))
        except BaseException:  # noqa: BLE001  a body that catches everything
            pass


async def finally_plain_await(ctx: Context) -> Any:
    try:
        return await go(ctx)
    finally:
        await next_pass()


async def finally_thread(ctx: Context) -> Any:
    try:
        return await go(ctx)
    finally:
        await asyncio.to_thread(int)


async def finally_ctx(ctx: Context) -> Any:
    try:
        return await go(ctx)
    finally:
        await ctx.step("cleanup", step)


async def finally_sleeps(ctx: Context) -> Any:
    try:
        return await go(ctx)
    finally:
        await asyncio.sleep(60)


async def finally_new_task(ctx: Context) -> Any:
    try:
        return await go(ctx)
    finally:
        asyncio.create_task(ctx.step("child", step))  # noqa: RUF006  born after the fence
        asyncio.create_task(asyncio.sleep(60))  # noqa: RUF006  born after the fence


async def finally_raises(ctx: Context) -> Any:
    value: Any = None
    try:
        value = await go(ctx)
    finally:
        if value is None:
            raise ValueError("on the way out")
    return value


async def finally_returns(ctx: Context) -> Any:
    value: Any = "lost"
    try:
        value = await go(ctx)
    finally:
        return value  # noqa: B012  swallows whatever ended the wait


async def except_exception(ctx: Context) -> Any:
    try:
        return await go(ctx)
    except Exception:  # noqa: BLE001  a body that catches much
        return "caught"


async def except_star(ctx: Context) -> Any:
    value: Any = None
    try:
        value = await go(ctx)
    except* Exception:  # noqa: BLE001  a body that catches much
        value = "caught"
    return value


async def except_base_and_return(ctx: Context) -> Any:
    try:
        return await go(ctx)
    except BaseException:  # noqa: BLE001  a body that catches everything
        return "caught"


async def catches_the_cancel_and_sleeps_again(ctx: Context) -> Any:
    try:
        return await go(ctx)
    except BaseException:  # noqa: BLE001  a body that catches everything
        with contextlib.suppress(BaseException):
            await asyncio.sleep(60)
        await asyncio.sleep(60)
        return "caught"


async def suppresses(ctx: Context) -> Any:
    value = "suppressed"
    with contextlib.suppress(BaseException):
        value = await go(ctx)
    return value


@contextlib.asynccontextmanager
async def manager() -> AsyncIterator[None]:
    try:
        yield
    finally:
        await next_pass()


async def async_context_manager(ctx: Context) -> Any:
    async with manager():
        return await go(ctx)


async def exit_stack(ctx: Context) -> Any:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(manager())
        stack.push_async_callback(asyncio.sleep, 0)
        return await go(ctx)


async def async_generator(ctx: Context) -> Any:
    async def values() -> AsyncIterator[Any]:
        try:
            yield await go(ctx)
        finally:
            await next_pass()

    async for value in values():
        return value
    return None


async def lock(ctx: Context) -> Any:
    async with asyncio.Lock():
        return await go(ctx)


async def semaphore(ctx: Context) -> Any:
    async with asyncio.Semaphore(1):
        return await go(ctx)


async def gathers(ctx: Context) -> Any:
    values = await asyncio.gather(go(ctx), ctx.step("s", step), return_exceptions=True)
    return values[0]


async def task_group(ctx: Context) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(go(ctx))
        group.create_task(next_pass_coroutine())
    return task.result()


async def next_pass_coroutine() -> None:
    await next_pass()


async def shields(ctx: Context) -> Any:
    return await asyncio.shield(go(ctx))


async def waits_first(ctx: Context) -> Any:
    tasks = [
        asyncio.create_task(go(ctx)),
        asyncio.create_task(ctx.wait_for_event("never", timeout=None)),
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()


async def waits_for(ctx: Context) -> Any:
    return await asyncio.wait_for(go(ctx), 1e9)


async def under_a_timeout(ctx: Context) -> Any:
    async with asyncio.timeout(1e9):
        return await go(ctx)


async def holds_a_condition(ctx: Context) -> Any:
    condition = asyncio.Condition()
    async with condition:
        return await go(ctx)


async def plain(ctx: Context) -> Any:
    return await go(ctx)


ONE_TASK = (
    plain,
    spins,
    finally_plain_await,
    finally_thread,
    finally_ctx,
    finally_sleeps,
    finally_new_task,
    finally_raises,
    finally_returns,
    except_exception,
    except_star,
    except_base_and_return,
    catches_the_cancel_and_sleeps_again,
    suppresses,
    async_context_manager,
    exit_stack,
    async_generator,
    lock,
    semaphore,
    holds_a_condition,
)
MORE = (
    spins_in_new_tasks,
    gathers,
    task_group,
    shields,
    waits_first,
    waits_for,
    under_a_timeout,
)
ZOMBIES = {spins, spins_in_new_tasks}


@contextlib.contextmanager
def no_complaints() -> Generator[None]:
    """Fail on whatever asyncio tells the loop's exception handler."""
    loop = asyncio.get_running_loop()
    said: list[Any] = []
    loop.set_exception_handler(lambda _, context: said.append(context))
    try:
        yield
        gc.collect()
        assert not said
    finally:
        loop.set_exception_handler(None)


async def waiting(world: World) -> str:
    run_id = await world.trigger("w")
    await world.until(lambda: "go" in world.engine.sup.waiters.events())
    await world.saved()
    await world.settle()
    return run_id


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [*ONE_TASK, *MORE], ids=lambda body: body.__name__)
async def test_a_body_is_put_to_sleep_and_goes_on(body: Any) -> None:
    world = World()
    world.flow.workflow("w")(body)
    with world.clock.driving(), no_complaints():
        async with world:
            run_id = await waiting(world)
            groups = len(world.life.groups)
            session = world.actor(run_id).session
            assert session is not None
            await world.actor(run_id).suspend()
            await world.settle()
            assert world.actor(run_id).session is None
            assert len(world.life.groups) == groups, "putting to sleep recorded something"
            left = len(session.branches)
            assert world.engine.sup.zombies == left
            assert bool(left) == (body in ZOMBIES)
            await world.engine.notify("go", b'"went"')
            view = await world.finished(run_id)
            assert result_of(view) == "went"
            del session


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [*ONE_TASK, *MORE], ids=lambda body: body.__name__)
async def test_a_body_ends_with_the_service_and_goes_on_after_it(body: Any) -> None:
    world = World()
    world.flow.workflow("w")(body)
    with world.clock.driving(), no_complaints():
        async with world:
            run_id = await waiting(world)
            groups = len(world.life.groups)
            life = world.life
        assert len(life.groups) == groups, "the shutdown recorded something"
        async with world:
            await world.engine.notify("go", b'"went"')
            assert result_of(await world.finished(run_id)) == "went"


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ONE_TASK, ids=lambda body: body.__name__)
async def test_an_idle_run_with_one_task_is_passivated_after_some_seconds(body: Any) -> None:
    world = World()
    world.flow.workflow("w")(body)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            await world.clock.advance(4)
            assert world.actor(run_id).session is not None
            await world.clock.advance(4)
            actor = world.actor(run_id)
            await world.until(lambda: actor.session is None and not actor.is_open)
            await world.engine.notify("go", b'"went"')
            assert result_of(await world.finished(run_id)) == "went"


@pytest.mark.asyncio
@pytest.mark.parametrize("body", MORE, ids=lambda body: body.__name__)
async def test_a_run_with_child_tasks_or_a_timeout_stays_active(body: Any) -> None:
    world = World()
    world.flow.workflow("w")(body)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            await world.clock.advance(3600)
            assert world.actor(run_id).session is not None
            await world.engine.notify("go", b'"went"')
            assert result_of(await world.finished(run_id)) == "went"


async def in_an_exit_stack(ctx: Context) -> Any:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(1e9))
        return await go(ctx)


async def in_a_manager_of_its_own(ctx: Context) -> Any:
    @contextlib.asynccontextmanager
    async def limit() -> AsyncIterator[None]:
        async with asyncio.timeout(1e9):
            yield

    async with limit():
        return await go(ctx)


async def further_out(ctx: Context) -> Any:
    async def inner() -> Any:
        return await go(ctx)

    async with asyncio.timeout(1e9):
        return await inner()


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [in_an_exit_stack, in_a_manager_of_its_own, further_out])
async def test_a_timeout_around_a_wait_is_found_wherever_it_is_held(body: Any) -> None:
    world = World()
    world.flow.workflow("w")(body)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            await world.clock.advance(3600)
            assert world.actor(run_id).session is not None


@pytest.mark.asyncio
async def test_a_timeout_that_is_not_armed_does_not_keep_a_run_awake() -> None:
    world = World()

    @world.flow.workflow("w")
    async def w(ctx: Context) -> Any:
        async with asyncio.timeout(None):
            return await go(ctx)

    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            await world.clock.advance(8)
            await world.until(lambda: world.actor(run_id).session is None)


@pytest.mark.asyncio
async def test_a_passive_run_holds_only_bytes_and_its_timer_wakes_it() -> None:
    world = World()
    ran: list[str] = []

    async def f(name: str) -> str:
        ran.append(name)
        return name

    @world.flow.workflow("w")
    async def w(ctx: Context) -> Any:
        await ctx.step("one", f, "one")
        await ctx.sleep("long", "3d")
        return await ctx.step("two", f, "two")

    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.timers) == 1)
            await world.clock.advance(10)
            actor = world.actor(run_id)
            await world.until(lambda: not actor.is_open)
            assert type(actor.line()) is bytes
            assert result_of(await world.finished(run_id)) == "two"
            assert ran == ["one", "two"]


@pytest.mark.asyncio
async def test_an_event_that_comes_while_a_run_is_being_put_to_sleep_wakes_it() -> None:
    world = World()
    world.flow.workflow("w")(finally_sleeps)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            going = asyncio.ensure_future(world.actor(run_id).suspend())
            await next_pass()
            session = world.actor(run_id).session
            assert session is not None
            assert session.fenced
            await world.engine.notify("go", b'"went"')
            await going
            assert result_of(await world.finished(run_id)) == "went"


@pytest.mark.asyncio
async def test_a_cancel_that_comes_while_a_run_is_being_put_to_sleep_is_heard() -> None:
    world = World()
    world.flow.workflow("w")(finally_plain_await)
    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            going = asyncio.ensure_future(world.actor(run_id).suspend())
            await next_pass()
            await world.engine.cancel(run_id)
            await going
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            assert not world.records(rec.RunCancelled)[0].forced


@pytest.mark.asyncio
async def test_a_retry_that_falls_due_while_a_run_is_being_put_to_sleep_is_made() -> None:
    world = World()
    attempts: list[int] = []

    async def flaky() -> str:
        attempts.append(1)
        if len(attempts) < 2:
            raise OSError("again")
        return "done"

    @world.flow.workflow("w")
    async def w(ctx: Context) -> Any:
        try:
            return await ctx.step("s", flaky)
        finally:
            await asyncio.sleep(30)

    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: world.records(rec.StepRetrying))
            await world.actor(run_id).suspend()
            assert result_of(await world.finished(run_id)) == "done"


@pytest.mark.asyncio
async def test_the_log_is_silent_on_replay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world = World()

    @world.flow.workflow("w")
    async def w(ctx: Context) -> Any:
        ctx.log.info("at the start")
        await ctx.step("s", step)
        ctx.log.info("after the step")
        await go(ctx)
        ctx.log.info("after the event")

    with world.clock.driving():
        async with world:
            run_id = await waiting(world)
            for _ in range(3):
                await world.actor(run_id).suspend()
                world.actor(run_id).activate()
                await world.settle()
        async with world:
            world.actor(run_id).activate()
            await world.settle()
            await world.engine.notify("go", b"null")
            await world.finished(run_id)
    said = [r.message for r in caplog.records if r.name == "stepflow.workflow"]
    assert said == ["at the start", "after the step", "after the event"]


@pytest.mark.asyncio
async def test_a_result_that_nobody_asks_for_does_not_silence_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    world = World()

    def body(*, short: bool) -> Any:
        async def w(ctx: Context) -> Any:
            if not short:
                await ctx.step("gone", step)
            await go(ctx)
            await ctx.step("new", step)
            ctx.log.info("new things")

        return w

    with world.clock.driving():
        world.redeploy(body(short=False))
        async with world:
            run_id = await waiting(world)
        world.redeploy(body(short=True))
        async with world:
            await world.engine.notify("go", b"null")
            await world.finished(run_id)
    assert "new things" in [r.message for r in caplog.records]


def test_bodies_are_put_to_sleep_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def one(body: Any) -> None:
        world = World(clock=SystemClock())
        world.flow.workflow("w")(body)
        async with world:
            run_id = await waiting(world)
            session = world.actor(run_id).session
            assert session is not None
            assert session.waits_directly() == (body not in {*MORE, *NOT_DIRECT})
            await world.actor(run_id).suspend()
            await world.engine.notify("go", b'"went"')
            assert result_of(await world.finished(run_id)) == "went"

    # The one that sleeps for a minute would do so in real time.
    bodies = [body for body in ONE_TASK if body is not finally_sleeps]
    for body in (*bodies, under_a_timeout, in_an_exit_stack, in_a_manager_of_its_own):
        uvloop.run(one(body))


NOT_DIRECT = {in_an_exit_stack, in_a_manager_of_its_own, further_out}
