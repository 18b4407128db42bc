"""An engine in memory, as thin as the protocol allows: runs do what a test tells them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from stepflow.clock import rfc3339
from stepflow.engine.protocol import (
    CAPABILITIES,
    EVENTS_MAX,
    BulkAction,
    BulkReport,
    EngineState,
    KeyAction,
    RunFilter,
    WaitingEvent,
)
from stepflow.errors import (
    ApiError,
    ConflictError,
    EventNotFoundError,
    InvalidInputError,
    NotFoundError,
    RunNotFoundError,
    WorkflowNotFoundError,
)
from stepflow.model.audit import AuditEntry, AuditPage
from stepflow.model.schedules import BackfillView, ScheduleView
from stepflow.model.system import SystemView, WorkflowPace
from stepflow.model.views import RunEvent, RunPage, RunView, WorkflowView, sse_frame
from stepflow.model.why import WhyView
from stepflow.web.system import _EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepflow.auth.public_token import TokenSigner
    from stepflow.model.event_filter import EventFilter

CREATED_MS = 1_705_314_600_000
_encode = msgspec.json.Encoder().encode


class FakeRun:
    def __init__(self, run_id: str, workflow_id: str, body: bytes, tags: tuple[str, ...]) -> None:
        self.view = RunView(
            id=run_id,
            workflow_id=workflow_id,
            status="running",
            input=Raw(body),
            steps=[],
            created_at=rfc3339(CREATED_MS),
            updated_at=rfc3339(CREATED_MS),
            state="active",
        )
        if tags:
            self.view.tags = tags
        self.events: list[RunEvent] = []
        self.subscribers: set[FakeStream] = set()

    @property
    def finished(self) -> bool:
        return self.view.status in {"completed", "failed", "cancelled"}


class FakeStream:
    def __init__(self, engine: FakeEngine, run: FakeRun, after: int | None) -> None:
        self._engine = engine
        self._run = run
        self._cursor = after or 0
        self._wake = asyncio.Event()
        self._resync = b""
        self._listener: Callable[[], None] | None = None
        self.closed = False
        run.subscribers.add(self)
        last = run.events[-1].id if run.events else 0
        if self._cursor > last:
            self._resync = sse_frame(RunEvent(0, "resync", _encode(run.view)))
            self._cursor = last

    @property
    def ended(self) -> bool:
        return self._engine.shutting or (self.finished and not self._resync)

    @property
    def finished(self) -> bool:
        return self._run.finished and self._cursor >= self._run.events[-1].id

    @property
    def cursor(self) -> int:
        return self._cursor

    def read(self, nbytes: int) -> bytes:
        data, self._resync = self._resync, b""
        for event in self._run.events:
            if event.id > self._cursor and len(data) < nbytes:
                data += sse_frame(event)
                self._cursor = event.id
        return data

    def read_events(self, limit: int) -> list[RunEvent]:
        events = [event for event in self._run.events if event.id > self._cursor][:limit]
        self._cursor = events[-1].id if events else self._cursor
        return events

    async def changed(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def listen(self, listener: Callable[[], None] | None) -> None:
        self._listener = listener

    def wake(self) -> None:
        if self._listener is not None:
            self._listener()
        else:
            self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._run.subscribers.discard(self)


class FakeAll:
    """A stream of all runs that says what a test gives it."""

    def __init__(self, engine: FakeEngine, where: EventFilter, after: str | None) -> None:
        self._engine = engine
        self.where = where
        self.after = after
        self.stream_cursor = after or "fake-0"
        self.cursor = 0
        self.finished = False
        self.closed = False
        self._data = b""
        self._wake = asyncio.Event()
        self._listener: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        return self._engine.shutting

    def tell(self, data: bytes, cursor: str) -> None:
        self._data += data
        self.stream_cursor = cursor
        self.wake()

    def read(self, nbytes: int) -> bytes:
        data, self._data = self._data, b""
        return data

    def read_events(self, limit: int) -> list[RunEvent]:
        return []

    async def changed(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def listen(self, listener: Callable[[], None] | None) -> None:
        self._listener = listener

    def wake(self) -> None:
        if self._listener is not None:
            self._listener()
        else:
            self._wake.set()

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    capabilities = frozenset(CAPABILITIES)
    keys = None
    sessions = None

    def __init__(self, signer: TokenSigner, *workflows: str) -> None:
        self.schedule_state: Any = "active"
        self.ranges: list[tuple[int, int]] = []
        self.delays: list[int] = []
        self._signer = signer
        self._workflows = workflows
        self._by_key: dict[tuple[str, str, str], tuple[bytes, str]] = {}
        self.state: EngineState = "ready"
        self.shutting = False
        self.runs: dict[str, FakeRun] = {}
        self.waiting: dict[str, list[str]] = {}
        self.notified: list[tuple[str, bytes, str | None, str]] = []
        self.key_acts: list[tuple[str, str, str, str]] = []
        self.asked: list[tuple[Any, ...]] = []
        """What was done to runs: the action, by whom, why, and the rest."""
        self.raises: Exception | None = None
        self.subscriptions = 0
        self.everything: list[FakeAll] = []

    # ------------------------------------------------------------ what a test tells it

    def begin(self, run_id: str, workflow_id: str = "welcome-user", *tags: str) -> FakeRun:
        run = self.runs[run_id] = FakeRun(run_id, workflow_id, b'{"userId":"user_123"}', tags)
        self.tell(run_id, 1, "status", {"status": "running"})
        return run

    def tell(self, run_id: str, number: int, event: Any, data: Any) -> None:
        run = self.runs[run_id]
        run.events.append(RunEvent(number, event, _encode(data)))
        self._wake(run)

    def complete(self, run_id: str, number: int, result: Any = None) -> None:
        run = self.runs[run_id]
        run.view.status = "completed"
        run.view.state = "completed"
        run.view.result = Raw(_encode(result))
        self.tell(run_id, number, "complete", {"status": "completed", "result": result})

    def _wake(self, run: FakeRun) -> None:
        for stream in list(run.subscribers):
            stream.wake()

    # ------------------------------------------------------------ Engine

    async def start(self) -> None:
        self.state = "ready"

    async def stop(self) -> None:
        self.state = "stopped"

    def begin_shutdown(self) -> None:
        self.state = "draining"
        self.shutting = True
        for run in self.runs.values():
            self._wake(run)
        for stream in self.everything:
            stream.wake()

    def workflows(self) -> Sequence[WorkflowView]:
        return [
            WorkflowView(id=name, description=None, input_schema={}, output_schema={})
            for name in self._workflows
        ]

    def has_workflow(self, workflow_id: str) -> bool:
        return workflow_id in self._workflows

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
        self.delays.append(delay_ms)
        if self.raises:
            raise self.raises
        if workflow_id not in self._workflows:
            raise WorkflowNotFoundError
        _check_json(body)
        seen = self._by_key.get((idempotency_key or "", workflow_id, by))
        if idempotency_key and seen:
            if seen[0] != body:
                raise ConflictError
            return seen[1]
        made = run_id or f"run_{len(self.runs) + 1:022d}"
        self.runs[made] = FakeRun(made, workflow_id, body, tuple(tags))
        self.tell(made, 1, "status", {"status": "running"})
        if idempotency_key:
            self._by_key[idempotency_key, workflow_id, by] = (body, made)
        return made

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
        self.delays.append(delay_ms)
        return [
            InvalidInputError("input is refused")
            if body == b'"refuse"'
            else await self.trigger(workflow_id, body, by=by)
            for body in bodies
        ]

    async def require_run(self, run_id: str) -> None:
        if run_id not in self.runs:
            raise RunNotFoundError

    async def get_run(self, run_id: str) -> RunView:
        if self.raises:
            raise self.raises
        await self.require_run(run_id)
        return self.runs[run_id].view

    async def wait(self, run_id: str) -> RunView:
        return await self.get_run(run_id)

    async def list_runs(self, where: RunFilter, *, limit: int, cursor: str | None) -> RunPage:
        ids = sorted(self.runs, reverse=True)
        if cursor is not None:
            if cursor not in ids:
                raise InvalidInputError("cursor: unknown")
            ids = ids[ids.index(cursor) + 1 :]
        views = [self.runs[run_id].view for run_id in ids]
        views = [view for view in views if not where.status or view.status in where.status]
        views = [view for view in views if where.workflow_id in {"", view.workflow_id}]
        page = [msgspec.structs.replace(view, steps=msgspec.UNSET) for view in views[:limit]]
        more = len(views) > limit
        return RunPage(runs=page, next_cursor=page[-1].id if more else None, stream_cursor="fake-1")

    async def notify(
        self, event_id: str, body: bytes, *, run_id: str | None = None, by: str = ""
    ) -> int:
        if self.raises:
            raise self.raises
        _check_json(body)
        if run_id is not None:
            await self.require_run(run_id)
        if event_id not in self.waiting:
            raise EventNotFoundError
        self.notified.append((event_id, body, run_id, by))
        return len(self.waiting[event_id])

    async def cancel(
        self, run_id: str, *, by: str = "", reason: str = "", force: bool = False
    ) -> RunView:
        run = self._asked(run_id, "cancel", by, reason, force)
        if run.finished:
            raise ConflictError("The run has ended")
        run.view.state = "cancelling"
        return run.view

    async def pause(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        run = self._asked(run_id, "pause", by, reason)
        if run.finished or run.view.state == "paused":
            raise ConflictError("The run has ended or is paused")
        run.view.state = "paused"
        return run.view

    async def resume(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        run = self._asked(run_id, "resume", by, reason)
        if run.view.state not in {"quarantined", "paused"}:
            raise ConflictError("The run was not set aside")
        run.view.state = "active"
        return run.view

    async def retry(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        run = self._asked(run_id, "retry", by, reason)
        if run.view.status not in {"failed", "cancelled"}:
            raise ConflictError("The run has not failed")
        run.view.status, run.view.state = "running", "active"
        return run.view

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
        run = self._asked(run_id, "fork", by, reason, from_step, body, dict(results or {}))
        if from_step == "unknown":
            raise InvalidInputError("fromStep: the run has no step 'unknown'")
        return await self.trigger(run.view.workflow_id, body or bytes(run.view.input), by=by)

    async def export_run(self, run_id: str) -> bytes:
        if self.raises:
            raise self.raises
        await self.require_run(run_id)
        return b'{"k":"run","id":"%b","lsn":0,"records":[]}' % run_id.encode()

    async def purge(self, run_id: str, *, by: str = "", reason: str = "") -> None:
        if not self._asked(run_id, "purge", by, reason).finished:
            raise ConflictError("The run is live: cancel it first")
        del self.runs[run_id]

    async def why(self, run_id: str) -> WhyView:
        await self.require_run(run_id)
        return WhyView(summary="It sleeps.", waiting_for=[])

    async def run_audit(self, run_id: str) -> list[AuditEntry]:
        await self.require_run(run_id)
        return []

    async def audit(
        self, *, run_id: str = "", limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        return AuditPage(audit=[], next_cursor=None)

    def check_key_act(self) -> None:
        if self.raises:
            raise self.raises

    async def note_key_act(self, action: KeyAction, key_id: str, *, name: str, by: str) -> None:
        self.check_key_act()
        self.key_acts.append((action, key_id, name, by))

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
        self.asked.append(("bulk", by, reason, action, where, dry_run, force, limit, cursor))
        return BulkReport(
            action=action, dry_run=dry_run, matched=0, run_ids=[], skipped=[], next_cursor=None
        )

    def _asked(self, run_id: str, *what: Any) -> FakeRun:
        self.asked.append(what)
        return self.runs[run_id]

    async def stream(self, run_id: str, after: int | None = None) -> FakeStream:
        await self.require_run(run_id)
        self.subscriptions += 1
        return FakeStream(self, self.runs[run_id], after)

    async def stream_all(self, where: EventFilter, after: str | None = None) -> FakeAll:
        self.subscriptions += 1
        self.everything.append(FakeAll(self, where, after))
        return self.everything[-1]

    async def waiting_events(
        self, *, limit: int = EVENTS_MAX, cursor: str = ""
    ) -> list[WaitingEvent]:
        return [
            WaitingEvent(event_id=name, runs=len(ids), run_ids=tuple(ids))
            for name, ids in sorted(self.waiting.items())
            if name > cursor
        ][:limit]

    # ------------------------------------------------------------ schedules

    def _schedule(self, schedule_id: str) -> ScheduleView:
        if schedule_id != "nightly":
            raise NotFoundError(f"There is no schedule {schedule_id!r}")
        return ScheduleView(
            id=schedule_id,
            workflow_id="checkout",
            spec="0 2 * * * UTC",
            state=self.schedule_state,
            catch_up="one",
            overlap="skip",
            live_run_ids=[],
            fired=0,
            skipped=0,
        )

    async def list_schedules(self) -> list[ScheduleView]:
        return [self._schedule("nightly")]

    async def get_schedule(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        view = self._schedule(schedule_id)
        if times:
            view.next = [rfc3339(CREATED_MS + n) for n in range(times)]
        return view

    async def pause_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        self.schedule_state = "paused"
        return self._schedule(schedule_id)

    async def resume_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        self.schedule_state = "active"
        return self._schedule(schedule_id)

    async def trigger_schedule(self, schedule_id: str, *, by: str = "") -> str:
        self._schedule(schedule_id)
        return await self.trigger("checkout", b"null", by=by)

    async def backfill_schedule(
        self, schedule_id: str, begin_ms: int, end_ms: int, *, dry_run: bool = False, by: str = ""
    ) -> BackfillView:
        self._schedule(schedule_id)
        self.ranges.append((begin_ms, end_ms))
        return BackfillView(runs=[], existing=2, dry_run=dry_run)

    def public_token(self, run_id: str, ttl_s: float | None = None) -> tuple[str, int]:
        expires_ms = CREATED_MS + int((ttl_s or 86_400) * 1000)
        return self._signer.sign_run(run_id, expires_ms), expires_ms

    async def workflow_pace(self, workflow_id: str) -> WorkflowPace:
        return WorkflowPace(
            workflow_id=workflow_id,
            live=len(self.runs),
            queued=0,
            started_per_s=0.0,
            completed_per_s=0.0,
            failed_per_s=0.0,
            cancelled_per_s=0.0,
            window_s=1.0,
            latency_p50_s=None,
            latency_p99_s=None,
            sampled=0,
        )

    async def system(self) -> SystemView:
        return msgspec.convert(_EXAMPLE, SystemView)

    def metrics(self) -> Mapping[str, float]:
        return {
            "stepflow_runs_live": float(len(self.runs)),
            "stepflow_triggers_total": 3.0,
            'stepflow_runs{status="running"}': 2.0,
            'stepflow_runs{status="completed"}': 1.0,
        }

    def readiness(self) -> Mapping[str, object]:
        stamp = rfc3339(CREATED_MS)
        return {"status": self.state, "timestamp": stamp, "degraded": {"quarantinedRuns": 0}}


def _check_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidInputError("The body is not JSON") from None
