"""Children that wait for each other's parents in a circle: found, said once, and got out of."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET

from stepflow import Concurrency, Context
from tests.engine_kit import Service, service
from tests.harness import error_of, result_of

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.asyncio


def chain(world: Service, names: str, *, count: int = 1, **options: Any) -> None:
    """Register workflows, one a letter: each under a limit of its own calls the next one.

    A run of depth 0 calls nobody.
    """

    def register(name: str, following: str) -> None:
        async def body(ctx: Context, depth: int) -> int:
            await ctx.step("gate", world.gate.wait)
            return 1 + int(await ctx.call(following, depth - 1)) if depth else 0

        limit = Concurrency(count, name=f"limit-{name}")
        world.flow.workflow(name, concurrency=limit, **options)(body)

    for name, following in zip(names, names[1:] + names[0], strict=True):
        register(name, following)


async def locked(world: Any, names: str, times: int = 1) -> list[str]:
    """Start all, each with its slot, then let each call the next one."""
    ids = [await world.trigger(name, 1) for name in names for _ in range(times)]
    await world.settle()
    world.gate.set()
    await world.until(lambda: len(world.engine.sup.admission.queued) == len(ids))
    return ids


def children(world: Any, ids: Sequence[str]) -> list[str]:
    return [next(iter(world.actor(i).peek().pending_calls())).child for i in ids]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "SFW502" in r.getMessage()]


async def looked(_world: Any) -> None:
    """Let the engine's own look pass, some times."""
    await asyncio.sleep(4)


@pytest.mark.parametrize("names", ["ab", "abcd"])
async def test_two_limits_held_crosswise_are_a_circle_that_why_and_the_log_tell(
    names, caplog
) -> None:
    caplog.set_level(logging.WARNING, "stepflow.admission")
    async with service() as world:
        chain(world, names)
        ids = await locked(world, names)
        kids = children(world, ids)
        whole = {*ids, *kids}

        view = await world.engine.why(kids[0])
        (row,) = view.waiting_for
        assert (row.kind, row.code) == ("queue", "SFW502")
        assert set(row.circle) == whole
        # Each stands before the one it waits for.
        at = list(row.circle).index(ids[0])
        assert row.circle[(at + 1) % len(whole)] == kids[0]
        assert "wait for each other in a circle" in view.summary
        assert f"{ids[0]} -> {kids[0]}" in view.summary + " -> " + row.circle[0]
        assert "stepflow runs cancel RUN" in view.summary
        assert "one limit with one `name`" in view.summary

        above = await world.engine.why(ids[0])
        (row,) = above.waiting_for
        assert (row.kind, row.code) == ("child", "SFW502")
        assert set(row.circle) == whole
        assert "in a circle" in above.summary

        await looked(world)
        (line,) = told(caplog)
        assert all(run_id in line for run_id in whole)
        assert "cancel one of them" in line

        # The next move works: whoever waited for it goes on.
        await world.engine.cancel(ids[0])
        for run_id in ids[1:]:
            assert result_of(await world.finished(run_id)) >= 1
        assert not world.engine.sup.admission.queued
        await looked(world)
        assert len(told(caplog)) == 1


async def test_a_circle_is_there_and_said_again_after_a_crash(caplog) -> None:
    async with service() as world:
        chain(world, "ab")
        ids = await locked(world, "ab")
        kids = children(world, ids)
        await world.durable()
        await world.crash()
        caplog.clear()
        await world.start()
        await world.settle()
        await looked(world)
        assert len(told(caplog)) == 1
        (row,) = (await world.engine.why(kids[1])).waiting_for
        assert set(row.circle) == {*ids, *kids}


