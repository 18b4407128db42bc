"""What HTTP, client, CLI and dashboard ask of an engine: whatever satisfies `Engine` will do.

Every answer is durable when it is given, refusals included. Errors are those of `stepflow.errors`
with a `.code` and a `.status`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepflow.errors import ApiError
    from stepflow.model.audit import AuditEntry, AuditPage
    from stepflow.model.event_filter import EventFilter
    from stepflow.model.schedules import BackfillView, ScheduleView
    from stepflow.model.shared_table import SharedTable
    from stepflow.model.system import SystemView, WorkflowPace
    from stepflow.model.views import RunEvent, RunPage, RunView, WorkflowView
    from stepflow.model.why import WhyView

__all__ = [
    "CAPABILITIES",
    "EVENTS_MAX",
    "AllStream",
    "BulkAction",
    "BulkReport",
    "BulkSkipped",
    "Engine",
    "EngineState",
    "KeyAction",
    "RunFilter",
]
__all__ += ["RunStream", "WaitingEvent"]

EngineState = Literal["stopped", "starting", "ready", "read-only", "stalled", "draining", "failed"]
"""`read-only`: the disk is full. `stalled`: it does not answer, and nothing new is decided."""


CAPABILITIES: Final[tuple[str, ...]] = (
    "audit",
    "bulk",
    "children",
    "compensation",
    "control",
    "delay",
    "emits",
    "event-types",
    "events",
    "export",
    "fork",
    "idempotency",
    "limits",
    "passing-emits",
    "purge",
    "restart",
    "schedules",
    "stream-all",
    "system",
    "why",
)
"""What an engine may leave out beside the published contract; docs/cluster.md says what each is."""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a list shows. Times are milliseconds since 1970; empty means all."""

    status: frozenset[str] = frozenset()
    workflow_id: str = ""
    tag: str = ""
    created_after_ms: int = 0
    created_before_ms: int = 0
    ids: frozenset[str] = frozenset()

    @property
    def takes_all(self) -> bool:
        """Whether it leaves out nothing."""
        return self == RunFilter()


BulkAction = Literal["cancel", "pause", "resume", "retry", "purge"]
KeyAction = Literal["make", "revoke"]


class BulkSkipped(msgspec.Struct, frozen=True, rename="camel"):
    """A run that was asked for and not acted on, and why."""

    run_id: str
    error: str
    code: str


class BulkReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What one call of a bulk action did, or would do."""

    action: BulkAction
    dry_run: bool
    matched: int
    """Runs of this call that the filter takes and the action is for."""
    run_ids: list[str]
    """Which were acted on, or would be; newest first."""
    skipped: list[BulkSkipped]
    next_cursor: str | None
    """Where the next call goes on; None when there is nothing left."""


EVENTS_MAX = 1000
"""So many awaited events one page has."""


class WaitingEvent(msgspec.Struct, frozen=True, rename="camel"):
    """One row of `GET /events`: who waits for the id. `run_ids` holds the first 100."""

    event_id: str
    runs: int
    run_ids: tuple[str, ...]


class RunStream(Protocol):
    """One subscriber of one run: a cursor into its durable events. Close it when done."""

    @property
    def ended(self) -> bool:
        """Whether everything up to the run's end was read, or the engine shuts streams down."""
        ...

    @property
    def finished(self) -> bool:
        """Whether `ended` is because the run has ended (not because the engine drains)."""
        ...

    @property
    def cursor(self) -> int:
        """The id of the last event read."""
        ...

    def read(self, nbytes: int) -> bytes:
        """Return the next durable events as server-sent event bytes, about `nbytes` or none."""
        ...

    def read_events(self, limit: int) -> list[RunEvent]:
        """Return the next durable events, at most `limit`; may be empty."""
        ...

    async def changed(self) -> None:
        """Return once there may be more to read, or the stream has ended."""
        ...

    def close(self) -> None:
        """Give the subscription back; harmless twice."""
        ...


class AllStream(RunStream, Protocol):
    """One reader of all runs: never `finished`. Its `cursor` is a place in the whole journal.

    The data of its events has the run's `runId` and `workflowId`. A `resync` says that what came
    before is not kept any more, or was another store's.
    """

    @property
    def stream_cursor(self) -> str:
        """Where another reader would go on; empty while a `resync` is still to be read."""
        ...


