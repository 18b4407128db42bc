"""Finished runs on PostgreSQL are forgotten by age, number and size, by one process at a time."""

from __future__ import annotations

from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from stepflow import Context, Retention, RetryPolicy, Stepflow
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine, retention
from stepflow.engine.protocol import RunFilter
from stepflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.asyncio

DAY_MS = 86_400_000


class Node:
    """A worker with workflows that keep their runs as given."""

    def __init__(self, url: str, kept: dict[str, Any] | None = None, **settings: Any) -> None:
        self.url = url
        self.engine = PostgresEngine(url, poll_s=0.1)
        self.flow = flow = Stepflow(engine=self.engine, settings=Settings(**settings))

        async def echo(ctx: Context, value: Any) -> Any:
            del ctx
            if value == "fail":
                raise ValueError(value)
            return value

        async def waits(ctx: Context) -> Any:
            return await ctx.wait_for_event("go", timeout=None)

        for name, options in ({"echo": {}} | (kept or {})).items():
            flow.workflow(name, retry=RetryPolicy(max_attempts=1), **options)(echo)
        flow.workflow("waits")(waits)

    async def ended(self, *values: str, workflow: str = "echo") -> list[str]:
        """Start runs, each when the one before has ended; return them."""
        runs = []
        for value in values:
            runs.append(await self.engine.trigger(workflow, value.encode()))
            await self.engine.wait(runs[-1])
        return runs

    async def sweep(self) -> int:
        assert self.engine._worker is not None
        return await self.engine._worker.retention.sweep()

    async def left(self) -> set[str]:
        page = await self.engine.list_runs(RunFilter(), limit=1000, cursor=None)
        return {view.id for view in page.runs}

    def age(self, runs: list[str], days: float) -> None:
        """The runs have ended so many days ago."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(
                "update stepflow.runs set ended_ms = ended_ms - %s where run_id = any(%s)",
                (int(days * DAY_MS), runs),
            )

    def sizes(self, runs: list[str]) -> list[tuple[int | None, int | None, int]]:
        """Return when each has ended, how much it is said to be, and how much its records are."""
        with psycopg.connect(self.url) as conn:
            rows = conn.execute(
                """select r.ended_ms, r.bytes,
                          (select sum(length(data)) from stepflow.records e
                            where e.run_id = r.run_id)
                     from unnest(%s::text[]) with ordinality p(run_id, place)
                     join stepflow.runs r using (run_id) order by place""",
                (runs,),
            ).fetchall()
        return [(row[0], row[1], int(row[2])) for row in rows]


@contextmanager
def sweeping_elsewhere(url: str) -> Generator[None]:
    """Another process is at it."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(%s)", (retention._LOCK,))
        yield


async def test_a_finished_run_says_how_much_it_is_and_a_live_one_nothing(url) -> None:
    node = Node(url)
    async with node.flow:
        runs = await node.ended('"x"', '"' + "x" * 20_000 + '"', '"fail"')
        live = await node.engine.trigger("waits", b"null")
        for ended_ms, said, nbytes in node.sizes(runs):
            assert ended_ms is not None
            assert said is not None
            assert nbytes <= said <= nbytes + 1000
        assert node.sizes([live])[0][:2] == (None, None)
        view = await node.engine.system()
        assert view.runs.finished_bytes == sum(row[1] or 0 for row in node.sizes(runs))
        # Tried again it lives, and then it has ended once more.
        before = node.sizes(runs[2:])
        await node.engine.retry(runs[2])
        await node.engine.wait(runs[2])
        after = node.sizes(runs[2:])
        assert (after[0][1] or 0) > (before[0][1] or 0)
        cancelled = await node.engine.trigger("waits", b"null")
        await node.engine.cancel(cancelled)
        await node.engine.wait(cancelled)
        assert None not in node.sizes([cancelled])[0]
        await node.engine.retry(cancelled)
        assert node.sizes([cancelled])[0][:2] == (None, None)


async def test_the_oldest_beyond_a_number_are_forgotten(url, monkeypatch) -> None:
    # More than one transaction, and no multiple of it.
    monkeypatch.setattr(retention, "_SLICE", 3)
    node = Node(url, finished_runs_max=4)
    async with node.flow:
        live = await node.engine.trigger("waits", b"null")
        runs = await node.ended(*(str(n) for n in range(12)))
        # What counts is when they ended, not when they began.
        node.age(runs[10:], 1)
        assert await node.sweep() == 8
        assert await node.left() == {*runs[6:10], live}
        assert await node.sweep() == 0
        assert node.engine.metrics()["stepflow_runs_purged_total"] == 8
        # Nobody did it.
        assert (await node.engine.audit()).audit == []


async def test_the_oldest_beyond_so_many_bytes_are_forgotten(url, monkeypatch) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    node = Node(url, finished_bytes_max=100_000)
    async with node.flow:
        runs = await node.ended(*(['"' + "x" * 10_000 + '"'] * 7), '"small"')
        sizes = [size or 0 for _, size, _ in node.sizes(runs)]
        assert await node.sweep() > 0
        left = await node.left()
        kept = sum(size for run_id, size in zip(runs, sizes, strict=True) if run_id in left)
        gone = len(runs) - len(left)
        assert left == set(runs[gone:])
        assert kept <= 100_000 < kept + sizes[gone - 1]


