"""Code that holds the loop is named: run, workflow, step and stack."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from stepflow import MEMORY, Context, Settings, Stepflow
from stepflow.runtime.watchdog import Held

LIMIT_S = 0.2
HELD_S = 1.5

pytestmark = pytest.mark.asyncio


async def hold_in_a_step() -> None:
    time.sleep(HELD_S)  # noqa: ASYNC251  what must be found


def sleep_in_a_thread() -> None:
    time.sleep(HELD_S)


async def rest() -> None:
    await asyncio.sleep(HELD_S)


def a_flow(**changes: Any) -> Stepflow:
    flow = Stepflow(MEMORY, settings=Settings(loop_blocked_s=LIMIT_S, **changes))

    @flow.workflow("holds-in-its-body")
    async def body(ctx: Context) -> None:
        time.sleep(HELD_S)  # noqa: ASYNC251  what must be found

    @flow.workflow("holds-in-a-step")
    async def step(ctx: Context) -> None:
        await ctx.step("busy", hold_in_a_step)

    @flow.workflow("behaves")
    async def behaves(ctx: Context) -> None:
        await ctx.step("thread", sleep_in_a_thread)
        await ctx.step("rest", rest)

    return flow


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level and "loop" in r.message]


@pytest.mark.parametrize(
    ("workflow", "where", "line"),
    [
        ("holds-in-its-body", "", "in body"),
        ("holds-in-a-step", " in step 'busy'", "in hold_in_a_step"),
    ],
)
async def test_a_workflow_that_holds_the_loop_is_named(
    caplog: pytest.LogCaptureFixture, workflow: str, where: str, line: str
) -> None:
    async with a_flow() as flow:
        run = await flow.trigger(workflow)
        await run.result()
        held = f"it was held by run {run.id}"
        # Told at the watchdog's next look; the time limit of the test ends the wait.
        while not any(held in text for text in said(caplog, logging.WARNING)):
            await asyncio.sleep(0.01)
        metrics = flow.engine.metrics()
    # A crowded machine may hold the loop up by itself, before and after.
    error = next(text for text in said(caplog, logging.ERROR) if run.id in text)
    assert f"by run {run.id} of workflow {workflow!r}{where}: nothing else goes on" in error
    assert line in error.splitlines()[-2]
    assert "time.sleep(HELD_S)" in error.splitlines()[-1]
    assert metrics["stepflow_loop_blocked_total"] >= 1
    assert metrics["stepflow_loop_blocked_seconds_max"] > LIMIT_S
    assert metrics["stepflow_loop_lag_seconds_max"] > LIMIT_S
    assert metrics["stepflow_loop_lag_seconds"] > 0


async def test_code_outside_every_run_is_not_blamed_on_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_flow():
        await asyncio.sleep(0)
        time.sleep(HELD_S)  # noqa: ASYNC251  what must be found
        await asyncio.sleep(0.1)
    here = "in test_code_outside_every_run_is_not_blamed_on_one"
    error = next(text for text in said(caplog, logging.ERROR) if here in text)
    assert "by code outside every run" in error


async def test_a_step_in_a_thread_and_one_that_awaits_hold_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_flow() as flow:
        await (await flow.trigger("behaves")).result()
    held = [text for text in said(caplog, logging.ERROR) if "of workflow" in text]
    assert held == []


async def test_nobody_watches_when_it_is_turned_off() -> None:
    flow = Stepflow(MEMORY, settings=Settings(loop_blocked_s=0))
    async with flow:
        assert "stepflow-watchdog" not in {thread.name for thread in threading.enumerate()}
        assert "stepflow_loop_blocked_total" not in flow.engine.metrics()


async def test_the_watchdog_ends_with_the_engine() -> None:
    async with a_flow():
        watching = [t for t in threading.enumerate() if t.name == "stepflow-watchdog"]
        assert len(watching) == 1
    await asyncio.to_thread(watching[0].join, 60)
    assert not watching[0].is_alive()


async def test_what_held_the_loop_is_told_in_words() -> None:
    assert str(Held()) == "code outside every run"
    assert str(Held("run_a", "w")) == "run run_a of workflow 'w'"
    assert str(Held("run_a", "w", "s")) == "run run_a of workflow 'w' in step 's'"
