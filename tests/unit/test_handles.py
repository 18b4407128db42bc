"""A `RunHandle`: results by the workflow's annotation, errors as the run ended."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stepflow import (
    Context,
    NonRetryableError,
    RunCancelledError,
    RunFailedError,
    RunHandle,
    Stepflow,
)
from stepflow.config import MEMORY
from stepflow.errors import RunNotFoundError

pytestmark = pytest.mark.asyncio


@dataclass
class Point:
    x: int
    y: int


def made() -> Stepflow:
    flow = Stepflow(MEMORY)

    async def broken() -> None:
        raise NonRetryableError("no ink")

    @flow.workflow("typed")
    async def typed(ctx: Context, point: Point) -> Point:
        return Point(point.y, point.x)

    @flow.workflow("nothing")
    async def nothing(ctx: Context) -> None:
        return None

    @flow.workflow("fails")
    async def fails(ctx: Context) -> None:
        await ctx.step("print", broken)

    @flow.workflow("waits")
    async def waits(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    return flow


async def test_a_result_comes_as_the_return_annotation_says() -> None:
    async with made() as flow:
        run = await flow.trigger("typed", Point(1, 2))
        assert await run.result() == Point(2, 1)
        assert await run.result() == Point(2, 1)
        assert (await (await flow.trigger("nothing")).result()) is None
        assert run.id in repr(run)


async def test_a_result_without_its_workflow_is_plain_json() -> None:
    async with made() as flow:
        run = await flow.trigger("typed", Point(1, 2))
        await run.result()
        flow.registry._by_id.pop("typed")
        assert await run.result() == {"x": 2, "y": 1}


async def test_a_failed_run_raises_what_it_failed_of() -> None:
    async with made() as flow:
        run = await flow.trigger("fails")
        with pytest.raises(RunFailedError) as caught:
            await run.result()
        error = caught.value
        assert (error.run_id, error.error_type, error.message) == (
            run.id, "NonRetryableError", "no ink",
        )  # fmt: skip
        assert (error.step, error.attempts) == ("print", 1)


async def test_a_cancelled_run_raises_the_reason() -> None:
    async with made() as flow:
        run = await flow.trigger("waits")
        await run.cancel("not wanted")
        with pytest.raises(RunCancelledError, match="not wanted") as caught:
            await run.result()
        assert caught.value.run_id == run.id
        assert (await run.get()).status == "cancelled"


async def test_a_handle_of_nothing_says_so() -> None:
    async with made() as flow:
        run = RunHandle(flow, "run_nobody00")
        with pytest.raises(RunNotFoundError):
            await run.result()
        with pytest.raises(RunNotFoundError):
            await run.get()


async def test_the_token_reads_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_TOKEN_KEY", "a1" * 32)
    async with made() as flow:
        run = await flow.trigger("nothing")
        assert run.public_access_token.startswith("pat_")
