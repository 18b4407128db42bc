"""What is logged inside a run says whose it is, and retries and failures are counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any

import pytest

from stepflow import MEMORY, Context, RetryPolicy, RunFailedError, RunFields, Stepflow
from stepflow.log import configure_logging
from stepflow.testing import WorkflowTest

pytestmark = pytest.mark.asyncio

log = logging.getLogger("shop")
flow = Stepflow()


def flaky(text: str) -> None:
    log.info("flaky %s", text)
    raise RuntimeError("busy")


@flow.workflow("shop")
async def shop(ctx: Context, text: str) -> None:
    log.info("body")
    ctx.log.info("once")
    await ctx.step("flaky", flaky, text, retry=RetryPolicy(max_attempts=2))


@pytest.fixture
def lines() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    for handler in root.handlers:
        handler.addFilter(RunFields())
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("threads", [False, True])
async def test_an_entry_says_its_run_step_and_attempt(lines, threads) -> None:
    async with WorkflowTest(flow, threads=threads) as t:
        run = await t.trigger("shop", "x")
        with pytest.raises(RunFailedError):
            await t.result(run)
        log.info("outside")
        figures = t.flow.engine.metrics()
    by = {(each["message"], each.get("attempt")): each for each in lines()}
    for attempt in (1, 2):
        entry = by["flaky x", attempt]
        assert (entry["run_id"], entry["workflow_id"], entry["step"]) == (run.id, "shop", "flaky")
    for message in ("body", "once"):
        entry = by[message, None]
        assert (entry["run_id"], entry["workflow_id"]) == (run.id, "shop")
        assert "step" not in entry
    assert "run_id" not in by["outside", None]
    assert figures["stepflow_step_retries_total"] == 1
    assert figures["stepflow_steps_failed_total"] == 1
    assert figures["stepflow_runs_missing_workflow"] == 0


async def test_the_runs_own_log_is_silent_on_replay(lines) -> None:
    async with WorkflowTest(flow) as t:
        await t.trigger("shop", "x")
        await t.settle()
        await t.crash()
        await t.settle()
    assert [each["message"] for each in lines()].count("once") == 1


class Kept(logging.Handler):
    """A handler of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self) -> dict[str, tuple[Any, ...]]:
        names = ("run_id", "workflow_id", "step", "attempt")
        return {
            record.getMessage(): tuple(vars(record).get(name) for name in names)
            for record in self.records
        }


@pytest.fixture
def kept(caplog) -> Any:
    caplog.set_level("INFO", "shop")
    handler = Kept()
    handler.addFilter(RunFields())
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def in_a_thread(text: str) -> bool:
    log.info("thread %s", text)
    return threading.current_thread() is threading.main_thread()


async def in_the_loop(text: str) -> None:
    log.info("async %s", text)
    await asyncio.sleep(0)
    log.info("async %s, later", text)
    await asyncio.create_task(of_a_task(text))


async def of_a_task(text: str) -> None:
    log.info("task of %s", text)


def with_its_own() -> None:
    log.info("own", extra={"run_id": "mine", "step": "mine too"})


async def both_kinds(ctx: Context, _: None) -> bool:
    async with asyncio.TaskGroup() as group:
        for text in "ab":
            group.create_task(ctx.step("loop", in_the_loop, text, key=text))
    await ctx.step("twice", in_the_loop, "c")
    await ctx.step("twice", in_the_loop, "d")
    await ctx.step("own", with_its_own)
    return await ctx.step("thread", in_a_thread, "x")


async def test_a_handler_of_the_users_own_knows_each_step_in_the_loop_and_in_a_thread(kept) -> None:
    flow = Stepflow(MEMORY)
    flow.workflow("both")(both_kinds)
    async with flow:
        run = await flow.trigger("both")
        assert await run.result() is False, "the step was not in a thread"
    found = kept.fields()
    for text in "ab":
        for message in (f"async {text}", f"async {text}, later", f"task of {text}"):
            assert found[message] == (run.id, "both", f"loop[{text}]", 1)
    assert found["async c"] == (run.id, "both", "twice", 1)
    assert found["async d"] == (run.id, "both", "twice#2", 1)
    assert found["thread x"] == (run.id, "both", "thread", 1)
    assert found["own"] == ("mine", "both", "mine too", 1)


async def test_runs_side_by_side_are_told_apart(kept) -> None:
    flow = Stepflow(MEMORY)

    @flow.workflow("many")
    async def many(ctx: Context, n: int) -> None:
        log.info("body %d", n)
        await ctx.step("loop", in_the_loop, str(n))
        await ctx.step("thread", in_a_thread, str(n))

    async with flow:
        runs = await flow.trigger_many("many", list(range(20)))
        for run in runs:
            await run.result()
    found = kept.fields()
    for n, run in enumerate(runs):
        assert found[f"body {n}"] == (run.id, "many", None, None)
        assert found[f"async {n}, later"] == (run.id, "many", "loop", 1)
        assert found[f"thread {n}"] == (run.id, "many", "thread", 1)


async def test_a_queue_handler_has_the_fields_and_its_listener_gets_them(caplog) -> None:
    caplog.set_level("INFO", "shop")
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    first, last = QueueHandler(queue), Kept()
    first.addFilter(RunFields())
    log.addHandler(first)
    listener = QueueListener(queue, last)
    listener.start()
    flow = Stepflow(MEMORY)
    flow.workflow("both")(both_kinds)
    try:
        async with flow:
            run = await flow.trigger("both")
            await run.result()
    finally:
        listener.stop()
        log.removeHandler(first)
    assert last.fields()["thread x"] == (run.id, "both", "thread", 1)
