"""What operators do to runs, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.errors import (
    ConflictError,
    ForbiddenError,
    OutcomeUnknownError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.model.views import RunView
from stepflow.web.endpoints import RUN_EXAMPLE, encode
from stepflow.web.operations import AnswerEndpoint, Content, Endpoint, Operation, run_id_of
from stepflow.web.policy import require_run, require_scope
from stepflow.web.problems import json_answer
from stepflow.web.schemas import Success

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal
    from stepflow.web.problems import Answer

__all__ = ["CancelRun", "PurgeRun", "ResumeRun", "controlled"]

_ERRORS: Final = (
    ForbiddenError,
    RunNotFoundError,
    ConflictError,
    UnavailableError,
    OutcomeUnknownError,
)
_THE_RUN: Final = {200: Content(description="The run", schema=RunView, example=RUN_EXAMPLE)}


async def controlled(endpoint: Endpoint, scope: AsgiScope) -> tuple[str, Principal]:
    """Return the run in the path and who controls it, after the checks that all of these make."""
    principal = await endpoint.principal(scope)
    run_id = run_id_of(scope)
    await require_run(endpoint.engine, principal, run_id)
    require_scope(principal, "control")
    return run_id, principal


class CancelRun(AnswerEndpoint):
    """Cancel a run."""

    operation = Operation(
        id="cancelRun",
        method="POST",
        path="/runs/{runId}/cancel",
        switch="runs",
        tag="Runs",
        summary="Cancel a run",
        description=(
            "Recorded; the workflow hears `CancelledError` and has 30 s to clean up. Meanwhile the "
            "run's `state` is `cancelling`. A second cancel while it is cancelling is 200."
        ),
        scope="control",
        replies=_THE_RUN,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        run_id, principal = await controlled(self, scope)
        return json_answer(encode(await self.engine.cancel(run_id, by=principal.id)))


class ResumeRun(AnswerEndpoint):
    """Let a run go on that was set aside."""

    operation = Operation(
        id="resumeRun",
        method="POST",
        path="/runs/{runId}/resume",
        switch="runs",
        tag="Runs",
        summary="Let a run go on that was set aside",
        description=(
            "For a run whose `state` is `quarantined` because its code took the process down: it "
            "goes on from its records, and what was counted against it is forgotten. A run that "
            "was not set aside, or whose records cannot be applied, is 409."
        ),
        scope="control",
        replies=_THE_RUN,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        run_id, principal = await controlled(self, scope)
        return json_answer(encode(await self.engine.resume(run_id, by=principal.id)))


class PurgeRun(AnswerEndpoint):
    """Forget a finished run."""

    operation = Operation(
        id="purgeRun",
        method="DELETE",
        path="/runs/{runId}",
        switch="runs",
        tag="Runs",
        summary="Forget a finished run",
        description="With its events and its idempotency key. A live run is 409: cancel it first.",
        scope="control",
        replies={200: Content(description="It is gone", schema=Success, example={"success": True})},
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        run_id, principal = await controlled(self, scope)
        await self.engine.purge(run_id, by=principal.id)
        return json_answer(b'{"success":true}')
