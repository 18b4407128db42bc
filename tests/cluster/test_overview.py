"""`GET /system` and a workflow's pace over all processes: rows that add up, the dead left out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from msgspec import UnsetType

from stepflow import Context, Stepflow
from stepflow.engine.postgres import PostgresEngine, presence
from stepflow.engine.postgres.overview import quantile_of
from stepflow.engine.postgres.presence import PaceTold, thinned
from stepflow.errors import OutcomeUnknownError, UnavailableError, WorkflowNotFoundError
from stepflow.model.event_filter import EVERYTHING

if TYPE_CHECKING:
    from stepflow.model.system import ProcessFigures, SystemView

pytestmark = pytest.mark.asyncio


class Node:
    """One process: a flow on the database. Its gate holds the runs of `gated`."""

    def __init__(self, url: str, *, worker: bool = True) -> None:
        self.engine = PostgresEngine(url, worker=worker, poll_s=0.1)
        self.flow = flow = Stepflow(engine=self.engine)
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()

        async def hold() -> None:
            self.entered.set()
            await self.gate.wait()

        @flow.workflow("gated")
        async def gated(ctx: Context) -> None:
            await ctx.step("hold", hold)

        @flow.workflow("one-at-a-time", concurrency=1, schedule="0 8 1 1 *")
        async def one_at_a_time(ctx: Context) -> None:
            await ctx.step("hold", hold)

        @flow.workflow("echo", aliases=["echo-of-old"])
        async def echo(ctx: Context, value: int) -> int:
            del ctx
            return value

    async def tell(self) -> None:
        """Look at what has happened, and say it: what a process does every few seconds."""
        if self.engine._worker is not None:
            self.engine._worker.sup.pace.look()
        assert self.engine._presence is not None
        await self.engine._presence._say()


def listed(view: SystemView) -> list[ProcessFigures]:
    assert not isinstance(view.processes, UnsetType)
    return view.processes


def by_role(view: SystemView) -> dict[str, ProcessFigures]:
    return {process.role: process for process in listed(view)}


async def test_any_process_tells_of_all_of_them(url) -> None:
    async with AsyncExitStack() as stack:
        worker, api = Node(url), Node(url, worker=False)
        await stack.enter_async_context(worker.flow)
        await stack.enter_async_context(api.flow)
        run = await api.flow.trigger("gated")
        await worker.entered.wait()
        stream = await api.engine.stream_all(EVERYTHING)
        await worker.tell()
        view = await api.engine.system()
        assert (view.state, view.runs.live, view.runs.active) == ("ready", 1, 1)
        assert (view.runs.known, view.runs.finished) == (1, 0)
        assert view.streams.of_all == 1
        assert view.journal.durable_lsn > 0
        assert view.memory.rss_bytes is not None
        found = by_role(view)
        assert found.keys() == {"all", "api"}
        assert (found["all"].claims_held, found["api"].claims_held) == (1, 0)
        assert view.memory.rss_bytes == sum(one.rss_bytes or 0 for one in found.values())
        # The worker, asked for the same, says the same of the runs.
        other = await worker.engine.system()
        assert (other.runs.live, by_role(other).keys()) == (1, found.keys())
        stream.close()
        worker.gate.set()
        await run.result()
        # The end is seen before its worker knows that it is written.
        while True:
            await worker.tell()
            after = await api.engine.system()
            if not by_role(after)["all"].claims_held:
                break
        assert after.journal.commits.max_s > 0
        assert after.runs.live == 0


async def test_the_pace_of_a_workflow_is_that_of_all_processes(url) -> None:
    async with AsyncExitStack() as stack:
        worker, api = Node(url), Node(url, worker=False)
        await stack.enter_async_context(worker.flow)
        await stack.enter_async_context(api.flow)
        await worker.tell()
        await api.tell()
        for n in range(4):
            run = await api.flow.trigger("echo", n)
            await run.result()
        await worker.tell()
        pace = await api.engine.workflow_pace("echo-of-old")
        assert pace.workflow_id == "echo"
        assert (pace.live, pace.queued) == (0, 0)
        # Started here, ended there.
        assert pace.started_per_s > 0
        assert pace.completed_per_s > 0
        assert pace.sampled == 4
        assert pace.latency_p50_s is not None
        assert pace.latency_p99_s is not None
        assert pace.latency_p50_s <= pace.latency_p99_s
        view = await api.engine.system()
        (echo,) = [one for one in view.workflows if one.workflow_id == "echo"]
        assert echo.sampled == 4
        assert view.runs.started_per_s > 0
        assert view.runs.ended_per_s > 0
        assert (await api.engine.workflow_pace("gated")).sampled == 0
        with pytest.raises(WorkflowNotFoundError):
            await api.engine.workflow_pace("nobody")


async def test_runs_that_wait_for_a_limit_are_queued_and_those_of_schedules_started(url) -> None:
    node = Node(url)
    async with node.flow:
        await node.tell()
        await node.engine.trigger_schedule("one-at-a-time")
        for _ in range(2):
            await node.flow.trigger("one-at-a-time")
        await node.entered.wait()
        pace = await node.engine.workflow_pace("one-at-a-time")
        assert (pace.live, pace.queued) == (3, 2)
        assert (await node.engine.system()).runs.queued == 2
        assert pace.started_per_s > 0
        assert node.engine.starts._counts["one-at-a-time"] == 3
        node.gate.set()


async def test_a_process_that_is_silent_falls_out_and_one_that_stops_goes_at_once(url) -> None:
    async with AsyncExitStack() as stack:
        api, silent = Node(url, worker=False), Node(url, worker=False)
        await stack.enter_async_context(api.flow)
        await stack.enter_async_context(silent.flow)
        assert silent.engine._presence is not None
        dead = silent.engine._presence.id

        async def up() -> set[str]:
            return {one.id for one in listed(await api.engine.system())}

        assert dead in await up()
        with psycopg.connect(url, autocommit=True) as conn:
            age = "update stepflow.processes set seen_at = seen_at - %s::interval"
            conn.execute(f"{age} where process = %s".encode(), ("1 minute", dead))
            assert dead not in await up()
            # Of one that is long dead nothing is kept.
            conn.execute(f"{age} where process = %s".encode(), ("2 hours", dead))
            await api.tell()
            left = conn.execute("select process from stepflow.processes").fetchall()
            assert api.engine._presence is not None
            assert left == [(api.engine._presence.id,)]
            # It was only slow: it is there again.
            await silent.tell()
            assert dead in await up()
            await silent.engine.stop()
            left = conn.execute("select process from stepflow.processes").fetchall()
            assert left == [(api.engine._presence.id,)]


async def test_one_that_does_not_run_tells_nothing(url) -> None:
    node = Node(url)
    with pytest.raises(UnavailableError):
        await node.engine.system()


async def test_what_takes_long_to_count_is_not_counted_at_each_look(url, monkeypatch) -> None:
    node = Node(url, worker=False)
    async with node.flow:
        counted = []
        rows = node.engine._database.rows

        async def counting(sql, *args):
            counted.append("count(*) from stepflow.runs)" in sql)
            return await rows(sql, *args)

        monkeypatch.setattr(node.engine._database, "rows", counting)
        await node.engine.system()
        await node.engine.system()
        assert sum(counted) == 1
        assert node.engine._tables is not None
        node.engine._tables = 0.0, node.engine._tables[1]
        await node.engine.system()
        assert sum(counted) == 2


async def test_latencies_of_many_are_those_of_few_that_stand_for_them() -> None:
    assert thinned([1.0, 2.0], 50) == [1.0, 2.0]
    assert thinned([float(n) for n in range(101)], 3) == [0.0, 50.0, 100.0]
    assert quantile_of([], 0.5) is None
    # A process that has seen a hundred runs counts a hundred times as much as one that saw one.
    busy = PaceTold(latencies=[1.0, 2.0], sampled=100)
    idle = PaceTold(latencies=[9.0], sampled=1)
    assert quantile_of([busy, idle], 0.4) == 1.0
    assert quantile_of([busy, idle], 0.6) == 2.0
    assert quantile_of([busy, idle], 1.0) == 9.0


async def test_a_stop_in_the_middle_of_a_beat_ends_it(url, monkeypatch) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.0)
    node = Node(url, worker=False)
    async with node.flow:
        assert node.engine._presence is not None
        database, began = node.engine._database, asyncio.Event()
        act = database.act

        async def cut(sql: str, *args: object) -> object:
            if "beat" not in sql:
                return await act(sql, *args)
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                # As psycopg says it of a query that was cancelled.
                raise OutcomeUnknownError from None

        monkeypatch.setattr(database, "act", cut)
        await began.wait()


async def test_figures_that_cannot_be_told_end_no_heartbeat(url, caplog, monkeypatch) -> None:
    node = Node(url, worker=False)
    async with node.flow:
        assert node.engine._presence is not None

        def broken(*_: object) -> None:
            raise RuntimeError("boom")

        monkeypatch.setattr(presence, "memory", broken)
        await node.tell()
        assert "was not told" in caplog.text
