"""What a run asks of the database: counted, and the same however many workers there are."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
import pytest_asyncio

from stepflow import Context, Stepflow
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.model.event_filter import EventFilter
from tests.cluster.counting import Counted, counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stepflow.engine.protocol import AllStream, RunStream

pytestmark = pytest.mark.asyncio
NEVER_S = 3600.0
"""Nobody looks by himself: what happens, happens because somebody was told."""
RUNS = 20


def a_flow(url: str, *, worker: bool, poll_s: float = NEVER_S) -> Stepflow:
    engine = PostgresEngine(url, worker=worker, poll_s=poll_s)
    # What may wait waits for what is written anyway, however slow the machine is.
    flow = Stepflow(engine=engine, settings=Settings(lazy_delay_s=60))

    @flow.workflow("three")
    async def three(ctx: Context) -> int:
        return sum([await ctx.step(name, len, name) for name in ("a", "bb", "ccc")])

    @flow.workflow("waits")
    async def waits(ctx: Context) -> object:
        return await ctx.wait_for_event("e", timeout=None)

    return flow


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    with counted(monkeypatch) as seen:
        yield seen


async def settled(url: str, workers: int) -> None:
    """All of them have said that they are there, and listen."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        while True:
            found = await conn.execute(
                """select (select count(*) from stepflow.present where has_room),
                          (select count(*) from pg_stat_activity
                            where datname = current_database() and state = 'idle'
                              and query ilike 'listen "stepflow_timed%')"""
            )
            if await found.fetchone() == (workers, workers):
                break
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def cluster(url: str) -> AsyncIterator[Stepflow]:
    """Four idle workers, and one process that only calls."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(a_flow(url, worker=False))
        for _ in range(4):
            await stack.enter_async_context(a_flow(url, worker=True))
        await settled(url, 4)
        # From now on it hears of runs.
        assert await (await api.trigger("three")).result() == 6
        yield api


async def test_a_trigger_wakes_one_of_four_idle_workers(cluster: Stepflow, seen: Counted) -> None:
    for _ in range(RUNS):
        assert await (await cluster.trigger("three")).result() == 6
    assert seen.count("stepflow.claim(") == RUNS


async def test_many_triggers_are_claimed_in_batches(cluster: Stepflow, seen: Counted) -> None:
    runs = await asyncio.gather(*(cluster.trigger("three") for _ in range(3 * RUNS)))
    assert await asyncio.gather(*(run.result() for run in runs)) == [6] * 3 * RUNS
    assert seen.count("stepflow.claim(") <= 3 * RUNS


async def test_what_a_run_asks_of_the_database_is_counted(cluster: Stepflow, seen: Counted) -> None:
    for _ in range(RUNS):
        assert await (await cluster.trigger("three")).result() == 6
    assert seen.count("stepflow.start(") == RUNS
    # Its start, its claim with all that it is, a commit for each step, and its end read once.
    assert seen.count("stepflow.guard(") < 3.5 * RUNS
    assert seen.count("with asked as") == RUNS
    assert seen.count("select run_id, status") == 0


async def test_who_awaits_a_run_for_long_asks_no_more(cluster: Stepflow, seen: Counted) -> None:
    runs = await asyncio.gather(*(cluster.trigger("waits") for _ in range(RUNS)))
    ends = asyncio.gather(*(run.result() for run in runs for _ in range(3)))
    while len((await cluster.engine.waiting_events())[:1]) < 1:
        await asyncio.sleep(0.01)
    while (await cluster.engine.waiting_events())[0].runs < RUNS:
        await asyncio.sleep(0.01)
    seen.forget()
    assert await cluster.notify("e", 7) == RUNS
    assert await ends == [7] * 3 * RUNS
    # Sixty wait for twenty runs: each run is read once for all of its own, many in one query.
    assert seen.count("with asked as") <= RUNS
    assert seen.count("select run_id, status") == 0


async def test_a_process_that_is_both_claims_what_it_starts_and_reads_nothing(
    url: str, seen: Counted
) -> None:
    async with a_flow(url, worker=True) as both:
        await settled(url, 1)
        assert await (await both.trigger("three")).result() == 6
        seen.forget()
        for _ in range(RUNS):
            assert await (await both.trigger("three")).result() == 6
        assert seen.count("stepflow.claim(") == RUNS
        assert seen.count("stepflow.guard(") < 3.5 * RUNS
        assert seen.count("with asked as") == 0
        assert seen.count("select run_id, status") == 0
        # Start and claim in one, and a commit for each step.
        assert seen.trips <= 4 * RUNS


async def test_triggers_at_a_time_share_transactions(url: str, seen: Counted) -> None:
    async with a_flow(url, worker=False) as api:
        seen.forget()
        runs = await asyncio.gather(*(api.trigger("three") for _ in range(100)))
        assert len({run.id for run in runs}) == 100
        assert seen.count("begin") <= 3
        assert seen.count("stepflow.announce(") <= 3


async def test_a_run_told_to_a_worker_that_has_died_is_found_by_another(url: str) -> None:
    async with a_flow(url, worker=False) as api, a_flow(url, worker=True, poll_s=0.1) as other:
        await settled(url, 1)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
            # It said that it is there, and was killed; nobody else says that he has room.
            await conn.execute("update stepflow.present set has_room = false")
            await conn.execute("select stepflow.appear('dead', true, 60)")
            run = await api.trigger("three")
            async with asyncio.timeout(20):
                assert await run.result() == 6
        assert other.engine.state == "ready"


async def test_a_connection_that_was_cut_at_rest_is_not_lent(url: str, seen: Counted) -> None:
    async with a_flow(url, worker=False) as api:
        await api.list_runs()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
            theirs = b"""pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()
                  and query not ilike 'listen%'"""
            cut = await conn.execute(b"select pid, pg_terminate_backend(pid) from " + theirs)
            pids = [row[0] for row in await cut.fetchall()]
            gone = b"select 1 from pg_stat_activity where pid = any(%s)"
            while await (await conn.execute(gone, (pids,))).fetchone():
                await asyncio.sleep(0.01)
        # Not even a write, of which nobody would know what came.
        await api.trigger("three")
        seen.forget()
        await api.list_runs()
        assert seen.count("") == len(seen.statements)
        assert "" not in seen.statements


async def test_who_is_told_all_the_time_looks_for_what_nobody_tells(url: str) -> None:
    async with a_flow(url, worker=False) as api, a_flow(url, worker=True, poll_s=0.1) as other:
        await settled(url, 1)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
            await conn.execute("update stepflow.present set has_room = false")
            run = await api.trigger("three")
            await conn.execute("update stepflow.present set has_room = true")
        # What is told of is claimed in order of age: one for each, and the first was not told of.
        later = [await other.trigger("three", delay=3600) for _ in range(3)]
        async with asyncio.timeout(20):
            assert await run.result() == 6
        assert all([(await api.get_run(each.id)).status == "pending" for each in later])


async def read_to_the_end(stream: RunStream) -> list[tuple[int, str]]:
    told: list[tuple[int, str]] = []
    while not stream.ended:
        await stream.changed()
        told += [(event.id, event.event) for event in stream.read_events(100)]
    stream.close()
    return told


@pytest.mark.parametrize("readers", [1, 200])
async def test_so_many_readers_of_a_run_ask_as_one_does(
    cluster: Stepflow, seen: Counted, readers: int
) -> None:
    run = await cluster.trigger("waits")
    while not await cluster.engine.waiting_events():
        await asyncio.sleep(0.01)
    streams = await asyncio.gather(*(cluster.engine.stream(run.id) for _ in range(readers)))
    told = [asyncio.ensure_future(read_to_the_end(stream)) for stream in streams]
    await asyncio.sleep(0.2)
    opened = seen.count("with k as"), seen.count("coalesce(max(n), 0)")
    seen.forget()
    await cluster.notify("e", 7)
    first, *others = await asyncio.gather(*told)
    assert first[-1][1] == "complete"
    assert all(other == first for other in others)
    # One look a commit that they were told of, and one for the event that a record names.
    assert seen.count("with k as") <= 4
    assert seen.count("from stepflow.payloads") <= 2
    assert opened <= (3, 2)


async def test_readers_of_all_runs_ask_as_one_does(cluster: Stepflow, seen: Counted) -> None:
    streams = await asyncio.gather(
        *(cluster.engine.stream_all(EventFilter()) for _ in range(50)),
        *(cluster.engine.stream_all(EventFilter(workflow_id="none")) for _ in range(50)),
    )

    async def until_ended(stream: AllStream) -> list[str]:
        told: list[str] = []
        while "complete:completed" not in told and not stream.ended:
            await stream.changed()
            for event in stream.read_events(100):
                status = event.json().get("status")
                told.append(f"{event.event}:{status}")
        return told

    nobody = [asyncio.ensure_future(stream.changed()) for stream in streams[50:]]
    told = [asyncio.ensure_future(until_ended(stream)) for stream in streams[:50]]
    await asyncio.sleep(0.2)
    seen.forget()
    run = await cluster.trigger("three")
    first, *others = await asyncio.gather(*told)
    assert all(other == first for other in others)
    assert await run.result() == 6
    looks = seen.count("stepflow.records e join stepflow.runs r")
    for stream in streams:
        stream.close()
    await asyncio.gather(*nobody)
    assert looks <= 3 * len(first)


async def test_an_end_is_not_missed_while_one_begins_to_listen(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_flow(url, worker=False) as api:
        run = await api.trigger("three")
        statuses = api.engine.statuses.get
        looked = asyncio.Event()

        async def ended_since(run_id: str) -> str | None:
            status = await statuses(run_id)
            if not looked.is_set():
                # It ends, and is told, before anybody here listens; and nobody looks by himself.
                async with a_flow(url, worker=True) as worker:
                    async with asyncio.timeout(20):
                        await worker.engine.wait(run_id)
                looked.set()
            return status

        monkeypatch.setattr(api.engine.bell, "hears_of_runs", False)
        monkeypatch.setattr(api.engine.statuses, "get", ended_since)
        waiting = asyncio.ensure_future(api.engine.wait(run.id))
        await looked.wait()
        api.engine.bell.ring_all()
        async with asyncio.timeout(20):
            assert (await waiting).status == "completed"
