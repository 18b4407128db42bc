"""A step is known by its branch, its name and its number there: results are never swapped."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import AuthoringError, current_step
from stepflow.clock import next_pass
from stepflow.runtime.branches import install_factory, uninstall_factory
from tests.harness import World, crash_everywhere, error_of, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


class Lab:
    """A world whose one step returns its own key."""

    def __init__(self, **options: Any) -> None:
        self.world = World(**options)
        self.takes: dict[str, int] = {}

    async def key(self, value: Any = None) -> str:
        ran = self.world.ran(value)
        for _ in range(self.takes.get(ran.name, 0)):
            await next_pass()
        return ran.key

    async def result(self, body: Any) -> Any:
        self.world.flow.workflow("w")(body)
        with self.world.clock.driving():
            async with self.world as world:
                return await world.result("w")


async def test_two_branches_with_equally_named_steps_never_swap_results_after_a_restart() -> None:
    lab = Lab()
    world = lab.world

    @world.flow.workflow("w")
    async def w(ctx: Context) -> Any:
        async def order(which: str) -> Any:
            await ctx.step(f"prepare-{which}", lab.key)
            charged = await ctx.step("charge", lab.key, 1)
            world.note(which, charged)
            return charged

        return await asyncio.gather(order("x"), order("y"))

    def between(life: int) -> None:
        slow, fast = ("x", "y") if life % 2 else ("y", "x")
        lab.takes = {f"prepare-{slow}": 60, f"prepare-{fast}": 0, "charge": 7 * (life % 5)}

    with world.clock.driving():
        _, later = await crash_everywhere(world, "w", between=between)
    wrong = [
        view
        for _, view in later
        if [k.rsplit("~", 1)[1] for k in result_of(view)] != ["1/charge#1", "2/charge#1"]
    ]
    assert not wrong


async def test_the_root_has_an_empty_path_and_counts_its_names() -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        return [await ctx.step(name, lab.key) for name in ("a", "a", "b", "a")]

    assert await lab.result(w) == ["a#1", "a#2", "b#1", "a#3"]


async def test_a_child_task_is_named_after_its_coroutine_and_number() -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        async def leaf() -> Any:
            return await ctx.step("s", lab.key)

        async def twig() -> Any:
            return await asyncio.create_task(leaf())

        return [await asyncio.create_task(leaf()), *await asyncio.gather(leaf(), twig())]

    w.__qualname__ = "w"
    keys = await lab.result(w)
    here = "test_a_child_task_is_named_after_its_coroutine_and_number.<locals>.w.<locals>"
    assert keys == [
        f"{here}.leaf~1/s#1",
        f"{here}.leaf~2/s#1",
        f"{here}.twig~1/{here}.leaf~1/s#1",
    ]


async def test_a_key_is_allotted_when_ctx_is_called_not_when_it_is_awaited() -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        one, two = ctx.step("s", lab.key), ctx.step("s", lab.key)
        second = await asyncio.create_task(two)
        return [await one, second]

    assert await lab.result(w) == ["s#1", "s#2"]


async def test_an_authors_key_names_one_call_in_the_whole_run() -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        async def inner() -> Any:
            return await ctx.step("s", lab.key, key="sku/7")

        got = await asyncio.create_task(inner())
        with pytest.raises(AuthoringError, match="used before"):
            ctx.step("s", lab.key, key="sku/7")
        return got

    assert await lab.result(w) == "s[sku/7]"


@pytest.mark.parametrize("timeout", [None, 1000.0])
async def test_wait_for_is_no_branch_of_its_own_with_or_without_a_timeout(
    timeout: float | None,
) -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        async def both() -> Any:
            # Under wait_for, these are still children of their own.
            return await asyncio.gather(leaf(), leaf())

        async def leaf() -> Any:
            return await ctx.step("s", lab.key)

        one = await asyncio.wait_for(leaf(), timeout)
        two = await asyncio.wait_for(ctx.step("s", lab.key), timeout)
        return [one, two, *await asyncio.wait_for(both(), timeout)]

    keys = await lab.result(w)
    assert keys[:2] == ["s#1", "s#2"]
    assert [key.rsplit("~", 1)[1] for key in keys[2:]] == ["1/s#1", "2/s#1"]


async def test_a_log_made_with_a_task_in_wait_for_fits_one_made_without() -> None:
    """What 3.11 recorded with a timeout, 3.12 asks for without a task."""
    lab = Lab()
    world = lab.world
    timeout: list[float | None] = [1000.0]

    async def w(ctx: Context) -> Any:
        async def part() -> Any:
            first = await ctx.step("s", lab.key)
            return [first, await asyncio.create_task(leaf())]

        async def leaf() -> Any:
            return await ctx.step("s", lab.key)

        value = await asyncio.wait_for(part(), timeout[0])
        await ctx.sleep("z", "1h")
        return value

    with world.clock.driving():
        world.redeploy(w)
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.timers) == 1)
        await world.saved()
        await world.crash()
        timeout[0] = None
        async with world:
            await world.finished(run_id)
            assert not world.life.ran


async def test_a_step_is_no_branch_and_cannot_use_ctx() -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        async def nested() -> Any:
            try:
                await ctx.step("inner", lab.key)
            except AuthoringError as error:
                return str(error)
            return None

        def thread() -> Any:
            try:
                ctx.step("inner", lab.key)
            except AuthoringError as error:
                return str(error)
            return None

        return [await ctx.step("outer", nested), await ctx.step("outer", thread)]

    answers = await lab.result(w)
    assert all("outside its workflow's body" in answer for answer in answers)


async def test_another_runs_ctx_is_refused() -> None:
    lab = Lab()
    contexts: list[Any] = []

    async def w(ctx: Context) -> Any:
        contexts.append(ctx)
        if len(contexts) == 1:
            await ctx.sleep("s", "1h")
            return None
        with pytest.raises(AuthoringError, match="another run"):
            contexts[0].step("s", lab.key)
        return "refused"

    world = lab.world
    world.flow.workflow("w")(w)
    with world.clock.driving():
        async with world:
            await world.trigger("w")
            await world.until(lambda: contexts)
            assert await world.result("w") == "refused"


async def test_tasks_born_in_a_callback_are_known_by_whose_callback_it_is() -> None:
    lab = Lab()

    async def w(ctx: Context) -> Any:
        loop = asyncio.get_running_loop()
        born: list[asyncio.Task[Any]] = []

        async def leaf() -> Any:
            return await ctx.step("s", lab.key)

        loop.call_soon(lambda: born.append(asyncio.create_task(leaf())))
        while not born:
            await next_pass()
        return await born[0]

    key = await lab.result(w)
    assert key.endswith(".leaf~1/s#1")


async def test_a_given_context_changes_no_key() -> None:
    lab = Lab()
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")

    async def w(ctx: Context) -> Any:
        async def leaf() -> Any:
            inner = await asyncio.create_task(twig())
            return [name.get(), await ctx.step("s", lab.key), inner]

        async def twig() -> Any:
            return await ctx.step("s", lab.key)

        shared = contextvars.copy_context()
        shared.run(name.set, "shared")
        tasks = [asyncio.create_task(leaf(), context=shared) for _ in range(2)]
        empty = asyncio.create_task(twig(), context=contextvars.Context())
        return [*[await task for task in tasks], await empty]

    one, two, empty = await lab.result(w)
    for number, (seen, key, inner) in enumerate((one, two), 1):
        assert seen == "shared"
        assert key.endswith(f".leaf~{number}/s#1")
        assert f".leaf~{number}/" in inner
        assert inner.endswith(".twig~1/s#1")
    assert empty.endswith(".w.<locals>.twig~1/s#1")


async def test_the_hosts_task_factory_still_makes_every_task() -> None:
    made: list[str] = []

    def host(loop: Any, coro: Any, **kwargs: Any) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
        made.append(getattr(coro, "__qualname__", "?"))
        return task

    await under_factory(host, made)


async def test_a_factory_of_the_old_kind_that_takes_no_context_will_do() -> None:
    made: list[str] = []

    def host(loop: Any, coro: Any) -> Any:
        made.append(getattr(coro, "__qualname__", "?"))
        return asyncio.Task(coro, loop=loop)

    await under_factory(host, made)


async def under_factory(host: Any, made: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(host)
    lab = Lab()

    async def w(ctx: Context) -> Any:
        async def leaf() -> Any:
            return await ctx.step("s", lab.key)

        return await asyncio.gather(leaf(), leaf())

    try:
        keys = await lab.result(w)
        assert [key.rsplit("~", 1)[1] for key in keys] == ["1/s#1", "2/s#1"]
        assert sum(name.endswith("leaf") for name in made) == 2
        assert loop.get_task_factory() is host
    finally:
        loop.set_task_factory(None)


async def test_a_factory_that_replaces_ours_leaves_branches_by_first_use_of_ctx() -> None:
    lab = Lab()
    loop = asyncio.get_running_loop()

    async def w(ctx: Context) -> Any:
        async def leaf() -> Any:
            return [await ctx.step("s", lab.key), await ctx.step("s", lab.key)]

        loop.set_task_factory(None)
        return await asyncio.gather(leaf(), leaf())

    try:
        one, two = await lab.result(w)
    finally:
        loop.set_task_factory(None)
    assert [key.rsplit("~", 1)[1] for key in one] == ["1/s#1", "1/s#2"]
    assert [key.rsplit("~", 1)[1] for key in two] == ["2/s#1", "2/s#2"]


async def test_engines_on_one_loop_leave_each_others_factory_alone() -> None:
    loop = asyncio.get_running_loop()
    one = install_factory(loop)
    two = install_factory(loop)
    uninstall_factory(loop, one)
    assert loop.get_task_factory() is two
    await asyncio.create_task(next_pass_coroutine())
    uninstall_factory(loop, two)
    loop.set_task_factory(None)


async def next_pass_coroutine() -> None:
    await next_pass()


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="platform: eager tasks came with Python 3.12"
)
async def test_eager_tasks_have_the_same_keys() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    try:
        lab = Lab()
        world = lab.world

        @world.flow.workflow("w")
        async def w(ctx: Context) -> Any:
            async def leaf() -> Any:
                first = await ctx.step("s", lab.key)
                return [first, await asyncio.create_task(twig())]

            async def twig() -> Any:
                return await ctx.step("s", lab.key)

            values = await asyncio.gather(leaf(), leaf())
            world.note(values)
            return values

        with world.clock.driving():
            first, _ = await crash_everywhere(world, "w")
        ends = [[key.rsplit("~", 1)[1] for key in pair] for pair in first.trace[0][0]]
        assert ends == [["1/s#1", "1/s#1"], ["2/s#1", "1/s#1"]]
    finally:
        loop.set_task_factory(None)


async def test_an_idempotency_key_is_the_same_at_every_attempt_and_no_other_steps() -> None:
    lab = Lab()
    seen: list[tuple[str, int, str]] = []

    async def flaky() -> str:
        step = current_step()
        seen.append((step.key, step.attempt, step.idempotency_key))
        if step.attempt < 3:
            raise OSError("again")
        return "done"

    async def w(ctx: Context) -> Any:
        await asyncio.gather(*(ctx.step("s", flaky) for _ in range(3)))

    await lab.result(w)
    keys = {key: {i for k, _, i in seen if k == key} for key, _, _ in seen}
    assert len(keys) == 3
    assert all(len(used) == 1 for used in keys.values())
    assert len({i for _, _, i in seen}) == 3
    assert len(seen) == 9


async def test_ctx_after_the_end_of_its_run_is_an_error() -> None:
    lab = Lab()
    contexts: list[Any] = []

    async def w(ctx: Context) -> Any:
        contexts.append(ctx)

    await lab.result(w)
    with pytest.raises(AuthoringError, match="after the run ended"):
        contexts[0].step("s", lab.key)


async def test_a_bad_name_fails_the_run_and_says_which_names_there_are() -> None:
    lab = Lab()
    world = lab.world

    @world.flow.workflow("w")
    async def w(ctx: Context) -> Any:
        await ctx.step("no spaces", lab.key)

    with world.clock.driving():
        async with world:
            view = await world.run("w")
    assert view.status == "failed"
    assert "no spaces" in error_of(view)["message"]
