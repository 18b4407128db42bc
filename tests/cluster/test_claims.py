"""Who may write a run: claims lost, given back and suspected; groups that are written once."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from msgspec import Raw

from stepflow import Context, Stepflow
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres.commit import start_values
from stepflow.engine.postgres.journal import UnreachableError
from stepflow.errors import UnavailableError
from stepflow.model.event_filter import EventFilter
from stepflow.model.records import RunStarted, encode_record

pytestmark = pytest.mark.asyncio


class Shop:
    """A flow on the database, its steps noted, the slow one under the test's hand."""

    def __init__(
        self, url: str, *, worker: bool = True, claim_timeout_s: int = 30, poll_s: float = 0.1
    ) -> None:
        self.ran: list[str] = []
        self.slow_began = asyncio.Event()
        self.slow_may_end = asyncio.Event()
        self.engine = PostgresEngine(
            url, worker=worker, claim_timeout_s=claim_timeout_s, poll_s=poll_s
        )
        self.flow = flow = Stepflow(engine=self.engine)

        async def slow() -> str:
            self.ran.append("slow")
            self.slow_began.set()
            await self.slow_may_end.wait()
            return "slow"

        def note(what: str) -> str:
            self.ran.append(what)
            return what

        @flow.workflow("shop")
        async def shop(ctx: Context) -> list[str]:
            return [
                await ctx.step("first", note, "first"),
                await ctx.step("slow", slow),
                await ctx.step("last", note, "last"),
            ]

        @flow.workflow("two-waits")
        async def two_waits(ctx: Context) -> list[Any]:
            return list(
                await asyncio.gather(
                    ctx.wait_for_event("a", timeout=None), ctx.wait_for_event("b", timeout=None)
                )
            )