class Engine(Protocol):
    """A durable workflow engine."""

    @property
    def state(self) -> EngineState:
        """Where the engine is in its life."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """What of `CAPABILITIES` it has; the rest is refused with `NotSupportedError`."""
        ...

    @property
    def keys(self) -> SharedTable | None:
        """The API keys that all its processes share; None where the data directory has them."""
        ...

    @property
    def sessions(self) -> SharedTable | None:
        """The logins that all its processes share; None where the data directory has them."""
        ...

    async def start(self) -> None:
        """Recover and run; returns when everything is served. Counted: twice is harmless."""
        ...

    async def stop(self) -> None:
        """Drain, put runs to sleep, flush and close."""
        ...

    def begin_shutdown(self) -> None:
        """End streams and take no new work."""
        ...

    def workflows(self) -> Sequence[WorkflowView]:
        """Return what can be triggered, by id."""
        ...

    def has_workflow(self, workflow_id: str) -> bool:
        """Say whether the workflow is registered."""
        ...

    async def trigger(
        self,
        workflow_id: str,
        body: bytes,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        by: str = "",
        tags: Sequence[str] = (),
        delay_ms: int = 0,
        traceparent: str = "",
    ) -> str:
        """Start a run with the JSON text `body` as its input and return its id, durable.

        `traceparent` is the caller's W3C trace context: the run joins it, where runs are traced.

        Raises `WorkflowNotFoundError`, `InvalidInputError`, `PayloadTooLargeError`,
        `ConflictError` (a taken run id; another input under a used key), `UnavailableError`,
        `OutcomeUnknownError`.
        """
        ...

    async def trigger_many(
        self,
        workflow_id: str,
        bodies: Sequence[bytes],
        *,
        by: str = "",
        tags: Sequence[str] = (),
        delay_ms: int = 0,
        traceparent: str = "",
    ) -> list[str | ApiError]:
        """Start many runs in one durable write: a run id or the error of each, in order."""
        ...

    async def require_run(self, run_id: str) -> None:
        """Return when the run exists, durably; else raise `RunNotFoundError`."""
        ...

    async def get_run(self, run_id: str) -> RunView:
        """Return the run, or raise `RunNotFoundError`."""
        ...

    async def export_run(self, run_id: str) -> bytes:
        """Return the run with all its records as its snapshot line, or raise `RunNotFoundError`."""
        ...

    async def wait(self, run_id: str) -> RunView:
        """Return the run, without its steps, once it has ended.

        Raises `RunNotFoundError`, and `UnavailableError` when the engine stops first.
        """
        ...

    async def list_runs(self, where: RunFilter, *, limit: int, cursor: str | None) -> RunPage:
        """Return a page of runs, newest first; `InvalidInputError` for a bad cursor."""
        ...

    async def notify(
        self, event_id: str, body: bytes, *, run_id: str | None = None, by: str = ""
    ) -> int:
        """Deliver the event with the JSON text `body`; return how many runs it reached.

        Raises `EventNotFoundError` when it reached none, `InvalidInputError` when every taker's
        type refuses the payload, `RateLimitedError` when a run keeps too many.
        """
        ...

    async def cancel(
        self, run_id: str, *, by: str = "", reason: str = "", force: bool = False
    ) -> RunView:
        """Cancel a live run, by `force` without its cleanup; `ConflictError` when it has ended."""
        ...

    async def pause(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        """Hold a live run before its next effect.

        `ConflictError` when it has ended, is being cancelled or is paused already.
        """
        ...

    async def resume(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        """Let a run go on that is paused or set aside; else `ConflictError`."""
        ...

    async def retry(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        """Let a failed or cancelled run go on from where it failed; else `ConflictError`."""
        ...

    async def fork(
        self,
        run_id: str,
        from_step: str,
        *,
        body: bytes | None = None,
        results: Mapping[str, bytes] | None = None,
        by: str = "",
        reason: str = "",
    ) -> str:
        """Start a run with what this one had recorded before `from_step`; return its id, durable.

        `body` is another input, `results` are pinned results by step, as JSON texts. A step is
        named by its key, or by its name where its first occurrence is meant. Raises
        `InvalidInputError` for a step that the run does not have or an input that does not fit,
        `WorkflowNotFoundError`, `PayloadTooLargeError`, `ConflictError`.
        """
        ...

    async def purge(self, run_id: str, *, by: str = "", reason: str = "") -> None:
        """Forget a finished run; `ConflictError` when it is live."""
        ...

    async def list_schedules(self) -> list[ScheduleView]:
        """Return all schedules of the registered workflows."""
        ...

    async def get_schedule(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        """Return a schedule, with so many of its times to come; `NotFoundError` for none such."""
        ...

    async def pause_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        """Let the schedule start nothing until it is resumed; harmless twice."""
        ...

    async def resume_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        """Let it go on from now; harmless twice."""
        ...

    async def trigger_schedule(self, schedule_id: str, *, by: str = "") -> str:
        """Start a run of it now and return its id.

        Raises `ConflictError` where one is under way and the schedule starts none beside it.
        """
        ...

    async def backfill_schedule(
        self, schedule_id: str, begin_ms: int, end_ms: int, *, dry_run: bool = False, by: str = ""
    ) -> BackfillView:
        """Start a run for each of its times in the range, both ends included, that has none."""
        ...

    async def why(self, run_id: str) -> WhyView:
        """Return what the run waits for, or raise `RunNotFoundError`."""
        ...

    async def run_audit(self, run_id: str) -> list[AuditEntry]:
        """Return what was done to the run, oldest first, or raise `RunNotFoundError`."""
        ...

    async def audit(
        self, *, run_id: str = "", limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        """Return the newest acts on all runs, or on one, which may be purged; newest first.

        The table is bounded: the oldest acts are forgotten.
        """
        ...

    def check_key_act(self) -> None:
        """Return when `note_key_act` can be done now, else raise `UnavailableError`."""
        ...

    async def note_key_act(self, action: KeyAction, key_id: str, *, name: str, by: str) -> None:
        """Keep, in `audit`, that `by` made or revoked an API key; durable on return.

        Raises `UnavailableError` where nothing can be kept.
        """
        ...

    async def bulk(
        self,
        action: BulkAction,
        where: RunFilter,
        *,
        dry_run: bool = False,
        force: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        by: str = "",
        reason: str = "",
    ) -> BulkReport:
        """Do one thing to all runs that the filter takes, newest first, so many a call.

        Runs in a state that the action is not for are left out; one that cannot be acted on is in
        `skipped`. Runs that are started meanwhile are not reached. Raises `InvalidInputError` for a
        filter that takes everything, and for a bad cursor.
        """
        ...

    async def stream(self, run_id: str, after: int | None = None) -> RunStream:
        """Subscribe: history after event id `after` (all when `None`), then what follows.

        Raises `RunNotFoundError`. An id that was not reached yet gives a `resync` event first.
        """
        ...

    async def stream_all(self, where: EventFilter, after: str | None = None) -> AllStream:
        """Subscribe to the events of all runs that the filter takes, from now on.

        `after` is a cursor, of an event or of a page of runs: then precisely what follows it, or a
        `resync` event first when that is not kept any more.
        """
        ...

    async def waiting_events(
        self, *, limit: int = EVENTS_MAX, cursor: str = ""
    ) -> list[WaitingEvent]:
        """Return which events live runs wait for, in the order of their ids: those after `cursor`.

        Fewer than `limit` are the last ones.
        """
        ...

    def public_token(self, run_id: str, ttl_s: float | None = None) -> tuple[str, int]:
        """Return a read-only token of the run and its expiry in ms since 1970."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return gauges and counters by their Prometheus name."""
        ...

    async def system(self) -> SystemView:
        """Return the service as operators see it at this moment, or raise `UnavailableError`."""
        ...

    async def workflow_pace(self, workflow_id: str) -> WorkflowPace:
        """Return how fast the workflow's runs come and go, or raise `WorkflowNotFoundError`."""
        ...

    def readiness(self) -> Mapping[str, object]:
        """Return the body of `GET /ready`: state and what is degraded, as JSON values."""
        ...
