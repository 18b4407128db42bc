"""`counts` on `GET /runs`: exact while that is cheap, and bounded in what it costs beyond."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from stepflow import Context, RetryPolicy, Stepflow
from stepflow.engine.postgres import PostgresEngine, counting
from stepflow.engine.postgres.counting import Counting
from stepflow.engine.protocol import RunFilter
from stepflow.model.views import RunCounts

pytestmark = pytest.mark.asyncio


async def test_all_runs_and_those_of_a_workflow_are_counted_by_status(url) -> None:
    flow = Stepflow(engine=PostgresEngine(url, poll_s=0.1))

    @flow.workflow("echo", retry=RetryPolicy(max_attempts=1))
    async def echo(ctx: Context, value: Any) -> Any:
        if value == "wait":
            return await ctx.wait_for_event("go", timeout=None)
        if value == "fail":
            raise ValueError(value)
        return value

    flow.workflow("other")(echo)

    async with flow:

        async def counts(workflow_id: str = "", **more: Any) -> Any:
            where = RunFilter(workflow_id=workflow_id, **more)
            return (await flow.engine.list_runs(where, limit=1, cursor=None)).counts

        for value in (b"1", b"2", b'"fail"', b'"wait"'):
            run_id = await flow.engine.trigger("echo", value)
            if value != b'"wait"':
                await flow.engine.wait(run_id)
        await flow.engine.wait(await flow.engine.trigger("other", b"1"))
        await flow.engine.trigger("echo", b"1", delay_ms=3_600_000)
        await flow.engine.cancel(run_id)
        await flow.engine.wait(run_id)
        live = await flow.engine.trigger("echo", b'"wait"')
        assert await counts() == RunCounts(pending=1, running=1, completed=3, failed=1, cancelled=1)
        assert await counts("other") == RunCounts(
            pending=0, running=0, completed=1, failed=0, cancelled=0
        )
        # A status of the page changes nothing of it; of a tag nobody keeps count.
        assert (await counts("echo", status=frozenset({"failed"}))).completed == 2
        assert not isinstance(await counts(tag="x"), RunCounts)
        await flow.engine.cancel(live)
        await flow.engine.wait(live)
        assert (await counts()).cancelled == 2


class Slow:
    """A clock, and a database on which a count of what has ended takes so long."""

    def __init__(self, took_s: float) -> None:
        self.now_s = 100.0
        self.took_s = took_s
        self.ended = 10
        self.live = 1
        self.looks = 0

    def monotonic_s(self) -> float:
        return self.now_s

    async def rows(self, sql: str, *args: Any) -> list[tuple[str, int]]:
        if "completed" not in args[-1]:
            return [("running", self.live)]
        self.looks += 1
        self.now_s += self.took_s
        return [("completed", self.ended)]


async def test_what_takes_long_is_counted_again_after_twenty_times_as_long() -> None:
    slow: Any = Slow(took_s=0.5)
    counts = Counting(slow, slow)
    assert await counts.of("a") == RunCounts(
        pending=0, running=1, completed=10, failed=0, cancelled=0
    )
    slow.ended, slow.live = 20, 2
    found = await counts.of("a")
    assert (found.completed, found.running, slow.looks) == (10, 2, 1)
    # Another workflow is counted by itself, and no longer than it must be.
    assert (await counts.of("b")).completed == 20
    slow.now_s += 9.4
    assert (await counts.of("a")).completed == 10
    slow.now_s += 0.2
    assert (await counts.of("a")).completed == 20
    assert slow.looks == 3


async def test_what_is_cheap_is_counted_at_each_look_and_few_are_kept(monkeypatch) -> None:
    cheap: Any = Slow(took_s=0.01)
    counts = Counting(cheap, cheap)
    for expected in (1, 2, 3):
        cheap.ended = expected
        assert (await counts.of()).completed == expected
    monkeypatch.setattr(counting, "_KEPT", 2)
    slow: Any = Slow(took_s=1.0)
    counts = Counting(slow, slow)
    for name in ("a", "b", "c"):
        await counts.of(name)
    assert list(counts._kept) == ["b", "c"]


async def test_it_reads_an_index_alone(url) -> None:
    async with Stepflow(engine=PostgresEngine(url, worker=False)):
        pass
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            """insert into stepflow.runs
                 (run_id, workflow, tags, status, created_ms, updated_ms, rs, lsn)
               select 'run_' || md5(n::text), 'w' || n % 20, '{}', 'completed', n, n, 1, 1
                 from generate_series(1, 20000) n"""
        )
        conn.execute("vacuum analyze stepflow.runs")
        statuses = list(counting._ENDED)
        for sql, args in ((counting._ALL, (statuses,)), (counting._OF, ("w1", statuses))):
            plan = "\n".join(row[0] for row in conn.execute(f"explain {sql}".encode(), args))
            assert "Index Only Scan" in plan, plan
