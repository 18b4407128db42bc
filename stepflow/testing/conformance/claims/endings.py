"""Runs are cancelled, set aside and purged in the states that allow it, and in no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepflow.errors import ConflictError, EventNotFoundError, RunNotFoundError
from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import fresh, read_events, until_waiting

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["EndingClaims"]


class EndingClaims(Claims):
    """The claims."""

    async def test_a_cancelled_run_ends_as_cancelled(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", fresh())
        await until_waiting(caller, run.id)
        view = await caller.cancel(run.id)
        assert view.id == run.id
        assert (await caller.wait(run.id)).status == "cancelled"
        last = (await read_events(caller, run.id))[-1]
        assert last.event == "error"
        assert last.json()["status"] == "cancelled"

    async def test_a_cancelled_run_waits_no_longer(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        await caller.cancel(run.id)
        await caller.wait(run.id)
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"answer-{order}")

    async def test_an_ended_run_cannot_be_cancelled(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-echo", 1)
        await caller.wait(run.id)
        with pytest.raises(ConflictError):
            await caller.cancel(run.id)
        assert (await caller.get_run(run.id)).status == "completed"

    async def test_only_a_run_that_was_set_aside_is_resumed(self, caller: Caller) -> None:
        live = await caller.trigger("conformance-wait", fresh())
        ended = await caller.trigger("conformance-echo", 1)
        await caller.wait(ended.id)
        for run in (live, ended):
            with pytest.raises(ConflictError):
                await caller.resume(run.id)

    @needs("purge")
    async def test_a_purged_run_is_gone_with_its_key(self, caller: Caller) -> None:
        key = fresh()
        run = await caller.trigger("conformance-echo", 1, idempotency_key=key)
        await caller.wait(run.id)
        await caller.purge(run.id)
        with pytest.raises(RunNotFoundError):
            await caller.get_run(run.id)
        page = await caller.list_runs(workflow_id="conformance-echo", limit=200)
        assert run.id not in {each.id for each in page.runs}
        again = await caller.trigger("conformance-echo", 2, idempotency_key=key)
        assert again.id != run.id

    @needs("purge")
    async def test_a_live_run_cannot_be_purged(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", fresh())
        with pytest.raises(ConflictError):
            await caller.purge(run.id)
        assert (await caller.get_run(run.id)).status == "running"
