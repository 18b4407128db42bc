"""One trace a run, over restarts, children and threads; a replay makes no spans."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from stepflow import Context, RetryPolicy, current_step
from stepflow.model import records as rec
from stepflow.runtime import tracing
from stepflow.tracing import current_traceparent, is_traceparent
from tests.harness import World
from tests.spans import spans, traceparent

pytestmark = pytest.mark.asyncio

__all__ = ["spans"]

REMOTE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def own_span(name: str) -> Any:
    """Return a span as a user makes it; not of a tracer that outlives the test's provider."""
    return trace.get_tracer("a user's own").start_as_current_span(name)


async def quick(value: Any) -> Any:
    with own_span("own"):
        await asyncio.sleep(0)
    return value


def in_thread(value: Any) -> Any:
    with own_span("own, in a thread"):
        return value


async def flaky() -> int:
    number = current_step().attempt
    if number == 1:
        raise ValueError("busy")
    return number


async def broken() -> None:
    raise KeyError("no such card")


def make_world(**options: Any) -> World:
    world = World(**options)

    @world.flow.workflow("two")
    async def two(ctx: Context, value: Any) -> Any:
        first = await ctx.step("first", quick, value)
        await ctx.wait_for_event("go", "go", timeout="1h")
        return await ctx.step("second", quick, first)

    @world.flow.workflow("plain")
    async def plain(ctx: Context, value: Any) -> Any:
        return await ctx.step("first", quick, value)

    @world.flow.workflow("threads")
    async def threads(ctx: Context, value: Any) -> Any:
        return await ctx.step("first", in_thread, value)

    @world.flow.workflow("retries")
    async def retries(ctx: Context, _: Any) -> Any:
        return await ctx.step("flaky", flaky, retry=RetryPolicy(max_attempts=3))

    @world.flow.workflow("fails")
    async def fails(ctx: Context, _: Any) -> Any:
        await ctx.step("broken", broken, retry=RetryPolicy(max_attempts=1))

    @world.flow.workflow("parent")
    async def parent(ctx: Context, value: Any) -> Any:
        return await ctx.call("plain", value)

    @world.flow.workflow("hangs")
    async def hangs(ctx: Context, value: Any) -> Any:
        return await ctx.step("hang", asyncio.Event().wait)

    @world.flow.workflow("nested")
    async def nested(ctx: Context, value: Any) -> Any:
        async def starts() -> str:
            return (await world.flow.trigger("plain", value)).id

        return await ctx.step("starts", starts)

    @world.flow.workflow("on-go", on="go")
    async def on_go(ctx: Context, value: Any) -> Any:
        return value

    return world


def below(span: Any) -> int:
    return span.parent.span_id if span.parent is not None else 0


def trace_of(span: Any) -> int:
    return span.get_span_context().trace_id


def id_of(span: Any) -> int:
    return span.get_span_context().span_id


async def test_a_run_is_one_trace_with_a_span_for_each_attempt_and_the_users_own_below(spans):
    async with make_world() as world:
        run_id = await world.trigger("plain", 7)
        await world.finished(run_id)
        run, step, own = spans.one("run plain"), spans.one("step first"), spans.one("own")
        started = world.records(rec.RunStarted)[0]
    assert run.parent is None
    assert (below(step), below(own)) == (id_of(run), id_of(step))
    assert {trace_of(run), trace_of(step), trace_of(own)} == {trace_of(run)}
    assert started.trace == traceparent(run)
    assert dict(run.attributes) == {
        "stepflow.run_id": run_id,
        "stepflow.workflow": "plain",
        "stepflow.outcome": "completed",
    }
    assert dict(step.attributes) == {
        "stepflow.run_id": run_id,
        "stepflow.workflow": "plain",
        "stepflow.step": "first",
        "stepflow.step_key": "first#1",
        "stepflow.attempt": 1,
        "stepflow.outcome": "completed",
    }
    assert run.start_time <= step.start_time <= own.start_time
    assert own.end_time <= step.end_time <= run.end_time


async def test_a_span_in_a_thread_is_below_its_attempts(spans):
    async with make_world() as world:
        await world.result("threads", 1)
    assert below(spans.one("own, in a thread")) == id_of(spans.one("step first"))


