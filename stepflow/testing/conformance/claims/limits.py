"""Runs over a limit are queued, and begin when there is room: the first that came is the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import decoded, fresh, until_waiting

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["LimitClaims"]


async def _left_out(_: Claims, caller: Caller) -> None:
    """Claim that no workflow with a limit is served: its engine refuses to start with one."""
    assert "conformance-limited" not in {view.id for view in await caller.workflows()}


class LimitClaims(Claims):
    """The claims."""

    @needs("limits", otherwise=_left_out)
    async def test_one_at_a_time_in_the_order_of_coming(self, caller: Caller) -> None:
        orders = [fresh() for _ in range(3)]
        runs = [await caller.trigger("conformance-limited", order) for order in orders]
        for place, (run, order) in enumerate(zip(runs, orders, strict=True)):
            await until_waiting(caller, run.id)
            for later in runs[place + 1 :]:
                view = await caller.get_run(later.id)
                assert (view.status, view.state) == ("pending", "queued")
            await caller.notify(f"answer-{order}", place)
            assert decoded((await caller.wait(run.id)).result) == place
