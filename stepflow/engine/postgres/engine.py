"""The engine of many processes behind `engine.protocol.Engine`.

What is asked here is answered from the tables alone, so any process answers it. A process that is
a worker, too, has one beside it, and asks it nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import orjson
import psycopg
from msgspec import Raw

from stepflow.clock import HybridTime, SystemClock
from stepflow.engine.part import check_reason
from stepflow.engine.postgres.acts import ACTS, act_columns, purged
from stepflow.engine.postgres.audit import ClusterAudit
from stepflow.engine.postgres.batched import Batched
from stepflow.engine.postgres.bell import Bell
from stepflow.engine.postgres.bulk import ClusterBulk
from stepflow.engine.postgres.commit import ANNOUNCE, START, start_values
from stepflow.engine.postgres.counting import Counting
from stepflow.engine.postgres.database import Database
from stepflow.engine.postgres.delivering import Types, deliver
from stepflow.engine.postgres.ends import Ends
from stepflow.engine.postgres.feeds import Feeds
from stepflow.engine.postgres.figures import Figures
from stepflow.engine.postgres.forking import ClusterForking
from stepflow.engine.postgres.gate import first_ask
from stepflow.engine.postgres.inbox import act_letter, cancel_letter, event_letter, text
from stepflow.engine.postgres.overview import Overview, Tables
from stepflow.engine.postgres.part import said
from stepflow.engine.postgres.passing import Audience
from stepflow.engine.postgres.presence import Presence, Starts
from stepflow.engine.postgres.retention import write_limits
from stepflow.engine.postgres.schedules import ScheduleControl
from stepflow.engine.postgres.shared import PostgresTable
from stepflow.engine.postgres.starting import start_for_later, start_run, start_runs
from stepflow.engine.postgres.traced import Spans
from stepflow.engine.postgres.triggers import Triggers
from stepflow.engine.postgres.worker import Worker
from stepflow.engine.protocol import CAPABILITIES
from stepflow.entropy import system_entropy
from stepflow.errors import (
    ApiError,
    ConflictError,
    EventNotFoundError,
    InvalidInputError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RunNotFoundError,
    StepflowError,
)
from stepflow.model.codec import encode, parse_json
from stepflow.model.ids import is_run_id, run_ids_of
from stepflow.model.records import RunPaused, RunResumed, RunStarted, encode_record
from stepflow.model.views import run_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.authoring.registry import Registry, Workflow
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.postgres.delivering import Row
    from stepflow.engine.postgres.streams import ClusterAllStream, ClusterStream
    from stepflow.engine.protocol import EngineState
    from stepflow.entropy import Entropy
    from stepflow.model.records import Record
    from stepflow.model.run import RunState
    from stepflow.model.views import RunView, WorkflowView

__all__ = ["PostgresEngine"]

_log: Final = logging.getLogger("stepflow.engine")
_ID_BYTES: Final = 64
_CANCEL_WAIT_S: Final = 2.0
_CLAIM_TIMEOUT_S: Final = 30
_POLL_S: Final = 1.0
_READ_AT_ONCE: Final = 100
_ASKED_AT_ONCE: Final = 10_000


class PostgresEngine(ClusterForking, Figures, Overview, ClusterAudit, ClusterBulk, ScheduleControl):
    """Runs in a PostgreSQL database, shared with every other process on it.

    `worker=False` answers calls and runs nothing. A worker that dies is noticed after
    `claim_timeout_s`; `NOTIFY` wakes all processes, and `poll_s` is how often they look by
    themselves. Bound to its flow by `Stepflow(engine=…)`; nothing is opened before it is started.
    """

    capabilities = frozenset(CAPABILITIES)

    def __init__(
        self,
        url: str,
        *,
        worker: bool = True,
        claim_timeout_s: int = _CLAIM_TIMEOUT_S,
        poll_s: float = _POLL_S,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        if claim_timeout_s < 1:
            raise ValueError("claim_timeout_s: a second at least")
        self.clock = clock or SystemClock()
        self.poll_s = poll_s
        self.claim_timeout_s = claim_timeout_s
        self._works = worker
        self.role = "all" if worker else "api"
        """What `GET /system` calls this process: `stepflow serve --role` says it."""
        self._entropy = entropy or system_entropy()
        self._database = Database(url)
        self.bell = Bell(self._database, self.clock)
        self.keys = PostgresTable(url, "api_keys")
        self.sessions = PostgresTable(url, "sessions")
        self.audience = Audience(self._database, self.clock)
        self.runs = Batched(self._look_at_runs, at_once=_READ_AT_ONCE)
        self.feeds = Feeds(self._database, self.runs)
        self.statuses = Batched(self._look_at_statuses, at_once=_ASKED_AT_ONCE)
        self.ends = Ends(self.bell, poll_s, self._look_for_live)
        self.bell.on_ended = self._told_of_ends
        self.streams: set[ClusterStream | ClusterAllStream] = set()
        self._worker: Worker | None = None
        self._presence: Presence | None = None
        self._tables: tuple[float, Tables] | None = None
        self.starts = Starts(self.clock)
        self.counting = Counting(self._database, self.clock)
        self._triggers = Triggers(self._database, lambda: self._worker)
        self._time = HybridTime(self.clock)
        self._state: EngineState = "stopped"
        self._starts = 0
        self._life = asyncio.Lock()
        self._spans = Spans()
        self._sign: Callable[[str, int], str] | None = None
        self._on_fatal: Callable[[BaseException], None] | None = None

    def bind(
        self,
        *,
        registry: Registry,
        settings: Settings,
        sign: Callable[[str, int], str],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """Take the workflows and settings of the flow that this is the engine of."""
        self._on_fatal = on_fatal
        self.registry = registry
        self._types = Types(registry)
        self.settings = settings
        self._sign = sign

    # ------------------------------------------------------------ life

    @property
    def state(self) -> EngineState:
        if self._state == "ready" and self._worker is not None and self._worker.journal.stalled:
            return "stalled"
        return self._state

    async def start(self) -> None:
        self._starts += 1
        try:
            async with self._life:
                if self._state in {"stopped", "failed"}:
                    await self._start()
        except BaseException:
            self._starts -= 1
            raise

    def _told_of_keys(self) -> None:
        self.keys.told()
        self.sessions.told()

    async def _start(self) -> None:
        self._spans = Spans()
        self._state = "starting"
        try:
            await self._database.open()
            for table in (self.keys, self.sessions):
                await table.start(self._database, self.clock, self.poll_s)
            self.bell.on_keys = self._told_of_keys
            if self._works:
                await write_limits(self._database, self.registry)
        except BaseException:
            self._state = "stopped"
            await self._database.close()
            raise
        if self._works:
            self._worker = Worker(
                self._database,
                self.bell,
                self.registry,
                self.settings,
                self.clock,
                claim_timeout_s=self.claim_timeout_s,
                poll_s=self.poll_s,
                entropy=self._entropy,
            )
            self._worker.journal.on_fatal = self._failed
            self._worker.on_end = self._ended
            self._worker.start()
        self.bell.start()
        if self._state == "starting":
            self._state = "ready"
        self._presence = Presence(self._database, self.clock, role=self.role, look=self._look)
        await self._presence.start()

    def _failed(self, error: BaseException) -> None:
        """A defect has ended the worker: its claims expire, and others go on."""
        self._state = "failed"
        if self._worker is not None:
            self._worker.sup.halt()
        if self._on_fatal is not None:
            self._on_fatal(error)

    def _ended(self, run_id: str, state: RunState) -> None:
        self.ends.told([run_id], state)

    def _told_of_ends(self, run_ids: Sequence[str] | None) -> None:
        """The database tells; of its own runs the worker is about to tell more."""
        if self._worker is not None and run_ids is not None:
            run_ids = [run_id for run_id in run_ids if run_id not in self._worker.journal.holders]
        self.ends.told(run_ids)

    def begin_shutdown(self) -> None:
        if self._state in {"ready", "starting"}:
            self._state = "draining"
        for stream in tuple(self.streams):
            stream.close()
        self.streams.clear()
        self.bell.ring_all()

    async def stop(self) -> None:
        self._starts = max(0, self._starts - 1)
        if self._starts:
            return
        self.begin_shutdown()
        async with self._life:
            await self._triggers.idle()
            worker, self._worker = self._worker, None
            if worker is not None:
                await worker.stop()
            presence, self._presence = self._presence, None
            if presence is not None:
                await presence.stop()
            await self.keys.stop()
            await self.sessions.stop()
            await self.bell.stop()
            await self._database.close()
            self._state = "stopped"

    def registered(self) -> None:
        """A workflow was registered: runs that waited for it go on."""
        if self._worker is not None:
            self._worker.sup.wake_missing()
            self._worker.ring()
            self._worker.sup.spawn(write_limits(self._database, self.registry))

    @property
    def traces_runs(self) -> bool:
        """Whether a `traceparent` given to a trigger is of any use: to the workers it may be."""
        return True

    # ------------------------------------------------------------ workflows

    def workflows(self) -> Sequence[WorkflowView]:
        return [workflow.view() for workflow in self.registry.all()]

    def has_workflow(self, workflow_id: str) -> bool:
        return self.registry.get(workflow_id) is not None

    # ------------------------------------------------------------ trigger

    def _started(
        self,
        workflow: Workflow,
        data: bytes,
        *,
        run_id: str | None = None,
        events: tuple[str, ...] = (),
        idem: str = "",
        by: str = "",
        tags: Sequence[str] = (),
        delay_ms: int = 0,
    ) -> RunStarted:
        now_ms = self._time.now_ms()
        return RunStarted(
            lsn=1,
            r=run_id or run_ids_of(self._entropy.randbytes(_ID_BYTES))[0],
            rs=1,
            ts=now_ms,
            workflow=workflow.id,
            input=Raw(data),
            by=by,
            tags=(*workflow.options.tags, *tags),
            events=events,
            idem=idem,
            due=now_ms + delay_ms if delay_ms else 0,
            timeout=workflow.options.timeout_ms or 0,
        )

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
        database = self.writable
        workflow = self._workflow(workflow_id)
        value, data, events, _ = self._checked_input(workflow, body)
        if run_id is not None and not is_run_id(run_id):
            message = f"run id {run_id!r} is not run_ and 8 to 64 letters or digits"
            raise InvalidInputError(message)
        record = self._started(
            workflow,
            data,
            run_id=run_id,
            events=events,
            idem=idempotency_key or "",
            by=by,
            tags=tags,
            delay_ms=delay_ms,
        )
        if run_id is None and not idempotency_key and first_ask(self.registry, record) is None:
            self.ends.expect(record.r)
            with self._spans.handing() as spans:
                await self._triggers.start(spans.traced(record, traceparent))
            self.starts.note(workflow.id)
            return record.r
        names = (workflow.id, *workflow.options.aliases)
        async with database.connection() as conn:
            try:
                with self._spans.handing() as spans:
                    async with conn.transaction():
                        known = None
                        if idempotency_key:
                            known = await self._take_key(conn, names, by, idempotency_key, record)
                        if known is None:
                            record = spans.traced(record, traceparent)
                            await start_run(conn, self.registry, record, self._line_max)
            except psycopg.errors.UniqueViolation as error:
                if run_id is None:
                    raise
                raise ConflictError(f"Run id {run_id} is taken") from error
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                raise said(error) from error
        if known is None:
            self.starts.note(workflow.id)
            return record.r
        return await self._same_run(known, value)

    async def _take_key(
        self,
        conn: psycopg.AsyncConnection[Any],
        workflows: Sequence[str],
        by: str,
        key: str,
        record: RunStarted,
    ) -> str | None:
        """Take the idempotency key for the run; return the run that has it already."""
        now_ms = record.ts
        found = await conn.execute(
            b"""select run_id from stepflow.keys
                 where workflow = any(%s) and principal = %s and key = %s and expires_ms > %s""",
            (list(workflows), text(by), text(key), now_ms),
        )
        row = await found.fetchone()
        if row is not None:
            return str(row[0])
        expires_ms = now_ms + int(self.settings.idempotency_ttl_s * 1000)
        taken = await conn.execute(
            b"""insert into stepflow.keys as k (workflow, principal, key, run_id, expires_ms)
                values (%s, %s, %s, %s, %s)
                on conflict (workflow, principal, key) do update
                   set run_id = excluded.run_id, expires_ms = excluded.expires_ms
                 where k.expires_ms <= %s
                returning run_id""",
            (workflows[0], text(by), text(key), record.r, expires_ms, now_ms),
        )
        if await taken.fetchone() is not None:
            return None
        # Another call with it was faster, by a moment.
        found = await conn.execute(
            b"""select run_id from stepflow.keys
                 where workflow = %s and principal = %s and key = %s""",
            (workflows[0], text(by), text(key)),
        )
        row = await found.fetchone()
        if row is None:
            raise OutcomeUnknownError
        return str(row[0])

    async def _same_run(self, run_id: str, value: Any) -> str:
        state, _, _ = await self._state_of(run_id)
        if orjson.loads(state.first_input) != value:
            message = "This Idempotency-Key was used with another input"
            raise ConflictError(message)
        return run_id

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
        database = self.writable
        workflow = self._workflow(workflow_id)
        answers: list[str | ApiError] = []
        records: list[RunStarted] = []
        for body in bodies:
            try:
                _, data, events, _ = self._checked_input(workflow, body)
            except ApiError as error:
                answers.append(error)
                continue
            record = self._started(
                workflow, data, events=events, by=by, tags=tags, delay_ms=delay_ms
            )
            records.append(record)
            answers.append(record.r)
        if records:
            async with database.connection() as conn:
                with self._spans.handing() as spans:
                    records = [spans.traced(each, traceparent) for each in records]
                    asks = [first_ask(self.registry, each, self._line_max) for each in records]
                    if any(asks):
                        await self._line_up(conn, records, asks)
                    else:
                        async with conn.pipeline(), conn.transaction():
                            for each in records:
                                await conn.execute(START, start_values(each, encode_record(each)))
                            await conn.execute(ANNOUNCE, (len(records),))
            for record in records:
                self.starts.note(record.workflow)
        return answers

    @property
    def _line_max(self) -> int:
        return self.settings.queue_runs_max

    async def _line_up(
        self,
        conn: psycopg.AsyncConnection[Any],
        records: Sequence[RunStarted],
        asks: Sequence[dict[str, Any] | None],
    ) -> None:
        """Start a batch of runs that have limits, all or none."""
        rows = [(record, ask) for record, ask in zip(records, asks, strict=True) if ask]
        try:
            async with conn.transaction():
                await start_runs(conn, rows)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise said(error) from error

    # ------------------------------------------------------------ acting

    async def notify(
        self, event_id: str, body: bytes, *, run_id: str | None = None, by: str = ""
    ) -> int:
        database = self.writable
        if len(body) > self.settings.event_bytes_max:
            message = f"The payload has {len(body)} bytes, at most {self.settings.event_bytes_max}"
            raise PayloadTooLargeError(message)
        data = encode(parse_json(body, depth_max=self.settings.json_depth_max), "payload")
        starts, refused = self._begun_by(event_id, data) if run_id is None else ([], None)
        letter = event_letter(event_id, data, by)
        types = self._types if self._worker is None else self._worker.waits.types
        async with database.connection() as conn:

            async def ask(taking: list[str], refusing: list[str]) -> Row:
                with self._spans.handing() as spans:
                    async with conn.transaction():
                        row = await self._offer(
                            conn, event_id, run_id or "", letter, taking, refusing
                        )
                        for workflow in () if row[2] else starts:
                            record = self._started(
                                workflow, data, events=workflow.event_ids(data), by=by
                            )
                            await start_for_later(conn, self.registry, spans.traced(record))
                return row

            try:
                reached, refusal = await deliver(types, data, ask)
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                raise said(error) from error
        for workflow in starts:
            self.starts.note(workflow.id)
        count = reached + len(starts)
        if not count:
            raise refusal or refused or EventNotFoundError()
        return count

    async def _offer(
        self,
        conn: psycopg.AsyncConnection[Any],
        event: str,
        run_id: str,
        letter: bytes,
        taking: list[str],
        refusing: list[str],
    ) -> Row:
        found = await conn.execute(
            b"""select reached, refused, unknown
                  from stepflow.deliver(%s, %s, '', %s, %s, %s, %s::text[], %s::text[])""",
            (
                text(event),
                run_id,
                letter,
                self.settings.kept_events_max,
                self.settings.kept_bytes_max,
                taking,
                refusing,
            ),
        )
        row: Row | None = await found.fetchone()
        assert row is not None
        return row

    def _begun_by(
        self, event: str, payload: bytes
    ) -> tuple[list[Workflow], InvalidInputError | None]:
        """Return the workflows that the event starts, and why one refuses the payload."""
        willing: list[Workflow] = []
        refusal: InvalidInputError | None = None
        for workflow in self.registry.all():
            if workflow.options.on != event:
                continue
            try:
                workflow.signature.arguments(payload)
                workflow.event_ids(payload)
            except InvalidInputError as error:
                refusal = error
                continue
            willing.append(workflow)
        return willing, refusal

    async def cancel(
        self, run_id: str, *, by: str = "", reason: str = "", force: bool = False
    ) -> RunView:
        check_reason(reason)
        state, condition, _ = await self._state_of(run_id)
        if state.finished:
            raise ConflictError(f"Run {run_id} has ended: it is {state.status}")
        if force or not (state.cancelling or condition == "cancelling"):
            letter = cancel_letter(by, reason, force=force)
            n = await self._put(run_id, "cancel", letter)
            # It is durable: nobody has to wait until a worker is there.
            await self._until_read(run_id, n, _CANCEL_WAIT_S)
        view = await self.get_run(run_id)
        if view.status in {"completed", "failed"}:
            raise ConflictError(f"Run {run_id} has ended: it is {view.status}")
        return view

    async def pause(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        check_reason(reason)
        state, condition, _ = await self._state_of(run_id)
        if state.finished:
            raise ConflictError(f"Run {run_id} has ended: it is {state.status}")
        if state.cancelling or condition == "cancelling":
            message = f"Run {run_id} is being cancelled: it cannot be paused any more"
            raise ConflictError(message)
        if state.paused:
            raise ConflictError(f"Run {run_id} is paused already")
        return await self._ask(state, "pause", RunPaused, act_letter(by, reason))

    async def resume(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        check_reason(reason)
        state, condition, _ = await self._state_of(run_id)
        if state.failure:
            message = f"The records of run {run_id} cannot be applied: it can only be cancelled"
            raise ConflictError(message)
        if not state.paused and condition != "quarantined":
            message = f"Run {run_id} was not set aside, nor is it paused: it is {state.status}"
            raise ConflictError(message)
        return await self._ask(state, "resume", RunResumed, act_letter(by, reason))

    async def retry(self, run_id: str, *, by: str = "", reason: str = "") -> RunView:
        database = self.writable
        check_reason(reason)
        state, _, _ = await self._state_of(run_id)
        if state.status not in {"failed", "cancelled"}:
            message = f"Run {run_id} is {state.status}: only a failed or cancelled run is retried"
            raise ConflictError(message)
        if state.failure:
            message = f"The records of run {run_id} cannot be applied: it cannot be retried"
            raise ConflictError(message)
        try:
            await database.act("select stepflow.revive(%s, %s)", run_id, act_letter(by, reason))
        except psycopg.Error as error:
            raise said(error) from error
        rows = await database.rows(
            "select max(n) from stepflow.inbox where run_id = %s and kind = 'retry'", run_id
        )
        if rows[0][0] is not None:
            await self._read_or_unknown(run_id, rows[0][0])
        return await self.get_run(run_id)

    async def purge(self, run_id: str, *, by: str = "", reason: str = "") -> None:
        check_reason(reason)
        async with self.writable.connection() as conn:
            try:
                async with conn.transaction():
                    found = await conn.execute(
                        b"select workflow from stepflow.runs where run_id = %s", (run_id,)
                    )
                    row = await found.fetchone()
                    await conn.execute(b"select stepflow.purge(%s)", (run_id,))
                    if row is not None:
                        now_ms = self.clock.wall_ms()
                        act = purged(run_id, str(row[0]), now_ms, by=by, reason=reason)
                        await conn.execute(ACTS, act_columns(act))
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                if error.sqlstate == "SF409":
                    raise ConflictError(f"Run {run_id} is live; cancel it first") from error
                raise said(error) from error

    async def _ask(self, state: RunState, kind: str, act: type[Record], letter: bytes) -> RunView:
        """Write to the run and wait until what came of it is recorded."""
        done = sum(isinstance(record, act) for record in state.acts)
        n = await self._put(state.id, kind, letter)
        await self._read_or_unknown(state.id, n)
        after, condition, reason = await self._state_of(state.id)
        if after.finished and sum(isinstance(record, act) for record in after.acts) == done:
            # It came too late.
            raise ConflictError(f"Run {state.id} has ended: it is {after.status}")
        return run_view(after, condition, reason=reason)

    async def _put(self, run_id: str, kind: str, letter: bytes) -> int:
        async with self.writable.connection() as conn, conn.transaction():
            put = await conn.execute(b"select stepflow.put(%s, %s, %s)", (run_id, kind, letter))
            row = await put.fetchone()
            if row is None or not row[0]:
                there = await conn.execute(
                    b"select status from stepflow.runs where run_id = %s", (run_id,)
                )
                found = await there.fetchone()
                if found is None:
                    raise RunNotFoundError
                raise ConflictError(f"Run {run_id} has ended: it is {found[0]}")
            last = await conn.execute(
                b"select max(n) from stepflow.inbox where run_id = %s and kind = %s",
                (run_id, kind),
            )
            found = await last.fetchone()
            return int(found[0]) if found is not None else 0

    async def _read_or_unknown(self, run_id: str, n: int) -> None:
        if not await self._until_read(run_id, n, self.settings.outcome_wait_s):
            raise OutcomeUnknownError(
                "It is written down, and done as soon as a worker has the run: look again"
            )

    async def _until_read(self, run_id: str, n: int, seconds: float) -> bool:
        """Return once what came of a letter is recorded; False after so long."""
        until_s = self.clock.monotonic_s() + seconds
        with self.bell.hear(run_id) as ear:
            while True:
                ear.clear()
                rows = await self.database.rows(
                    # With its end a run has read all that it ever will.
                    """select 1 from stepflow.inbox i join stepflow.runs r using (run_id)
                        where run_id = %s and i.n = %s and r.task_id is not null""",
                    run_id,
                    n,
                )
                if not rows:
                    return True
                left_s = until_s - self.clock.monotonic_s()
                if left_s <= 0:
                    return False
                await ear.wait(min(left_s, self.poll_s))

    def public_token(self, run_id: str, ttl_s: float | None = None) -> tuple[str, int]:
        if self._sign is None:
            message = "This engine signs no tokens"
            raise StepflowError(message)
        life_s = self.settings.token_ttl_s if ttl_s is None else ttl_s
        expires_ms = self.clock.wall_ms() + int(life_s * 1000)
        return self._sign(run_id, expires_ms), expires_ms
