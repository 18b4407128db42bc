"""A page of runs reads of what has ended two records each, and shows what the whole run shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from stepflow import Context, Stepflow
from stepflow.engine.postgres import PostgresEngine, history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.engine.postgres.database import Database
    from stepflow.model.run import RunState

pytestmark = pytest.mark.asyncio


async def test_a_page_shows_of_ended_runs_what_they_are_and_reads_two_records_of_each(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Stepflow(engine=PostgresEngine(url, poll_s=0.1))
    fails = True

    @flow.workflow("many", tags=["t"])
    async def many(ctx: Context, count: int) -> int:
        for number in range(count):
            await ctx.step(f"s{number}", int)
        if fails and count == 2:
            raise ValueError("no")
        return count

    @flow.workflow("waits")
    async def waits(ctx: Context) -> object:
        return await ctx.wait_for_event("e", timeout=None)

    @flow.workflow("timed", timeout=3600)
    async def timed(ctx: Context) -> int:
        return await ctx.step("s", int)

    @flow.workflow("again")
    async def again(ctx: Context, count: int) -> int:
        if count:
            await ctx.restart(count - 1)
        return count

    whole: list[str] = []
    load = history.load

    async def noting(database: Database, run_ids: Sequence[str]) -> dict[str, RunState]:
        whole.extend(run_ids)
        return await load(database, run_ids)

    async with flow:
        ended = [await flow.trigger("many", 9), await flow.trigger("many", 2)]
        for run in ended:
            await flow.engine.wait(run.id)
        retried = await flow.trigger("many", 2)
        await flow.engine.wait(retried.id)
        fails = False
        await flow.retry(retried.id)
        await flow.engine.wait(retried.id)
        cancelled = await flow.trigger("waits")
        await flow.cancel(cancelled.id, reason="enough")
        await flow.engine.wait(cancelled.id)
        ended += [retried, cancelled]
        others = [
            await flow.trigger("timed"),
            await flow.trigger("many", 1, delay=0.2),
            await flow.trigger("again", 2),
        ]
        for run in others:
            await flow.engine.wait(run.id)
        others.append(await flow.trigger("waits"))
        monkeypatch.setattr(history, "load", noting)
        page = await flow.list_runs()
        assert {run.id for run in others} == set(whole)
        assert {view.id for view in page.runs} == {run.id for run in (*ended, *others)}
        assert sorted(view.status for view in page.runs if view.id not in whole) == [
            *("cancelled", "completed", "completed", "failed")
        ]
        for view in page.runs:
            if view.status == "running":
                continue
            known = await flow.get_run(view.id)
            known.steps = view.steps
            known.children = view.children
            assert msgspec.json.encode(view) == msgspec.json.encode(known)
