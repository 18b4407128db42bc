"""The owner of one run. Everything that happens to a run is a message to its actor.

A message is decided against the run's state as it is now; the decision is recorded (encoded,
applied and queued in the same turn of the loop); what others can notice is released when the
journal says that the record is durable:

====================  =========================================  ============================
message               record                                     released when durable
====================  =========================================  ============================
`CallsAsked`          `StepStarted`, `SleepStarted`, …           the step's body starts
`StepEnded`           `StepCompleted`, `StepRetrying`, `…Failed` the next step's body
`TimerFired`          `SleepEnded`, `WaitTimedOut`, next attempt
`EventArrived`        `WaitResolved`, `EventKept`                the notifier's answer
`CancelAsked`         `CancelRequested`                          the canceller's answer
`BodyEnded`           `RunCompleted`, `RunFailed`, `…Cancelled`  `.result()`, the stream's end
====================  =========================================  ============================

The body itself goes on at once: effects wait, thoughts don't.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from msgspec import Raw

from stepflow.errors import (
    AuthoringError,
    DivergenceError,
    InvalidInputError,
    StepFailedError,
    StepInterruptedError,
)
from stepflow.model import records as rec
from stepflow.model.codec import encode, encode_error
from stepflow.model.run import RunState, RunSummary
from stepflow.runtime import messages as msg
from stepflow.runtime.body import drive
from stepflow.runtime.branches import start_root
from stepflow.runtime.calls import ChildAsk, EventAsk, NotifyAsk, RunAsk, SleepAsk, StepAsk
from stepflow.runtime.replay import Gate
from stepflow.runtime.session import Session

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from stepflow.model.ids import RunId
    from stepflow.model.run import CallState
    from stepflow.model.views import RunViewState
    from stepflow.runtime.hub import Feed
    from stepflow.runtime.replay import Ask
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["CANCEL_TIMER", "RELEASE_TIMER", "RunActor"]

_log = logging.getLogger("stepflow.run")

CANCEL_TIMER = "@cancel"
RELEASE_TIMER = "@release"
_SMALL = 4096


class RunActor:
    """One run: its state, its mailbox and, while it is active, its session."""

    __slots__ = (
        "_draining",
        "_mailbox",
        "_packed",
        "_state",
        "_summary",
        "condition",
        "failures",
        "feed",
        "finish_waiters",
        "id",
        "purged",
        "reason",
        "session",
        "start_lsn",
        "strict_lsn",
        "sup",
    )

    def __init__(self, sup: Supervisor, run_id: RunId) -> None:
        self.sup = sup
        self.id = run_id
        self._state: RunState | None = RunState(run_id)
        self._packed = b""
        self._summary: RunSummary | None = None
        self._mailbox: deque[msg.Message] = deque()
        self._draining = False
        self.session: Session | None = None
        self.feed: Feed | None = None
        self.strict_lsn = 0
        """LSN of the run's last strict record: effects wait for it."""
        self.start_lsn = 0
        self.condition: RunViewState | None = None
        """What the records alone do not say: `parked`, `quarantined`, `missing-workflow`."""
        self.reason = ""
        self.failures = 0
        self.purged = False
        self.finish_waiters: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------ state

    @property
    def state(self) -> RunState:
        """The run's state, opened when it is packed."""
        if self._state is None:
            self._state = RunState.unpack(self._packed)
            self._packed = b""
            self._summary = None
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether the state is held as objects."""
        return self._state is not None

    def restore(self, state: RunState) -> None:
        """Take the state that recovery found."""
        self._state = state
        self.strict_lsn = state.lsn

    def peek(self) -> RunState:
        """Return the state for reading, without keeping it open."""
        return self._state if self._state is not None else RunState.unpack(self._packed)

    def summary(self) -> RunSummary:
        """Return what lists show, without opening the run."""
        return self._state.summary() if self._state is not None else self._need_summary()

    def _need_summary(self) -> RunSummary:
        if self._summary is None:
            self._summary = self.peek().summary()
        return self._summary

    @property
    def lsn(self) -> int:
        """LSN of the run's last record."""
        return self._state.lsn if self._state is not None else self._need_summary().lsn

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        if self._state is not None:
            return self._state.finished
        return self._need_summary().status in {"completed", "failed", "cancelled"}

    def line(self) -> bytes:
        """Return the run's snapshot line."""
        return self._state.pack() if self._state is not None else self._packed

    def pack(self) -> None:
        """Give up the state's objects, where nothing needs them."""
        state = self._state
        if state is None or self.session is not None or self.feed is not None or self._mailbox:
            return
        self._summary = state.summary()
        self._packed = state.pack()
        self._state = None

    def left_alone(self) -> None:
        """The last subscriber has gone."""
        if self.finished or self.session is None:
            self.pack()

    def noted(self, record: rec.Record) -> None:
        """A record was applied: tell the subscribers when it is durable."""
        if self.feed is not None:
            self.sup.hub.note(record.lsn, self.feed)

    def _record(self, kind: type[Any], /, **fields: Any) -> Any:
        return self.sup.recorder.write(self, kind, **fields)

    # ------------------------------------------------------------ mailbox

    def tell(self, message: msg.Message) -> None:
        """Deliver a message: decided now, or when the run's present turn is over."""
        self._mailbox.append(message)
        if not self._draining:
            self.drain()

    def drain(self) -> None:
        """Decide what is in the mailbox, as long as there is room for records."""
        self._draining = True
        try:
            while self._mailbox:
                if not (self._has_room(self._mailbox[0]) or self._cancel_goes_first()):
                    self.sup.stall(self)
                    return
                self._handle(self._mailbox.popleft())
        except Exception as error:  # noqa: BLE001  border: an actor's own failure stops it alone
            self.sup.actor_failed(self, error)
        finally:
            self._draining = False

    def _has_room(self, message: msg.Message) -> bool:
        reserve = isinstance(message, msg.CancelAsked | msg.EventArrived)
        return self.sup.journal.has_room(_SMALL, reserve=reserve)

    def _cancel_goes_first(self) -> bool:
        """With a full disk a cancel does not queue behind what has no room: say whether it may."""
        cancel = next((m for m in self._mailbox if isinstance(m, msg.CancelAsked)), None)
        if cancel is None or not self._has_room(cancel):
            return False
        self._mailbox.remove(cancel)
        self._mailbox.appendleft(cancel)
        return True

    def _handle(self, message: msg.Message) -> None:
        match message:
            case msg.CallsAsked():
                if message.session is self.session and not message.session.fenced:
                    self._start_calls(message.asks)
            case msg.StepEnded():
                self._step_ended(message)
            case msg.TimerFired():
                self._timer_fired(message.key, message.due_ms)
            case msg.EventArrived():
                self._event_arrived(message)
            case msg.ChildFinished():
                self._child_finished(message)
            case msg.CancelAsked():
                self._cancel_asked(message)
            case msg.BodyEnded():
                self._body_ended(message)
            case msg.WakeUp():
                self.activate()
            case _:
                assert_never(message)

    # ------------------------------------------------------------ activation

    def activate(self) -> None:
        """Give the run its task and replay its body against its records."""
        state = self.state
        if self.session is not None or state.status != "running" or self.sup.stopping:
            return
        if self.condition in {"quarantined", "parked"}:
            return
        workflow = self.sup.workflow(state.workflow)
        if workflow is None:
            self.sup.workflow_missing(self)
            return
        self.condition = None
        self.reason = ""
        outcomes = [c for c in state.calls.values() if c.status != "pending"]
        options = workflow.options
        gate = Gate(
            self,
            outcomes,
            self.sup.loop.call_soon,
            begun=[c.key for c in state.pending_calls()],
            passes=self.sup.settings.quiet_passes,
            strict=self.sup.strict,
            renamed=options.renamed,
        )
        session = self.session = Session(self, gate, self.sup.loop)
        session.moved_s = session.born_s = self.sup.clock.monotonic_s()
        if state.cancelling:
            gate.cancel(state.cancel_lsn)
        self.sup.activated(self)
        session.root = start_root(session, drive(self, session, workflow), self.sup.base_context)

    async def suspend(self) -> None:
        """Give up task and objects; the run goes on from its records when it is woken."""
        session = self.session
        if session is None:
            return
        self.sup.steps.abandon(session)
        lsn = self.state.lsn
        self.sup.zombies += await session.suspend()
        if self.session is not session:
            return
        self.session = None
        self.sup.deactivated(self)
        if session.missed or self.state.lsn > lsn:
            # Something happened to the run while its task was ending.
            self.tell(msg.WakeUp())
        else:
            self.pack()

    # ------------------------------------------------------------ GateHost

    def start_calls(self, asks: list[Ask]) -> None:
        """Begin calls without a recorded result."""
        session = self.session
        if session is None or session.fenced or self.sup.stopping:
            return
        session.moved(self.sup.clock.monotonic_s())
        if self.sup.seams.replays_always and session.gate.unused:
            self._diverged_by_leaving(session.gate.unused[0], asks[0].fn or asks[0].kind)
        elif self._has_room(_WAKE):
            self._start_calls(asks)
        else:
            # Decided later, when there is room; until then nothing of it exists.
            self.tell(msg.CallsAsked(session, asks))

    def adopt(self, ask: Ask, outcome: CallState) -> None:
        """Record that the call takes a result recorded for another one."""
        displaced = self.state.calls.get(ask.key)
        if displaced is not None and displaced is not outcome:
            self._leave_waiters(displaced)
        self._record(
            rec.CallAdopted,
            key=ask.key,
            name=ask.name,
            kind=ask.kind,
            fn=ask.fn,
            args=ask.args,
            of=outcome.lsn,
        )

    def deliver_cancel(self) -> None:
        """Cancel the body's root task."""
        if self.session is not None and self.session.root is not None:
            self.session.root.cancel()

    def diverged(self, error: DivergenceError) -> None:
        """Fence the run and park it, or fail it where its workflow says so."""
        session = self.session
        if session is None:
            return
        session.fence()
        workflow = self.sup.workflow(self.state.workflow)
        _log.error("%s: %s", self.id, error)
        self.sup.seams.diverged(self.id, error)
        if workflow is not None and workflow.options.on_divergence == "fail":
            self._end(rec.RunFailed, error=Raw(encode_error(error)))
            return
        self.condition = "parked"
        self.reason = str(error)
        self.sup.spawn(self.suspend())

    def _diverged_by_leaving(self, key: str, asked: str) -> None:
        """A replay of unchanged code did not ask for a recorded result."""
        call = self.state.calls[key]
        self.diverged(DivergenceError(key, call.fn or call.kind, asked))

    def warn(self, message: str) -> None:
        """Log what an operator should know of this run."""
        _log.warning("%s: %s", self.id, message)

    # ------------------------------------------------------------ calls

    def start_ready(self, asks: Sequence[RunAsk]) -> None:
        """Begin calls of a map that its limit had held back."""
        for ask in asks:
            self._start_call(ask)

    def _start_calls(self, asks: Sequence[Ask]) -> None:
        try:
            self._begin_calls(asks)
        except Exception as error:  # noqa: BLE001  border: an actor's own failure stops it alone
            self.sup.actor_failed(self, error)

    def _begin_calls(self, asks: Sequence[Ask]) -> None:
        if len(asks) == 1:
            only = asks[0]
            if isinstance(only, RunAsk) and only.alive:
                self.start_ready(only.wait.begin([only]))
            return
        by_wait: dict[int, list[RunAsk]] = {}
        for ask in asks:
            if isinstance(ask, RunAsk) and ask.alive:
                by_wait.setdefault(id(ask.wait), []).append(ask)
        with self.sup.recorder.group():
            for calls in by_wait.values():
                self.start_ready(calls[0].wait.begin(calls))

    def _start_call(self, ask: RunAsk) -> None:
        match ask:
            case StepAsk():
                self._start_step(ask)
            case SleepAsk():
                self._start_sleep(ask)
            case EventAsk():
                self._start_wait(ask)
            case ChildAsk():
                self.sup.start_child(self, ask, self._same_call(ask))
            case NotifyAsk():
                self.sup.send_notify(self, ask)
            case _:
                message = f"{type(ask).__name__} cannot be started"
                raise TypeError(message)

    def _same_call(self, ask: RunAsk) -> CallState | None:
        """Return the call as it was begun before a restart, if it was."""
        call = self.state.calls.get(ask.key)
        if call is None or (call.kind, call.fn, call.args) != (ask.kind, ask.fn, ask.args):
            return None
        return None if call.cancelled else call

    @property
    def _solo(self) -> bool:
        return self.session is not None and self.session.gate.solo

    def _start_step(self, ask: StepAsk) -> None:
        call = self._same_call(ask)
        if call is not None and call.due > self.sup.time.now_ms():
            # A retry whose wait goes on: its timer is armed.
            return
        if call is not None and call.once and not call.due:
            error = encode_error(
                StepInterruptedError(ask.name), step=ask.name, attempts=call.attempt
            )
            self._record(rec.StepFailed, key=ask.key, error=Raw(error), attempt=call.attempt)
            self._recorded(ask.key)
            return
        self._begin_attempt(ask, call.attempt + 1 if call is not None else 1)

    def _begin_attempt(self, ask: StepAsk, attempt: int) -> None:
        effects_wait_for = self.strict_lsn
        record = self._record(
            rec.StepStarted,
            lazy=not ask.once,
            key=ask.key,
            name=ask.name,
            fn=ask.fn,
            args=ask.args,
            attempt=attempt,
            solo=self._solo,
            once=ask.once,
            undo=ask.undo,
        )
        lsn = record.lsn if ask.once else effects_wait_for
        session = self.session
        if session is None:
            return
        if self.sup.journal.durable_lsn >= lsn:
            self.sup.steps.run(self, session, ask, attempt)
        else:
            self.sup.journal.hurry(lsn)
            self.sup.journal.when_durable(lsn, partial(self._release_step, session, ask, attempt))

    def _release_step(
        self, session: Session, ask: StepAsk, attempt: int, failed: BaseException | None
    ) -> None:
        if failed is None and ask.alive and not session.fenced:
            self.sup.steps.run(self, session, ask, attempt)

    def _start_sleep(self, ask: SleepAsk) -> None:
        call = self._same_call(ask)
        if call is not None and call.status == "pending":
            return
        due = ask.until_ms or self.sup.time.now_ms() + ask.delay_ms
        self._record(rec.SleepStarted, key=ask.key, name=ask.name, due=due, solo=self._solo)
        self.sup.timers.add(due, self.id, ask.key)

    def _start_wait(self, ask: EventAsk) -> None:
        self.sup.delivery.learn(self.state.workflow, ask)
        call = self._same_call(ask)
        if call is not None and call.status == "pending":
            return
        due = self.sup.time.now_ms() + ask.timeout_ms if ask.timeout_ms else 0
        old = self.state.calls.get(ask.key)
        if old is not None:
            self._leave_waiters(old)
        self._record(
            rec.WaitStarted,
            key=ask.key,
            name=ask.name,
            event=ask.event,
            due=due,
            solo=self._solo,
        )
        kept = self.state.kept.get(ask.event)
        if kept:
            self._record(rec.WaitResolved, key=ask.key, payload=kept[0])
            self._recorded(ask.key)
            return
        self.sup.waiters.wait(ask.event, self.id)
        if due:
            self.sup.timers.add(due, self.id, ask.key)

    def _leave_waiters(self, call: CallState) -> None:
        """Another call takes the key of this one."""
        if call.event and call.status == "pending" and not call.cancelled:
            self.sup.waiters.unwait(call.event, self.id)

    def _recorded(self, key: str) -> None:
        """Hand a call's fresh result to the gate, or wake the run that sleeps on it."""
        session = self.session
        if session is None:
            self.activate()
        elif not session.fenced:
            session.moved_s = self.sup.clock.monotonic_s()
            if self.sup.seams.replays_always and not self.sup.steps.has(session):
                self.sup.replay(self)
            else:
                session.gate.recorded(self.state.calls[key])

    def give_up(self, asks: Sequence[RunAsk]) -> None:
        """The body no longer waits for these calls: what of them runs is stopped."""
        session = self.session
        if session is None or session.fenced:
            return
        for ask in asks:
            call = self.state.calls.get(ask.key)
            if not ask.started or call is None or call.status != "pending" or call.cancelled:
                continue
            if call.kind == "event":
                self.sup.waiters.unwait(call.event, self.id)
            if isinstance(ask, StepAsk):
                self.sup.steps.cancel(session, ask)
            self._record(rec.CallCancelled, key=ask.key)

    def _given_up(self, call: CallState) -> bool:
        """Whether the body has cancelled the call's wait, though its task has not run since."""
        session = self.session
        if session is None or session.fenced:
            return False
        ask = session.gate.started_ask(call.key)
        if not isinstance(ask, RunAsk) or ask.alive:
            return False
        self.give_up((ask,))
        return True

    # ------------------------------------------------------------ steps

    def _step_ended(self, message: msg.StepEnded) -> None:
        session, ask = message.session, message.ask
        call = self.state.calls.get(ask.key)
        late = (
            session is not self.session
            or session.fenced
            or not session.gate.is_started(ask.key)
            or not ask.alive
            or call is None
            or call.attempt != message.attempt
        )
        if late or call is None:
            # The run was suspended, gave the call up, or timed the attempt out.
            return
        error = message.error
        if error is None:
            error = self._complete_step(ask, call, message.value)
        if error is not None:
            self._fail_attempt(ask, call, error)

    def _complete_step(self, ask: StepAsk, call: CallState, value: Any) -> Exception | None:
        """Record the result; return why it cannot be recorded, if it cannot."""
        try:
            data = ask.converter.encode(value, "result")
            self._check_size(data)
            decoded = ask.converter.decode(data)
        except (AuthoringError, InvalidInputError) as error:
            return error
        self._record(
            rec.StepCompleted,
            lazy=ask.relaxed,
            key=ask.key,
            result=Raw(data),
            attempt=call.attempt,
        )
        ask.decoded = [decoded]
        self._recorded(ask.key)
        return None

    def _check_size(self, data: bytes) -> None:
        settings = self.sup.settings
        if len(data) > settings.result_bytes_max:
            message = (
                f"the result has {len(data)} bytes, at most {settings.result_bytes_max} are kept; "
                "store it elsewhere and return a reference"
            )
            raise AuthoringError(message)
        if self.state.nbytes + len(data) > settings.run_bytes_max:
            message = (
                f"the run would hold more than {settings.run_bytes_max} bytes; "
                "return less, or end it and start another"
            )
            raise AuthoringError(message)

    def _fail_attempt(self, ask: StepAsk, call: CallState, error: BaseException) -> None:
        settings = self.sup.settings
        data = encode_error(
            error,
            step=ask.name,
            attempts=call.attempt,
            traceback_bytes_max=settings.traceback_bytes_max,
        )
        delay_ms = self.sup.steps.retry_delay_ms(ask, call, error)
        if delay_ms is None:
            self._record(rec.StepFailed, key=ask.key, error=Raw(data), attempt=call.attempt)
            self._recorded(ask.key)
            return
        due = self.sup.time.now_ms() + delay_ms
        self._record(rec.StepRetrying, key=ask.key, attempt=call.attempt, error=Raw(data), due=due)
        self.sup.timers.add(due, self.id, ask.key)

    # ------------------------------------------------------------ timers, events, children

    def _timer_fired(self, key: str, due_ms: int) -> None:
        if key == CANCEL_TIMER:
            self._grace_over(due_ms)
            return
        if key == RELEASE_TIMER:
            self._release(due_ms)
            return
        call = self.state.calls.get(key)
        if (
            call is None
            or call.status != "pending"
            or call.due != due_ms
            or self.state.finished
            or self._given_up(call)
        ):
            # The call has ended, was given up, or got another due time: a stale timer.
            self._settle_down()
            return
        if call.kind == "sleep":
            self._record(rec.SleepEnded, key=key)
            self._recorded(key)
        elif call.kind == "event":
            self.sup.waiters.unwait(call.event, self.id)
            self._record(rec.WaitTimedOut, key=key)
            self._recorded(key)
        else:
            self._retry_due(call)

    def _settle_down(self) -> None:
        if self.session is None:
            self.pack()

    def _retry_due(self, call: CallState) -> None:
        session = self.session
        if session is None:
            # The replay asks for the step again; its due time has passed by then.
            self.activate()
            return
        if session.fenced:
            session.missed = True
            return
        ask = session.gate.started_ask(call.key)
        if isinstance(ask, StepAsk) and ask.alive:
            self._begin_attempt(ask, call.attempt + 1)

    def _release(self, due_ms: int) -> None:
        if self.state.status == "pending" and self.state.due == due_ms:
            self._record(rec.RunReleased)
            self.activate()

    def _event_arrived(self, message: msg.EventArrived) -> None:
        waiting = [
            call
            for call in self.state.pending_calls()
            if call.kind == "event" and call.event == message.event and not self._given_up(call)
        ]
        if not waiting:
            self._record(
                rec.EventKept, payload=message.lsn, event=message.event, body=message.payload
            )
            return
        for call in waiting:
            self.sup.waiters.unwait(call.event, self.id)
            self._record(rec.WaitResolved, payload=message.lsn, key=call.key, body=message.payload)
        for call in waiting:
            self._recorded(call.key)

    def event_asks(self, event: str) -> list[EventAsk]:
        """Return the body's present waits for the event, where the run is active."""
        if self.session is None:
            return []
        return [
            ask
            for wait in self.session.waits
            for ask in wait.asks
            if isinstance(ask, EventAsk) and ask.event == event and ask.alive
        ]

    def _child_finished(self, message: msg.ChildFinished) -> None:
        call = self.state.calls.get(message.key)
        if call is None or call.status != "pending" or self.state.finished:
            return
        self._record(rec.ChildEnded, key=message.key, result=message.result, error=message.error)
        self._recorded(message.key)

    # ------------------------------------------------------------ the end

    def _cancel_asked(self, message: msg.CancelAsked) -> None:
        state = self.state
        if state.finished or state.cancelling:
            return
        if state.status == "pending":
            self._end(rec.RunCancelled, error=Raw(self._cancel_error(message.reason)))
            return
        deadline = self.sup.time.now_ms() + int(self.sup.settings.cancel_grace_s * 1000)
        self._record(rec.CancelRequested, deadline=deadline, by=message.by, reason=message.reason)
        self.sup.timers.add(deadline, self.id, CANCEL_TIMER)
        self.sup.cancel_children(self)
        if self.session is not None and not self.session.fenced:
            self.session.gate.cancel(state.cancel_lsn)
        elif self.condition in {"parked", "quarantined", "missing-workflow"}:
            # There is no body that could clean up.
            self._end(rec.RunCancelled, error=Raw(self._cancel_error(message.reason)), forced=True)
        else:
            self.activate()

    def _cancel_error(self, reason: str) -> bytes:
        return encode({"type": "RunCancelledError", "message": reason or "cancelled"})

    def _grace_over(self, due_ms: int) -> None:
        state = self.state
        if not state.cancelling or state.cancel_deadline_ms != due_ms:
            self._settle_down()
            return
        _log.warning("%s: did not end within its cancel's grace, ended by force", self.id)
        error = self._cancel_error(state.cancel_reason)
        self._end(rec.RunCancelled, error=Raw(error), forced=True)

    def _body_ended(self, message: msg.BodyEnded) -> None:
        if message.session is not self.session or message.session.fenced or self.state.finished:
            return
        unused = message.session.gate.unused
        if self.sup.seams.replays_always and unused:
            self._diverged_by_leaving(unused[0], "nothing before its end")
            return
        error = message.error
        if self.state.cancelling:
            cancel_error = self._cancel_error(self.state.cancel_reason)
            self._end(rec.RunCancelled, error=Raw(cancel_error))
            return
        if error is None:
            try:
                data = self._encode_result(message.value)
            except AuthoringError as failure:
                error = failure
            else:
                self._end(rec.RunCompleted, result=Raw(data))
                return
        self._end(rec.RunFailed, error=Raw(self._run_error(error)))

    def _encode_result(self, value: Any) -> bytes:
        workflow = self.sup.workflow(self.state.workflow)
        data = workflow.signature.output.encode(value) if workflow else encode(value)
        self._check_size(data)
        return data

    def _run_error(self, error: BaseException) -> bytes:
        """Return the run's error: that of the failed step where one escaped the body."""
        if isinstance(error, StepFailedError):
            for call in reversed(self.state.calls.values()):
                if call.name == error.name and call.status == "failed" and call.error:
                    return call.error
        return encode_error(error, traceback_bytes_max=self.sup.settings.traceback_bytes_max)

    def _end(self, kind: type[Any], **fields: Any) -> None:
        """Record the run's end, in one frame with what it means to its parent."""
        with self.sup.recorder.group():
            record = self._record(kind, **fields)
            self.sup.run_ended(self)
        session, self.session = self.session, None
        if session is not None:
            self.sup.steps.abandon(session)
            session.close()
            self.sup.deactivated(self)
        self.condition = None
        self.sup.journal.when_durable(record.lsn, self._released_end)

    def _released_end(self, failed: BaseException | None) -> None:
        if failed is not None:
            return
        self.answer_waiters()
        # Those who waited read it now: packed in a moment, not to be opened again at once.
        self.sup.pack_later(self)

    def answer_waiters(self, error: Exception | None = None) -> None:
        """Tell those who wait for the end that it has come, or that it will not come here."""
        waiters, self.finish_waiters = self.finish_waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


_WAKE = msg.WakeUp()
