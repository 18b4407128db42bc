"""A stream tells the whole run in order, and goes on after any of its events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.reading import (
    ENDS,
    decoded,
    fresh,
    read_events,
    rows_of,
    until_waiting,
)

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["StreamClaims"]


class StreamClaims(Claims):
    """The claims."""

    async def test_a_stream_tells_the_whole_run_in_order(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": fresh(), "count": 2})
        events = await read_events(caller, run.id)
        assert (events[0].event, events[0].json()["status"]) == ("status", "running")
        assert [e.json()["result"] for e in events if e.event == "step"] == [1, 2]
        assert (events[-1].event, events[-1].json()) == (
            "complete",
            {"status": "completed", "result": 2},
        )
        ids = [event.id for event in events if event.id]
        assert ids == sorted(set(ids))
        assert sum(event.event in ENDS for event in events) == 1

    async def test_a_live_stream_and_a_later_one_tell_the_same(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        live = asyncio.ensure_future(read_events(caller, run.id))
        await until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", "now")
        assert rows_of(await live) == rows_of(await read_events(caller, run.id))

    async def test_a_stream_goes_on_after_any_of_its_events(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": fresh(), "count": 3})
        whole = rows_of(await read_events(caller, run.id))
        for place, (event_id, _, _) in enumerate(whole):
            rest = rows_of(await read_events(caller, run.id, event_id))
            assert rest == whole[place + 1 :], f"after event {event_id}"

    async def test_a_stream_after_an_id_not_reached_yet_begins_with_the_run_itself(
        self, caller: Caller
    ) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        async with aclosing(caller.stream(run.id, 1_000_000)) as stream:
            first = await anext(stream)
            assert first.event == "resync"
            assert first.json()["id"] == run.id
            await caller.notify(f"answer-{order}", 1)
            rest = [event.event async for event in stream]
        assert rest[-1] == "complete"

    async def test_a_failed_runs_stream_ends_with_the_error(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-fail")
        events = await read_events(caller, run.id)
        step = next(event for event in events if event.event == "step")
        assert step.json()["status"] == "failed"
        assert events[-1].event == "error"
        view = await caller.get_run(run.id)
        assert events[-1].json() == {"status": "failed", "error": decoded(view.error)}
