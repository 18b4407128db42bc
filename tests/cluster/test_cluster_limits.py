"""Limits over many processes: never exceeded, never leaked, and the next in line is let in."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest

from stepflow import Concurrency, Context, RateLimit, Stepflow
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres import worker as worker_module
from stepflow.errors import ConflictError, EventNotFoundError, RateLimitedError
from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]


class App:
    """A process whose runs of "job" begin, say so, and end when the test lets them."""

    def __init__(
        self,
        url: str,
        *,
        worker: bool = True,
        settings: Any = None,
        poll_s: float = 0.1,
        **limits: Any,
    ) -> None:
        self.url = url
        self.began: list[Any] = []
        self.engine = PostgresEngine(url, worker=worker, poll_s=poll_s, claim_timeout_s=5)
        self.flow = flow = Stepflow(engine=self.engine, settings=settings or Settings())
        limits = limits or {"concurrency": 1}

        @flow.workflow("job", **limits)
        async def job(ctx: Context, order: Any) -> Any:
            self.began.append(order)
            await ctx.wait_for_event("go", f"go-{ctx.run_id}", timeout=None)
            return order

    async def __aenter__(self) -> Self:
        await self.flow.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.flow.__aexit__(*error)

    async def order(self, *orders: Any) -> list[str]:
        return [(await self.flow.trigger("job", order)).id for order in orders]

    async def let_end(self, run_id: str) -> None:
        await self.running(run_id)
        await self.flow.notify(f"go-{run_id}")
        await self.engine.wait(run_id)

    async def running(self, run_id: str) -> None:
        await until(lambda: self._waits(run_id))

    async def _waits(self, run_id: str) -> bool:
        return f"go-{run_id}" in {row.event_id for row in await self.engine.waiting_events()}

    async def states(self, run_ids: list[str]) -> list[str]:
        return [str((await self.flow.get_run(run_id)).state) for run_id in run_ids]


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is; the test's own limit ends a vain wait."""
    while not await true():
        await asyncio.sleep(0.02)


