"""The engine of one process: the supervisor and its journal behind `engine.protocol.Engine`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from stepflow.clock import HybridTime, SystemClock, next_pass
from stepflow.config import MEMORY, Settings
from stepflow.engine.auditing import Auditing
from stepflow.engine.bulk import Bulk
from stepflow.engine.forking import Forking
from stepflow.engine.listing import Listing
from stepflow.engine.part import RECORD_BYTES
from stepflow.engine.protocol import CAPABILITIES
from stepflow.engine.schedules import ScheduleControl
from stepflow.engine.shown import Shown
from stepflow.engine.system import System
from stepflow.engine.why import Why
from stepflow.errors import (
    ApiError,
    ConflictError,
    EventNotFoundError,
    InvalidInputError,
    PayloadTooLargeError,
    StepflowError,
)
from stepflow.journal.api import open_journal
from stepflow.journal.suspects import Suspects
from stepflow.model.codec import encode, parse_json
from stepflow.model.ids import RunId, is_run_id
from stepflow.model.views import RunEvent, RunView, run_view
from stepflow.runtime import messages as msg
from stepflow.runtime.adoption import adopt
from stepflow.runtime.restore import Restorer
from stepflow.runtime.snapshotter import Snapshotter
from stepflow.runtime.supervisor import Supervisor
from stepflow.runtime.timers import slice_of
from stepflow.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepflow.authoring.registry import Registry
    from stepflow.clock import Clock, TimerHandle
    from stepflow.engine.protocol import EngineState
    from stepflow.entropy import Entropy
    from stepflow.journal.api import Journal, RecoveryProgress, RecoveryReport
    from stepflow.journal.disk import Disk
    from stepflow.model.event_filter import EventFilter
    from stepflow.model.views import WorkflowView
    from stepflow.runtime.firehose import Reader
    from stepflow.runtime.hub import Subscriber
    from stepflow.runtime.seams import Seams

__all__ = ["LocalEngine"]

_log = logging.getLogger("stepflow.engine")

_HOUSEKEEPING_S = 1.0
_CLOCK_BEHIND_MS = 1000
"""Hybrid time may itself be a little ahead of the clock."""
_SMALL_EVENT_BYTES = 64 * 1024
_CHECKED_BYTES = 32 * 1024
"""So much of a batch's inputs is checked in one go."""


