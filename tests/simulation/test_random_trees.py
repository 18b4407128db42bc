"""Random bodies, crashed after any record, go on as if nothing had happened.

One life runs a random tree to its end. Its journal is cut after some record; a second life goes on
from there with other timings; a third replays what the second left, whole. `STEPFLOW_TREES` asks
for more trees than `make test` has time for.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from stepflow.clock import SystemClock
from tests.harness import Life, World, check_continued, check_replayed, without_end
from tests.trees import Drawing, Timing, Trees

if TYPE_CHECKING:
    from stepflow.model.views import RunView

TREES = int(os.environ.get("STEPFLOW_TREES", "0"))
FIRST = int(os.environ.get("STEPFLOW_TREES_FIRST", "0"))


async def live(world: World, trees: Trees, timing: object) -> tuple[Life, RunView]:
    """Go on from the world's journal to the run's end, with events at random times."""
    trees.timing = Timing(timing)
    dice = random.Random(f"{timing} events")
    async with world:
        runs = list(world.engine.sup.runs)
        run_id = runs[0] if runs else await world.trigger("tree")
        sender = asyncio.create_task(send(world, dice))
        view = await world.finished(run_id)
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        life = world.life
    return life, view


async def send(world: World, dice: random.Random) -> None:
    for _ in range(8):
        await asyncio.sleep(dice.randrange(4) / 1000)
        try:
            await world.engine.notify(f"event-{dice.randrange(2)}", b"%d" % dice.randrange(9))
        except Exception:  # noqa: BLE001  nobody waits for it
            await asyncio.sleep(0)


async def run_tree(seed: int, cuts: int | None, clock: SystemClock | None = None) -> int:
    """Run one tree; crash it after `cuts` of its records, or after every one."""
    world = World(seed=seed, clock=clock)
    trees = Trees(world)
    trees.tree = Drawing(seed).tree()
    with nullcontext() if clock else world.clock.driving():
        first, _ = await live(world, trees, (seed, "first"))
        points = list(range(1, len(without_end(first.groups)) + 1))
        if cuts is not None:
            points = random.Random(seed).sample(points, min(cuts, len(points)))
        for cut in points:
            world.cut(first.groups[:cut])
            second, view = await live(world, trees, (seed, cut))
            check_continued(first, cut, second)
            log = without_end([*first.groups[:cut], *second.groups])
            world.cut(log)
            third, again = await live(world, trees, (seed, "third"))
            check_replayed(log, second, view, third, again)
    return len(points)


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(8))
async def test_a_crash_after_every_record_changes_nothing(seed: int) -> None:
    assert await run_tree(seed, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("block", range(10))
async def test_a_crash_after_any_record_changes_nothing(block: int) -> None:
    for seed in range(100 + 20 * block, 120 + 20 * block):
        assert await run_tree(seed, 1)


def test_trees_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def all_of_them() -> None:
        for seed in range(300, 330):
            assert await run_tree(seed, 2, SystemClock())

    uvloop.run(all_of_them())


@pytest.mark.asyncio
@pytest.mark.skipif(not TREES, reason="platform: set STEPFLOW_TREES to a number of trees")
@pytest.mark.timeout(0)
async def test_thousands_of_trees() -> None:
    for seed in range(10_000 + FIRST, 10_000 + FIRST + TREES):
        try:
            await run_tree(seed, 2)
        except AssertionError as error:
            raise AssertionError(f"tree {seed}: {error}") from error