def tables(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        cursor = conn.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def assert_nothing_is_left(url: str) -> None:
    """Assert that no slot is taken, nobody waits, and nobody could be forgotten."""
    assert tables(url, "select * from stepflow.seats") == []
    assert tables(url, "select * from stepflow.gated") == []
    assert tables(url, "select * from stepflow.lanes") == []
    assert tables(url, "select bucket from stepflow.buckets where held <> 0") == []
    # Its transactions never wait for each other in a circle.
    found = "select deadlocks from pg_stat_database where datname = current_database()"
    assert tables(url, found) == [(0,)]


async def test_one_at_a_time_in_order_over_two_workers_and_each_has_a_task_only_then(url) -> None:
    async with App(url) as one, App(url) as two:
        runs = await one.order(*range(4))
        for place, run_id in enumerate(runs):
            await one.running(run_id)
            later = runs[place + 1 :]
            assert await two.states(later) == ["queued"] * len(later)
            tasks = tables(url, "select count(*) from stepflow.runs where task_id is not null")
            assert tasks == [(1,)]
            await two.let_end(run_id)
        assert sorted(one.began + two.began) == list(range(4))
    assert_nothing_is_left(url)


@pytest.fixture
def stays_present(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are there once and for all: on a machine that stands still they would be missed."""
    monkeypatch.setattr(worker_module, "_PRESENT_S", 3600.0)


@pytest.mark.usefixtures("stays_present")
async def test_who_frees_a_slot_wakes_the_next_though_nobody_looks_by_himself(url) -> None:
    one, two = App(url, poll_s=3600), App(url, poll_s=3600)
    async with one, two:
        await until(lambda: _all(url, "select 1 from stepflow.present where has_room", 2))
        runs = await one.order(*range(4))
        # One has a task by now, and sleeps: it is written to.
        assert (await two.flow.pause(runs[2])).state == "paused"
        assert (await two.flow.resume(runs[2])).state == "queued"
        for run_id in runs:
            await one.let_end(run_id)
    assert_nothing_is_left(url)


@pytest.mark.usefixtures("stays_present")
async def test_a_rate_lets_the_next_in_by_itself_when_its_window_is_over(url) -> None:
    app = App(url, poll_s=3600, rate_limit=RateLimit(1, per=0.3))
    async with app:
        await until(lambda: _all(url, "select 1 from stepflow.present where has_room", 1))
        runs = await app.order(1, 2, 3)
        for run_id in runs:
            await app.running(run_id)
        at = tables(url, "select at_ms from stepflow.starts order by n")
        assert all(b[0] - a[0] >= 300 for a, b in itertools.pairwise(at))
        for run_id in runs:
            await app.let_end(run_id)
    assert_nothing_is_left(url)


async def test_whatever_ends_the_holder_its_slot_is_the_next_ones(url) -> None:
    async with App(url) as app:
        runs = await app.order(*range(4))
        await app.running(runs[0])
        await app.flow.cancel(runs[0])
        await app.running(runs[1])
        await app.engine.cancel(runs[1], force=True)
        await app.running(runs[2])
        await app.flow.purge(runs[0])
        # One that waits is cancelled: it never begins, and nobody waits behind it.
        await app.flow.cancel(runs[3])
        assert (await app.engine.wait(runs[3])).status == "cancelled"
        await app.let_end(runs[2])
        assert app.began == [0, 1, 2]
    assert_nothing_is_left(url)


async def test_a_slot_stays_with_the_run_when_its_worker_dies_and_is_free_when_it_ends(url) -> None:
    async with App(url, worker=False) as api:
        runs = await api.order("first", "second")
        # A worker that claims, and is never heard of again.
        claim = "select run_id from stepflow.claim('dies', 1, 10)"
        assert tables(url, claim) == [(runs[0],)]
        assert tables(url, "select run_id from stepflow.seats") == [(runs[0],)]
        async with App(url) as other:
            await other.running(runs[0])
            assert await api.states(runs) == ["waiting", "queued"]
            await other.let_end(runs[0])
            await other.let_end(runs[1])
            assert other.began == ["first", "second"]
    assert_nothing_is_left(url)


async def test_a_run_begins_only_if_the_database_has_let_it_in(url) -> None:
    async with App(url) as app:
        runs = await app.order("first", "second")
        await app.running(runs[0])
        # A letter that nobody of the gate wrote: the worker believes it, the database does not.
        tables(url, f"select stepflow.put('{runs[1]}', 'admitted', '{{}}')")
        worker = app.engine._worker
        assert worker is not None

        async def refused() -> bool:
            return worker.lost_total > 0

        await until(refused)
        assert await app.states(runs) == ["waiting", "queued"]
        tables(url, "delete from stepflow.inbox")
        assert app.began == ["first"]
        await app.let_end(runs[0])
        await app.let_end(runs[1])
    assert_nothing_is_left(url)


async def test_each_key_has_its_slots_and_keys_take_turns(url) -> None:
    limits = [Concurrency(2), Concurrency(1, key="input.tenant")]
    async with App(url, concurrency=limits) as app:
        orders = [{"tenant": tenant, "n": n} for tenant in "aab" for n in (1, 2)]
        runs = await app.order(*orders)
        a1, a2, a3, a4, b1, b2 = runs
        await app.running(a1)
        await app.running(b1)
        assert await app.states([a2, a3, a4, b2]) == ["queued"] * 4
        await app.let_end(b1)
        # b's own slot is the one that is free.
        await app.running(b2)
        await app.let_end(b2)
        await app.let_end(a1)
        for run_id in (a2, a3, a4):
            await app.let_end(run_id)
    assert_nothing_is_left(url)


async def test_the_highest_priority_goes_first(url) -> None:
    async with App(url, concurrency=1, priority="input.p") as app:
        runs = await app.order(*({"p": p} for p in (0, 1, 9, 5)))
        for run_id in (runs[0], runs[2], runs[3], runs[1]):
            await app.let_end(run_id)
        assert [order["p"] for order in app.began] == [0, 9, 5, 1]


async def test_a_rate_counts_the_purged_and_lets_the_next_in_when_its_window_is_over(
    url,
) -> None:
    async with App(url, rate_limit=RateLimit(2, per="1h")) as app:
        runs = await app.order(1, 2, 3, 4, 5)
        for run_id in runs[:2]:
            await app.let_end(run_id)
            await app.flow.purge(run_id)
        view = await app.flow.get_run(runs[2])
        assert view.state == "queued"
        assert view.queue.free_at
        # An hour later: two more, whoever's timer it was.
        tables(url, "update stepflow.starts set at_ms = at_ms - 3600000")
        tables(url, "update stepflow.buckets set due_ms = due_ms - 3600000")
        tables(url, "select pg_notify('stepflow_timed', 'gate')")
        for run_id in runs[2:4]:
            await app.running(run_id)
        assert await app.states(runs[4:]) == ["queued"]
    assert tables(url, "select count(*) from stepflow.starts") == [(2,)]


async def test_the_line_under_one_key_is_bounded_and_a_batch_is_taken_whole_or_not(url) -> None:
    settings = Settings(queue_runs_max=3)
    async with App(
        url, worker=False, settings=settings, concurrency=Concurrency(1, key="input")
    ) as app:
        await app.order(*["a"] * 4)
        with pytest.raises(RateLimitedError, match="3 runs wait"):
            await app.order("a")
        with pytest.raises(RateLimitedError):
            await app.flow.trigger_many("job", ["b"] * 6)
        assert tables(url, "select count(*) from stepflow.runs") == [(4,)]
        await app.flow.trigger_many("job", ["b"] * 4)
        assert tables(url, "select count(*) from stepflow.runs") == [(8,)]


async def test_the_place_in_the_queue_is_told_with_who_is_in_the_way(url) -> None:
    async with App(url) as app:
        runs = await app.order(*range(3))
        await app.running(runs[0])
        view = await app.flow.get_run(runs[2])
        assert (view.queue.position, view.queue.ahead) == (2, 1)
        assert view.queue.held_by == (runs[0],)
        assert view.queue.limit == "job: at most 1 at once"
        listed = {row.id: row for row in (await app.flow.list_runs()).runs}
        assert listed[runs[1]].queue.position == 1
        assert not listed[runs[0]].queue
        why = await app.engine.why(runs[2])
        assert runs[0] in why.summary
        assert why.waiting_for[0].kind == "queue"
        assert (await app.engine.system()).runs.queued == 2
        assert (await app.engine.workflow_pace("job")).queued == 2


async def test_a_queued_run_that_is_paused_is_passed_over_and_has_its_place_again(url) -> None:
    async with App(url) as app:
        runs = await app.order(*range(4))
        await app.running(runs[0])
        assert (await app.flow.pause(runs[1])).state == "paused"
        assert (await app.flow.pause(runs[3])).state == "paused"
        await app.let_end(runs[0])
        await app.running(runs[2])
        await app.flow.resume(runs[1])
        await app.flow.resume(runs[3])

        async def both_wait() -> bool:
            return len(tables(url, "select 1 from stepflow.gated where state = 'waits'")) == 2

        await until(both_wait)
        for run_id in (runs[2], runs[1], runs[3]):
            await app.let_end(run_id)
        assert app.began == [0, 2, 1, 3]
    assert_nothing_is_left(url)


async def test_a_pause_and_a_resume_in_one_go_leave_a_queued_run_in_line(url) -> None:
    async with App(url) as app:
        runs = await app.order(0, 1)
        await app.running(runs[0])
        both = "select stepflow.put('{0}', 'pause', '{{}}'), stepflow.put('{0}', 'resume', '{{}}')"
        tables(url, both.format(runs[1]))
        await until(lambda: _all(url, "select 1 from stepflow.inbox", 0))
        await app.let_end(runs[0])
        await app.let_end(runs[1])
    assert_nothing_is_left(url)


async def test_a_delayed_run_queues_when_its_delay_is_over_and_a_retried_one_again(url) -> None:
    async with App(url) as app:
        first = (await app.order("first"))[0]
        late = (await app.flow.trigger("job", "late", delay="50ms")).id

        async def waits() -> bool:
            return bool((await app.flow.get_run(late)).queue)

        await until(waits)
        await app.running(first)
        await app.flow.cancel(first)
        await app.engine.wait(first)
        await app.running(late)
        await app.flow.retry(first)
        assert await app.states([first]) == ["queued"]
        await app.let_end(late)
        await app.let_end(first)
        assert app.began == ["first", "late", "first"]
    assert_nothing_is_left(url)


async def test_an_awaited_child_goes_along_on_its_parents_slot(url) -> None:
    app = App(url)

    @app.flow.workflow("tree", concurrency=1)
    async def tree(ctx: Context, depth: int) -> int:
        return 1 + (await ctx.call("tree", depth - 1) if depth else 0)

    async with app:
        first = await app.flow.trigger("tree", 3)
        other = await app.flow.trigger("tree", 0)
        assert await first.result() == 4
        assert await other.result() == 1
    assert_nothing_is_left(url)


async def ended(url: str, count: int) -> None:
    async def all_of_them() -> bool:
        done = "select 1 from stepflow.runs where status = 'completed'"
        return len(tables(url, done)) >= count

    await until(all_of_them)


class Busy:
    """A process whose runs of "busy" say how many there are at once, and end by themselves."""

    most = 0
    now = 0

    def __init__(self, url: str) -> None:
        self.flow = flow = Stepflow(engine=PostgresEngine(url, poll_s=0.1, claim_timeout_s=5))

        async def work() -> None:
            Busy.now += 1
            Busy.most = max(Busy.most, Busy.now)
            await asyncio.sleep(0)
            Busy.now -= 1

        @flow.workflow("busy", concurrency=[Concurrency(3), Concurrency(1, key="input")])
        async def busy(ctx: Context, _: int) -> None:
            await ctx.step("work", work)


async def test_many_triggers_over_many_workers_exceed_no_limit_and_all_end(url) -> None:
    Busy.most = Busy.now = 0
    one, two, three = Busy(url), Busy(url), Busy(url)
    async with one.flow, two.flow, three.flow:
        flows = [one.flow, two.flow, three.flow]
        watch = asyncio.ensure_future(exceeded(url))
        await asyncio.gather(*(flows[n % 3].trigger("busy", n % 5) for n in range(30)))
        await flows[0].trigger_many("busy", [n % 5 for n in range(30)])
        await ended(url, 60)
        watch.cancel()
        assert not watch.done() or watch.cancelled()
    assert Busy.most <= 3
    assert_nothing_is_left(url)


class Mixed:
    """A process whose limited runs call, tell and await each other."""

    def __init__(self, url: str) -> None:
        self.flow = flow = Stepflow(engine=PostgresEngine(url, poll_s=0.1, claim_timeout_s=5))
        limits = [Concurrency(3), Concurrency(1, key="input.k")]

        @flow.workflow("mixed", concurrency=limits, events=["news"], priority="input.k")
        async def mixed(ctx: Context, order: dict[str, int]) -> None:
            if order["children"]:
                await ctx.call("mixed", order | {"children": order["children"] - 1})
                await ctx.start("mixed", {"k": order["k"] + 1, "children": 0})
            await ctx.notify("news", order["k"])
            await ctx.wait_for_event("news", timeout="50ms", default=None)

        @flow.workflow("on-news", on="news-came", events=["news"], concurrency=1)
        async def on_news(ctx: Context, _: Any = None) -> None:
            await ctx.wait_for_event("news", timeout="50ms", default=None)


async def test_whatever_is_done_at_once_nothing_is_exceeded_leaked_or_locked_up(url) -> None:
    flows = [Mixed(url).flow for _ in range(3)]
    async with flows[0], flows[1], flows[2]:
        watch = asyncio.ensure_future(exceeded(url))
        dice = random.Random(7)

        async def act(n: int) -> None:
            flow = flows[n % 3]
            run = await flow.trigger("mixed", {"k": n % 4, "children": n % 3})
            with suppress(ConflictError, EventNotFoundError):
                match dice.randrange(5):
                    case 0:
                        await flow.cancel(run.id)
                    case 1:
                        await flow.pause(run.id)
                        await flow.resume(run.id)
                    case 2:
                        await flow.notify("news-came", n)
                    case 3:
                        await flow.notify("news", n)
                    case _:
                        pass

        await asyncio.gather(*(act(n) for n in range(24)))
        live = "select 1 from stepflow.runs where status in ('pending', 'running')"
        await until(lambda: _all(url, live, 0))
        watch.cancel()
        assert not watch.done() or watch.cancelled()
    assert_nothing_is_left(url)


async def exceeded(url: str) -> str:
    """Return when more runs hold slots than may."""
    while True:
        over = """select s.bucket from stepflow.seats s join stepflow.buckets b using (bucket)
                    join stepflow.limits l on (l.kind, l.id) = (b.kind, b.id)
                   group by s.bucket, l.count having count(distinct taker) > l.count"""
        if rows := await asyncio.to_thread(tables, url, over):
            return str(rows)
        await asyncio.sleep(0.01)


DIES = """
import asyncio, sys
from tests.cluster.test_cluster_limits import App

async def main():
    app = App(sys.argv[1])
    async with app:
        print("ready", flush=True)
        while not app.began:
            await asyncio.sleep(0.01)
        print("began", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_process_that_is_killed_with_a_slot_leaks_none(url) -> None:
    async with App(url, worker=False) as api:
        process = subprocess.Popen(  # noqa: ASYNC220
            doomed([sys.executable, "-c", DIES, url]), stdout=subprocess.PIPE, text=True
        )
        out = process.stdout
        assert out is not None
        try:
            assert await asyncio.to_thread(out.readline) == "ready\n"
            runs = await api.order("first", "second")
            assert await asyncio.to_thread(out.readline) == "began\n"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            out.close()
        assert tables(url, "select run_id from stepflow.seats") == [(runs[0],)]
        tables(
            url,
            """update absurd.r_stepflow set claim_expires_at = now() - interval '1 hour'
                where state = 'running'""",
        )
        async with App(url) as other:
            await other.running(runs[0])
            assert await api.states(runs[1:]) == ["queued"]
            await other.let_end(runs[0])
            await other.let_end(runs[1])
    assert_nothing_is_left(url)


async def test_an_end_that_is_not_committed_frees_nothing(url) -> None:
    async with App(url) as app:
        runs = await app.order("first", "second")
        await app.running(runs[0])
        worker = app.engine._worker
        assert worker is not None
        store, held = worker.journal._store, asyncio.Event()

        async def later(*args: Any) -> None:
            await held.wait()
            await store(*args)

        worker.journal._store = later
        await app.flow.notify(f"go-{runs[0]}")
        assert tables(url, "select run_id from stepflow.seats") == [(runs[0],)]
        assert await app.states(runs[1:]) == ["queued"]
        held.set()
        await app.running(runs[1])
        await app.let_end(runs[1])
    assert_nothing_is_left(url)


async def test_the_numbers_of_the_code_that_was_started_last_hold_for_all(url) -> None:
    async with App(url, concurrency=1) as old:
        runs = await old.order(*range(5))
        await old.running(runs[0])
        async with App(url, concurrency=3) as new:
            for run_id in runs[:3]:
                await new.running(run_id)
            # The old code, still there, counts by the new numbers.
            assert await old.states(runs[3:]) == ["queued"] * 2
            await old.let_end(runs[0])
            await old.running(runs[3])
        async with App(url, concurrency=2) as lower:
            await old.let_end(runs[1])
            await lower.let_end(runs[2])
            await lower.running(runs[4])
            assert len(tables(url, "select * from stepflow.seats")) == 2
            await lower.let_end(runs[3])
            await lower.let_end(runs[4])
    assert_nothing_is_left(url)


async def test_a_new_limit_counts_what_began_before_it_and_one_taken_away_holds_nobody(url) -> None:
    def free(url: str, **limits: Any) -> App:
        return App(url, timeout="1h", **limits)

    async with free(url) as before:
        runs = await before.order({"t": 1}, {"t": 1}, {"t": 2})
        for run_id in runs:
            await before.running(run_id)
    async with free(url, concurrency=Concurrency(1, key="input.t")) as keyed:
        await until(lambda: _all(url, "select 1 from stepflow.seats", 3))
        more = await keyed.order({"t": 1}, {"t": 2}, {"t": 3})
        await keyed.running(more[2])
        assert await keyed.states(more[:2]) == ["queued"] * 2
        await keyed.let_end(runs[2])
        await keyed.running(more[1])
    # Now there are two at once, whatever the key: four are under way.
    async with free(url, concurrency=2) as other:
        await until(
            lambda: _all(url, "select 1 from stepflow.buckets where key = '' and held = 4", 1)
        )
        assert await other.states(more[:1]) == ["queued"]
    async with free(url) as without:
        await without.running(more[0])
        assert tables(url, "select * from stepflow.gated where state = 'waits'") == []
        for run_id in (*runs[:2], *more):
            await without.let_end(run_id)
    assert_nothing_is_left(url)


async def test_a_run_that_ends_while_a_new_limit_counts_it_leaves_no_slot_behind(url) -> None:
    async with App(url, worker=False, timeout="1h") as before:
        (run_id,) = await before.order("ends")
        conn = await psycopg.AsyncConnection.connect(url)
        async with conn:
            # As its worker ends it: not committed yet.
            await conn.execute(
                b"update stepflow.runs set status = 'completed', task_id = null where run_id = %s",
                (run_id,),
            )
            after = App(url, timeout="1h", concurrency=1)
            async with after:
                blocked = """select 1 from pg_stat_activity
                              where wait_event_type = 'Lock' and datname = current_database()"""
                await until(lambda: _all(url, blocked, 1))
                await conn.commit()
                assert after.engine._worker is not None
                await after.engine._worker.gatekeeper.ready.wait()
                assert_nothing_is_left(url)


async def _all(url: str, sql: str, count: int) -> bool:
    return len(tables(url, sql)) == count


async def test_workflows_that_name_a_limit_share_it(url) -> None:
    app = App(url, concurrency=Concurrency(1, name="gpu"))

    @app.flow.workflow("other", concurrency=Concurrency(1, name="gpu"))
    async def other(ctx: Context) -> str:
        return ctx.run_id

    async with app:
        (first,) = await app.order(1)
        await app.running(first)
        second = await app.flow.trigger("other")
        assert await app.states([second.id]) == ["queued"]
        await app.let_end(first)
        assert await second.result() == second.id
    assert_nothing_is_left(url)


async def test_an_event_that_starts_a_limited_run_and_reaches_queued_ones_locks_nothing_up(
    url,
) -> None:
    app = App(url)

    @app.flow.workflow("on-it", on="order", events=["order"], concurrency=1)
    async def on_it(ctx: Context, _: Any = None) -> Any:
        return await ctx.wait_for_event("order")

    async with app:
        for _ in range(3):
            await app.flow.trigger("on-it")
        reached = await asyncio.gather(*(app.flow.notify("order", n) for n in range(5)))
        # Each begins a run, and is the answer to those that were there before it.
        assert all(count >= 2 for count in reached)
        await ended(url, 3)
        while live := tables(
            url, "select run_id from stepflow.runs where status in ('pending', 'running')"
        ):
            for (run_id,) in live:
                with suppress(ConflictError):
                    await app.flow.cancel(run_id)
    assert_nothing_is_left(url)
