"""What passes reaches those who read now in another process, in its place, and nobody else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from stepflow import Context, Stepflow, current_step
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres.journal import LostRunsError
from stepflow.engine.postgres.passing import Audience, Passing, Tail, Told
from stepflow.errors import UnavailableError
from stepflow.model.event_filter import EventFilter
from stepflow.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepflow.engine.postgres.worker import Worker

pytestmark = pytest.mark.asyncio

RUN = "run_tells00000000"


class Node:
    """One process's flow."""

    def __init__(self, url: str, *, worker: bool) -> None:
        self.engine = PostgresEngine(url, worker=worker, poll_s=0.1)
        self.flow = flow = Stepflow(engine=self.engine)

        async def talk(times: int) -> int:
            step = current_step()
            for number in range(times):
                await step.emit(number, durable=False)
            await step.emit("kept")
            await step.emit("last", durable=False)
            return times

        def shout(size: int) -> None:
            current_step().emit("x" * size, durable=False)

        @flow.workflow("talks", tags=["loud"])
        async def talks(ctx: Context, times: int) -> int:
            await ctx.wait_for_event("go", timeout=None)
            await ctx.emit("body", {"n": 1}, durable=False)
            await ctx.emit("said", "kept")
            return await ctx.step("talk", talk, times)

        @flow.workflow("shouts")
        async def shouts(ctx: Context, size: int) -> None:
            await ctx.wait_for_event("go", timeout=None)
            await ctx.step("shout", shout, size)
            await ctx.wait_for_event("end", timeout=None)

    @property
    def worker(self) -> Worker:
        assert self.engine._worker is not None
        return self.engine._worker


@asynccontextmanager
async def cluster(url: str) -> AsyncIterator[tuple[Node, Node]]:
    async with AsyncExitStack() as stack:
        nodes = Node(url, worker=False), Node(url, worker=True)
        for node in nodes:
            await stack.enter_async_context(node.flow)
        yield nodes


async def waiting(node: Node, workflow: str, value: Any) -> str:
    run_id = await node.engine.trigger(workflow, str(value).encode(), run_id=RUN)
    await until_waits(node, run_id)
    return run_id


async def until_waits(node: Node, run_id: str, name: str = "go") -> None:
    async with asyncio.timeout(30):
        while True:
            steps = (await node.engine.get_run(run_id)).steps
            if any(s.name == name and s.status == "pending" for s in steps):
                return
            await asyncio.sleep(0.01)


async def heard_of(worker: Worker, run_id: str) -> None:
    async with asyncio.timeout(30):
        while not worker.passing.is_heard(run_id):
            await asyncio.sleep(0.005)


async def read_all(stream: Any) -> list[Any]:
    """Return the events up to the run's end."""
    events: list[Any] = []
    async with asyncio.timeout(30):
        while not stream.ended:
            await stream.changed()
            events += stream.read_events(1000)
    return events


def brief(events: list[Any]) -> list[Any]:
    """Return what was emitted, and the statuses of steps."""
    told: list[Any] = []
    for event in events:
        data = event.json()
        if event.event == "emit":
            told.append((bool(event.id), data["data"]))
        elif event.event == "step":
            told.append((data["name"], data["status"]))
        else:
            told.append(event.event)
    return told


async def test_what_passes_lies_where_it_was_told_between_the_records(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "talks", 3)
        stream = await api.engine.stream(run_id)
        await heard_of(worker.worker, run_id)
        await api.engine.notify("go", b"null")
        events = brief(await read_all(stream))
        assert events[events.index(("go", "completed")) + 1 :] == [
            (False, {"n": 1}),
            (True, "kept"),
            "status",
            (False, 0),
            (False, 1),
            (False, 2),
            (True, "kept"),
            (False, "last"),
            ("talk", "completed"),
            "complete",
        ]
        # Nothing of it is history.
        later = brief(await read_all(await api.engine.stream(run_id)))
        assert [row for row in later if row[0] is False] == []


async def test_however_much_passes_nothing_comes_after_what_its_run_records_later(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "talks", 300)
        streams = [await api.engine.stream(run_id) for _ in range(3)]
        await heard_of(worker.worker, run_id)
        await api.engine.notify("go", b"null")
        for events in await asyncio.gather(*map(read_all, streams)):
            told = brief(events)
            numbers = [row[1] for row in told if row[0] is False and isinstance(row[1], int)]
            assert numbers == sorted(numbers)
            assert numbers[-1] == 299, "who is far behind misses the oldest"
            ends = [told.index((True, "kept")), told.index(("talk", "completed"))]
            places = [n for n, row in enumerate(told) if row[0] is False]
            assert max(places) < ends[1]


async def test_where_nobody_reads_nothing_is_done(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "talks", 3)
        await api.engine.notify("go", b"null")
        async with asyncio.timeout(30):
            await api.engine.wait(run_id)
        assert worker.worker.passing.told_total == 0
    assert rows(url) == []


