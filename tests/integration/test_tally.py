"""Runs by status are known without counting them: live, after a restart, a retry and a purge."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import UNSET

from stepflow.engine.protocol import RunFilter
from tests.engine_kit import held_back, reborn, service

if TYPE_CHECKING:
    from tests.engine_kit import Service

pytestmark = pytest.mark.asyncio

NONE = {"pending": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}


async def counts(world: Service, **where: Any) -> dict[str, int]:
    """Return what a list says, once it has shown that its rows say the same."""
    page = await world.page(limit=1, **where)
    said: dict[str, int] = msgspec.to_builtins(page.counts)
    rows = (await world.engine.list_runs(RunFilter(**where), limit=1000, cursor=None)).runs
    assert said == NONE | Counter(str(row.status) for row in rows)
    return {name: count for name, count in said.items() if count}


async def some_of_each(world: Service) -> dict[str, str]:
    """Make runs of every status; return them by what they are for."""
    made = {
        "delayed": await world.trigger("echo", 1, delay_ms=3_600_000),
        "given up": await world.trigger("echo", 2, delay_ms=3_600_000),
        "waits": await world.trigger("waits", "never"),
        "done": await world.trigger("echo", 3),
        "failed": await world.trigger("fails"),
        "cancelled": await world.trigger("sleeps", 3600),
    }
    await world.until(lambda: world.actor(made["failed"]).finished)
    await world.engine.cancel(made["given up"])
    await world.engine.cancel(made["cancelled"])
    await world.until(lambda: world.actor(made["cancelled"]).finished)
    return made


async def test_each_status_is_counted_and_so_it_is_after_a_restart() -> None:
    async with service() as world:
        assert await counts(world) == {}
        await some_of_each(world)
        every = {"pending": 1, "running": 1, "completed": 1, "failed": 1, "cancelled": 2}
        assert await counts(world) == every
        assert await counts(world, workflow_id="echo") == {
            "pending": 1,
            "completed": 1,
            "cancelled": 1,
        }
        assert await counts(world, workflow_id="nobody's") == {}
        await world.durable()
        async with reborn(world) as other:
            assert await counts(other) == every
            assert (await counts(other, workflow_id="fails")) == {"failed": 1}


async def test_they_follow_a_delay_a_pause_a_retry_and_a_purge() -> None:
    async with service() as world:
        made = await some_of_each(world)
        await world.engine.pause(made["delayed"])
        assert (await counts(world))["pending"] == 1
        await world.engine.resume(made["delayed"])
        await world.clock.advance(3601)
        await world.until(lambda: world.actor(made["delayed"]).finished)
        assert await counts(world) == {"running": 1, "completed": 2, "failed": 1, "cancelled": 2}
        await world.engine.retry(made["cancelled"])
        assert await counts(world) == {"running": 2, "completed": 2, "failed": 1, "cancelled": 1}
        await world.engine.purge(made["failed"])
        await world.engine.purge(made["done"])
        assert await counts(world) == {"running": 2, "completed": 1, "cancelled": 1}
        world.engine.sup.settings = dataclasses.replace(world.settings, finished_runs_max=0)
        await world.engine.sup.retention.sweep()
        assert await counts(world) == {"running": 2}


async def test_one_that_waits_for_its_turn_is_pending_also_when_it_is_retried() -> None:
    async with service() as world:

        async def one_at_a_time(ctx: Any) -> None:
            await ctx.wait_for_event("go", "go", timeout=None)
            raise ValueError("no")

        world.flow.workflow("one", concurrency=1)(one_at_a_time)
        first, second = [await world.trigger("one") for _ in range(2)]
        assert await counts(world) == {"pending": 1, "running": 1}
        await world.engine.cancel(second)
        assert await counts(world) == {"running": 1, "cancelled": 1}
        await world.engine.retry(second)
        assert await counts(world) == {"pending": 1, "running": 1}
        await world.engine.notify("go", b"1")
        await world.until(lambda: world.actor(first).finished)
        await world.waiting(second)
        assert await counts(world) == {"running": 1, "failed": 1}


async def test_of_a_tag_or_a_time_nothing_is_said() -> None:
    async with service() as world:
        await world.trigger("echo", 1)
        for where in ({"tag": "a"}, {"created_after_ms": 1}, {"created_before_ms": 1}):
            assert (await world.page(**where)).counts is UNSET
        page = await world.page(status=frozenset({"failed"}))
        assert (page.runs, page.counts and page.counts.completed) == ([], 1)


async def test_a_run_is_counted_once_it_is_durable() -> None:
    async with service() as world:
        world.hold()
        starting = await held_back(world.engine.trigger("waits", b'"x"'))
        listing = await held_back(world.page())
        world.release()
        await starting
        assert msgspec.to_builtins((await listing).counts) == NONE | {"running": 1}
