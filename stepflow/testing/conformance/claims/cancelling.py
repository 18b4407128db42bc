"""A cancel is heard by the body, whose cleanup may run steps; what had effect can be undone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from stepflow.errors import ConflictError
from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import (
    decoded,
    fresh,
    read_events,
    until_asking,
    until_waiting,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.testing.conformance.callers import Caller

__all__ = ["CancellingClaims"]


class CancellingClaims(Claims):
    """The claims."""

    async def test_a_cancelled_body_runs_its_cleanup_steps(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-cleanup", {"id": fresh(), "count": 2})
        await until_waiting(caller, run.id)
        await caller.cancel(run.id)
        assert (await caller.wait(run.id)).status == "cancelled"
        view = await caller.get_run(run.id)
        assert not isinstance(view.steps, msgspec.UnsetType)
        cleaned = [decoded(step.result) for step in view.steps if step.kind == "step"]
        assert cleaned == ["cleaned 0", "cleaned 1"]
        events = await read_events(caller, run.id)
        assert events[-1].json()["status"] == "cancelled"
        assert "cleaned 1" in [e.json().get("result") for e in events if e.event == "step"]

    async def test_a_cancelled_wait_takes_no_event(self, caller: Caller) -> None:
        order = fresh()
        cancelled = await caller.trigger("conformance-cleanup", {"id": order, "count": 0})
        waiting = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, cancelled.id)
        await until_waiting(caller, waiting.id)
        await caller.cancel(cancelled.id)
        await caller.wait(cancelled.id)
        await caller.notify(f"answer-{order}", "for one")
        assert decoded((await caller.wait(waiting.id)).result) == "for one"
        assert (await caller.get_run(cancelled.id)).status == "cancelled"

    async def test_a_cancel_and_an_event_have_one_winner(self, caller: Caller) -> None:
        for _ in range(8):
            order = fresh()
            run = await caller.trigger("conformance-wait", order)
            await until_waiting(caller, run.id)
            told = await asyncio.gather(
                caller.cancel(run.id),
                caller.notify(f"answer-{order}", "came"),
                return_exceptions=True,
            )
            view = await caller.wait(run.id)
            assert not all(isinstance(answer, BaseException) for answer in told)
            if view.status == "completed":
                assert decoded(view.result) == "came"
                assert not isinstance(told[1], BaseException), "a payload that nobody sent"
            else:
                assert view.status == "cancelled"
                assert not isinstance(told[0], BaseException), "a cancel that nobody asked for"

    async def test_a_second_cancel_changes_nothing(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", fresh())
        await until_waiting(caller, run.id)
        await caller.cancel(run.id)
        try:
            view = await caller.cancel(run.id)
        except ConflictError:
            pass  # it has ended meanwhile
        else:
            assert view.id == run.id
        await caller.wait(run.id)
        with pytest.raises(ConflictError):
            await caller.cancel(run.id)
        ends = [event for event in await read_events(caller, run.id) if event.event == "error"]
        assert len(ends) == 1

    async def test_a_run_that_sleeps_is_cancelled_at_once(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-sleep", 3_600_000)
        await until_asking(caller, run.id, "sleep")
        await caller.cancel(run.id)
        assert (await caller.wait(run.id)).status == "cancelled"

    @needs("compensation")
    async def test_a_failed_run_undoes_its_steps_last_first(
        self, caller: Caller, tmp_path: Path
    ) -> None:
        log = tmp_path / "undone"
        run = await caller.trigger("conformance-undo", str(log))
        assert (await caller.wait(run.id)).status == "failed"
        assert log.read_text().split("\n") == ["undid second", "undid first", ""]
