"""Lists, figures and readiness of the real engine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.engine.listing import decode_cursor, encode_cursor
from stepflow.engine.protocol import RunFilter
from stepflow.errors import InvalidInputError
from tests.engine_kit import Service, reborn, service

if TYPE_CHECKING:
    from stepflow import Context


async def walk(world: Service, limit: int, **where: Any) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = await world.page(limit, cursor, **where)
        assert len(page.runs) <= limit
        found += [run.id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.asyncio
async def test_runs_are_listed_newest_first_in_pages_of_any_size() -> None:
    async with service() as world:
        made = [await world.trigger("echo", n) for n in range(23)]
        for limit in (1, 5, 22, 23, 24, 200):
            assert await walk(world, limit) == made[::-1]
        await world.restart()
        assert await walk(world, 7) == made[::-1]
        assert all(run.steps is run.__struct_defaults__[0] for run in (await world.page(3)).runs)


@pytest.mark.asyncio
async def test_filters_show_what_fits_and_nothing_else() -> None:
    async with service() as world:
        blue = [await world.trigger("echo", n, tags=["blue", "sky"]) for n in range(3)]
        failed = await world.trigger("fails")
        for run_id in (*blue, failed):
            await world.finished(run_id)
        early = world.clock.wall_ms()
        await world.clock.advance(10)
        sleeping = await world.trigger("sleeps", 100)
        delayed = await world.trigger("echo", 1, delay_ms=50_000, tags=["blue"])
        assert await walk(world, 2, tag="blue") == [delayed, *blue[::-1]]
        assert await walk(world, 2, tag="blu") == []
        assert await walk(world, 2, status=frozenset({"failed", "pending"})) == [delayed, failed]
        assert await walk(world, 2, workflow_id="sleeps") == [sleeping]
        assert await walk(world, 2, created_after_ms=early) == [delayed, sleeping]
        assert await walk(world, 9, created_before_ms=early + 1) == [failed, *blue[::-1]]
        assert (
            await walk(world, 9, tag="blue", status=frozenset({"completed"}), workflow_id="echo")
            == blue[::-1]
        )
        assert await walk(world, 9, tag="blue", workflow_id="fails") == []


@pytest.mark.asyncio
async def test_a_cursor_stays_where_it_is_while_runs_come_and_go() -> None:
    async with service() as world:
        made = [await world.trigger("echo", n) for n in range(30)]
        for run_id in made:
            await world.finished(run_id)
        found: list[str] = []
        cursor = None
        gone: set[str] = set()
        for turn in range(100):
            page = await world.page(3, cursor)
            found += [run.id for run in page.runs]
            await world.trigger("echo", turn)
            if turn < 8:
                # One that was shown, and one that is still to come.
                for run_id in {found[-1], made[turn]} - gone:
                    gone.add(run_id)
                    await world.engine.purge(run_id)
            if turn == 4:
                await world.restart()
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(found) == len(set(found))
        assert set(made) - gone <= set(found) <= set(made)
        assert found == sorted(found, key=made.index, reverse=True)


@pytest.mark.asyncio
async def test_an_id_that_was_purged_and_taken_again_is_listed_once_where_it_is_now() -> None:
    async with service() as world:
        first, second = [await world.trigger("echo", n) for n in range(2)]
        for turn in range(3):
            await world.finished(first)
            await world.engine.purge(first)
            await world.trigger("echo", turn, run_id=first)
        await world.finished(first)
        for limit in (1, 2, 10):
            assert await walk(world, limit) == [first, second]
            assert await walk(world, limit, status=frozenset({"completed"})) == [first, second]
        report = await world.engine.bulk("purge", RunFilter(workflow_id="echo"), dry_run=True)
        assert report.run_ids == [first, second]


@pytest.mark.asyncio
async def test_a_list_over_a_great_many_runs_goes_on_while_others_are_purged() -> None:
    async with service(finished_bytes_max=0, live_runs_max=100_000) as world:
        ids = await world.engine.trigger_many("echo", [b"1"] * 6000)
        keep = await world.trigger("sleeps", 86_400)
        await world.until(lambda: all(world.actor(str(r)).finished for r in ids))
        listing = asyncio.ensure_future(walk(world, 1000))
        await asyncio.sleep(0)
        await world.clock.advance(60)
        found = await listing
        assert found[0] == keep
        assert len(found) == len(set(found))
        assert list(world.engine.sup.runs) == [keep]
        assert len(world.engine.sup.runs.order) <= 2001
        assert await walk(world, 10) == [keep]


@pytest.mark.asyncio
async def test_a_page_of_large_runs_is_opened_in_slices() -> None:
    async def passes(world: Service, text: str) -> int:
        ids = [await world.trigger("repeats", text) for _ in range(10)]
        for run_id in ids:
            await world.finished(run_id)
        asked = asyncio.ensure_future(world.page(10))
        count = 0
        while not asked.done():
            await asyncio.sleep(0)
            count += 1
        assert [row.id for row in asked.result().runs] == ids[::-1]
        return count

    async with service() as world:

        @world.flow.workflow("repeats")
        async def repeats(_ctx: Context, text: str) -> str:
            return 2 * text

        small = await passes(world, "x")
        # Each holds its input twice and more: two of them are 128 KiB.
        assert await passes(world, "x" * 40_000) >= small + 5


@pytest.mark.asyncio
async def test_awaited_events_are_read_in_slices_and_pages_while_they_come_and_go() -> None:
    async with service() as world:
        engine, waiters = world.engine, world.engine.sup.waiters
        ids = [f"e{n:05}" for n in range(9000)]
        random.Random(1).shuffle(ids)
        for event in ids:
            waiters.wait(event, "run_other")
        asked = asyncio.ensure_future(engine.waiting_events(limit=50))
        passes = 0
        while not asked.done():
            await asyncio.sleep(0)
            passes += 1
            if passes == 2:
                # Some of those that it has seen already come; it goes on behind them.
                for n in range(60):
                    waiters.unwait(f"e{n:05}", "run_other")
        assert [row.event_id for row in asked.result()] == [f"e{n:05}" for n in range(60, 110)]
        assert passes > 4
        seen: list[str] = []
        while page := await engine.waiting_events(cursor=seen[-1] if seen else ""):
            assert len(page) <= 1000
            seen += [row.event_id for row in page]
        assert seen == sorted(ids)[60:]


@pytest.mark.asyncio
async def test_the_events_that_somebody_waits_for_are_listed_with_their_runs() -> None:
    async with service() as world:
        many = [await world.trigger("waits", "many") for _ in range(120)]
        one = await world.trigger("both", "alone")
        await world.waiting(many[-1])
        await world.waiting(one, 2)
        for _ in range(2):
            rows = await world.engine.waiting_events()
            assert [(row.event_id, row.runs) for row in rows] == [("alone", 1), ("many", 120)]
            assert rows[1].run_ids == tuple(many[:100])
            await world.restart()
            await world.settle()
        await world.engine.notify("many", b"1")
        assert [row.event_id for row in await world.engine.waiting_events()] == ["alone"]
        await world.engine.cancel(one)
        await world.finished(one)
        assert await world.engine.waiting_events() == []
        assert len(world.engine.sup.waiters) == 0


@pytest.mark.parametrize(
    "cursor",
    ["nonsense", "é", "r", "=", "", "cg", "Li4v", base64.urlsafe_b64encode(b"r-1").decode(),
     base64.urlsafe_b64encode(b"r" + b"9" * 5000).decode(),
     base64.urlsafe_b64encode("r٣".encode()).decode()],
)  # fmt: skip
def test_a_cursor_that_nobody_gave_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        decode_cursor(cursor)


@given(st.integers(0, 2**63))
def test_cursors_come_back_as_they_went(lsn: int) -> None:
    assert decode_cursor(encode_cursor(lsn)) == lsn


@given(st.text(max_size=60))
def test_no_text_is_more_than_a_bad_cursor(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        assert decode_cursor(text) >= 0


@pytest.mark.asyncio
async def test_a_bad_cursor_is_the_callers_mistake() -> None:
    async with service() as world:
        with pytest.raises(InvalidInputError):
            await world.page(5, "nonsense")


@pytest.mark.asyncio
async def test_figures_move_with_what_happens() -> None:
    async with service() as world:
        figures = world.engine.metrics
        before = dict(figures())
        assert before["stepflow_up"] == 1
        done = await world.trigger("doubles", 1, idempotency_key="k")
        failed = await world.trigger("fails")
        waiting = await world.trigger("waits", "ev")
        sleeping = await world.trigger("sleeps", 500)
        cancelled = await world.trigger("sleeps", 500)
        for run_id in (done, failed):
            await world.finished(run_id)
        await world.waiting(waiting)
        await world.engine.cancel(cancelled)
        await world.finished(cancelled)
        stream = await world.engine.stream(sleeping)
        now = figures()
        assert set(now) == set(before)
        moved = {name: now[name] - before[name] for name in now}
        for name, change in {
            "runs_live": 2,
            "runs_known": 5,
            "runs_started_total": 5,
            "runs_completed_total": 1,
            "runs_failed_total": 1,
            "runs_cancelled_total": 1,
            "event_waiters": 1,
            "stream_subscribers": 1,
            "idempotency_keys": 1,
        }.items():
            assert moved[f"stepflow_{name}"] == change, name
        for name in ("runs_finished_bytes", "journal_durable_lsn", "runs_active", "timers"):
            assert moved[f"stepflow_{name}"] > 0, name
        stream.close()
        await world.engine.notify("ev", b"1")
        await world.finished(waiting)
        await world.engine.purge(done)
        after = figures()
        assert after["stepflow_events_delivered_total"] == 1
        assert after["stepflow_runs_purged_total"] == 1
        assert after["stepflow_event_waiters"] == 0
        assert after["stepflow_idempotency_keys"] == 0
        assert after["stepflow_stream_subscribers"] == 0
        assert after["stepflow_retention_hours"] > 0
        engine = world.engine
    assert engine.metrics() == {"stepflow_up": 0.0}


@pytest.mark.asyncio
async def test_readiness_says_where_the_engine_is_and_what_is_degraded() -> None:
    world = Service()
    with world.clock.driving():
        await world.start()
        engine = world.engine
        body: Any = engine.readiness()
        assert body["status"] == "ready"
        assert body["degraded"] == {
            "missingWorkflows": [],
            "quarantinedRuns": 0,
            "zombies": 0,
            "stepThreads": {
                "limit": world.settings.threads,
                "waiting": 0,
                "zombies": 0,
                "zombiesSince": None,
            },
            "snapshotFailures": 0,
            "diskHangsS": 0.0,
        }
        run_id = await world.trigger("gated")
        async with reborn(world, without=frozenset({"gated"})) as other:
            await other.until(lambda: other.state(run_id) == "missing-workflow")
            body = other.engine.readiness()
            assert body["status"] == "ready"
            assert body["degraded"]["missingWorkflows"] == ["gated"]
        engine.begin_shutdown()
        assert engine.readiness()["status"] == "draining"
        await world.stop()
        assert engine.readiness()["status"] == "stopped"


@pytest.mark.asyncio
async def test_figures_by_workflow_and_of_parked_bytes_are_those_of_the_tables() -> None:
    async with service() as world:
        for _ in range(3):
            await world.waiting(await world.trigger("waits", "ev"))
        ended = await world.trigger("doubles", 1)
        await world.finished(ended)
        await world.trigger("echo", 1, delay_ms=60_000)
        _check_figures(world, waits=3, echo=1, doubles=0)
        assert await world.engine.snapshot()
        await world.clock.advance(100)
        age = world.engine.metrics()["stepflow_journal_snapshot_age_seconds"]
        assert age >= 99
        await world.clock.advance(3600)
        _check_figures(world, waits=3, echo=0, doubles=0)
        await world.restart()
        _check_figures(world, waits=3, echo=0, doubles=0)
        figures = world.engine.metrics()
        assert figures["stepflow_runs_parked_bytes"] > 0
        assert figures['stepflow_workflow_runs_started_total{workflow="waits"}'] == 0
        await world.engine.notify("ev", b"1")
        for run_id in list(world.engine.sup.runs):
            await world.finished(run_id)
            await world.settle()
            await world.engine.purge(run_id)
            _check_figures(world, waits=0, echo=0, doubles=0)
        assert world.engine.sup.runs.parked_bytes == 0


def _check_figures(world: Service, **live: int) -> None:
    figures, rows = world.engine.metrics(), world.engine.sup.runs._rows.values()
    held = sum(len(row) for row in rows if isinstance(row, bytes))
    assert figures["stepflow_runs_parked_bytes"] == held
    for workflow, count in live.items():
        assert figures[f'stepflow_workflow_runs_live{{workflow="{workflow}"}}'] == count, workflow
