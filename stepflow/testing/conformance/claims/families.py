"""A child is a run of its own: its parent has its result or failure; a cancel reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import decoded, fresh, until_asking, until_waiting

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["FamilyClaims"]


class FamilyClaims(Claims):
    """The claims."""

    @needs("children")
    async def test_children_give_their_results_to_their_parent(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-parent", [3, 1, 2])
        assert decoded((await caller.wait(run.id)).result) == [3, 1, 2]
        view = await caller.get_run(run.id)
        assert not isinstance(view.steps, msgspec.UnsetType)
        assert [(s.kind, s.status) for s in view.steps] == [("child", "completed")] * 3

    @needs("children")
    async def test_a_child_is_a_run_that_names_its_parent(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-parent-of-one", order)
        child = await self._child_of(caller, run.id)
        view = await caller.get_run(child)
        assert (view.workflow_id, view.status) == ("conformance-wait", "running")
        assert view.parent_run_id == run.id
        await until_waiting(caller, child)
        await caller.notify(f"answer-{order}", "for the child")
        assert decoded((await caller.wait(run.id)).result) == "for the child"

    @needs("children")
    async def test_a_failed_child_raises_in_its_parent(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-parent-of-failed")
        result = decoded((await caller.wait(run.id)).result)
        assert result == ["ValueError", "refused on purpose"]

    @needs("children")
    async def test_a_cancel_reaches_the_child_that_is_awaited(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-parent-of-one", fresh())
        child = await self._child_of(caller, run.id)
        await caller.cancel(run.id)
        assert (await caller.wait(run.id)).status == "cancelled"
        assert (await caller.wait(child)).status == "cancelled"

    @needs("children")
    async def test_a_parent_hears_that_its_child_was_cancelled(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-parent-of-one", fresh())
        child = await self._child_of(caller, run.id)
        await caller.cancel(child)
        assert decoded((await caller.wait(run.id)).result) == "the child was cancelled"

    @needs("children")
    async def test_a_child_that_was_started_outlives_its_parent(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-starter", order)
        child = decoded((await caller.wait(run.id)).result)
        await until_waiting(caller, child)
        await caller.notify(f"answer-{order}", "alone")
        assert decoded((await caller.wait(child)).result) == "alone"

    async def _child_of(self, caller: Caller, run_id: str) -> str:
        """Return the id of the run's child once there is one."""
        await until_asking(caller, run_id, "child")
        while True:
            view = await caller.get_run(run_id)
            assert not isinstance(view.steps, msgspec.UnsetType)
            found = next((step.child_run_id for step in view.steps), msgspec.UNSET)
            if not isinstance(found, msgspec.UnsetType):
                return found
