"""A fork on PostgreSQL: planned by one process, run by another, with what its source recorded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import psycopg
import pytest

from stepflow import Context, RetryPolicy, RunFailedError, StepFailedError, Stepflow
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.errors import (
    ConflictError,
    InvalidInputError,
    PayloadTooLargeError,
    RunNotFoundError,
    UnavailableError,
    WorkflowNotFoundError,
)

pytestmark = pytest.mark.asyncio


class Node:
    """A process whose steps note that they ran."""

    def __init__(self, url: str, *, worker: bool = True, settings: Settings | None = None) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.engine = PostgresEngine(url, worker=worker, poll_s=0.1)
        self.flow = flow = Stepflow(engine=self.engine, settings=settings)

        def step(name: str, value: Any = None) -> Any:
            self.ran.append(name)
            if name in self.broken:
                raise ValueError(name)
            return value

        once = RetryPolicy(max_attempts=1)

        @flow.workflow("chain", retry=once, tags=["kept"], events=["go"])
        async def chain(ctx: Context, n: int) -> list[Any]:
            a = await ctx.step("a", step, "a", n + 1)
            b = await ctx.step("b", step, "b", a + 1)
            return [a, b, await ctx.step("c", step, "c", b + 1)]

        @flow.workflow("child", retry=once)
        async def child(ctx: Context, n: int) -> int:
            del ctx
            if n < 0:
                raise ValueError("negative")
            return n

        @flow.workflow("all-kinds", retry=once)
        async def all_kinds(ctx: Context, order: str) -> Any:
            rolled = [ctx.random(), str(ctx.uuid()), ctx.version("way", 2)]
            await ctx.emit("said", rolled)
            ctx.progress(1, 2)
            await ctx.sleep("nap", "10ms")
            event = await ctx.wait_for_event("go", f"go-{order}", timeout=None)
            late = await ctx.wait_for_event("late", f"late-{order}", timeout="20ms", default="none")
            sent = await ctx.notify(f"nobody-{order}", 1)
            called = await ctx.call("child", 5)
            left = await ctx.start("child", 6)
            bad = "fine"
            try:
                await ctx.call("child", -1, name="bad")
            except RunFailedError as error:
                bad = str(error)
            try:
                await ctx.step("fails", step, "fails")
            except StepFailedError as error:
                bad += str(error)
            end = await ctx.step("end", step, "end", 7)
            return [rolled, event, late, sent, called, left, bad, end]

        @flow.workflow("waits", retry=once)
        async def waits(ctx: Context, order: str) -> Any:
            first = await ctx.step("first", step, "first", 1)
            return [first, await ctx.wait_for_event("go", f"go-{order}", timeout=None)]

    async def ended(self, workflow: str, body: bytes, **more: Any) -> str:
        run_id = await self.engine.trigger(workflow, body, **more)
        await self.engine.wait(run_id)
        self.ran.clear()
        return run_id

    async def result(self, run_id: str) -> Any:
        view = await self.engine.wait(run_id)
        assert view.status == "completed", view
        return msgspec.json.decode(bytes(view.result or b"null"))

    async def waiting(self, run_id: str) -> None:
        while (await self.engine.get_run(run_id)).state != "waiting":
            await asyncio.sleep(0.01)

    async def told(self, run_id: str) -> list[Any]:
        stream = await self.engine.stream(run_id)
        found: list[Any] = []
        while not stream.ended:
            found += stream.read_events(100)
            if not stream.ended:
                await stream.changed()
        return [(e.id, e.event, msgspec.json.decode(e.data)) for e in found]


async def test_another_process_runs_what_comes_after_the_step(url) -> None:
    async with AsyncExitStack() as stack:
        worker, api = Node(url), Node(url, worker=False)
        await stack.enter_async_context(worker.flow)
        await stack.enter_async_context(api.flow)
        run_id = await worker.ended("chain", b"0", tags=("mine",))
        before = await api.told(run_id)
        fork_id = await api.engine.fork(run_id, "b", by="key:ops", reason="look again")
        assert fork_id != run_id
        assert await api.result(fork_id) == [1, 2, 3]
        assert worker.ran == ["b", "c"]
        view = await api.engine.get_run(fork_id)
        assert msgspec.to_builtins(view.lineage) == {
            "runId": run_id,
            "fromStep": "b",
            "reason": "look again",
        }
        assert [step.key for step in view.steps or ()] == ["a#1", "b#1", "c#1"]
        assert list(view.tags or ()) == ["kept", "mine"]
        # Its stream is its own, and that of the source is left alone.
        events = await api.told(fork_id)
        ids = [row[0] for row in events]
        assert ids == sorted(set(ids))
        assert ids[0] == 1
        assert events[0][1:] == ("status", {"status": "running"})
        assert [row[2]["key"] for row in events if row[1] == "step"] == ["a#1", "b#1", "c#1"]
        assert events[-1][1] == "complete"
        assert await api.told(run_id) == before
        (act,) = (await api.engine.audit()).audit
        assert (act.action, act.by, act.run_id) == ("fork", "key:ops", fork_id)
        assert msgspec.json.decode(act.source) == msgspec.to_builtins(view.lineage)


async def test_it_needs_nothing_of_its_source(url) -> None:
    async with AsyncExitStack() as stack:
        api = Node(url, worker=False)
        await stack.enter_async_context(api.flow)
        async with Node(url).flow as flow:
            run_id = await flow.engine.trigger("chain", b"0")
            await flow.engine.wait(run_id)
        # Nobody runs it yet: all that it begins with is durable with the answer.
        fork_id = await api.engine.fork(run_id, "c")
        await api.engine.purge(run_id)
        kept = [step.key for step in (await api.engine.get_run(fork_id)).steps or ()]
        assert kept == ["a#1", "b#1"]
        # Who reads its stream goes on by id like anywhere else.
        stream = await api.engine.stream(fork_id)
        ids = [event.id for event in stream.read_events(100)]
        rest = await api.engine.stream(fork_id, ids[1])
        assert [event.id for event in rest.read_events(100)] == ids[2:]
        for each in (stream, rest):
            each.close()
        late = Node(url)
        await stack.enter_async_context(late.flow)
        assert await api.result(fork_id) == [1, 2, 3]
        assert late.ran == ["c"]


async def test_another_input_and_pinned_results(url) -> None:
    node = Node(url)
    async with node.flow:
        run_id = await node.ended("chain", b"0")
        fork_id = await node.engine.fork(run_id, "b", body=b"100")
        assert await node.result(fork_id) == [1, 2, 3]
        assert bytes((await node.engine.get_run(fork_id)).input) == b"100"
        assert node.ran == ["b", "c"]
        node.ran.clear()
        node.broken = {"b"}
        failed = await node.ended("chain", b"0")
        pins = {"b": b"50", "a#1": b"40"}
        assert await node.result(await node.engine.fork(failed, "b", results=pins)) == [40, 50, 51]
        assert node.ran == ["c"]


async def test_every_kind_of_call_is_kept(url) -> None:
    node = Node(url)
    node.broken = {"fails"}
    async with node.flow:
        run_id = await node.engine.trigger("all-kinds", b'"1"')
        await node.waiting(run_id)
        await node.engine.notify("go-1", b'{"n":1}')
        whole = await node.result(run_id)
        node.ran.clear()
        children = await _count(url, "child")
        fork_id = await node.engine.fork(run_id, "end")
        assert await node.result(fork_id) == whole
        assert node.ran == ["end"]
        assert await _count(url, "child") == children
        kinds = [row[1] for row in await node.told(fork_id)]
        assert kinds.count("emit") == kinds.count("progress") == 1
        pins = {"go": b"2", "late": b"3", "notify": b"4", "child": b"5", "bad": b"1"}
        fork_id = await node.engine.fork(run_id, "go", results=pins)
        got = await node.result(fork_id)
        assert (got[0], got[1:5]) == (whole[0], [2, 3, 4, 5])
        assert "negative" not in got[6]
        # An event that it keeps is a payload of its own.
        with psycopg.connect(url) as conn:
            found = conn.execute(
                "select body from stepflow.payloads where run_id = %s", (fork_id,)
            ).fetchall()
        assert [bytes(row[0]) for row in found][:2] == [b"2", b"3"]


async def _count(url: str, workflow: str) -> int:
    with psycopg.connect(url) as conn:
        found = conn.execute(
            "select count(*) from stepflow.runs where workflow = %s", (workflow,)
        ).fetchone()
    assert found is not None
    return int(found[0])


async def test_a_live_run_is_forked_and_both_go_on(url) -> None:
    node = Node(url)
    async with node.flow:
        run_id = await node.engine.trigger("waits", b'"7"')
        await node.waiting(run_id)
        fork_id = await node.engine.fork(run_id, "go")
        await node.waiting(fork_id)
        assert await node.engine.notify("go-7", b"5") == 2
        for each in (run_id, fork_id):
            assert await node.result(each) == [1, 5]
        assert node.ran == ["first"]


async def test_what_cannot_be_forked_is_refused_and_begins_nothing(url) -> None:
    node = Node(url, settings=Settings(result_bytes_max=100))
    engine = node.engine
    async with node.flow:
        run_id = await node.ended("chain", b"0")
        count = await _count(url, "chain")
        for error, call in (
            (RunNotFoundError, engine.fork("run_nobodyknows", "b")),
            (InvalidInputError, engine.fork(run_id, "no-such")),
            (InvalidInputError, engine.fork(run_id, "b", results={"no-such": b"1"})),
            (InvalidInputError, engine.fork(run_id, "b", results={"a": b"{"})),
            (PayloadTooLargeError, engine.fork(run_id, "b", results={"a": b'"%b"' % (b"x" * 200)})),
            (InvalidInputError, engine.fork(run_id, "b", body=b'"text"')),
            (InvalidInputError, engine.fork(run_id, "b", reason="x" * 2000)),
        ):
            with pytest.raises(error):
                await call
        whole = engine.settings
        engine.settings = Settings(run_bytes_max=1_000)
        with pytest.raises(PayloadTooLargeError, match="would hold more"):
            await engine.fork(run_id, "c")
        engine.settings = whole
        assert await _count(url, "chain") == count
        assert (await engine.audit()).audit == []
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "update stepflow.records set crc = crc + 1 where run_id = %s and rs = 3", (run_id,)
            )
        with pytest.raises(ConflictError, match="cannot be forked"):
            await engine.fork(run_id, "a")
    with pytest.raises(UnavailableError):
        await engine.fork(run_id, "b")


async def test_the_workflow_must_be_here(url) -> None:
    node, empty = Node(url), Stepflow(engine=PostgresEngine(url, worker=False))
    async with node.flow, empty:
        run_id = await node.ended("chain", b"0")
        with pytest.raises(WorkflowNotFoundError):
            await empty.engine.fork(run_id, "b")
