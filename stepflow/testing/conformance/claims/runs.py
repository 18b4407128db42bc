"""A run is started, read, and ends with its result or with why it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.errors import InvalidInputError, RunNotFoundError, WorkflowNotFoundError
from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.reading import NO_RUN, decoded, fresh, read_events

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["RunClaims"]


class RunClaims(Claims):
    """The claims."""

    async def test_a_triggered_run_can_be_read_at_once(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", fresh())
        view = await caller.get_run(run.id)
        assert view.id == run.id
        assert view.workflow_id == "conformance-wait"
        assert view.status == "running"
        assert view.created_at.endswith("Z")

    @pytest.mark.parametrize("value", [None, 0, "", "text", [], {"a": [1, {"b": None}]}, "☃"])
    async def test_a_run_keeps_its_input_and_gives_its_result(
        self, caller: Caller, value: Any
    ) -> None:
        run = await caller.trigger("conformance-echo", value)
        view = await caller.wait(run.id)
        assert view.status == "completed"
        assert decoded(view.input) == value
        assert decoded(view.result) == value

    async def test_steps_stand_in_the_order_of_asking(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": fresh(), "count": 3})
        await caller.wait(run.id)
        view = await caller.get_run(run.id)
        assert not isinstance(view.steps, msgspec.UnsetType)
        assert [(step.name, step.status) for step in view.steps] == [("next", "completed")] * 3
        assert [decoded(step.result) for step in view.steps] == [1, 2, 3]
        assert len({step.key for step in view.steps}) == 3

    async def test_a_failed_run_says_why(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-fail")
        view = await caller.wait(run.id)
        assert view.status == "failed"
        error = decoded(view.error)
        assert error["type"] == "ValueError"
        assert error["message"] == "refused on purpose"
        assert error["step"] == "refuse"

    async def test_an_unknown_workflow_is_refused(self, caller: Caller) -> None:
        with pytest.raises(WorkflowNotFoundError):
            await caller.trigger("no-such-workflow")

    @pytest.mark.parametrize("value", [None, {"id": "x"}, {"id": "x", "count": "many"}, [1]])
    async def test_an_input_of_the_wrong_type_starts_nothing(
        self, caller: Caller, value: Any
    ) -> None:
        before = await caller.list_runs(workflow_id="conformance-count", limit=1)
        with pytest.raises(InvalidInputError):
            await caller.trigger("conformance-count", value)
        after = await caller.list_runs(workflow_id="conformance-count", limit=1)
        assert [run.id for run in after.runs] == [run.id for run in before.runs]

    async def test_an_unknown_run_is_not_found_by_any_call(self, caller: Caller) -> None:
        with pytest.raises(RunNotFoundError):
            await caller.get_run(NO_RUN)
        with pytest.raises(RunNotFoundError):
            await caller.cancel(NO_RUN)
        with pytest.raises(RunNotFoundError):
            await caller.resume(NO_RUN)
        with pytest.raises(RunNotFoundError):
            await caller.purge(NO_RUN)
        with pytest.raises(RunNotFoundError):
            await read_events(caller, NO_RUN)

    async def test_a_batch_gives_a_run_or_an_error_each_in_order(self, caller: Caller) -> None:
        inputs = [{"id": "a", "count": 1}, {"id": "b"}, {"id": "c", "count": 2}]
        first, second, third = await caller.trigger_many("conformance-count", inputs)
        assert isinstance(second, InvalidInputError)
        assert not isinstance(first, Exception)
        assert not isinstance(third, Exception)
        assert decoded((await caller.wait(first.id)).result) == 1
        assert decoded((await caller.wait(third.id)).result) == 2

    async def test_workflows_are_listed_with_their_input(self, caller: Caller) -> None:
        found = {view.id: view for view in await caller.workflows()}
        schema = found["conformance-count"].input_schema
        assert "count" in msgspec.json.encode(schema).decode()
        assert list(found["conformance-keep"].events) == ["kept-{id}"]
