"""What operators do to runs, over HTTP.

All ask for the scope `control` and answer when it is durable. The order of checks is that of every
route: who calls, the id's shape, whether the run exists, the right to it, the body; then the run's
state, whose refusal is 409. A reason is kept with the run, with who did it and when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import UNSET

from stepflow.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RunNotFoundError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.model.views import RunView
from stepflow.web.asgi import query_of, read_json
from stepflow.web.endpoints import RUN_EXAMPLE, encode, trigger_result
from stepflow.web.operations import (
    AnswerEndpoint,
    Content,
    Endpoint,
    Operation,
    Param,
    run_id_of,
    taking_work,
)
from stepflow.web.policy import require_run, require_scope
from stepflow.web.problems import json_answer
from stepflow.web.schemas import CancelRequest, ForkRequest, ReasonRequest, Success, TriggerResult

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal
    from stepflow.web.problems import Answer

__all__ = [
    "CancelRun",
    "ForkRun",
    "PauseRun",
    "PurgeRun",
    "ResumeRun",
    "RetryRun",
    "controlled",
    "read_request",
]

T = TypeVar("T")

_BODY_MAX: Final = 16 * 1024
_ERRORS: Final = (
    InvalidInputError,
    ForbiddenError,
    RunNotFoundError,
    ConflictError,
    PayloadTooLargeError,
    UnavailableError,
    OutcomeUnknownError,
)
_REASON: Final = Content(
    description="Why", schema=ReasonRequest, example={"reason": "the bank is down"}
)
_THE_RUN: Final = {200: Content(description="The run", schema=RunView, example=RUN_EXAMPLE)}


async def controlled(endpoint: Endpoint, scope: AsgiScope) -> tuple[str, Principal]:
    """Return the run in the path and who controls it, after the checks that all of these make."""
    principal = await endpoint.principal(scope)
    run_id = run_id_of(scope)
    await require_run(endpoint.engine, principal, run_id)
    require_scope(principal, "control")
    return run_id, principal


async def read_request(
    scope: AsgiScope, receive: Receive, kind: type[T], limit: int = _BODY_MAX
) -> T:
    """Return the request's body as that struct; an empty one, or `null`, has all its defaults.

    Raises `InvalidInputError`, naming the member, for anything else.
    """
    body = await read_json(scope, receive, limit)
    if body.strip() == b"null":
        body = b"{}"
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"body: {error}") from None


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
            "run's `state` is `cancelling`. A second cancel while it is cancelling is 200. With "
            "`force` the run, and the children that it awaits, end at once, without any cleanup."
        ),
        scope="control",
        body=Content(
            description="Why, and how", schema=CancelRequest, example={"reason": "ordered twice"}
        ),
        replies=_THE_RUN,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        run_id, principal = await controlled(self, scope)
        asked = await read_request(scope, receive, CancelRequest)
        view = await self.engine.cancel(
            run_id, by=principal.id, reason=asked.reason, force=asked.force
        )
        return json_answer(encode(view))


class PauseRun(AnswerEndpoint):
    """Hold a run."""

    operation = Operation(
        id="pauseRun",
        method="POST",
        path="/runs/{runId}/pause",
        switch="runs",
        tag="Runs",
        summary="Hold a run before its next effect",
        description=(
            "Steps that run are let end; timers fire and events are taken, and the workflow hears "
            "of them when the run is resumed. Nothing new begins. Its `state` is `paused`, also "
            "after a restart. A run that has ended, is being cancelled or is paused is 409."
        ),
        scope="control",
        body=_REASON,
        replies=_THE_RUN,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        run_id, principal = await controlled(self, scope)
        asked = await read_request(scope, receive, ReasonRequest)
        view = await self.engine.pause(run_id, by=principal.id, reason=asked.reason)
        return json_answer(encode(view))


class ResumeRun(AnswerEndpoint):
    """Let a run go on that is paused or was set aside."""

    operation = Operation(
        id="resumeRun",
        method="POST",
        path="/runs/{runId}/resume",
        switch="runs",
        tag="Runs",
        summary="Let a run go on that is paused or was set aside",
        description=(
            "A paused run goes on. So does one whose `state` is `quarantined` because its code "
            "took the process down; what was counted against it is forgotten. A run that is "
            "neither, or whose records cannot be applied, is 409."
        ),
        scope="control",
        body=_REASON,
        replies=_THE_RUN,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        run_id, principal = await controlled(self, scope)
        asked = await read_request(scope, receive, ReasonRequest)
        view = await self.engine.resume(run_id, by=principal.id, reason=asked.reason)
        return json_answer(encode(view))


class RetryRun(AnswerEndpoint):
    """Let a failed or cancelled run go on."""

    operation = Operation(
        id="retryRun",
        method="POST",
        path="/runs/{runId}/retry",
        switch="runs",
        tag="Runs",
        summary="Let a run go on from where it failed",
        description=(
            "Under its own id and token. What is recorded is kept and not run again; the step that "
            "failed is made again. What cleaned up, compensations and what they undid are taken "
            "back. Only a failed or cancelled run is retried, any other is 409."
        ),
        scope="control",
        body=_REASON,
        replies=_THE_RUN,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        run_id, principal = await controlled(self, scope)
        taking_work(self.engine)
        asked = await read_request(scope, receive, ReasonRequest)
        view = await self.engine.retry(run_id, by=principal.id, reason=asked.reason)
        return json_answer(encode(view))


class ForkRun(AnswerEndpoint):
    """Start a run from a step of another."""

    operation = Operation(
        id="forkRun",
        method="POST",
        path="/runs/{runId}/fork",
        switch="runs",
        tag="Runs",
        summary="Start a run from a step of this one",
        description=(
            "The fork keeps what was recorded before `fromStep` was first asked for, and goes on "
            "from there with a stream of its own. `input` is another input, `results` pins what "
            "steps come to. Steps go by key; a name means its first occurrence; a step that the "
            "run does not have is 400."
        ),
        scope="control",
        body=Content(
            description="From where, and with what",
            schema=ForkRequest,
            example={"fromStep": "charge", "results": {"reserve[sku-7]": {"held": True}}},
            required=True,
        ),
        replies={
            200: Content(
                description="The fork, durable",
                schema=TriggerResult,
                example={"runId": RUN_EXAMPLE["id"], "publicAccessToken": "pat_AQFd0k…"},
            )
        },
        errors=(*_ERRORS, WorkflowNotFoundError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        run_id, principal = await controlled(self, scope)
        taking_work(self.engine)
        limit = self.settings.input_bytes_max + self.settings.result_bytes_max + _BODY_MAX
        asked = await read_request(scope, receive, ForkRequest, limit)
        fork_id = await self.engine.fork(
            run_id,
            asked.from_step,
            body=None if asked.input is UNSET else bytes(asked.input),
            results={step: bytes(value) for step, value in asked.results.items()},
            by=principal.id,
            reason=asked.reason,
        )
        token, _ = self.engine.public_token(fork_id)
        return json_answer(trigger_result(fork_id, token))


class PurgeRun(AnswerEndpoint):
    """Forget a finished run."""

    operation = Operation(
        id="purgeRun",
        method="DELETE",
        path="/runs/{runId}",
        switch="runs",
        tag="Runs",
        summary="Forget a finished run",
        description=(
            "With its events and its idempotency key; who did it stays in the audit. A live run is "
            "409: cancel it first."
        ),
        scope="control",
        params=(
            Param(
                name="reason",
                place="query",
                schema={"type": "string", "maxLength": 1000},
                description="Why: kept in the audit.",
                example="asked for by its owner",
            ),
        ),
        replies={200: Content(description="It is gone", schema=Success, example={"success": True})},
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        run_id, principal = await controlled(self, scope)
        reason = query_of(scope, "reason") or ""
        await self.engine.purge(run_id, by=principal.id, reason=reason)
        return json_answer(b'{"success":true}')