async def test_every_slot_must_be_behind_the_circle(caplog) -> None:
    async with service() as world:
        chain(world, "ab", count=2)
        holds = asyncio.Event()

        @world.flow.workflow("other", concurrency=Concurrency(2, name="limit-b"))
        async def other(ctx: Context) -> None:
            await ctx.step("hold", holds.wait)

        first = [await world.trigger("a", 1), await world.trigger("a", 1)]
        second = [await world.trigger("b", 1)]
        free = await world.trigger("other")
        await world.settle()
        world.gate.set()
        await world.until(lambda: len(world.engine.sup.admission.queued) == 3)
        await looked(world)
        # One slot of limit-b is free some time: nobody waits for ever.
        assert told(caplog) == []
        for child in children(world, [*first, *second]):
            (row,) = (await world.engine.why(child)).waiting_for
            assert (row.kind, row.code, row.circle) == ("queue", UNSET, UNSET)
        holds.set()
        for run_id in [*first, *second, free]:
            await world.finished(run_id)


@pytest.mark.parametrize("slots", [2, 3])
async def test_limits_of_several_slots_that_are_all_held_crosswise(slots, caplog) -> None:
    async with service() as world:
        chain(world, "ab", count=slots)
        ids = await locked(world, "ab", slots)
        await looked(world)
        assert told(caplog)
        for child in children(world, ids):
            (row,) = (await world.engine.why(child)).waiting_for
            assert row.code == "SFW502"
            assert len(row.circle) == 4
        await world.engine.cancel(ids[0], force=True)
        for run_id in ids[1:]:
            await world.finished(run_id)


async def test_a_run_that_has_something_else_to_do_or_ends_by_itself_is_in_no_circle(
    caplog,
) -> None:
    async with service() as world:
        chain(world, "ab", timeout="1h")
        ids = await locked(world, "ab")
        await looked(world)
        assert told(caplog) == []
        (row,) = (await world.engine.why(children(world, ids)[0])).waiting_for
        assert row.circle is UNSET
        # And it does end by itself.
        await asyncio.sleep(3601)
        assert error_of(await world.finished(ids[0])) is not None


async def test_a_workflow_that_calls_itself_under_a_limit_of_one_waits_for_nobody(caplog) -> None:
    async with service() as world:

        @world.flow.workflow("descends", concurrency=1)
        async def descends(ctx: Context, depth: int) -> int:
            return 1 + int(await ctx.call("descends", depth - 1)) if depth else 0

        run_id = await world.trigger("descends", 5)
        assert result_of(await world.finished(run_id)) == 5
        await looked(world)
        assert told(caplog) == []


async def test_two_tenants_that_call_each_other_under_one_limit_are_a_circle(caplog) -> None:
    async with service() as world:

        @world.flow.workflow("tenant", concurrency=Concurrency(1, key="input.tenant"))
        async def tenant(ctx: Context, given: dict[str, str]) -> str:
            await ctx.step("gate", world.gate.wait)
            if "other" in given:
                await ctx.call("tenant", {"tenant": given["other"]})
            return given["tenant"]

        ids = [
            await world.trigger("tenant", {"tenant": "x", "other": "y"}),
            await world.trigger("tenant", {"tenant": "y", "other": "x"}),
        ]
        await world.settle()
        world.gate.set()
        await world.until(lambda: len(world.engine.sup.admission.queued) == 2)
        await looked(world)
        (line,) = told(caplog)
        assert ids[0] in line
        assert ids[1] in line


async def test_a_queue_of_many_children_without_a_circle_is_looked_at_in_parts(caplog) -> None:
    async with service() as world:

        @world.flow.workflow("slow", concurrency=1)
        async def slow(ctx: Context) -> None:
            await ctx.step("gate", world.gate.wait)

        @world.flow.workflow("caller")
        async def caller(ctx: Context) -> None:
            await ctx.map("many", calls_one, range(0))
            await asyncio.gather(*(ctx.call("slow", None, f"c{n}") for n in range(150)))

        async def calls_one(n: int) -> None: ...

        run_id = await world.trigger("caller")
        await world.until(lambda: len(world.engine.sup.admission.queued) == 149)
        await looked(world)
        assert told(caplog) == []
        assert not world.engine.sup.admission._circles._told
        world.gate.set()
        await world.finished(run_id)
        assert not world.engine.sup.admission._called
