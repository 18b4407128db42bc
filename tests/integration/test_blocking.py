"""A flow without a loop of its own: in a script, beside a running loop, from other threads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import (
    MEMORY,
    Context,
    DataDirLockedError,
    RunCancelledError,
    RunFailedError,
    Settings,
    Stepflow,
    StepflowError,
    UnavailableError,
    WorkflowNotFoundError,
)

if TYPE_CHECKING:
    from pathlib import Path


def made(data: Any = MEMORY) -> Stepflow:
    flow = Stepflow(data, settings=Settings(lock_wait_s=0.0))

    async def fail() -> None:
        raise RuntimeError("no")

    @flow.workflow("double")
    async def double(ctx: Context, n: int) -> int:
        return await ctx.step("double", lambda: 2 * n)

    @flow.workflow("waits")
    async def waits(ctx: Context, event: str) -> Any:
        return await ctx.wait_for_event("wait", event, timeout=None)

    @flow.workflow("fails")
    async def fails(ctx: Context) -> None:
        from stepflow import RetryPolicy

        await ctx.step("fail", fail, retry=RetryPolicy(max_attempts=1))

    @flow.workflow("asks-back")
    async def asks_back(ctx: Context, n: int) -> int:
        def in_a_thread() -> int:
            return int(flow.blocking().trigger("double", n).result())

        return await ctx.step("ask", in_a_thread)

    return flow


def loop_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stepflow")]


def test_a_script_without_a_loop_triggers_notifies_watches_and_reads(tmp_path: Path) -> None:
    with made(tmp_path).start_background() as background:
        assert background.trigger("double", 4).result() == 8
        assert [run.result() for run in background.trigger_many("double", [1, 2])] == [2, 4]
        run = background.trigger("waits", "ev", tags=["a"])
        events = run.stream()
        assert next(events).event == "status"
        assert background.notify("ev", {"n": 1}) == 1
        assert run.result(timeout=60) == {"n": 1}
        assert list(events)[-1].event == "complete"
        assert run.get().status == background.get_run(run.id).status == "completed"
        assert run.public_access_token.startswith("pat_")
        # Whatever has no method here is a coroutine of the flow.
        assert background.run(background.flow.list_runs(tag="a")).runs[0].id == run.id
    assert loop_threads() == []
    with made(tmp_path).start_background() as again:
        assert again.get_run(run.id).status == "completed"


def test_errors_are_those_of_the_flow() -> None:
    with made().start_background() as background:
        with pytest.raises(WorkflowNotFoundError):
            background.trigger("nothing")
        with pytest.raises(RunFailedError):
            background.trigger("fails").result()
        run = background.trigger("waits", "ev")
        with pytest.raises(TimeoutError):
            run.result(timeout=0.01)
        assert run.cancel("enough").status in {"running", "cancelled"}
        with pytest.raises(RunCancelledError):
            run.result()


def test_a_start_that_fails_raises_where_it_was_asked_for_and_leaves_no_thread(
    tmp_path: Path,
) -> None:
    with made(tmp_path).start_background():
        with pytest.raises(DataDirLockedError):
            made(tmp_path).start_background()
        assert loop_threads().count("stepflow-loop") <= 2
    assert "stepflow-loop" not in loop_threads()


def test_close_twice_is_once_and_a_call_after_it_says_so() -> None:
    background = made().start_background()
    run = background.trigger("waits", "ev")
    watching = run.stream()
    next(watching)
    background.close()
    background.close()
    watching.close()
    with pytest.raises(StepflowError, match="start_background"):
        background.get_run(run.id)
    with pytest.raises(UnavailableError):
        asyncio.run(background.flow.get_run(run.id))


def test_many_threads_share_it() -> None:
    with made().start_background() as background, ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda n: background.trigger("double", n).result(), range(40))
        assert list(runs) == [2 * n for n in range(40)]


def test_a_step_in_a_thread_may_ask_its_own_flow() -> None:
    with made().start_background() as background:
        assert background.trigger("asks-back", 5).result() == 10


@pytest.mark.asyncio
async def test_a_notebooks_running_loop_is_left_alone() -> None:
    # A cell that calls it blocks for so long; the engine's own loop goes on in its thread.
    with made().start_background() as background:
        assert background.trigger("double", 4).result() == 8
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_notebook_may_as_well_enter_the_flow_on_its_own_loop() -> None:
    flow = made()
    await flow.__aenter__()  # one cell
    run = await flow.trigger("double", 2)  # another
    assert await run.result() == 4
    await flow.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_on_the_flows_own_loop_a_call_would_wait_for_itself_and_raises() -> None:
    flow = made()
    with pytest.raises(StepflowError, match="not started"):
        flow.blocking()
    async with flow:
        blocking = flow.blocking()
        with pytest.raises(StepflowError, match="await"):
            blocking.trigger("double", 1)
        # In a thread, as synchronous views are, it is what they need.
        assert await asyncio.to_thread(lambda: blocking.trigger("double", 3).result()) == 6
        with blocking:
            pass
        assert flow.engine.state == "ready"


ABRUPT = """
import sys
from stepflow import Context, Stepflow

flow = Stepflow(sys.argv[1])

@flow.workflow("waits")
async def waits(ctx: Context) -> None:
    await ctx.wait_for_event("never", timeout=None)

background = flow.start_background()
print(background.trigger("waits").id)
"""


def test_a_program_that_ends_without_close_ends_and_has_lost_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABRUPT, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env=dict(os.environ),
    )
    run_id = done.stdout.strip()
    with made(tmp_path / "data").start_background() as background:
        assert background.get_run(run_id).state == "waiting"
