"""Bulk actions on PostgreSQL: the same filters, pages, refusals and answers as on one disk."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from stepflow import Context, Stepflow
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine, bulk
from stepflow.engine.protocol import BulkReport, RunFilter
from stepflow.errors import InvalidInputError, OutcomeUnknownError, UnavailableError
from stepflow.model.views import RunPage  # noqa: TC001  the lists' type

if TYPE_CHECKING:
    from stepflow.engine.protocol import BulkAction

pytestmark = pytest.mark.asyncio

ALL_OF_W = RunFilter(workflow_id="w")


class Node:
    """A process on the database; `worker=False` answers calls alone."""

    def __init__(self, url: str, *, worker: bool = True, **more: Any) -> None:
        self.engine = PostgresEngine(url, worker=worker, poll_s=0.1)
        self.flow = flow = Stepflow(engine=self.engine, **more)

        @flow.workflow("w")
        async def w(ctx: Context) -> Any:
            return await ctx.wait_for_event("go", timeout=None)

        @flow.workflow("other")
        async def other(ctx: Context) -> Any:
            return await ctx.wait_for_event("go", timeout=None)

        @flow.workflow("slow-to-end")
        async def slow_to_end(ctx: Context) -> Any:
            try:
                await ctx.wait_for_event("go", timeout=None)
            finally:
                await ctx.sleep("cleanup", "1h")

        @flow.workflow("done")
        async def done(ctx: Context) -> None:
            del ctx

    async def many(self, count: int = 5, workflow: str = "w") -> list[str]:
        """Start runs; return them, oldest first, when all of them wait."""
        runs = []
        for n in range(count):
            tags = (f"n{n}", "all")
            runs.append(await self.engine.trigger(workflow, b"null", tags=tags))
        for _ in range(2):
            await self.engine.trigger("other", b"null")
        await self.waiting(runs)
        return runs

    async def waiting(self, runs: list[str]) -> None:
        """Return when all of them wait."""
        while await self.states(runs) != ["waiting"] * len(runs):
            await asyncio.sleep(0.01)

    async def states(self, runs: list[str]) -> list[str]:
        return [str((await self.engine.get_run(run_id)).state) for run_id in runs]


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(url) -> None:
    node = Node(url)
    async with node.flow:
        runs = await node.many()
        for action in ("cancel", "pause"):
            report = await node.engine.bulk(action, ALL_OF_W, dry_run=True, force=True)
            assert report.dry_run
            assert (report.matched, report.run_ids) == (5, runs[::-1])
        for action in ("purge", "retry", "resume"):
            assert (await node.engine.bulk(action, ALL_OF_W, dry_run=True)).matched == 0
        assert await node.states(runs) == ["waiting"] * 5
        done = await node.engine.bulk("pause", ALL_OF_W)
        assert (done.run_ids, done.dry_run) == (runs[::-1], False)
        assert await node.states(runs) == ["paused"] * 5


async def test_the_filter_is_that_of_lists(url) -> None:
    node = Node(url)
    async with node.flow:
        runs = await node.many()
        both = frozenset({"running", "failed"})
        times = [view.created_at for view in (await everything(node)).runs if view.id == runs[2]]
        assert len(times) == 1
        for where, expected in (
            (RunFilter(tag="n1"), [1]),
            (RunFilter(tag="all", status=frozenset({"completed"})), []),
            (RunFilter(tag="all", status=both), [4, 3, 2, 1, 0]),
            (RunFilter(workflow_id="w", created_before_ms=1), []),
            (RunFilter(workflow_id="w", created_after_ms=1), [4, 3, 2, 1, 0]),
            (RunFilter(workflow_id="nobody"), []),
            (RunFilter(ids=frozenset({runs[0], runs[2], "run_nobodyknows"})), [2, 0]),
        ):
            report = await node.engine.bulk("cancel", where, dry_run=True)
            assert report.run_ids == [runs[n] for n in expected], where
            assert report.next_cursor is None


async def everything(node: Node) -> RunPage:
    return await node.engine.list_runs(RunFilter(), limit=100, cursor=None)


async def test_it_goes_on_where_it_stopped_and_leaves_new_runs_alone(url, monkeypatch) -> None:
    # A page of runs is smaller than what one call does, and no multiple of it.
    monkeypatch.setattr(bulk, "_SLICE", 3)
    node, api = Node(url), Node(url, worker=False, settings=Settings(bulk_max=4))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(node.flow)
        await stack.enter_async_context(api.flow)
        runs = await node.many(10)
        first = await api.engine.bulk("pause", ALL_OF_W, limit=50)
        assert first.run_ids == runs[:5:-1]
        (late,) = await node.many(1)
        reports: list[BulkReport] = [first]
        while (cursor := reports[-1].next_cursor) is not None:
            reports.append(await api.engine.bulk("pause", ALL_OF_W, cursor=cursor))
        assert [len(report.run_ids) for report in reports] == [4, 4, 2]
        assert [run for report in reports for run in report.run_ids] == runs[::-1]
        assert await node.states([late]) == ["waiting"]
        # Begun anew, what is done already is left out.
        assert (await api.engine.bulk("pause", ALL_OF_W)).run_ids == [late]
        # As many as a call may do, and nothing behind them.
        last = await api.engine.bulk("cancel", RunFilter(ids=frozenset(runs[:4])))
        assert (len(last.run_ids), last.next_cursor) == (4, None)


async def test_every_action_does_what_it_does_alone(url) -> None:
    node, api = Node(url), Node(url, worker=False)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(node.flow)
        await stack.enter_async_context(api.flow)
        runs = await node.many()

        async def act(action: BulkAction, **options: Any) -> int:
            report = await api.engine.bulk(action, ALL_OF_W, by="key:ops", reason="why", **options)
            assert report.skipped == []
            return len(report.run_ids)

        assert await act("pause") == 5
        assert await act("pause") == 0
        assert await act("resume") == 5
        assert await act("resume") == 0
        assert await act("retry") == await act("purge") == 0
        assert await act("cancel", force=True) == 5
        assert await node.states(runs) == ["cancelled"] * 5
        acts = await api.engine.run_audit(runs[0])
        assert [(one.action, one.by, one.reason) for one in acts] == [
            (action, "key:ops", "why") for action in ("pause", "resume", "cancel")
        ]
        assert acts[-1].forced is True
        assert await act("retry") == 5
        await node.waiting(runs)
        await api.engine.notify("go", b"3")
        for run_id in runs:
            assert (await api.engine.wait(run_id)).status == "completed"
        assert await act("cancel") == await act("retry") == 0
        assert await act("purge") == 5
        left = {view.id for view in (await everything(api)).runs}
        assert left.isdisjoint(runs)


async def test_what_cannot_be_done_is_said_of_its_run_alone(url) -> None:
    node = Node(url)
    where = RunFilter(workflow_id="slow-to-end")
    async with node.flow:
        runs = await node.many(3, "slow-to-end")
        await node.engine.cancel(runs[1])
        for dry in (True, False):
            report = await node.engine.bulk("pause", where, dry_run=dry)
            assert report.run_ids == [runs[2], runs[0]]
            (row,) = report.skipped
            assert (row.run_id, row.code) == (runs[1], "CONFLICT")
            assert "being cancelled" in row.error
            assert report.matched == 3
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "update stepflow.runs set condition = 'quarantined' where run_id = %s", (runs[0],)
            )
        report = await node.engine.bulk("resume", where)
        assert report.run_ids == [runs[2]]
        assert [(row.run_id, row.code) for row in report.skipped] == [(runs[0], "CONFLICT")]
        assert "set aside" in report.skipped[0].error


async def test_records_that_cannot_be_applied_are_not_retried(url) -> None:
    node = Node(url)
    async with node.flow:
        runs = await node.many(2)
        await node.engine.bulk("cancel", ALL_OF_W)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "update stepflow.records set crc = crc + 1 where run_id = %s and rs = 2", (runs[0],)
            )
        for dry in (True, False):
            report = await node.engine.bulk("retry", ALL_OF_W, dry_run=dry)
            assert report.run_ids == [runs[1]]
            assert [row.run_id for row in report.skipped] == [runs[0]]
            if dry:
                continue
            await node.waiting([runs[1]])


async def test_what_was_faster_is_said(url) -> None:
    """A run ends, is retried or is forgotten between the look at it and the act."""
    node = Node(url, worker=False)
    engine = node.engine
    async with AsyncExitStack() as stack:
        worker = Node(url)
        await stack.enter_async_context(worker.flow)
        await stack.enter_async_context(node.flow)
        ended = await engine.trigger("done", b"null")
        await engine.wait(ended)
        (live,) = await worker.many(1)
        for action, run_id, code, says in (
            ("pause", ended, "CONFLICT", "has ended: it is completed"),
            ("cancel", ended, "CONFLICT", "has ended: it is completed"),
            ("retry", ended, "CONFLICT", "is completed: only a failed or cancelled run"),
            ("purge", live, "CONFLICT", "is live; cancel it first"),
            ("pause", "run_nobodyknows", "RUN_NOT_FOUND", ""),
            ("purge", "run_nobodyknows", "RUN_NOT_FOUND", ""),
        ):
            taken, refused = await engine._act(action, {run_id: "w"}, b"{}")
            assert taken == {}
            assert refused[run_id].code == code
            assert says in refused[run_id].message
        # A letter that came too late: the run has ended by itself before it was read.
        done = {ended: 1_000_000, live: 0}
        late = await engine._settled("pause", done)
        assert [(row.run_id, row.code) for row in late] == [(ended, "CONFLICT")]
        assert done == {live: 0}


async def test_without_a_worker_it_is_written_down_and_done_later(url, monkeypatch) -> None:
    monkeypatch.setattr(bulk, "_SETTLE_S", 0.0)
    api = Node(url, worker=False)
    async with api.flow:
        runs = [await api.engine.trigger("w", b"null") for _ in range(2)]
        report = await api.engine.bulk("cancel", ALL_OF_W)
        assert report.run_ids == runs[::-1]
        assert await api.states(runs) == ["cancelling"] * 2
        async with Node(url).flow as flow:
            for run_id in runs:
                assert (await flow.engine.wait(run_id)).status == "cancelled"


@pytest.mark.parametrize("error", [UnavailableError, OutcomeUnknownError])
async def test_what_was_done_before_the_database_went_is_said(url, monkeypatch, error) -> None:
    monkeypatch.setattr(bulk, "_SLICE", 2)
    node = Node(url)
    async with node.flow:
        runs = await node.many()
        act, calls = node.engine._act, 0

        async def failing(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise error
            return await act(*args, **more)

        monkeypatch.setattr(node.engine, "_act", failing)
        report = await node.engine.bulk("pause", ALL_OF_W)
        assert report.run_ids == runs[:2:-1]
        assert report.next_cursor
        with pytest.raises(error):
            await node.engine.bulk("pause", ALL_OF_W, cursor=report.next_cursor)
        monkeypatch.undo()
        rest = await node.engine.bulk("pause", ALL_OF_W, cursor=report.next_cursor)
        assert report.run_ids + rest.run_ids == runs[::-1]


async def test_what_is_done_is_said_where_the_end_of_it_cannot_be_looked_at(
    url, monkeypatch, caplog
) -> None:
    node = Node(url)
    async with node.flow:
        runs = await node.many(2)

        async def gone(*_: Any) -> Any:
            raise UnavailableError("The database cannot be reached", retry_after_s=1)

        monkeypatch.setattr(node.engine, "_settled", gone)
        assert (await node.engine.bulk("cancel", ALL_OF_W)).run_ids == runs[::-1]
        assert "a bulk action" in caplog.text


async def test_what_is_asked_wrongly_is_refused(url) -> None:
    node = Node(url, worker=False)
    async with node.flow:
        with pytest.raises(InvalidInputError, match="needs a filter"):
            await node.engine.bulk("cancel", RunFilter())
        with pytest.raises(InvalidInputError, match="cursor"):
            await node.engine.bulk("cancel", ALL_OF_W, cursor="nonsense")
        with pytest.raises(InvalidInputError, match="reason"):
            await node.engine.bulk("cancel", ALL_OF_W, reason="x" * 2000)
    with pytest.raises(UnavailableError):
        await node.engine.bulk("cancel", ALL_OF_W)
