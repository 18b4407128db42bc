"""Who begins to watch a run between a record and its sync hears of the record all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Context, Stepflow
from stepflow.model.event_filter import EVERYTHING
from stepflow.testing import WorkflowTest
from tests.engine_kit import service

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


async def test_what_one_commit_makes_durable_wakes_the_readers_of_each_of_its_runs() -> None:
    async with service() as world:
        runs = [await world.trigger("waits", "go") for _ in range(5)]
        streams = [await world.engine.stream(run) for run in runs]
        for run, stream in zip(runs, streams, strict=True):
            await world.waiting(run)
            stream.read(1 << 20)
        woken: list[str] = []
        for run, stream in zip(runs, streams, strict=True):
            stream.listen(lambda run=run: woken.append(run))
        # One event, one frame: its five takers are told of by one commit, each by several records.
        await world.engine.notify("go", b"1")
        await world.settle()
        assert set(woken) == set(runs)
        for stream in streams:
            assert b"event: complete" in stream.read(1 << 20)
            stream.close()


@pytest.mark.parametrize("of_all", [False, True], ids=["of one run", "of all"])
async def test_history_and_what_follows_are_one_however_small_the_pages(*, of_all: bool) -> None:
    """Readers join after each record and read a page of one event now and then.

    There is no hand-over from a replay to what is live that could lose or repeat something: a
    reader is a place in the one order of records, at its first byte and at its last.
    """
    async with service() as world:
        begin = f"{world.engine.sup.journal.store_id}-0"

        async def join() -> tuple[Any, list[bytes]]:
            if of_all:
                return await world.engine.stream_all(EVERYTHING, begin), []
            return await world.engine.stream(run), []

        run = await world.trigger("declares", {"id": 1, "count": 12})
        readers = [await join()]
        for n in range(13):
            await world.engine.notify("go-1" if n == 0 else "kept-1", b"%d" % n)
            readers.append(await join())
            for place, (stream, got) in enumerate(readers):
                if (n + place) % 3 == 0:
                    got.append(stream.read(1))
            if n % 4 == 0:
                await world.settle()
                readers.append(await join())
        await world.settle()
        await world.durable()
        whole, _ = await join()
        want = b"".join(iter(lambda: whole.read(1 << 20), b""))
        assert want.count(b"\nevent: step\n") == 13
        assert want.count(b"\nevent: complete\n") == 1
        for stream, got in readers:
            while page := stream.read(1):
                assert page.count(b"\n\n") == 1
                got.append(page)
            assert b"".join(got) == want
            stream.close()
        whole.close()