def expire(url: str, run_id: str) -> None:
    """The claim of the run is as old as if its worker had died."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            """update absurd.r_stepflow a set claim_expires_at = now() - interval '1 hour'
                 from stepflow.runs r where r.holder = a.run_id and r.run_id = %s""",
            (run_id,),
        )


async def test_what_a_worker_decides_after_its_claim_was_lost_is_not_written(database) -> None:
    async with AsyncExitStack() as stack:
        before, after = Shop(database), Shop(database)
        await stack.enter_async_context(before.flow)
        run = await before.flow.trigger("shop")
        await before.slow_began.wait()
        # From now on it does not look for work by itself: it would take its own run again.
        assert before.engine._worker is not None
        before.engine._worker._sweep_s = math.inf
        await stack.enter_async_context(after.flow)
        expire(database, run.id)
        await after.slow_began.wait()
        # It does not know yet, and ends its step: nothing of it may be seen.
        before.slow_may_end.set()
        while before.engine._worker is None or not before.engine._worker.lost_total:
            await asyncio.sleep(0.01)
        assert (await after.flow.get_run(run.id)).status == "running"
        after.slow_may_end.set()
        assert await run.result() == ["first", "slow", "last"]
    assert before.ran == ["first", "slow"]
    # The recorded step is not run again; the one that was under way is.
    assert after.ran == ["slow", "last"]


async def test_a_heartbeat_takes_no_run_for_lost_that_has_just_ended(database) -> None:
    shop = Shop(database)
    async with shop.flow:
        run = await shop.flow.trigger("shop")
        await shop.slow_began.wait()
        worker = shop.engine._worker
        assert worker is not None
        holder = worker.journal.holders[run.id]
        shop.slow_may_end.set()
        await run.result()
        with psycopg.connect(database, autocommit=True) as conn:
            beat = "select * from stepflow.heartbeat('w', %s::text[], %s::uuid[], 30)"
            assert conn.execute(beat, ([run.id], [holder])).fetchall() == []
            assert conn.execute(beat, (["run_gone00000000"], [holder])).fetchall() == [
                ("run_gone00000000",)
            ]


async def test_a_worker_that_stops_gives_its_claims_back_at_once(database) -> None:
    before, after = Shop(database), Shop(database)
    async with before.flow:
        run = await before.flow.trigger("two-waits")
        while len(await before.engine.waiting_events()) < 2:
            await asyncio.sleep(0.01)
    async with after.flow:
        for event in ("a", "b"):
            assert await after.flow.notify(event, event) == 1
        # Long before the claim's 30 seconds are over.
        async with asyncio.timeout(15):
            view = await after.engine.wait(run.id)
    assert view.status == "completed"


async def test_a_group_whose_answer_was_lost_is_written_once(database) -> None:
    shop = Shop(database)
    shop.slow_may_end.set()
    async with shop.flow:
        worker = shop.engine._worker
        assert worker is not None
        real, lost = worker.journal._store, 0

        async def forgetful(batch, groups, holders) -> None:
            nonlocal lost
            await real(batch, groups, holders)
            if lost < 3 and any(group.entries for group in groups):
                lost += 1
                raise UnreachableError("the answer was lost")

        worker.journal._store = forgetful
        run = await shop.flow.trigger("shop")
        assert await run.result() == ["first", "slow", "last"]
        assert lost == 3
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "select rs from stepflow.records where run_id = %s order by rs", (run.id,)
        ).fetchall()
    assert [rs for (rs,) in rows] == list(range(1, len(rows) + 1))
    assert shop.ran == ["first", "slow", "last"]


async def test_an_event_that_a_full_run_refuses_reaches_nobody_and_the_sender_goes_on(
    database,
) -> None:
    engine = PostgresEngine(database, poll_s=0.1)
    flow = Stepflow(engine=engine, settings=Settings(kept_events_max=1))

    @flow.workflow("keeps", events=["filled"])
    async def keeps(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    @flow.workflow("sends")
    async def sends(ctx: Context) -> list[int]:
        return [await ctx.notify("filled", 1), await ctx.notify("filled", 2)]

    async with flow:
        await flow.trigger("keeps")
        run = await flow.trigger("sends")
        async with asyncio.timeout(25):
            assert await run.result() == [1, 0]


async def test_the_id_of_a_purged_run_may_be_taken_again(database) -> None:
    shop = Shop(database)
    shop.slow_may_end.set()
    async with shop.flow:
        for _ in range(2):
            run = await shop.flow.trigger("shop", run_id="run_again000000000000000")
            async with asyncio.timeout(20):
                assert await run.result() == ["first", "slow", "last"]
            await shop.flow.purge(run.id)
    assert shop.ran == ["first", "slow", "last"] * 2


async def test_a_run_that_its_workers_die_of_is_set_aside_and_can_be_resumed(database) -> None:
    api, worker = Shop(database, worker=False), Shop(database)
    worker.slow_may_end.set()
    async with api.flow:
        run = await api.flow.trigger("shop")
        with psycopg.connect(database, autocommit=True) as conn:
            for _ in range(3):
                # A sweep may leave what it found to the next call.
                while not conn.execute("select * from stepflow.claim('dies', 30, 100)").fetchall():
                    pass
                expire(database, run.id)
        async with worker.flow:
            while (await api.flow.get_run(run.id)).state != "quarantined":
                await asyncio.sleep(0.02)
            assert worker.ran == []
            why = await api.engine.why(run.id)
            assert "SFW402" in why.summary
            await api.flow.resume(run.id)
            assert await run.result() == ["first", "slow", "last"]


async def test_nothing_appears_behind_a_cursor_of_the_stream_of_all_runs(database) -> None:
    shop = Shop(database, worker=False)
    late = RunStarted(lsn=1, r="run_late00000000", rs=1, ts=1, workflow="shop", input=Raw(b"null"))
    async with shop.flow, await psycopg.AsyncConnection.connect(database) as conn:
        page = await shop.flow.list_runs()
        await conn.execute(
            "select stepflow.start(%s, %s, %s::text[], %s, %s, %s, %s, %s, %s::text[])",
            start_values(late, encode_record(late)),
        )
        early = await shop.flow.trigger("shop")
        stream = await shop.engine.stream_all(EventFilter(), page.stream_cursor)
        # The one began later and was written first: it is not told before the other.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stream.changed()
        await conn.commit()
        told: list[str] = []
        while len(told) < 2:
            await stream.changed()
            told += [event.json()["runId"] for event in stream.read_events(10)]
        assert told == [late.r, early.id]
        stream.close()


async def test_a_run_whose_worker_could_not_put_it_to_sleep_is_claimed_again(database) -> None:
    engine = PostgresEngine(database, claim_timeout_s=1, poll_s=0.1)
    flow = Stepflow(engine=engine, settings=Settings(passivate_after_s=0.01))

    @flow.workflow("one-wait")
    async def one_wait(ctx: Context) -> Any:
        return await ctx.wait_for_event("a", timeout=None)

    failed = asyncio.Event()
    async with flow:
        worker = engine._worker
        assert worker is not None
        act = worker._database.act

        async def cut_once(sql: str, *values: Any) -> Any:
            if "stepflow.suspend" in sql and not failed.is_set():
                failed.set()
                raise UnavailableError("the database is gone")
            return await act(sql, *values)

        worker._database.act = cut_once  # type: ignore[method-assign]
        run = await flow.trigger("one-wait")
        await failed.wait()
        await flow.notify("a", 7)
        assert await run.result() == 7