async def test_attempts_say_how_they_ended_and_a_failed_run_is_an_error(spans):
    world = make_world()
    with world.clock.driving():
        async with world:
            await world.result("retries")
            await world.run("fails")
    first, second = spans.named("step flaky")
    assert [span.attributes["stepflow.attempt"] for span in (first, second)] == [1, 2]
    assert first.attributes["stepflow.outcome"] == "retrying"
    assert first.status.status_code is trace.StatusCode.ERROR
    assert first.status.description == "ValueError: busy"
    assert second.attributes["stepflow.outcome"] == "completed"
    assert second.status.status_code is trace.StatusCode.UNSET
    for name in ("step broken", "run fails"):
        span = spans.one(name)
        assert span.attributes["stepflow.outcome"] == "failed"
        assert span.status.status_code is trace.StatusCode.ERROR
        (event,) = span.events
        assert event.name == "exception"
        assert event.attributes["exception.type"] == "KeyError"
    assert spans.one("run retries").status.status_code is trace.StatusCode.UNSET


async def test_after_a_crash_later_spans_join_the_trace_and_a_replay_makes_none(spans):
    world = make_world()
    async with world:
        run_id = await world.trigger("two", 1)
        await world.until(lambda: spans.named("step first"))
        await world.until(lambda: world.records(rec.WaitStarted))
        await world.saved()
        started = world.records(rec.RunStarted)[0].trace
        await world.restart()
        assert not spans.named("run two"), "a killed process tells nothing more"
        await world.engine.notify("go", b"null")
        await world.finished(run_id)
        summary = world.actor(run_id).summary()
        created_ms, updated_ms = summary.created_ms, summary.updated_ms
    first, second, run = spans.one("step first"), spans.one("step second"), spans.one("run two")
    assert len({trace_of(first), trace_of(second), trace_of(run)}) == 1
    recorded = int(started[36:52], 16)
    assert below(first) == below(second) == below(run) == recorded
    assert run.attributes["stepflow.continued"] is True
    assert (run.start_time, run.end_time) == (created_ms * 1_000_000, updated_ms * 1_000_000)


async def test_a_span_that_is_open_at_a_shutdown_is_told_and_the_next_process_goes_on(spans):
    world = make_world()
    async with world:
        run_id = await world.trigger("two", 1)
        await world.until(lambda: world.records(rec.WaitStarted))
        await world.saved()
        await world.stop()
        begun = spans.one("run two")
        assert begun.attributes["stepflow.continues"] is True
        await world.start()
        await world.engine.notify("go", b"null")
        await world.finished(run_id)
    _, run = spans.named("run two")
    assert below(run) == id_of(begun)
    assert below(spans.one("step second")) == id_of(begun)
    assert run.attributes["stepflow.outcome"] == "completed"


async def test_every_snapshot_and_restart_keeps_the_context(spans):
    world = make_world()
    async with world:
        run_id = await world.trigger("two", 1)
        await world.until(lambda: world.records(rec.WaitStarted))
        await world.saved()
        context = world.actor(run_id).peek().started.trace
        assert await world.engine.snapshot()
        await world.restart()
        assert world.actor(run_id).peek().started.trace == context
        assert is_traceparent(context)


async def test_a_child_is_below_its_parents_run(spans):
    async with make_world() as world:
        await world.result("parent", 1)
    assert below(spans.one("run plain")) == id_of(spans.one("run parent"))


async def test_a_run_is_below_the_current_span_or_the_callers_header(spans):
    async with make_world() as world:
        with own_span("request") as request:
            await world.finished((await world.flow.trigger("plain", 1)).id)
            (handle,) = await world.flow.trigger_many("plain", [2])
            await world.finished(handle.id)
            # Of the header's trace, the span of this process is the nearer one.
            nearer = traceparent(request)[:36] + "00f067aa0ba902b7-01"
            await world.finished(await world.trigger("plain", 3, traceparent=nearer))
            await world.finished(await world.trigger("plain", 4, traceparent=REMOTE))
        await world.finished(await world.trigger("plain", 5, traceparent=REMOTE))
        await world.finished(await world.trigger("plain", 6, traceparent="00-zz"))
    runs = spans.named("run plain")
    remote = int("00f067aa0ba902b7", 16)
    mine = id_of(request)
    assert [below(run) for run in runs] == [mine, mine, mine, remote, remote, 0]
    assert f"{trace_of(runs[4]):032x}" == REMOTE[3:35]


async def test_a_run_of_a_step_is_below_the_step_and_one_of_a_schedule_below_nothing(spans):
    world = make_world()

    @world.flow.workflow("nightly", schedule="0 2 * * *")
    async def nightly(ctx: Context, _: Any) -> None:
        return None

    with own_span("somebody's"):
        async with world:
            await world.finished(await world.result("nested", 1))
            with world.clock.driving():
                await world.clock.advance(3 * 3600)
            await world.until(lambda: spans.named("run nightly"))
    assert below(spans.one("run plain")) == id_of(spans.one("step starts"))
    assert below(spans.one("run nightly")) == 0