class LocalEngine(ScheduleControl, Listing, Bulk, Forking, Auditing, Why, System):
    """All of Stepflow in this process. Satisfies `engine.protocol.Engine`."""

    capabilities = frozenset(CAPABILITIES)
    keys = None
    sessions = None

    needs_no_task = True
    """Its coroutines wait for plain futures alone, so whoever calls them may drive them by hand."""

    def __init__(  # noqa: PLR0913  the seams that tests replace
        self,
        registry: Registry,
        data_dir: str,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
        entropy: Entropy | None = None,
        strict: bool = False,
        sign: Callable[[str, int], str] | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
        on_recovered: Callable[[RecoveryReport], None] | None = None,
        threads: bool = True,
        seams: Seams | None = None,
    ) -> None:
        self.registry = registry
        self.data_dir = data_dir
        self.settings = settings or Settings()
        self.clock: Clock = clock or SystemClock()
        self._disk = disk
        self._entropy = entropy
        self._strict = strict
        self._sign = sign
        self._on_fatal = on_fatal
        self._on_recovered = on_recovered
        self._threads = threads
        self._seams = seams
        self._state: EngineState = "stopped"
        self._starts = 0
        self._life = asyncio.Lock()
        """Held by whoever starts or stops: a second start returns when the first has served."""
        self._sup: Supervisor | None = None
        self._snapshotter: Snapshotter | None = None
        self._suspects: Suspects | None = None
        self._watchdog: Watchdog | None = None
        self._tick: TimerHandle | None = None
        self.progress: RecoveryProgress | None = None
        self.recovery: RecoveryReport | None = None
        self.fatal: BaseException | None = None
        self._recovered_s = 0.0
        self._hangs_s = 0.0
        self._shown = Shown()
        self.checked: Mapping[str, object] | None = None
        self.enders: set[Callable[[], None]] = set()
        """Called when it begins to stop: what was begun beside it ends."""

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        self._starts += 1
        try:
            async with self._life:
                if self._sup is None:
                    await self._start()
        except BaseException:
            self._starts -= 1
            raise

    async def _start(self) -> None:
        self._state = "starting"
        self.fatal = None
        self.checked = None
        try:
            await self._recover()
        except BaseException:
            self._state = "stopped"
            raise

    async def _recover(self) -> None:
        began_s = self.clock.monotonic_s()
        restorer = Restorer()
        journal, report = await open_journal(
            self.data_dir,
            settings=self.settings,
            clock=self.clock,
            on_line=restorer.on_line,
            on_record=restorer.on_record,
            disk=self._disk,
            progress=self._progressed,
            threads=self._threads,
        )
        self.recovery = report
        for message in report.messages:
            _log.log(logging.WARNING if message.startswith("SFW") else logging.INFO, "%s", message)
        if self._on_recovered is not None:
            self._on_recovered(report)
        try:
            await self._take_over(journal, report, restorer)
        except BaseException:
            await journal.abandon()
            raise
        self._recovered_s = self.clock.monotonic_s() - began_s

    async def _take_over(
        self, journal: Journal, report: RecoveryReport, restorer: Restorer
    ) -> None:
        """Make the supervisor of what was recovered and let the runs go on."""
        suspects = self._suspects = Suspects(self._directory(), clean=report.clean)
        time = HybridTime(self.clock)
        _say_clock(restorer.last_ts_ms - self.clock.wall_ms())
        time.observe(restorer.last_ts_ms)
        sup = Supervisor(
            journal,
            self.registry,
            self.settings,
            self.clock,
            time,
            strict=self._strict,
            entropy=self._entropy,
            marker=suspects.marker(asyncio.get_running_loop().call_soon),
            seams=self._seams,
        )
        journal.on_fatal = self._journal_failed
        try:
            to_wake = await self._adopt(sup, restorer, suspects)
        except BaseException:
            await sup.stop()
            raise
        self._sup = sup
        self._snapshotter = Snapshotter(sup)
        if self._threads and isinstance(self.clock, SystemClock) and self.settings.loop_blocked_s:
            self._watchdog = Watchdog(sup, self.settings.loop_blocked_s)
        if self._state == "starting":
            self._state = "ready"
        else:
            # A shutdown began, or the disk failed, before anybody was served.
            sup.hub.close()
        self._housekeep_later()
        sup.schedules.open(restorer.schedules)
        sup.spawn(self._wake(sup, to_wake))
        sup.spawn(sup.runs.press())

    def _progressed(self, progress: RecoveryProgress) -> None:
        self.progress = progress

    def _directory(self) -> Path | None:
        """Return the data directory, where it is a real one."""
        if self._disk is not None or self.data_dir == MEMORY:
            return None
        return Path(self.data_dir)

    async def _adopt(self, sup: Supervisor, restorer: Restorer, suspects: Suspects) -> list[RunId]:
        """Enter what recovery found into the tables; return the runs that must go on now."""
        return await adopt(sup, restorer, suspects)

    async def _wake(self, sup: Supervisor, run_ids: list[RunId]) -> None:
        """Wake runs after a restart, not all at once."""
        if self._sup is not None:
            self._sup.cancel_given_up()
        size, pause_s = slice_of(self.settings.wakes_per_second)
        for begin in range(0, len(run_ids), size):
            for run_id in run_ids[begin : begin + size]:
                actor = sup.runs.get(run_id)
                if actor is not None and not actor.finished:
                    actor.tell(msg.WakeUp())
            if begin + size < len(run_ids):
                await self._rest(pause_s)

    async def _rest(self, seconds: float) -> None:
        woken = asyncio.Event()
        self.clock.call_later(seconds, woken.set)
        await woken.wait()

    def begin_shutdown(self) -> None:
        if self._state in {"ready", "starting"}:
            self._state = "draining"
        if self._sup is not None:
            self._sup.hub.close()
        for end in tuple(self.enders):
            end()

    async def stop(self) -> None:
        self._starts = max(0, self._starts - 1)
        if self._starts:
            return
        self.begin_shutdown()
        async with self._life:
            await self._stop()

    async def _stop(self) -> None:
        self._end_housekeeping()
        sup = self._sup
        if sup is not None:
            await sup.stop()
            await sup.journal.close(clean=self.fatal is None)
            if sup.traces is not None:
                sup.traces.close()
        self._sup = None
        self._shown.forget()
        self._state = "failed" if self.fatal is not None else "stopped"

    async def crash(self) -> None:
        """Stop as a killed process would, for tests: nothing is flushed, nothing is recorded."""
        self._starts = 0
        sup = self._sup
        self._state = "stopped"
        self._sup = None
        self._end_housekeeping()
        if sup is not None:
            sup.journal.on_commit = None
            await sup.crash()

    def _journal_failed(self, error: BaseException) -> None:
        """A sync failed: what is on disk is unknown. Stop for good."""
        self.fatal = error
        self._state = "failed"
        _log.critical("the journal failed; the engine has stopped: %s", error)
        if self._sup is not None:
            self._sup.halt()
        if self._on_fatal is not None:
            self._on_fatal(error)

    # ------------------------------------------------------------ housekeeping

    def _housekeep_later(self) -> None:
        self._tick = self.clock.call_later(_HOUSEKEEPING_S, self._housekeep, coarse=True)

    def _end_housekeeping(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None

    def _housekeep(self) -> None:
        sup, snapshotter = self._sup, self._snapshotter
        if sup is None or snapshotter is None or self._state == "failed":
            return
        self._shown.forget()
        self._hangs_s = sup.journal.look()
        # It lies on the same disk, and the loop must not wait for that.
        sup.marker.pause(paused=sup.journal.slow)
        if self.fatal is not None:
            return
        sup.spawn(sup.journal.fold())
        sup.spawn(sup.retention.sweep())
        sup.tidy()
        sup.admission.look_for_circles()
        sup.pace.look()
        sup.spawn(sup.pack_ended())
        sup.spawn(sup.passivate_idle())
        if snapshotter.is_due():
            sup.spawn(snapshotter.run())
        self._housekeep_later()

    async def snapshot(self) -> bool:
        """Write a snapshot now; say whether it stands."""
        self.sup  # noqa: B018  raises when the engine does not run
        assert self._snapshotter is not None
        return await self._snapshotter.run()

    def registered(self) -> None:
        """A workflow was registered: runs that waited for it go on."""
        if self._sup is not None:
            self._sup.wake_missing()

    @property
    def traces_runs(self) -> bool:
        """Whether a `traceparent` given to a trigger is of any use."""
        return self._sup is not None and self._sup.traces is not None

    # ------------------------------------------------------------ workflows

    def workflows(self) -> Sequence[WorkflowView]:
        return [workflow.view() for workflow in self.registry.all()]

    def has_workflow(self, workflow_id: str) -> bool:
        return self.registry.get(workflow_id) is not None

    # ------------------------------------------------------------ trigger

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
        sup = self._writable()
        workflow = self._workflow(workflow_id)
        value, data, events, args = self._checked_input(workflow, body)
        if idempotency_key:
            ids = (workflow.id, *workflow.options.aliases)
            known = sup.idempotency.find(ids, by, idempotency_key, sup.time.now_ms())
            if known is not None:
                return await self._same_run(known, value)
        if run_id is not None and not is_run_id(run_id):
            message = f"run id {run_id!r} is not run_ and 8 to 64 letters or digits"
            raise InvalidInputError(message)
        if run_id is not None and run_id in sup.runs:
            await sup.journal.durable(sup.runs[run_id].start_lsn)
            message = f"Run id {run_id} is taken"
            raise ConflictError(message)
        sup.check_capacity(1, len(data))
        sup.check_room(len(data) + RECORD_BYTES)
        if workflow.options.limits and not delay_ms:
            sup.admission.check_queue(workflow, (data,))
        actor = sup.start_run(
            workflow,
            data,
            run_id=run_id,
            events=events,
            idem=idempotency_key or "",
            by=by,
            tags=tuple(tags),
            due=sup.time.now_ms() + delay_ms if delay_ms else 0,
            args=args,
            traceparent=traceparent,
        )
        if idempotency_key:
            sup.idempotency.add(actor.summary(), actor.id)
        await sup.journal.durable(actor.start_lsn)
        return actor.id

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
        self._writable()
        workflow = self._workflow(workflow_id)
        checked: list[tuple[bytes, tuple[str, ...]] | ApiError] = []
        unchecked = _CHECKED_BYTES
        for body in bodies:
            unchecked -= len(body)
            if unchecked < 0:
                # Sixteen megabytes of brackets take a second: others have their turn meanwhile.
                await next_pass()
                unchecked = _CHECKED_BYTES
            try:
                _, data, events, _ = self._checked_input(workflow, body)
                checked.append((data, events))
            except ApiError as error:
                checked.append(error)
        sup = self._writable()
        good = [row for row in checked if not isinstance(row, ApiError)]
        sup.check_capacity(len(good), sum(len(data) for data, _ in good))
        sup.check_room(sum(len(data) + 1024 for data, _ in good) + RECORD_BYTES)
        if workflow.options.limits and not delay_ms:
            sup.admission.check_queue(workflow, (data for data, _ in good))
        answers: list[str | ApiError] = []
        last_lsn = 0
        due = sup.time.now_ms() + delay_ms if delay_ms else 0
        with sup.recorder.group():
            for row in checked:
                if isinstance(row, ApiError):
                    answers.append(row)
                    continue
                actor = sup.start_run(
                    workflow,
                    row[0],
                    events=row[1],
                    by=by,
                    tags=tuple(tags),
                    due=due,
                    activated=False,
                    traceparent=traceparent,
                )
                last_lsn = actor.start_lsn
                answers.append(actor.id)
        if last_lsn:
            # One write for all; their bodies begin a few at a time, or others wait for long.
            sup.spawn(sup.activate_later())
            await sup.journal.durable(last_lsn)
        return answers

    async def _same_run(self, run_id: str, value: Any) -> str:
        actor = self.sup.get(run_id)
        await self.sup.journal.durable(actor.start_lsn)
        if orjson.loads(actor.peek().first_input) != value:
            message = "This Idempotency-Key was used with another input"
            raise ConflictError(message)
        return run_id

    # ------------------------------------------------------------ reading

    async def require_run(self, run_id: str) -> None:
        await self._durable_run(run_id)

    async def get_run(self, run_id: str) -> RunView:
        actor = await self._durable_run(run_id)
        return await self._view(actor)

    async def stream(self, run_id: str, after: int | None = None) -> Subscriber:
        actor = await self._durable_run(run_id)
        state = actor.state
        begin = state.forgotten
        after = max(0, after or 0)
        if not after or begin <= after <= state.rs:
            return self.sup.hub.join(actor, after or begin)
        position = state.rs
        data = msgspec.json.encode(run_view(state, actor.condition, reason=actor.reason))
        subscriber = self.sup.hub.join(actor, position, RunEvent(0, "resync", data))
        try:
            await self.sup.journal.durable(actor.lsn)
        except BaseException:
            subscriber.close()
            raise
        return subscriber

    async def stream_all(self, where: EventFilter, after: str | None = None) -> Reader:
        return self.sup.hub.join_all(where, after)

    async def export_run(self, run_id: str) -> bytes:
        actor = await self._durable_run(run_id)
        line, lsn, journal = actor.line(), actor.lsn, self.sup.journal
        await journal.durable(lsn)
        return line

    async def wait(self, run_id: str) -> RunView:
        actor = await self._durable_run(run_id)
        while not actor.finished:
            # Again: one that has ended may have been retried since.
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            actor.finish_waiters.append(ended)
            try:
                await ended
            finally:
                if ended in actor.finish_waiters:
                    actor.finish_waiters.remove(ended)
        return await self._view(actor, steps=False)

    # ------------------------------------------------------------ acting

    async def notify(
        self, event_id: str, body: bytes, *, run_id: str | None = None, by: str = ""
    ) -> int:
        sup = self._writable()
        if len(body) > self.settings.event_bytes_max:
            message = f"The payload has {len(body)} bytes, at most {self.settings.event_bytes_max}"
            raise PayloadTooLargeError(message)
        data = encode(parse_json(body, depth_max=self.settings.json_depth_max), "payload")
        await sup.delivery.meet(event_id, run_id)
        sup = self._writable()
        sup.check_room(sup.delivery.room_for(event_id, data))
        # Each taker holds the payload as its own; what is small may be what lets them end.
        held = len(data) * sup.delivery.count(event_id, run_id)
        if held > _SMALL_EVENT_BYTES:
            sup.check_live_bytes(held)
        try:
            if run_id is None:
                count = await sup.delivery.deliver_to_all(event_id, data, by=by)
            else:
                count = sup.delivery.deliver(event_id, data, by=by, run_id=run_id)
        except ApiError as error:
            sup.unheard.note(event_id, sup.time.now_ms(), error.message)
            # A refusal, too, rests on what the runs hold.
            await sup.journal.durable(sup.journal.last_lsn)
            raise
        await sup.journal.durable(sup.journal.last_lsn)
        if not count:
            sup.unheard.note(event_id, sup.time.now_ms())
            raise EventNotFoundError
        return count

    def public_token(self, run_id: str, ttl_s: float | None = None) -> tuple[str, int]:
        if self._sign is None:
            message = "This engine signs no tokens"
            raise StepflowError(message)
        life_s = self.settings.token_ttl_s if ttl_s is None else ttl_s
        expires_ms = self.clock.wall_ms() + int(life_s * 1000)
        return self._sign(run_id, expires_ms), expires_ms


def _say_clock(behind_ms: int) -> None:
    """Say that the machine's clock was set back since the last record."""
    if behind_ms >= _CLOCK_BEHIND_MS:
        _log.warning(
            "SFW106 the clock is %.1f s behind the journal's last record: runs go on from that "
            "record's time, and nothing is late because of it",
            behind_ms / 1000,
        )
