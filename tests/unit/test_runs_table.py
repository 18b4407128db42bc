"""The table of all runs: walked, tidied and counted some at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.clock import next_pass
from stepflow.runtime import runs as module
from tests.engine_kit import reborn, service

if TYPE_CHECKING:
    from stepflow.runtime.runs import Runs
    from tests.engine_kit import Service

pytestmark = pytest.mark.asyncio


async def filled(world: Service, count: int) -> list[str]:
    ids = [await world.trigger("echo", n) for n in range(count)]
    for run_id in ids:
        await world.finished(run_id)
    return ids


def lines_of(runs: Runs, runs_max: int, bytes_max: int = 1 << 30) -> list[list[bytes]]:
    return [[line for _, line in some] for some in runs.slices(runs_max, bytes_max)]


def places(runs: Runs) -> list[str]:
    return [runs.order.at(place)[1] for place in range(len(runs.order))]


async def test_a_snapshot_walks_all_runs_in_slices_of_runs_and_of_bytes() -> None:
    async with service() as world:
        ids = await filled(world, 25)
        runs = world.engine.sup.runs
        whole = [world.actor(run_id).line() for run_id in ids]
        slices = lines_of(runs, 10)
        assert [len(some) for some in slices] == [10, 10, 5]
        assert [line for some in slices for line in some] == whole
        by_bytes = lines_of(runs, 10, 1)
        assert max(len(some) for some in by_bytes) == 1
        assert [line for some in by_bytes for line in some] == whole


async def test_runs_that_come_and_go_meanwhile_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LOOKED_AT", 4)
    async with service() as world:
        ids = await filled(world, 12)
        walk = world.engine.sup.runs.slices(100, 1 << 30)
        seen = list(next(walk))
        await world.engine.purge(ids[5])
        await world.engine.purge(ids[6])
        # Another run of the same id is no part of what was there.
        again = await world.trigger("echo", 0, run_id=ids[6])
        await world.finished(again)
        seen += [line for some in walk for line in some]
        assert len(seen) == 10
        async with reborn(world) as other:
            assert len(other.engine.sup.runs) == 11


async def test_places_of_purged_runs_are_dropped_some_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ORDER_SLACK", 0)
    monkeypatch.setattr(module, "_ORDER_SLICE", 5)
    async with service() as world:
        ids = await filled(world, 30)
        runs = world.engine.sup.runs
        for run_id in ids[:20]:
            await world.engine.purge(run_id)
        assert len(runs.order) == 30
        passes = 0
        tidying: Any = asyncio.ensure_future(runs.tidy())
        while not tidying.done():
            await next_pass()
            # A second one, and a run that is started meanwhile.
            await runs.tidy()
            if passes == 1:
                started = asyncio.ensure_future(world.trigger("echo", 99))
            passes += 1
        await started
        assert passes >= 6
        assert len(runs.order) == 11
        assert places(runs)[:10] == ids[20:]
        await runs.tidy()
        assert len(runs.order) == 11


async def test_an_id_that_was_purged_and_taken_again_has_one_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ORDER_SLACK", 0)
    async with service() as world:
        ids = await filled(world, 3)
        runs = world.engine.sup.runs
        for _ in range(4):
            await world.engine.purge(ids[0])
            await world.trigger("echo", 0, run_id=ids[0])
            await world.finished(ids[0])
        assert len(runs.order) == 7
        await runs.tidy()
        assert places(runs) == [*ids[1:], ids[0]]


async def test_a_run_without_a_place_of_its_own_is_in_snapshots_all_the_same() -> None:
    async with service() as world:
        first, second = await filled(world, 2)
        runs = world.engine.sup.runs
        actor = world.actor(second)
        runs.pop(second)
        actor.start_lsn = world.actor(first).start_lsn
        runs.enter(actor, actor.start_lsn)
        assert [line for some in lines_of(runs, 10) for line in some] == [
            world.actor(first).line(),
            actor.line(),
        ]
