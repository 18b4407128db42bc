"""An event reaches who waits for it, once; is kept for who declared it; else it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepflow.errors import EventNotFoundError
from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.reading import decoded, fresh, until_waiting

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["EventClaims"]


class EventClaims(Claims):
    """The claims."""

    async def test_an_event_wakes_the_run_that_waits(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", {"yes": True})
        assert decoded((await caller.wait(run.id)).result) == {"yes": True}

    async def test_an_event_for_nobody_is_not_found(self, caller: Caller) -> None:
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"nobody-{fresh()}")

    async def test_an_event_is_taken_once(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", 1)
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"answer-{order}", 2)
        assert decoded((await caller.wait(run.id)).result) == 1

    async def test_an_event_reaches_every_run_that_waits(self, caller: Caller) -> None:
        order = fresh()
        runs = [await caller.trigger("conformance-wait", order) for _ in range(3)]
        for run in runs:
            await until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", "all")
        assert [decoded((await caller.wait(run.id)).result) for run in runs] == ["all"] * 3

    async def test_an_addressed_event_reaches_one_run_alone(self, caller: Caller) -> None:
        order = fresh()
        first, second = [await caller.trigger("conformance-wait", order) for _ in range(2)]
        await until_waiting(caller, first.id)
        await until_waiting(caller, second.id)
        await caller.notify(f"answer-{order}", 1, run_id=second.id)
        assert (await caller.wait(second.id)).status == "completed"
        assert (await caller.get_run(first.id)).status == "running"

    async def test_declared_events_are_kept_in_order_until_waited_for(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-keep", {"id": order, "count": 2})
        await caller.notify(f"kept-{order}", 1)
        await caller.notify(f"kept-{order}", 2)
        await until_waiting(caller, run.id)
        await caller.notify(f"go-{order}")
        assert decoded((await caller.wait(run.id)).result) == [1, 2]

    async def test_awaited_events_are_listed(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        awaited = {row.event_id: row.run_ids for row in await caller.events()}
        assert awaited[f"answer-{order}"] == (run.id,)
