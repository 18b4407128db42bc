"""Schedules over many processes: each time gets one run, whoever dies, and newer code is right."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from stepflow import Context, Schedule, Stepflow
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.protocol import RunFilter
from stepflow.errors import ConflictError, NotFoundError
from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.engine.postgres.firing import Firing

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]
WEEK_MS = 7 * 24 * 3600 * 1000
WEEKLY = {"every": "7d", "overlap": "allow"}


def a_flow(url: str, *, worker: bool = True, **schedule: Any) -> Stepflow:
    """Return a process; its workflow ends at once unless its input is "waits"."""
    flow = Stepflow(engine=PostgresEngine(url, worker=worker, poll_s=0.1))

    @flow.workflow("tick", schedule=Schedule(**schedule) if schedule else None)
    async def tick(ctx: Context, what: str | None = None) -> str:
        if what == "waits":
            await ctx.wait_for_event("go", timeout=None)
        return str(ctx.scheduled_at)

    return flow


def firing(flow: Stepflow) -> Firing:
    engine = flow.engine
    assert isinstance(engine, PostgresEngine)
    assert engine._worker is not None
    return engine._worker.firing


def row(url: str) -> dict[str, Any]:
    with psycopg.connect(url) as conn, conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        found = cursor.execute("select * from stepflow.schedules where id = 'tick'").fetchone()
    assert found is not None
    return found


def as_if_down(url: str, weeks: int) -> None:
    """It was `weeks` weekly times ago that the schedule was looked at."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            """update stepflow.schedules
                  set last_ms = (stepflow.now_ms() / %s - %s) * %s where id = 'tick'""",
            (WEEK_MS, weeks, WEEK_MS),
        )
        conn.execute("select pg_notify('stepflow_timed', '')")


async def until(true: Callable[[], bool]) -> None:
    """Return once it is; the test's own limit ends a vain wait."""
    while not true():
        await asyncio.sleep(0.02)


async def times_of(flow: Stepflow) -> list[int]:
    """Return for which times there are runs, oldest first."""
    page = await flow.engine.list_runs(RunFilter(workflow_id="tick"), limit=100, cursor=None)
    states = [await flow.engine.export_run(run.id) for run in page.runs]
    found = [psycopg.types.json.json.loads(state)["records"][0] for state in states]
    return sorted(record["scheduled"] for record in found)


@pytest.mark.parametrize(
    ("catch_up", "runs", "skipped"), [("one", 1, 4), ("all", 5, 0), ("skip", 0, 5)]
)
async def test_what_was_missed_gets_as_many_runs_as_the_policy_says_over_all_workers(
    url, catch_up, runs, skipped
) -> None:
    async with AsyncExitStack() as stack:
        flows = [a_flow(url, **WEEKLY, catch_up=catch_up) for _ in range(3)]
        for flow in flows:
            await stack.enter_async_context(flow)
        await until(lambda: bool(firing(flows[2])._told))
        as_if_down(url, 5)
        await until(lambda: row(url)["fired"] + row(url)["skipped"] == 5)
        assert (row(url)["fired"], row(url)["skipped"]) == (runs, skipped)
        times = await times_of(flows[0])
        last = row(url)["last_ms"]
        assert times == [last - WEEK_MS * back for back in reversed(range(runs))]
        assert sum(firing(flow).fired_total for flow in flows) == runs


async def test_while_one_fires_the_others_leave_the_time_to_it(url) -> None:
    one, other = a_flow(url, **WEEKLY), a_flow(url, **WEEKLY)
    async with one, other:
        began, may_go_on = asyncio.Event(), asyncio.Event()
        start = firing(one)._starter.start

        async def slowly(*args: Any, **named: Any) -> str:
            run_id = await start(*args, **named)
            began.set()
            await may_go_on.wait()
            return run_id

        firing(one)._starter.start = slowly  # type: ignore[method-assign]
        firing(other)._starter.start = slowly  # type: ignore[method-assign]
        as_if_down(url, 1)
        await began.wait()
        planned = one.registry.schedules["tick"]
        # In the middle of it nothing is decided, and nobody else begins with it.
        assert await firing(one)._fire(planned) == 0
        assert await firing(other)._fire(planned) == 0
        assert row(url)["fired"] == 0
        may_go_on.set()
        await until(lambda: row(url)["fired"] == 1)
        assert len(await times_of(one)) == 1
        assert firing(one).fired_total + firing(other).fired_total == 1


