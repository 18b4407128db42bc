"""`GET /runs/{runId}/steps/{stepKey}`: one step of a run, in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from stepflow.errors import ForbiddenError, NotFoundError, RunNotFoundError
from stepflow.model.views import StepView
from stepflow.web.endpoints import encode
from stepflow.web.operations import AnswerEndpoint, Content, Operation, run_id_of
from stepflow.web.policy import require_visible, require_whole
from stepflow.web.problems import json_answer

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.web.problems import Answer

__all__ = ["GetStep"]


class GetStep(AnswerEndpoint):
    """Read one step."""

    operation = Operation(
        id="getStep",
        method="GET",
        path="/runs/{runId}/steps/{stepKey}",
        switch="runs",
        tag="Runs",
        summary="Read one step of a run",
        description=(
            "The entry of the run's `steps` that has this key: a step, a sleep, an event or a "
            "child. The key is the rest of the path, percent-encoded, slashes too."
        ),
        scope="read",
        replies={
            200: Content(
                description="The step",
                schema=StepView,
                example={
                    "name": "charge",
                    "status": "completed",
                    "key": "charge#1",
                    "kind": "step",
                    "result": {"charged": True},
                    "attempts": 1,
                    "startedAt": "2024-01-15T10:30:00.000Z",
                    "completedAt": "2024-01-15T10:30:00.120Z",
                },
            )
        },
        errors=(ForbiddenError, RunNotFoundError, NotFoundError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = await self.principal(scope)
        view = await self.engine.get_run(run_id_of(scope))
        require_visible(principal, view)
        require_whole(principal, "read")
        key: str = scope["path_params"]["stepKey"]
        for step in () if view.steps is UNSET else view.steps:
            if step.key == key:
                return json_answer(encode(step))
        raise NotFoundError("The run has asked for no step with this key")
