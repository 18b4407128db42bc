"""Schedules over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)
from stepflow.model.schedules import BackfillView, ScheduleView
from stepflow.web.additions import moment_ms
from stepflow.web.asgi import query_of, read_json
from stepflow.web.endpoints import RUN_EXAMPLE, encode, trigger_result
from stepflow.web.operations import AnswerEndpoint, Content, Operation, Param, taking_work
from stepflow.web.policy import require_scope, require_whole
from stepflow.web.problems import json_answer
from stepflow.web.schemas import BackfillRequest, ScheduleList, TriggerResult

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal
    from stepflow.web.problems import Answer

__all__ = [
    "BackfillSchedule",
    "GetSchedule",
    "ListSchedules",
    "PauseSchedule",
    "ResumeSchedule",
    "TriggerSchedule",
]

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "nightly-report",
    "workflowId": "nightly-report",
    "spec": "0 2 * * * Europe/Berlin",
    "state": "active",
    "catchUp": "one",
    "overlap": "skip",
    "nextAt": "2024-01-16T01:00:00.000Z",
    "lastAt": "2024-01-15T01:00:00.000Z",
    "lastRunId": RUN_EXAMPLE["id"],
    "liveRunIds": [],
    "fired": 14,
    "skipped": 0,
}
_REPLY: Final = {200: Content(description="The schedule", schema=ScheduleView, example=_EXAMPLE)}
_ERRORS: Final = (ForbiddenError, NotFoundError, UnavailableError, OutcomeUnknownError)
_BODY_BYTES_MAX: Final = 4096
_TIMES_MAX: Final = 100


class _OfSchedule(AnswerEndpoint):
    """One schedule, and who acts on it."""

    async def acting(self, scope: AsgiScope, wanted: str) -> tuple[str, Principal]:
        """Return the schedule in the path and who asks, after the checks that all of these make."""
        principal = await self.principal(scope)
        schedule_id: str = scope["path_params"]["scheduleId"]
        await self.engine.get_schedule(schedule_id)
        if wanted == "read":
            require_whole(principal, "read")
        else:
            require_scope(principal, wanted)  # type: ignore[arg-type]
        return schedule_id, principal


class ListSchedules(AnswerEndpoint):
    """List what starts by itself."""

    operation = Operation(
        id="listSchedules",
        method="GET",
        path="/schedules",
        switch="runs",
        tag="Schedules",
        summary="List schedules",
        scope="read",
        replies={
            200: Content(
                description="The schedules of the registered workflows",
                schema=ScheduleList,
                example={"schedules": [_EXAMPLE]},
            )
        },
        errors=(ForbiddenError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        return json_answer(b'{"schedules":%b}' % encode(await self.engine.list_schedules()))


class GetSchedule(_OfSchedule):
    """Read one schedule."""

    operation = Operation(
        id="getSchedule",
        method="GET",
        path="/schedules/{scheduleId}",
        switch="runs",
        tag="Schedules",
        summary="Read a schedule",
        scope="read",
        params=(
            Param(
                name="next",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": _TIMES_MAX},
                description="Tell so many of its times to come, in `next`.",
                example=5,
            ),
        ),
        replies=_REPLY,
        errors=(ForbiddenError, NotFoundError, InvalidInputError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        schedule_id, _ = await self.acting(scope, "read")
        text = query_of(scope, "next")
        if text is None:
            return json_answer(encode(await self.engine.get_schedule(schedule_id)))
        known = text.isascii() and text.isdigit() and len(text) <= 3
        if not known or not 1 <= int(text) <= _TIMES_MAX:
            raise InvalidInputError(f"next: write a whole number from 1 to {_TIMES_MAX}")
        return json_answer(encode(await self.engine.get_schedule(schedule_id, times=int(text))))


class PauseSchedule(_OfSchedule):
    """Let a schedule start nothing."""

    operation = Operation(
        id="pauseSchedule",
        method="POST",
        path="/schedules/{scheduleId}/pause",
        switch="runs",
        tag="Schedules",
        summary="Pause a schedule",
        description="It starts nothing until it is resumed, over restarts too. Harmless twice.",
        scope="control",
        replies=_REPLY,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        schedule_id, principal = await self.acting(scope, "control")
        return json_answer(encode(await self.engine.pause_schedule(schedule_id, by=principal.id)))


class ResumeSchedule(_OfSchedule):
    """Let a schedule go on."""

    operation = Operation(
        id="resumeSchedule",
        method="POST",
        path="/schedules/{scheduleId}/resume",
        switch="runs",
        tag="Schedules",
        summary="Let a schedule go on",
        description="From now on: what was due while it was paused gets no run. Harmless twice.",
        scope="control",
        replies=_REPLY,
        errors=_ERRORS,
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        schedule_id, principal = await self.acting(scope, "control")
        return json_answer(encode(await self.engine.resume_schedule(schedule_id, by=principal.id)))


class TriggerSchedule(_OfSchedule):
    """Start a run of a schedule now."""

    operation = Operation(
        id="triggerSchedule",
        method="POST",
        path="/schedules/{scheduleId}/trigger",
        switch="runs",
        tag="Schedules",
        summary="Start a run of a schedule now",
        description=(
            "With the schedule's input, also while it is paused; its times do not change. Where a "
            "run of it is under way and its `overlap` is `skip`, 409."
        ),
        scope="control",
        replies={
            200: Content(
                description="The run is started",
                schema=TriggerResult,
                example={"runId": RUN_EXAMPLE["id"], "publicAccessToken": "pat_AQFd0k…"},
            )
        },
        errors=(*_ERRORS, ConflictError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        schedule_id, principal = await self.acting(scope, "control")
        taking_work(self.engine)
        run_id = await self.engine.trigger_schedule(schedule_id, by=principal.id)
        token, _ = self.engine.public_token(run_id)
        return json_answer(trigger_result(run_id, token))


class BackfillSchedule(_OfSchedule):
    """Start what a schedule would have started."""

    operation = Operation(
        id="backfillSchedule",
        method="POST",
        path="/schedules/{scheduleId}/backfill",
        switch="runs",
        tag="Schedules",
        summary="Start the runs of past times",
        description=(
            "A run for each time of the range, both ends included, that has none: asking twice "
            "starts nothing twice. At most 1,000 times. `dryRun` tells the times alone. Where the "
            "schedule's `overlap` is `queue` or `cancel` the runs go on one after the other."
        ),
        scope="control",
        body=Content(
            description="The range",
            schema=BackfillRequest,
            example={"from": "2024-01-01T00:00:00Z", "to": "2024-01-07T23:59:59Z", "dryRun": True},
            required=True,
        ),
        replies={
            200: Content(
                description="What was started, or would be",
                schema=BackfillView,
                example={
                    "runs": [{"scheduledAt": "2024-01-01T01:00:00.000Z"}],
                    "existing": 6,
                    "dryRun": True,
                },
            )
        },
        errors=(*_ERRORS, InvalidInputError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        schedule_id, principal = await self.acting(scope, "control")
        taking_work(self.engine)
        body = await read_json(scope, receive, _BODY_BYTES_MAX)
        try:
            asked = msgspec.json.decode(body, type=BackfillRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"The body is no range of time: {error}") from None
        view = await self.engine.backfill_schedule(
            schedule_id,
            moment_ms({"from": asked.begin}, "from"),
            moment_ms({"to": asked.end}, "to"),
            dry_run=asked.dry_run,
            by=principal.id,
        )
        return json_answer(encode(view))
