"""The bodies of the API that are not views of the model, as msgspec structs.

One declaration serves twice: the document is made from these, and requests are read with them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from stepflow.engine.protocol import BulkAction
from stepflow.model.audit import AuditEntry
from stepflow.model.run import RunStatus

__all__ = ["BatchFailure", "EventList", "Health", "Problem", "ProblemCode", "Readiness", "RunError"]
__all__ += ["CompleteEvent", "EmitEvent", "ErrorEvent", "ExpiredEvent", "ProgressEvent"]
__all__ += ["BackfillRequest", "CancelRequest", "ForkRequest", "ReasonRequest", "ScheduleList"]
__all__ += ["StatusEvent", "StepEvent"]
__all__ += ["Success", "TokenGrant", "TokenRequest", "TriggerResult", "WorkflowList"]
__all__ += ["WideTokenRequest"]
__all__ += ["BulkFilter", "BulkRequest", "RunAudit"]
__all__ += ["KeyList", "KeyRequest", "KeyView", "LoginRequest", "MadeKey", "SessionView"]

ProblemCode = Literal[
    "WORKFLOW_NOT_FOUND",
    "RUN_NOT_FOUND",
    "EVENT_NOT_FOUND",
    "UNAUTHORIZED",
    "INVALID_INPUT",
    "PAYLOAD_TOO_LARGE",
    "METHOD_NOT_ALLOWED",
    "NOT_FOUND",
    "FORBIDDEN",
    "CONFLICT",
    "RATE_LIMITED",
    "UNAVAILABLE",
    "OUTCOME_UNKNOWN",
    "NOT_SUPPORTED",
    "INTERNAL",
]


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    """The base of all of them: camelCase on the wire."""


class Problem(_Body, frozen=True, kw_only=True):
    """Why a request was refused. Every response that is not 2xx has this shape."""

    error: str
    code: ProblemCode


class TriggerResult(_Body, frozen=True, kw_only=True):
    """The new run, durable, and a token with which a browser may watch it."""

    run_id: str
    public_access_token: str


class BatchFailure(_Body, frozen=True, kw_only=True):
    """Why one input of a batch started no run."""

    error: str
    code: ProblemCode


class Success(_Body, frozen=True, kw_only=True):
    """It is done, and durable."""

    success: Literal[True]


ScopeName = Literal["trigger", "read", "notify", "control", "admin"]


class LoginRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key or a JWT."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class SessionView(_Body, frozen=True, kw_only=True):
    """Who calls, and what they may do."""

    name: str
    kind: Literal["key", "jwt", "user", "anonymous"]
    scopes: list[ScopeName]
    session: bool
    """Whether the caller came by a session's cookie, and can log out."""
    expires_at: str | None


KeySeconds = Annotated[float, msgspec.Meta(ge=60, le=3650 * 86_400)]
KeyText = Annotated[str, msgspec.Meta(pattern=r"^(?:[1-9][0-9]{0,3}[mh]|[1-9][0-9]{0,2}d)$")]


class KeyRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made. Without `scopes`: all that the caller has but `admin`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    scopes: Annotated[list[ScopeName], msgspec.Meta(min_length=1, max_length=5)] | UnsetType = UNSET
    ttl: KeySeconds | KeyText | None = None


class KeyView(_Body, frozen=True, kw_only=True):
    """A key that was made here; never the key itself."""

    id: str
    name: str
    scopes: list[ScopeName]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    created_by: str
    """The principal who asked for it; empty for the command line."""
    revoked_by: str


class KeyList(_Body, frozen=True, kw_only=True):
    """The keys of `keys.json`, the revoked too, oldest first."""

    keys: list[KeyView]


class MadeKey(KeyView, frozen=True, kw_only=True):
    """A new key, this once: only its hash is kept."""

    key: str


class ScheduleList(_Body, frozen=True, kw_only=True):
    """What starts by itself."""

    schedules: list[Any]


class BackfillRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A range of time, both ends included."""

    begin: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    dry_run: bool = False


class Health(_Body, frozen=True, kw_only=True):
    """The process serves."""

    status: Literal["ok"]
    timestamp: str


class CodeCheck(_Body, frozen=True, kw_only=True):
    """What the code makes of the live runs that a start found."""

    status: Literal["running", "complete", "incomplete", "failed"]
    at: str
    runs: int
    verdicts: dict[str, int]
    diverging_workflows: list[str]


class Readiness(_Body, frozen=True, kw_only=True):
    """Requests are served; what is degraded all the same."""

    status: Literal["ready", "read-only"]
    timestamp: str
    degraded: dict[str, Any]
    check: CodeCheck | UnsetType = UNSET


# The whole range in each unit, and nothing beyond: what the schema allows is granted.
TtlSeconds = Annotated[float, msgspec.Meta(ge=60, le=30 * 86_400)]
TtlText = Annotated[
    str, msgspec.Meta(pattern=r"^(?:[1-9][0-9]{0,3}m|[1-9][0-9]?h|(?:[1-9]|[12][0-9]|30)d)$")
]


class TokenRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the token is to be good: seconds, or `"15m"`, `"2h"`, `"7d"`; to 30 days."""

    ttl: TtlSeconds | TtlText | None = None


class WideTokenRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For which runs the token is to be good, by `tag` or by `runIds`, and for how long."""

    tag: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    run_ids: (
        Annotated[
            list[Annotated[str, msgspec.Meta(pattern="^run_[A-Za-z0-9]{8,64}$")]],
            msgspec.Meta(min_length=1, max_length=100),
        ]
        | None
    ) = None
    ttl: TtlSeconds | TtlText | None = None


Reason = Annotated[str, msgspec.Meta(max_length=1000)]


class ReasonRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it is done: kept with the run, with who did it and when."""

    reason: Reason = ""


class CancelRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the run is cancelled, and whether its cleanup is waited for."""

    reason: Reason = ""
    force: bool = False


class ForkRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which step the fork goes on, with another input and pinned results where given.

    A step is named by its key, or by its name where its first occurrence is meant.
    """

    from_step: str
    input: msgspec.Raw | UnsetType = UNSET
    results: dict[str, msgspec.Raw] = {}
    reason: Reason = ""


class BulkFilter(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs; what is left out leaves out nothing."""

    status: list[str] = []
    workflow_id: str = ""
    tag: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None
    ids: Annotated[list[str], msgspec.Meta(max_length=1000)] = []


class BulkRequest(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One act on all runs that the filter takes."""

    action: BulkAction
    filter: BulkFilter
    dry_run: bool = False
    force: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cursor: str | None = None
    reason: Reason = ""


class RunAudit(_Body, frozen=True, kw_only=True):
    """What was done to a run."""

    audit: list[AuditEntry]


class TokenGrant(_Body, frozen=True, kw_only=True):
    """A read-only token, and when it ends."""

    public_access_token: str
    expires_at: str


class NotUndone(_Body, frozen=True, kw_only=True):
    """A step that was not undone, and why."""

    name: str
    key: str
    error: RunError


class RunError(_Body, frozen=True, kw_only=True):
    """Why a run or a step failed."""

    type: str
    message: str
    step: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    data: Any | UnsetType = UNSET
    compensation: list[NotUndone] | UnsetType = UNSET
    """Steps that were not undone, last completed first: a hundred at most."""
    compensation_more: int | UnsetType = UNSET
    """How many there are more."""


class EventList(_Body, frozen=True, kw_only=True):
    """Which events live runs wait for, in the order of their ids."""

    events: list[Any]
    next_cursor: str | UnsetType = UNSET
    """Where the next page goes on, if there is one."""


class WorkflowList(_Body, frozen=True, kw_only=True):
    """What can be triggered."""

    workflows: list[Any]


# ---------------------------------------------------------------- the data of a stream's events


class StatusEvent(_Body, frozen=True, kw_only=True):
    """`event: status`: the run's status changed, or something began."""

    status: RunStatus
    step_name: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    due_at: str | UnsetType = UNSET
    event_id: str | UnsetType = UNSET
    child_run_id: str | UnsetType = UNSET
    restarts: int | UnsetType = UNSET
    state: str | UnsetType = UNSET
    retry: bool | UnsetType = UNSET


class StepEvent(_Body, frozen=True, kw_only=True):
    """`event: step`: a step completed or failed."""

    name: str
    status: Literal["completed", "failed"]
    result: Any | UnsetType = UNSET
    error: RunError | UnsetType = UNSET
    key: str
    kind: str


class CompleteEvent(_Body, frozen=True, kw_only=True):
    """`event: complete`: the run finished; the stream ends."""

    status: Literal["completed"]
    result: Any


class ErrorEvent(_Body, frozen=True, kw_only=True):
    """`event: error`: the run failed or was cancelled; the stream ends."""

    status: Literal["failed", "cancelled"]
    error: RunError


class EmitEvent(_Body, frozen=True, kw_only=True):
    """`event: emit`: what the workflow tells its watchers; `step` and `attempt` from a step."""

    name: str
    data: Any
    step: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET


class ProgressEvent(_Body, frozen=True, kw_only=True):
    """`event: progress`: how far the workflow is."""

    done: float
    total: float | None
    message: str | None


class ExpiredEvent(_Body, frozen=True, kw_only=True):
    """`event: expired`: the credential is over; the stream ends."""

    reason: Literal["expired", "revoked"]