async def test_what_was_given_up_or_cut_says_so(spans):
    world = make_world()
    async with world:
        run_id = await world.trigger("hangs")
        await world.until(lambda: world.engine.sup.steps.running)
        await world.engine.cancel(run_id)
        await world.finished(run_id)
        assert spans.one("step hang").attributes["stepflow.outcome"] == "cancelled"
        run = spans.one("run hangs")
        assert run.attributes["stepflow.outcome"] == "cancelled"
        assert run.status.status_code is trace.StatusCode.UNSET
        await world.trigger("hangs")
        await world.until(lambda: world.engine.sup.steps.running)
        with world.clock.driving():
            await world.stop()
    assert spans.named("step hang")[1].attributes["stepflow.outcome"] == "interrupted"


async def test_nothing_is_told_before_it_is_on_disk(spans):
    async with make_world() as world:
        journal = world.engine.sup.journal
        told: list[tuple[str, bool]] = []

        class Told(SpanProcessor):
            def on_end(self, span: Any) -> None:
                if "stepflow.outcome" in span.attributes:
                    told.append((span.name, journal.durable_lsn >= journal.last_lsn))

        spans.provider.add_span_processor(Told())
        await world.result("plain", 1)
    assert told == [("step first", True), ("run plain", True)]


async def test_a_retried_run_tells_its_whole_span_again(spans):
    async with make_world() as world:
        run_id = await world.trigger("fails")
        await world.finished(run_id)
        await world.engine.retry(run_id)
        await world.until(lambda: len(spans.named("run fails")) == 2)
    first, again = spans.named("run fails")
    assert (below(again), trace_of(again)) == (id_of(first), trace_of(first))


async def test_what_is_not_sampled_is_not_told_and_keeps_its_context(spans):
    spans.provider.sampler = ALWAYS_OFF
    async with make_world() as world:
        await world.result("plain", 1)
        assert world.records(rec.RunStarted)[0].trace[-1] in "02", "not sampled"
        assert not world.engine.sup.traces._open
    assert not spans.all()


async def test_no_more_spans_are_held_than_the_bound(spans, monkeypatch):
    monkeypatch.setattr(tracing, "_OPEN_MAX", 2)
    async with make_world() as world:
        runs = [await world.trigger("two", n) for n in range(3)]
        assert len(world.engine.sup.traces._open) == 2
        assert spans.one("run two").attributes["stepflow.run_id"] == runs[0]


async def test_a_provider_that_fails_harms_no_run(spans, monkeypatch, caplog):
    class Bad(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("the exporter is broken")

    spans.provider.add_span_processor(Bad())
    async with make_world() as world:
        run_id = await world.trigger("hangs")
        await world.until(lambda: world.engine.sup.steps.running)
        await world.engine.cancel(run_id)
        await world.finished(run_id)
    assert "no trace of it could be begun" in caplog.text


async def test_without_a_provider_nothing_is_recorded_and_nobody_is_asked():
    async with make_world() as world:
        assert world.engine.sup.traces is None
        assert not world.engine.traces_runs
        await world.finished(await world.trigger("plain", 1, traceparent=REMOTE))
        assert world.records(rec.RunStarted)[0].trace == ""
    assert current_traceparent() == ""


async def test_runs_of_before_are_not_traced(spans, monkeypatch):
    world = make_world()
    with monkeypatch.context() as untraced:
        untraced.setattr(trace, "_TRACER_PROVIDER", None)
        await world.start()
        run_id = await world.trigger("two", 1)
        await world.until(lambda: world.records(rec.WaitStarted))
        await world.saved()
        await world.stop()
    async with world:
        await world.engine.notify("go", b"null")
        await world.finished(run_id)
    assert not [span for span in spans.all() if span.name.startswith(("run two", "step"))]


async def test_opentelemetry_is_not_imported_by_us():
    code = (
        "import sys, asyncio\n"
        "from stepflow import Stepflow\n"
        "import stepflow.client\n"
        "async def main():\n"
        "    async with Stepflow(':memory:'): pass\n"
        "asyncio.run(main())\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (REMOTE, True),
        (REMOTE.replace("00-", "01-", 1) + "-what.comes", True),
        (REMOTE.replace("00-", "01-", 1), True),
        (REMOTE + "-more", False),
        (REMOTE.replace("00-", "ff-", 1), False),
        (REMOTE.upper(), False),
        ("00-" + "0" * 32 + REMOTE[35:], False),
        (REMOTE[:36] + "0" * 16 + "-01", False),
        (REMOTE + "\n", False),
        ("", False),
        (REMOTE.replace("00-", "01-", 1) + "-" + "x" * 600, False),
    ],
)
async def test_a_trace_context_is_what_the_standard_says(text, good):
    assert is_traceparent(text) is good
