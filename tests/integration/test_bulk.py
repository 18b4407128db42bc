"""Bulk actions: one act on all runs that a filter takes, dry first, so many a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RetryPolicy
from stepflow.engine.protocol import BulkReport, RunFilter
from stepflow.errors import InvalidInputError, UnavailableError
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context
    from stepflow.engine.protocol import BulkAction

pytestmark = pytest.mark.asyncio

ALL_OF_W = RunFilter(workflow_id="w")


async def w(ctx: Context) -> Any:
    return await ctx.wait_for_event("go", timeout=None)


async def other(ctx: Context) -> Any:
    return await ctx.wait_for_event("go", timeout=None)


async def many(world: World, count: int = 5) -> list[str]:
    """Start runs of two workflows; return those of `w`, oldest first."""
    world.redeploy(w, other)
    runs = []
    for n in range(count):
        runs.append(await world.trigger("w", tags=(f"n{n}", "all")))
        await world.trigger("other")
    await world.until(lambda: len(world.engine.sup.waiters) == 2 * count)
    await world.saved()
    return runs


async def statuses(world: World, runs: list[str]) -> list[str]:
    return [str((await world.engine.get_run(run_id)).state) for run_id in runs]


async def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            runs = await many(world)
            before = world.engine.sup.journal.last_lsn
            for action in ("cancel", "pause"):
                report = await world.engine.bulk(action, ALL_OF_W, dry_run=True, force=True)
                assert report.dry_run
                assert (report.matched, report.run_ids) == (5, runs[::-1])
            assert (await world.engine.bulk("purge", ALL_OF_W, dry_run=True)).matched == 0
            assert world.engine.sup.journal.last_lsn == before
            done = await world.engine.bulk("pause", ALL_OF_W)
            assert done.run_ids == runs[::-1]
            assert await statuses(world, runs) == ["paused"] * 5


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (RunFilter(tag="n1"), [1]),
        (RunFilter(tag="all", status=frozenset({"completed"})), []),
        (RunFilter(tag="all", status=frozenset({"running", "failed"})), [4, 3, 2, 1, 0]),
        (RunFilter(workflow_id="nobody"), []),
    ],
)
async def test_the_filter_is_that_of_lists(where: RunFilter, expected: list[int]) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            runs = await many(world)
            report = await world.engine.bulk("cancel", where)
            assert report.run_ids == [runs[n] for n in expected]
            by_id = RunFilter(ids=frozenset({runs[0], runs[2], "run_nobodyknows"}))
            report = await world.engine.bulk("cancel", by_id, dry_run=True)
            assert set(report.run_ids) <= {runs[0], runs[2]}


async def test_it_goes_on_where_it_stopped_and_leaves_new_runs_alone() -> None:
    world = World(bulk_max=2)
    with world.clock.driving():
        async with world:
            runs = await many(world)
            first = await world.engine.bulk("pause", ALL_OF_W, limit=50)
            assert first.run_ids == [runs[4], runs[3]]
            late = await world.trigger("w")
            # The process dies between two calls: the cursor is good in the next life.
            await world.restart()
            reports: list[BulkReport] = [first]
            while (cursor := reports[-1].next_cursor) is not None:
                reports.append(await world.engine.bulk("pause", ALL_OF_W, cursor=cursor))
            assert [run for report in reports for run in report.run_ids] == runs[::-1]
            assert await statuses(world, [late]) != ["paused"]
            # Begun anew, what is done already is left out.
            assert (await world.engine.bulk("pause", ALL_OF_W)).run_ids == [late]


async def test_every_action_does_what_it_does_alone() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            runs = await many(world)

            async def bulk(action: BulkAction, **options: Any) -> int:
                report = await world.engine.bulk(action, ALL_OF_W, **options)
                assert report.skipped == []
                return len(report.run_ids)

            assert await bulk("pause") == 5
            assert await bulk("pause") == 0
            assert await bulk("resume") == 5
            assert await bulk("resume") == 0
            assert await bulk("retry") == await bulk("purge") == 0
            assert await bulk("cancel", force=True) == 5
            assert await statuses(world, runs) == ["cancelled"] * 5
            assert await bulk("retry") == 5
            await world.until(lambda: len(world.engine.sup.waiters) == 10)
            await world.engine.notify("go", b"3")
            assert [result_of(await world.finished(run_id)) for run_id in runs] == [3] * 5
            assert await bulk("cancel") == await bulk("retry") == 0
            assert await bulk("purge") == 5
            assert all(run_id not in world.engine.sup.runs for run_id in runs)
            await world.restart()
            assert all(run_id not in world.engine.sup.runs for run_id in runs)


async def test_what_cannot_be_done_is_said_of_its_run_alone() -> None:
    world = World()

    async def slow(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go", timeout=None)
        finally:
            await ctx.sleep("cleanup", "10s")

    slow.__name__ = "w"
    with world.clock.driving():
        async with world:
            world.redeploy(slow, retry=RetryPolicy(max_attempts=1))
            runs = [await world.trigger("w") for _ in range(3)]
            await world.until(lambda: len(world.engine.sup.waiters) == 3)
            await world.engine.cancel(runs[1])
            for dry in (True, False):
                report = await world.engine.bulk("pause", ALL_OF_W, dry_run=dry)
                assert report.run_ids == [runs[2], runs[0]]
                (row,) = report.skipped
                assert (row.run_id, row.code) == (runs[1], "CONFLICT")
                assert "being cancelled" in row.error
                assert report.matched == 3
            world.engine.sup.set_aside(world.actor(runs[0]), "for a test")
            report = await world.engine.bulk("resume", ALL_OF_W)
            assert [row.run_id for row in report.skipped] == [runs[0]]
            world.actor(runs[2]).state.failure = "SFW401 for a test"
            await world.engine.cancel(runs[2], force=True)
            world.actor(runs[2]).state.failure = "SFW401 for a test"
            for dry in (True, False):
                report = await world.engine.bulk("retry", ALL_OF_W, dry_run=dry)
                assert [row.run_id for row in report.skipped] == [runs[2]]


async def test_a_filter_that_takes_everything_is_refused() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            await many(world, 1)
            with pytest.raises(InvalidInputError, match="needs a filter"):
                await world.engine.bulk("cancel", RunFilter())
            with pytest.raises(InvalidInputError, match="cursor"):
                await world.engine.bulk("cancel", ALL_OF_W, cursor="nonsense")


async def test_when_the_disk_fills_meanwhile_what_is_done_is_said_and_the_cursor_goes_on() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            runs = await many(world)
            journal: Any = world.engine.sup.journal
            has_room, left = journal.has_room, [6]

            def filling(nbytes: int, **options: Any) -> bool:
                left[0] -= 1
                return left[0] > 0 and bool(has_room(nbytes, **options))

            journal.has_room = filling
            report = await world.engine.bulk("pause", ALL_OF_W)
            assert 0 < len(report.run_ids) < 5
            assert report.next_cursor
            left[0] = 0
            with pytest.raises(UnavailableError):
                await world.engine.bulk("pause", ALL_OF_W, cursor=report.next_cursor)
            del journal.has_room
            rest = await world.engine.bulk("pause", ALL_OF_W, cursor=report.next_cursor)
            assert report.run_ids + rest.run_ids == runs[::-1]


async def test_many_runs_share_their_syncs_and_leave_the_loop_its_turns() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            await many(world, 120)
            groups: list[int] = []
            journal: Any = world.engine.sup.journal
            submit = journal._writing.submit

            def counted(work: Any) -> None:
                groups.append(1)
                submit(work)

            journal._writing.submit = counted
            assert len((await world.engine.bulk("pause", ALL_OF_W)).run_ids) == 120
            assert len(groups) <= 12
