"""`flow.stream_all` tells a program what `GET /stream` tells a client: the same, with cursors."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import MEMORY, Context, Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.client import AllEvent, Client, InProcess
from stepflow.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


def made(data: Any = MEMORY) -> Stepflow:
    flow = Stepflow(data)

    @flow.workflow("tells", tags=["loud"])
    async def tells(ctx: Context, name: str) -> str:
        await ctx.step("first", lambda: name)
        await ctx.emit("said", {"name": name})
        return await ctx.wait_for_event("answer", f"answer-{name}", timeout=None)

    @flow.workflow("quiet")
    async def quiet(ctx: Context, name: str) -> str:
        return name

    return flow


async def take(events: AsyncGenerator[AllEvent], until: str) -> list[AllEvent]:
    """The events up to the end of that run."""
    found: list[AllEvent] = []
    async with aclosing(events):
        async for event in events:
            found.append(event)
            if event.run_id == until and event.event == "complete":
                break
    return found


async def some(flow: Stepflow) -> str:
    """Runs of both workflows; the id of the one that ends last."""
    first = await flow.trigger("tells", "a")
    await (await flow.trigger("quiet", "b")).result()
    while not any(step.name == "answer" for step in (await first.get()).steps or ()):
        await asyncio.sleep(0)
    await flow.notify("answer-a", "yes")
    await first.result()
    return first.id


@pytest.mark.asyncio
async def test_it_tells_what_a_client_is_told_with_the_same_cursors() -> None:
    flow = made()
    transport = InProcess(flow.asgi(auth=allow_all))
    async with flow, Client("http://flow.test", transport=transport) as client:
        begin = (await flow.list_runs()).stream_cursor
        last = await some(flow)
        embedded = await take(flow.stream_all(after=begin), last)
        assert embedded == await take(client.stream_all(after=begin), last)
        assert {event.workflow_id for event in embedded} == {"tells", "quiet"}
        for filters in (
            {"workflow_id": "tells"},
            {"tag": "loud"},
            {"run_ids": [last]},
            {"status": ["completed", "running"], "workflow_id": "tells"},
        ):
            narrow = await take(flow.stream_all(after=begin, **filters), last)
            assert narrow == await take(client.stream_all(after=begin, **filters), last)
            assert {event.run_id for event in narrow} == {last}
        strange = "6f1d0c52a9b34e70-7"
        async with aclosing(flow.stream_all(after=strange)) as events:
            resync = await anext(events)
        async with aclosing(client.stream_all(after=strange)) as events:
            assert await anext(events) == resync
        assert resync.event == "resync"


@pytest.mark.asyncio
async def test_each_cursor_goes_on_after_its_event_and_over_a_restart(tmp_path: Path) -> None:
    async with made(tmp_path) as flow:
        begin = (await flow.list_runs()).stream_cursor
        last = await some(flow)
        whole = await take(flow.stream_all(after=begin), last)
    async with made(tmp_path) as flow:
        for place, event in enumerate(whole[:-1]):
            assert event.cursor
            assert await take(flow.stream_all(after=event.cursor), last) == whole[place + 1 :]


@pytest.mark.asyncio
async def test_without_a_cursor_it_is_live_and_it_ends_with_the_engine() -> None:
    flow = made()
    async with flow:
        await some(flow)
        events = flow.stream_all()
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        run = await flow.trigger("quiet", "now")
        assert (await first).run_id == run.id
        rest = asyncio.ensure_future(anext(events, None))
        flow.begin_shutdown()
        while await rest is not None:
            rest = asyncio.ensure_future(anext(events, None))


@pytest.mark.asyncio
async def test_what_is_no_filter_is_refused_where_it_is_asked_for() -> None:
    flow = made()
    with pytest.raises(InvalidInputError, match="none of pending, running"):
        flow.stream_all(status=["done"])
    with pytest.raises(InvalidInputError, match="a run id is"):
        flow.stream_all(run_ids=["7"])


def test_a_thread_reads_it_too() -> None:
    with made().start_background() as background:
        begin = background.run(background.flow.list_runs()).stream_cursor
        run = background.trigger("quiet", "x")
        events = background.stream_all(workflow_id="quiet", after=begin)
        assert next(events).run_id == run.id
        events.close()