async def test_what_is_larger_than_a_notification_passes_too(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "shouts", 500_000)
        stream = await api.engine.stream(run_id)
        await heard_of(worker.worker, run_id)
        await api.engine.notify("go", b"null")
        await until_waits(api, run_id, "end")
        await api.engine.notify("end", b"null")
        assert [len(row[1]) for row in brief(await read_all(stream)) if row[0] is False] == [
            500_000
        ]


async def test_who_comes_later_or_again_is_not_told_what_has_passed(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "shouts", 1)
        first = await api.engine.stream(run_id)
        every = await api.engine.stream_all(EventFilter())
        cursor = every.stream_cursor
        await heard_of(worker.worker, run_id)
        await api.engine.notify("go", b"null")
        await until_waits(api, run_id, "end")
        assert len(rows(url)) == 1
        again = await api.engine.stream(run_id, 2)
        all_again = await api.engine.stream_all(EventFilter(), cursor)
        await api.engine.notify("end", b"null")
        told = [brief(await read_all(stream)) for stream in (first, again)]
        assert [(False, "x") in events for events in told] == [True, False]
        assert [(False, "x") in await until_end(stream) for stream in (every, all_again)] == [
            True,
            False,
        ]


async def until_end(stream: Any) -> list[Any]:
    """Return what a stream of all runs tells until a run has ended."""
    events: list[Any] = []
    async with asyncio.timeout(30):
        while not any(event.event == "complete" for event in events):
            await stream.changed()
            events += stream.read_events(1000)
    return brief(events)


async def until_emit(stream: Any) -> Any:
    """Return the first emit that the stream tells."""
    async with asyncio.timeout(30):
        while True:
            await stream.changed()
            for event in stream.read_events(1000):
                if event.event == "emit":
                    return event


async def test_the_stream_of_all_runs_tells_whose_it_is_and_when_to_those_who_want_it(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "shouts", 1)
        wheres = [EventFilter(), EventFilter(status=frozenset({"running"}))]
        streams = [await api.engine.stream_all(where) for where in wheres]
        other = await api.engine.stream_all(EventFilter(workflow_id="talks"))
        raw = await api.engine.stream_all(EventFilter())
        await heard_of(worker.worker, "run_any000000000")
        await api.engine.notify("go", b"null")
        told = [await until_emit(stream) for stream in streams]
        data = b""
        async with asyncio.timeout(30):
            while b"event: emit" not in data:
                await raw.changed()
                data += raw.read(1 << 20)
        while await other._fetch():
            pass
        assert other.read_events(1000) == []
        for event in told:
            shown = event.json()
            assert event.id == 0
            assert set(shown) == {"name", "data", "step", "attempt", "at", "runId", "workflowId"}
            assert (shown["runId"], shown["workflowId"]) == (run_id, "shouts")
            assert shown["at"].endswith("Z")
        frame = data[data.index(b"event: emit") :]
        assert not data[: data.index(b"event: emit")].endswith(b"id: ")
        assert frame.startswith(b'event: emit\ndata: {"name":"shout","data":"x"')


async def test_all_events_of_all_runs_say_when_they_happened(url):
    async with cluster(url) as (api, _):
        stream = await api.engine.stream_all(EventFilter())
        await api.engine.trigger("shouts", b"1")
        async with asyncio.timeout(30):
            await stream.changed()
        assert all("at" in event.json() for event in stream.read_events(1000))


async def test_a_claim_that_was_lost_tells_nothing(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "shouts", 1)
        committer = worker.worker._committer
        holder = worker.worker.journal.holders[run_id]
        for who, written in ((UUID(int=1), 0), (holder, 1)):
            worker.worker.passing.put_back(
                [Told(run_id, 1, 1, b"{}"), Told("run_other", 1, 1, b"{}")]
            )
            await committer.pass_on({run_id: who})
            assert len(rows(url)) == written


async def test_what_a_refused_group_carried_goes_with_the_next_and_a_dead_database_loses_it(
    url, monkeypatch
):
    async with cluster(url) as (_, worker):
        passing, committer = worker.worker.passing, worker.worker._committer
        first, second = Told("run_a", 1, 1, b"1"), Told("run_a", 1, 2, b"2")

        async def refused(*_: Any) -> None:
            passing.put_back([second])
            raise LostRunsError({"run_b": True})

        monkeypatch.setattr(committer, "_store", refused)
        passing.put_back([first])
        with pytest.raises(LostRunsError):
            await committer.store(1, [], {})
        assert passing.take() == [first, second]

        async def broken(*_: Any) -> None:
            raise psycopg.OperationalError("gone")

        monkeypatch.setattr(committer, "_tell", broken)
        passing.put_back([first])
        await committer.pass_on({})
        assert passing.take() == []


async def test_what_has_passed_is_gone_after_some_seconds(url):
    async with cluster(url) as (api, worker):
        run_id = await waiting(api, "shouts", 1)
        holders = worker.worker.journal.holders
        now_ms = 1_000_000
        for at_ms, left in ((now_ms, 1), (now_ms + 1_000, 2), (now_ms + 10_500, 2)):
            worker.worker.passing.put_back([Told(run_id, 1, at_ms, b"{}")])
            await worker.worker._committer.pass_on(holders)
            assert len(rows(url)) == left