DIES = """
import asyncio, sys
from stepflow import Schedule
from tests.cluster.test_cluster_schedules import WEEKLY, a_flow, firing

async def main():
    flow = a_flow(sys.argv[1], **WEEKLY)
    async with flow:
        start = firing(flow)._starter.start
        async def start_and_hang(*args, **named):
            await start(*args, **named)
            print("between", flush=True)
            await asyncio.Event().wait()
        firing(flow)._starter.start = start_and_hang
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_process_that_is_killed_between_the_run_and_the_row_loses_no_time(url) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220
        doomed([sys.executable, "-c", DIES, url]), stdout=subprocess.PIPE, text=True
    )
    out = process.stdout
    assert out is not None
    try:
        assert await asyncio.to_thread(out.readline) == "ready\n"
        await asyncio.to_thread(_until_registered, url)
        as_if_down(url, 1)
        assert await asyncio.to_thread(out.readline) == "between\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        out.close()
    assert row(url)["fired"] == 0
    after = a_flow(url, **WEEKLY)
    async with after:
        await until(lambda: row(url)["fired"] == 1)
        assert await times_of(after) == [row(url)["last_ms"]]


def _until_registered(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        while not conn.execute("select 1 from stepflow.schedules").fetchall():
            pass


async def test_the_code_that_was_started_last_says_when_and_whether(url) -> None:
    old = a_flow(url, **WEEKLY)
    async with old:
        await until(lambda: bool(firing(old)._told))
        async with a_flow(url, every="14d", overlap="allow") as new:
            await until(lambda: row(url)["spec"] == "every 14d")
            as_if_down(url, 1)
            old_planned = old.registry.schedules["tick"]
            # The old code neither fires its own times nor says them again.
            assert await firing(old)._fire(old_planned) == 0
            firing(old).ring()
            old.engine.registered()
            assert (await old.schedules.get("tick")).spec == "every 14d"
            assert (await new.schedules.get("tick")).next_at
        since = row(url)["last_ms"]
        async with a_flow(url) as without:
            await until(lambda: row(url)["spec"] == "")
            assert await firing(old)._fire(old_planned) == 0
            assert await without.schedules.list() == []
        before = row(url)["fired"]
        async with a_flow(url, **WEEKLY):
            await until(lambda: row(url)["spec"] == "every 7d")
            # Nothing that passed meanwhile is due.
            assert row(url)["last_ms"] > since
            assert row(url)["fired"] == before


async def test_code_of_other_workflows_takes_no_schedule_away(url) -> None:
    async with a_flow(url, **WEEKLY) as flow:
        await until(lambda: bool(firing(flow)._told))
        other = Stepflow(engine=PostgresEngine(url, poll_s=0.1))

        @other.workflow("tock", schedule="0 0 1 1 *")
        async def tock(ctx: Context) -> None:
            del ctx

        async with other:
            await until(lambda: bool(firing(other)._told))
            assert row(url)["spec"] == "every 7d"
            assert [view.id for view in await other.schedules.list()] == ["tock"]


async def test_any_process_pauses_and_what_passed_meanwhile_is_not_due(url) -> None:
    async with a_flow(url, **WEEKLY) as flow, a_flow(url, worker=False, **WEEKLY) as api:
        await until(lambda: bool(firing(flow)._told))
        assert (await api.schedules.pause("tick")).state == "paused"
        as_if_down(url, 3)
        assert await firing(flow)._fire(flow.registry.schedules["tick"]) == 0
        view = await flow.schedules.get("tick")
        assert (view.state, view.fired) == ("paused", 0)
        assert not view.next_at
        assert (await api.schedules.resume("tick")).state == "active"
        assert await firing(flow)._fire(flow.registry.schedules["tick"])
        assert row(url)["fired"] + row(url)["skipped"] == 0


async def test_a_schedule_is_there_before_a_worker_is(url) -> None:
    async with a_flow(url, worker=False, **WEEKLY) as api:
        view = await api.schedules.get("tick", times=3)
        assert view.next_at
        assert len(view.next) == 3  # type: ignore[arg-type]
        assert (await api.schedules.pause("tick")).state == "paused"
        with pytest.raises(NotFoundError):
            await api.schedules.pause("tock")
    async with a_flow(url, **WEEKLY) as flow:
        await until(lambda: bool(firing(flow)._told))
        assert (await flow.schedules.get("tick")).state == "paused"


async def test_none_begins_beside_one_that_is_under_way(url) -> None:
    flow = a_flow(url, every="7d", input="waits")
    async with flow:
        await until(lambda: bool(firing(flow)._told))
        first = await flow.schedules.trigger("tick")
        with pytest.raises(ConflictError, match=first.id):
            await flow.schedules.trigger("tick")
        as_if_down(url, 1)
        await until(lambda: row(url)["skipped"] == 1)
        assert (await flow.schedules.get("tick")).live_run_ids == [first.id]
        while not await flow.engine.waiting_events():
            await asyncio.sleep(0.02)
        await flow.notify("go")
        await first.result()
        as_if_down(url, 1)
        await until(lambda: row(url)["fired"] == 1)
        view = await flow.schedules.get("tick")
        assert view.live_run_ids == [view.last_run_id]


async def test_a_backfill_starts_each_time_once_however_often_it_is_asked(url) -> None:
    async with a_flow(url, worker=False, **WEEKLY) as api:
        begin, end = 100 * WEEK_MS, 103 * WEEK_MS
        ask = api.engine.backfill_schedule
        dry = await ask("tick", begin, end, dry_run=True)
        assert (len(dry.runs), dry.existing) == (4, 0)
        several = await asyncio.gather(*(ask("tick", begin, end) for _ in range(3)))
        assert sum(len(view.runs) for view in several) == 4
        assert await times_of(api) == [week * WEEK_MS for week in range(100, 104)]
        again = await ask("tick", begin, end + WEEK_MS)
        assert (len(again.runs), again.existing) == (1, 4)


async def test_the_next_begins_when_the_one_under_way_has_ended(url) -> None:
    flow = a_flow(url, every="7d", input="waits", overlap="queue", catch_up="all")
    async with flow:
        await until(lambda: bool(firing(flow)._told))
        as_if_down(url, 3)
        await until(lambda: row(url)["fired"] == 3)
        view = await flow.schedules.get("tick")
        for done in range(3):
            states = [str((await flow.get_run(r)).state) for r in view.live_run_ids[done + 1 :]]
            assert states == ["queued"] * (2 - done)
            while not await flow.engine.waiting_events():
                await asyncio.sleep(0.02)
            await flow.notify("go")
            await flow.engine.wait(view.live_run_ids[done])
        assert (await flow.schedules.get("tick")).live_run_ids == []


async def test_the_one_under_way_is_cancelled_for_the_next(url) -> None:
    flow = a_flow(url, every="7d", input="waits", overlap="cancel")
    async with flow:
        await until(lambda: bool(firing(flow)._told))
        first = await flow.schedules.trigger("tick")
        while not await flow.engine.waiting_events():
            await asyncio.sleep(0.02)
        as_if_down(url, 1)
        assert (await flow.engine.wait(first.id)).status == "cancelled"
        (second,) = (await flow.schedules.get("tick")).live_run_ids
        while not await flow.engine.waiting_events():
            await asyncio.sleep(0.02)
        await flow.notify("go")
        assert (await flow.engine.wait(second)).status == "completed"
