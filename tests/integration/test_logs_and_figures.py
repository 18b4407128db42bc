"""What is logged inside a run says whose it is, and retries and failures are counted."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from stepflow import Context, RetryPolicy, RunFailedError, Stepflow
from stepflow.log import configure_logging
from stepflow.runtime.logged import RunFields
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
        assert (entry["run_id"], entry["step"]) == (run.id, "flaky")
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
