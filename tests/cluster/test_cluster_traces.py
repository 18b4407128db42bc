"""One trace a run though it is triggered in one process and driven in others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from msgspec import Raw
from opentelemetry import trace

from stepflow import Context, Stepflow
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres.traced import Spans
from stepflow.errors import ConflictError, InvalidInputError
from stepflow.model.records import RunStarted
from tests.spans import spans, traceparent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.spans import Spans as Told

pytestmark = pytest.mark.asyncio

__all__ = ["spans"]

REMOTE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REMOTE_SPAN = int("00f067aa0ba902b7", 16)


class Node(NamedTuple):
    engine: PostgresEngine
    flow: Stepflow


def a_node(url: str, *, worker: bool) -> Node:
    engine = PostgresEngine(url, worker=worker, poll_s=0.1)
    flow = Stepflow(engine=engine)

    async def quick(value: int) -> int:
        return value

    @flow.workflow("plain")
    async def plain(ctx: Context, value: int) -> int:
        return await ctx.step("first", quick, value)

    @flow.workflow("parent")
    async def parent(ctx: Context, value: int) -> Any:
        return await ctx.call("plain", value)

    @flow.workflow("on-go", on="go")
    async def on_go(ctx: Context, value: int) -> int:
        return value

    return Node(engine, flow)


@asynccontextmanager
async def two_nodes(url: str) -> AsyncIterator[Node]:
    """An API process and a worker: what is triggered on the one runs on the other."""
    async with AsyncExitStack() as stack:
        api, worker = a_node(url, worker=False), a_node(url, worker=True)
        await stack.enter_async_context(api.flow)
        await stack.enter_async_context(worker.flow)
        yield api


async def ended(node: Node, run_id: str, spans: Told, name: str, count: int) -> list[Any]:
    """Wait for the run's end and for its spans."""
    async with asyncio.timeout(30):
        await node.engine.wait(run_id)
        while len(found := spans.named(name)) < count:
            await asyncio.sleep(0.01)
    return found


def below(span: Any) -> int:
    return span.parent.span_id if span.parent is not None else 0


def id_of(span: Any) -> int:
    return span.get_span_context().span_id


async def test_a_run_is_one_trace_below_the_callers_header_over_all_processes(spans, url):
    async with two_nodes(url) as api:
        run_id = await api.engine.trigger("plain", b"1", traceparent=REMOTE)
        begun, whole = await ended(api, run_id, spans, "run plain", 2)
        attempt = spans.one("step first")
    assert below(begun) == REMOTE_SPAN
    assert begun.attributes["stepflow.continues"] is True
    assert "stepflow.outcome" not in begun.attributes
    assert below(whole) == below(attempt) == id_of(begun)
    assert whole.attributes["stepflow.continued"] is True
    assert whole.attributes["stepflow.outcome"] == "completed"
    assert {f"{span.get_span_context().trace_id:032x}" for span in spans.all()} == {REMOTE[3:35]}


async def test_a_child_is_below_its_parents_run_and_told_when_it_is_committed(spans, url):
    async with two_nodes(url) as api:
        run_id = await api.engine.trigger("parent", b"1", traceparent=REMOTE)
        begun, _ = await ended(api, run_id, spans, "run parent", 2)
        child, whole = await ended(api, run_id, spans, "run plain", 2)
    assert below(child) == id_of(begun)
    assert child.attributes["stepflow.continues"] is True
    assert below(whole) == id_of(child)


async def test_a_run_is_below_the_current_span_also_one_that_an_event_starts(spans, url):
    async with two_nodes(url) as api:
        with trace.get_tracer("a user's own").start_as_current_span("request") as request:
            one = await api.engine.trigger("plain", b"1")
            nearer = traceparent(request)[:36] + "00f067aa0ba902b7-01"
            two, three, bad = await api.engine.trigger_many(
                "plain", [b"2", b"3", b'"no number"'], traceparent=nearer
            )
            await api.engine.notify("go", b"4")
        assert isinstance(bad, InvalidInputError)
        for run_id in (one, two, three):
            assert isinstance(run_id, str)
            await ended(api, run_id, spans, "run plain", 1)
    begun = [s for s in spans.all() if "stepflow.continues" in (s.attributes or {})]
    assert [s.name for s in begun] == ["run plain"] * 3 + ["run on-go"]
    assert {below(span) for span in begun} == {id_of(request)}


async def test_a_run_of_a_schedule_is_below_nothing(spans):
    made = Spans()
    with trace.get_tracer("a user's own").start_as_current_span("somebody's"):
        with made.handing() as handing:
            for run_id, schedule in (("run_a", "nightly"), ("run_b", "")):
                record = RunStarted(
                    lsn=1,
                    r=run_id,
                    rs=1,
                    ts=1,
                    workflow="plain",
                    input=Raw(b"1"),
                    schedule=schedule,
                )
                handing.traced(record)
            assert spans.named("run plain") == []
    of_schedule, other = spans.named("run plain")
    assert below(of_schedule) == 0
    assert below(other) == id_of(spans.one("somebody's"))


async def test_nothing_is_told_of_a_run_that_does_not_begin(spans, url):
    async with two_nodes(url) as api:
        run_id = await api.engine.trigger("plain", b"1", idempotency_key="once", by="me")
        await ended(api, run_id, spans, "run plain", 2)
        again = await api.engine.trigger("plain", b"1", idempotency_key="once", by="me")
        assert again == run_id
        with pytest.raises(ConflictError):
            await api.engine.trigger("plain", b"1", run_id=run_id, traceparent=REMOTE)
        assert not api.engine._spans._traces._open
    assert len(spans.named("run plain")) == 2


async def test_a_process_without_a_provider_hands_the_callers_context_on(spans, url, monkeypatch):
    async with AsyncExitStack() as stack:
        api = a_node(url, worker=False)
        with monkeypatch.context() as patch:
            patch.setattr("stepflow.engine.postgres.traced.provider_is_set", lambda: False)
            await stack.enter_async_context(api.flow)
        await stack.enter_async_context(a_node(url, worker=True).flow)
        run_id = await api.engine.trigger("plain", b"1", traceparent=REMOTE)
        (whole,) = await ended(api, run_id, spans, "run plain", 1)
        attempt = spans.one("step first")
        plain = await api.engine.trigger("plain", b"2", traceparent="00-zz")
        async with asyncio.timeout(30):
            await api.engine.wait(plain)
    assert len(spans.named("run plain")) == 1
    assert below(whole) == below(attempt) == REMOTE_SPAN
    with psycopg.connect(url) as conn:
        (data,) = conn.execute(
            "select data from stepflow.records where run_id = %s and rs = 1", (run_id,)
        ).fetchone()
    assert f'"trace":"{REMOTE}"'.encode() in bytes(data)
