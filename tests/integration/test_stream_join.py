"""Who begins to watch a run between a record and its sync hears of the record all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Context, Stepflow
from stepflow.testing import WorkflowTest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio


async def passes() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_subscriber_that_joins_before_a_sync_is_woken_by_it() -> None:
    flow = Stepflow()
    gate = asyncio.Event()

    @flow.workflow("waits")
    async def waits(ctx: Context) -> Any:
        await gate.wait()
        return await ctx.wait_for_event("wait", "never", timeout=None)

    async with WorkflowTest(flow) as t:
        run = await t.trigger("waits")
        engine: Any = flow.engine
        writing = engine.sup.journal._writing
        held: list[Callable[[], Any]] = []
        submit, writing.submit = writing.submit, held.append
        gate.set()
        await passes()
        assert held, "the wait is recorded and not on disk"

        stream = await engine.stream(run.id)
        assert [event.id for event in stream.read_events(10)] == [1]
        woken = asyncio.ensure_future(stream.changed())
        await passes()
        assert not woken.done()

        writing.submit = submit
        for work in held:
            submit(work)
        await woken
        assert [event.json()["kind"] for event in stream.read_events(10)] == ["event"]
        stream.close()