def rows(url: str) -> list[Any]:
    with psycopg.connect(url) as conn:
        return conn.execute("select n from stepflow.passing").fetchall()


# ---------------------------------------------------------------- the parts


@pytest_asyncio.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    clock = VirtualClock(auto=False)
    with clock.driving():
        yield clock


async def test_a_run_goes_on_while_what_passes_cannot_be_written_and_the_oldest_is_dropped():
    passing = Passing(VirtualClock(), lambda: False)
    stuck = asyncio.Event()
    asked = []

    async def write() -> None:
        asked.append(1)
        await stuck.wait()

    passing.write = write
    for number in range(600):
        passing.tell(Told("run_a", 1, number, b"{}"))
    await asyncio.sleep(0)
    passing.tell(Told("run_a", 1, 600, b"x" * 1_000_000))
    passing.tell(Told("run_a", 1, 601, b"x" * 100_000))
    await asyncio.sleep(0)
    assert asked == [1]
    assert [told.at_ms for told in passing.take()] == [601]
    await passing.stop()
    passing.tell(Told("run_a", 1, 602, b"{}"))
    assert len(asked) == 1


async def test_between_two_transactions_of_its_own_there_is_a_pause(clock):
    passing = Passing(clock, lambda: False)
    wrote: list[list[int]] = []

    async def write() -> None:
        wrote.append([told.at_ms for told in passing.take()])

    passing.write = write
    passing.tell(Told("run_a", 1, 1, b""))
    passing.tell(Told("run_a", 1, 2, b""))
    for _ in range(10):
        await asyncio.sleep(0)
    passing.tell(Told("run_a", 1, 3, b""))
    for _ in range(10):
        await asyncio.sleep(0)
    assert wrote == [[1, 2]]
    await clock.advance(0.02)
    assert wrote == [[1, 2], [3]]
    await clock.advance(0.02)
    assert passing._task is None


async def test_what_passes_waits_for_a_commit_that_is_due_and_goes_by_itself_when_none_comes(clock):
    due = True
    wrote: list[int] = []
    passing = Passing(clock, lambda: due)

    async def write() -> None:
        wrote.append(len(passing.take()))

    passing.write = write
    passing.tell(Told("run_a", 1, 1, b""))
    await clock.advance(1)
    assert wrote == []
    due = False
    await clock.advance(0.02)
    assert wrote == [1]
    passing.tell(Told("run_a", 1, 2, b""))
    passing.take()
    await clock.advance(1)
    assert wrote == [1]


async def test_who_does_not_say_again_that_he_reads_is_forgotten(clock):
    passing = Passing(clock, lambda: False)
    assert not passing.is_heard("run_a")
    passing.heard(["run_a"])
    assert passing.is_heard("run_a")
    assert not passing.is_heard("run_b")
    passing.heard(["*"])
    assert passing.is_heard("run_b")
    await clock.advance(11)
    assert not passing.is_heard("run_a")
    passing.heard(["run_c"])
    assert list(passing._heard) == ["run_c"]


class Said:
    """A database that keeps what it was asked."""

    def __init__(self) -> None:
        self.payloads: list[list[str]] = []
        self.is_gone = False

    async def act(self, sql: str, channel: str, payloads: list[str]) -> list[Any]:
        self.payloads.append(payloads)
        if self.is_gone:
            raise UnavailableError("gone")
        return []


async def test_a_process_says_what_is_read_in_it_when_that_begins_and_again_and_again(clock):
    said = Said()
    audience = Audience(said, clock)  # type: ignore[arg-type]
    await audience.enter("run_a")
    await audience.enter("run_a")
    await audience.enter("run_b")
    assert said.payloads == [["run_a"], ["run_b"]]
    said.is_gone = True
    await clock.advance(4.5)
    said.is_gone = False
    await clock.advance(4)
    assert said.payloads[2:] == [["run_a,run_b"]] * 2
    audience.leave("run_a")
    audience.leave("run_b")
    await clock.advance(4)
    assert said.payloads[4:] == [["run_a"]]
    audience.leave("run_a")
    await clock.advance(20)
    assert len(said.payloads) == 5
    for number in range(150):
        await audience.enter(f"run_{number}")
    await clock.advance(4.5)
    assert [payload.count(",") for payload in said.payloads[-1]] == [99, 49]
    for number in range(150):
        audience.leave(f"run_{number}")


async def test_what_was_read_with_a_part_of_the_records_waits_for_the_rest():
    tail = Tail()
    tail.begin(5)
    tail.take([("a", None, None, None), ("b", [6, 8], [10, 12], [b"1", b"2"])])
    assert tail.place == 8
    assert [event.data for event in tail.until(11)] == [b"1"]
    assert list(tail.until(11)) == []
    tail.take([("c", [9], [13], [b"3"])])
    assert [event.data for event in tail.until()] == [b"2", b"3"]
