"""Why a run waits, who did what to it, and one act on many runs, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from stepflow.engine.protocol import BulkReport, RunFilter
from stepflow.errors import (
    ForbiddenError,
    InvalidInputError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.model.audit import AuditPage
from stepflow.model.run import RunStatus
from stepflow.model.why import WhyView
from stepflow.web.asgi import query_of
from stepflow.web.control import read_request
from stepflow.web.endpoints import RUN_EXAMPLE, encode
from stepflow.web.operations import AnswerEndpoint, Content, Operation, Param, run_id_of
from stepflow.web.policy import require_run, require_scope, require_whole
from stepflow.web.problems import json_answer
from stepflow.web.schemas import BulkFilter, BulkRequest, RunAudit

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.web.problems import Answer

__all__ = ["BulkRuns", "GetRunAudit", "GetWhy", "ListAudit"]

_STATUSES: Final[frozenset[str]] = frozenset(get_args(RunStatus))
_BULK_BYTES_MAX: Final = 128 * 1024
_PAGE_MAX: Final = 200
_ACT: Final = {
    "lsn": 42,
    "at": "2024-01-15T10:30:00.000Z",
    "action": "cancel",
    "by": "key:ops",
    "runId": RUN_EXAMPLE["id"],
    "workflowId": "welcome-user",
    "reason": "ordered twice",
}


class GetWhy(AnswerEndpoint):
    """Say why a run waits."""

    operation = Operation(
        id="explainRun",
        method="GET",
        path="/runs/{runId}/why",
        switch="runs",
        tag="Runs",
        summary="Why is it waiting?",
        description=(
            "In one sentence and as data: the event that nobody sent and ids like it that were, "
            "the retry and its last error, the queue, a pause, a child, missing code."
        ),
        scope="read",
        replies={
            200: Content(
                description="What it waits for",
                schema=WhyView,
                example={
                    "summary": "It waits for the event 'paid-42' since 3h 00m; nobody has sent it.",
                    "waitingFor": [
                        {"kind": "event", "name": "paid", "eventId": "paid-42", "says": "…"}
                    ],
                },
            )
        },
        errors=(ForbiddenError, RunNotFoundError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = await self.principal(scope)
        run_id = run_id_of(scope)
        await require_run(self.engine, principal, run_id)
        # It tells of other runs and of ids that others sent.
        require_whole(principal, "read")
        return json_answer(encode(await self.engine.why(run_id)))


class GetRunAudit(AnswerEndpoint):
    """Say what was done to a run."""

    operation = Operation(
        id="getRunAudit",
        method="GET",
        path="/runs/{runId}/audit",
        switch="runs",
        tag="Runs",
        summary="Who did what to this run",
        description="Oldest first; kept as long as the run.",
        scope="read",
        replies={200: Content(description="The acts", schema=RunAudit, example={"audit": [_ACT]})},
        errors=(ForbiddenError, RunNotFoundError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = await self.principal(scope)
        run_id = run_id_of(scope)
        await require_run(self.engine, principal, run_id)
        require_whole(principal, "read")
        return json_answer(b'{"audit":%b}' % encode(await self.engine.run_audit(run_id)))


class ListAudit(AnswerEndpoint):
    """List the newest acts on all runs."""

    operation = Operation(
        id="listAudit",
        method="GET",
        path="/audit",
        switch="runs",
        tag="Service",
        summary="Who did what lately",
        description=(
            "Newest first: acts on all runs, purges and bulk actions among them, also when the run "
            "has gone. The newest 10,000 are kept, and no more than 8 MiB."
        ),
        scope="read",
        params=(
            Param(
                name="runId",
                place="query",
                schema={"type": "string"},
                description="Only acts on this run, which may be purged.",
                example=RUN_EXAMPLE["id"],
            ),
            Param(
                name="limit",
                place="query",
                schema={"type": "integer", "minimum": 1, "maximum": _PAGE_MAX, "default": 50},
                description="How many acts.",
                example=50,
            ),
            Param(
                name="cursor",
                place="query",
                schema={"type": "string"},
                description="The `nextCursor` of the page before.",
            ),
        ),
        replies={
            200: Content(
                description="A page of acts",
                schema=AuditPage,
                example={"audit": [_ACT], "nextCursor": None},
            )
        },
        errors=(InvalidInputError, ForbiddenError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        page = await self.engine.audit(
            run_id=query_of(scope, "runId") or "",
            limit=_limit_of(query_of(scope, "limit")),
            cursor=query_of(scope, "cursor") or None,
        )
        return json_answer(encode(page))


def _limit_of(text: str | None) -> int:
    if text is None:
        return 50
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _PAGE_MAX:
        raise InvalidInputError(f"limit: write a whole number from 1 to {_PAGE_MAX}")
    return int(text)


class BulkRuns(AnswerEndpoint):
    """Do one thing to many runs."""

    operation = Operation(
        id="bulkRuns",
        method="POST",
        path="/runs/bulk",
        switch="runs",
        tag="Runs",
        summary="Do one thing to many runs",
        description=(
            "To all runs that the filter takes, newest first, at most 1,000 a call; `nextCursor` "
            "goes on. With `dryRun` nothing is done. `purge` asks for the scope `admin`, all "
            "else for `control`. An empty filter is 400."
        ),
        scope="control",
        body=Content(
            description="What, and to which runs",
            schema=BulkRequest,
            example={
                "action": "cancel",
                "filter": {"workflowId": "welcome-user", "status": ["running"]},
                "dryRun": True,
            },
            required=True,
        ),
        replies={
            200: Content(
                description="What was done, or would be",
                schema=BulkReport,
                example={
                    "action": "cancel",
                    "dryRun": True,
                    "matched": 1,
                    "runIds": [RUN_EXAMPLE["id"]],
                    "skipped": [],
                    "nextCursor": None,
                },
            )
        },
        errors=(
            InvalidInputError,
            ForbiddenError,
            PayloadTooLargeError,
            UnavailableError,
            OutcomeUnknownError,
        ),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        principal = await self.principal(scope)
        require_whole(principal, "control")
        asked = await read_request(scope, receive, BulkRequest, _BULK_BYTES_MAX)
        if asked.action == "purge":
            require_scope(principal, "admin")
        report = await self.engine.bulk(
            asked.action,
            _where(asked.filter),
            dry_run=asked.dry_run,
            force=asked.force,
            limit=asked.limit,
            cursor=asked.cursor,
            by=principal.id,
            reason=asked.reason,
        )
        return json_answer(encode(report))


def _where(asked: BulkFilter) -> RunFilter:
    unknown = set(asked.status) - _STATUSES
    if unknown:
        raise InvalidInputError(f"filter.status: {min(unknown)!r} is no status")
    return RunFilter(
        status=frozenset(asked.status),
        workflow_id=asked.workflow_id,
        tag=asked.tag,
        created_after_ms=_moment_ms(asked.created_after, "createdAfter"),
        created_before_ms=_moment_ms(asked.created_before, "createdBefore"),
        ids=frozenset(asked.ids),
    )


def _moment_ms(moment: datetime | None, name: str) -> int:
    if moment is None:
        return 0
    if moment.tzinfo is None:
        raise InvalidInputError(f"filter.{name}: write it as 2024-01-15T10:30:00Z")
    return max(int(moment.timestamp() * 1000), 1)
