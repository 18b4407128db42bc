"""Calls put together: one wins and the others are given up; what is not taken is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from stepflow.errors import EventNotFoundError
from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import (
    decoded,
    fresh,
    read_events,
    until_asking,
    until_event,
    until_waiting,
)

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["ComposingClaims"]


class ComposingClaims(Claims):
    """The claims."""

    async def test_the_first_of_several_wins_and_the_others_are_given_up(
        self, caller: Caller
    ) -> None:
        late = await caller.trigger("conformance-first", {"id": fresh(), "count": 20})
        assert decoded((await caller.wait(late.id)).result) == ["late", None]
        order = fresh()
        run = await caller.trigger("conformance-first", {"id": order, "count": 3_600_000})
        await until_waiting(caller, run.id)
        await caller.notify(f"paid-{order}", 12)
        assert decoded((await caller.wait(run.id)).result) == ["paid", 12]
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"paid-{order}", 13)

    async def test_any_of_several_events_takes_one_alone(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-any", order)
        await until_event(caller, run.id, lambda e: e.json().get("kind") is not None)
        while True:
            try:
                await caller.notify(f"right-{order}", "r")
            except EventNotFoundError:
                continue  # it does not wait yet
            break
        while True:
            try:
                await caller.notify(f"left-{order}", "l")
            except EventNotFoundError:
                continue
            break
        assert decoded((await caller.wait(run.id)).result) == ["right", "r", "l"]

    async def test_all_of_several_events_in_any_order(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-all", {"id": order, "count": 0})
        await until_asking(caller, run.id, times=2)
        await caller.notify(f"right-{order}", 2)
        await caller.notify(f"left-{order}", 1)
        assert decoded((await caller.wait(run.id)).result) == {"left": 1, "right": 2}
        late = await caller.trigger("conformance-all", {"id": fresh(), "count": 20})
        assert decoded((await caller.wait(late.id)).result) == "timed out"

    @needs("restart")
    async def test_a_run_begins_anew_under_its_id(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-restart", {"id": order, "count": 0})
        assert decoded((await caller.wait(run.id)).result) == [order, 3]
        view = await caller.get_run(run.id)
        assert not isinstance(view.steps, msgspec.UnsetType)
        assert [decoded(step.result) for step in view.steps] == [3]
        # Its stream goes on: ids are never given twice.
        ids = [event.id for event in await read_events(caller, run.id)]
        assert ids == sorted(set(ids))

    async def test_a_run_keeps_the_version_that_it_chose(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-version", order)
        await until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}")
        assert decoded((await caller.wait(run.id)).result) == [2, 2]

    async def test_a_step_that_may_run_once_does(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-once", 1)
        assert decoded((await caller.wait(run.id)).result) == 2

    async def test_a_step_that_takes_too_long_fails(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-step-timeout")
        assert decoded((await caller.wait(run.id)).result) == ["slow", 1]

    async def test_a_run_that_takes_too_long_fails(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-run-timeout")
        view = await caller.wait(run.id)
        assert view.status == "failed"
        assert "0.05" in decoded(view.error)["message"] or "50" in decoded(view.error)["message"]