async def test_ages_are_those_of_the_settings_where_a_workflow_has_none(url) -> None:
    kept = {
        "longer": {"retention": "90d"},
        "shorter": {"retention": Retention(age="1h", failed_age="10d")},
    }
    node = Node(url, kept, completed_age_s=7 * 86_400, failed_age_s=30 * 86_400)
    async with node.flow:
        found: dict[tuple[str, str], str] = {}
        for workflow in ("echo", "longer", "shorter"):
            for value in ("1", '"fail"'):
                (found[workflow, value],) = await node.ended(value, workflow=workflow)
        for days, gone in (
            (0.1, [("shorter", "1")]),
            (6.8, []),
            (0.2, [("echo", "1")]),
            (3.0, [("shorter", '"fail"')]),
            (20.0, [("echo", '"fail"')]),
            (59.0, []),
            (1.0, [("longer", "1"), ("longer", '"fail"')]),
        ):
            node.age(list(found.values()), days)
            assert await node.sweep() == len(gone), days
            for key in gone:
                del found[key]
            assert await node.left() == set(found.values())


async def test_a_workflow_keeps_so_many_of_its_own_whatever_they_were_called(url) -> None:
    old = Node(url, {"kept-once": {}})
    async with old.flow:
        before = await old.ended("1", "2", workflow="kept-once")
        others = await old.ended("1", "2", "3")
    kept = {"kept": {"retention": Retention(count=2), "aliases": ["kept-once"]}}
    node = Node(url, kept)
    async with node.flow:
        after = await node.ended("3", workflow="kept")
        assert await node.sweep() == 1
        assert await node.left() == {before[1], *after, *others}


async def test_a_workflow_keeps_so_many_bytes(url) -> None:
    node = Node(url, {"kept": {"retention": Retention(bytes=30_000)}})
    async with node.flow:
        big = ['"' + "x" * 5_000 + '"'] * 4
        others = await node.ended(*big)
        runs = await node.ended(*big, workflow="kept")
        await node.sweep()
        left = await node.left()
        assert left >= set(others)
        sizes = dict(zip(runs, node.sizes([*left & set(runs)]), strict=False))
        assert 0 < sum(size[1] or 0 for size in sizes.values()) <= 30_000
        assert left & set(runs) == set(runs[4 - len(sizes) :])


async def test_a_worker_that_does_not_know_a_workflow_knows_its_limits(url) -> None:
    knows = Node(url, {"kept": {"retention": "90d"}}, completed_age_s=60)
    async with knows.flow:
        runs = await knows.ended("1", workflow="kept")
        knows.age(runs, 50)
    other = Node(url, completed_age_s=60)
    async with other.flow:
        assert await other.sweep() == 0
        assert await other.left() == set(runs)
    # What the code does not say any more does not count any more.
    async with Node(url, {"kept": {}}, completed_age_s=60).flow:
        pass
    async with Node(url, completed_age_s=60).flow as flow:
        assert flow.engine._worker is not None  # type: ignore[attr-defined]
        assert await flow.engine._worker.retention.sweep() == 1  # type: ignore[attr-defined]


async def test_a_workflow_that_is_registered_late_says_so_too(url) -> None:
    node = Node(url)
    async with node.flow:

        @node.flow.workflow("late", retention=Retention(count=1))
        async def late(ctx: Context) -> None:
            del ctx

        assert node.engine._worker is not None
        while not await node.engine._database.rows("select 1 from stepflow.retention"):
            pass
        await node.ended("null", "null", workflow="late")
        assert await node.sweep() == 1


async def test_one_process_sweeps_at_a_time(url) -> None:
    node = Node(url, finished_runs_max=1)
    async with node.flow:
        runs = await node.ended("1", "2", "3")
        with sweeping_elsewhere(url):
            assert await node.sweep() == 0
            assert await node.left() == set(runs)
        assert await node.sweep() == 2
        assert await node.left() == {runs[2]}


async def test_a_run_that_is_tried_again_meanwhile_is_kept(url) -> None:
    node = Node(url, finished_runs_max=1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(node.flow)
        runs = await node.ended('"fail"', '"fail"', "1")
        assert node.engine._worker is not None
        sweeper = node.engine._worker.retention
        # Nobody is there to record the retry: only its letter is.
        node.engine._worker.sup.stopping = True
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("select stepflow.revive(%s, '{}')", (runs[0],))
            assert await sweeper.sweep() == 1
            left = {row[0] for row in conn.execute("select run_id from stepflow.runs")}
        assert left == {runs[0], runs[2]}
        node.engine._worker.sup.stopping = False


async def test_a_database_that_is_not_there_is_said(url) -> None:
    node = Node(url)
    sweeper = retention.ClusterRetention(
        type(node.engine._database)("postgresql://127.0.0.1:1/none?connect_timeout=1"),
        Settings(),
        node.engine.clock,
    )
    with pytest.raises(UnavailableError):
        await sweeper.sweep()
