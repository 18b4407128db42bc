"""Steps are tried again as their policy says, run side by side, and have one result each."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import (
    decoded,
    fresh,
    read_events,
    until_event,
    until_waiting,
)

if TYPE_CHECKING:
    from stepflow.model.views import RunView, StepView
    from stepflow.testing.conformance.callers import Caller

__all__ = ["StepClaims"]


def _steps(view: RunView) -> list[StepView]:
    assert not isinstance(view.steps, msgspec.UnsetType), "a run that was asked for has its steps"
    return view.steps


async def _emits_without_the_passing(_: Claims, caller: Caller) -> None:
    """Claim that what passes may reach nobody, and harms nothing."""
    order = fresh()
    run = await caller.trigger("conformance-passing", order)
    await until_waiting(caller, run.id)
    await caller.notify(f"answer-{order}", 3)
    assert decoded((await caller.wait(run.id)).result) == 3
    assert "emit" not in [event.event for event in await read_events(caller, run.id)]


class StepClaims(Claims):
    """The claims."""

    async def test_a_step_is_tried_until_it_is_good(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-retry", 3)
        assert decoded((await caller.wait(run.id)).result) == 3
        (step,) = _steps(await caller.get_run(run.id))
        assert (step.status, step.attempts, decoded(step.result)) == ("completed", 3, 3)

    async def test_after_the_last_attempt_the_run_fails_and_says_how_many(
        self, caller: Caller
    ) -> None:
        run = await caller.trigger("conformance-retry", 9)
        view = await caller.wait(run.id)
        assert view.status == "failed"
        assert decoded(view.error) == {
            "type": "ValueError",
            "message": "attempt 4 fails on purpose",
            "step": "shaky",
            "attempts": 4,
        }

    async def test_what_must_not_be_tried_again_is_not(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-final")
        error = decoded((await caller.wait(run.id)).error)
        assert (error["type"], error["attempts"]) == ("NonRetryableError", 1)

    async def test_a_failed_step_can_be_caught_and_the_run_goes_on(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-caught")
        assert decoded((await caller.wait(run.id)).result) == [["shaky", "ValueError", 4], 9]
        statuses = [step.status for step in _steps(await caller.get_run(run.id))]
        assert statuses == ["failed", "completed"]

    async def test_branches_run_side_by_side_and_keep_their_results(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-branches", 4)
        squares = [0, 1, 4, 9]
        result = decoded((await caller.wait(run.id)).result)
        assert result == [[0, 1, 16, 81], squares, squares]
        steps = _steps(await caller.get_run(run.id))
        assert all(step.status == "completed" for step in steps)
        assert len({step.key for step in steps}) == len(steps) == 4 * 2 + 2 + 4 + 4
        assert "keyed[item-2]" in {step.key for step in steps}

    async def test_a_step_ends_beside_a_branch_that_waits(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-beside", {"id": order, "count": 3})
        await until_event(
            caller, run.id, lambda e: e.event == "step" and e.json().get("result") == 8
        )
        view = await caller.get_run(run.id)
        by_kind = {step.kind: step for step in _steps(view)}
        assert view.status == "running"
        assert by_kind["event"].status == "pending"
        doubled = [decoded(step.result) for step in _steps(view) if step.kind == "step"]
        assert doubled == [2, 4, 8]
        await caller.notify(f"answer-{order}", "late")
        assert decoded((await caller.wait(run.id)).result) == ["late", 8]
        # What had its result before the wait was over was not run again.
        ends = [e.json()["key"] for e in await read_events(caller, run.id) if e.event == "step"]
        assert len(ends) == len(set(ends)) == 4

    async def test_time_dice_and_ids_are_the_same_on_replay(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-values")
        values = decoded((await caller.wait(run.id)).result)
        assert values["run"] == run.id
        assert values["key"]
        assert values["before"][1:] != values["after"][1:]
        assert values["before"][0] <= values["after"][0]

    @needs("emits")
    async def test_a_run_tells_what_it_emits_and_how_far_it_is(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-tells")
        events = await read_events(caller, run.id)
        told = [event.json() for event in events if event.event == "emit"]
        assert told == [{"name": "token", "data": {"text": "one"}}]
        assert events[-1].json() == {"status": "completed", "result": 4}

    @needs("passing-emits", otherwise=_emits_without_the_passing)
    async def test_an_emit_that_passes_goes_to_those_who_read_now(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-passing", order)
        await until_waiting(caller, run.id)
        async with aclosing(caller.stream(run.id)) as stream:
            seen: list[str] = []
            async for event in stream:
                seen.append(event.event)
                if event.event == "status" and event.json().get("kind") == "event":
                    await caller.notify(f"answer-{order}", 3)
        assert seen.count("emit") == 3
        assert "emit" not in [event.event for event in await read_events(caller, run.id)]

    async def test_a_run_between_two_steps_waits_for_nothing_twice(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-beside", {"id": order, "count": 1})
        await until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", 1)
        assert decoded((await caller.wait(run.id)).result) == [1, 2]
