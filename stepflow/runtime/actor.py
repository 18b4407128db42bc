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
`RestartAsked`        `RunRestarted`                             the next step's body
====================  =========================================  ============================

The body itself goes on at once: effects wait, thoughts don't. Here are the mailbox and the rhythm;
what each message leads to is decided in starting.py, settling.py and ending.py.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, get_args

from msgspec import Raw

from stepflow.errors import DivergenceError
from stepflow.model import records as rec
from stepflow.model.codec import encode_error
from stepflow.runtime import messages as msg
from stepflow.runtime.body import drive
from stepflow.runtime.branches import start_root
from stepflow.runtime.calls import ChildAsk, EventAsk, RunAsk, StepAsk
from stepflow.runtime.children import give_up_child
from stepflow.runtime.ending import body_ended, cancel_asked, end_run
from stepflow.runtime.firsts import drop_losers
from stepflow.runtime.held import HeldRun
from stepflow.runtime.pausing import let_go_on, pause_asked, resume_asked
from stepflow.runtime.restarting import restart_asked
from stepflow.runtime.reviving import retry_asked
from stepflow.runtime.session import Session
from stepflow.runtime.settling import child_finished, event_arrived, step_ended, timer_fired
from stepflow.runtime.starting import leave_waiters, start_call, start_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.model.run import CallState
    from stepflow.runtime.replay import Ask

__all__ = ["RunActor"]

_log = logging.getLogger("stepflow.run")

_SMALL = 4096
_NO_TIME_S = 1e-9
"""It took less than the clock can tell."""


class RunActor(HeldRun):
    """One run: its state, its mailbox and, while it is active, its session."""

    __slots__ = ("__weakref__",)

    def noted(self, lsn: int) -> None:
        """A record was applied: tell the subscribers when it is durable."""
        if self.feed is not None:
            self.sup.hub.note(lsn, self.feed)

    def record(self, kind: type[Any], /, **fields: Any) -> Any:
        """Record one fact of the run; see `Recorder.write`."""
        return self.sup.recorder.write(self, kind, **fields)

    def act(self, kind: type[Any], /, **fields: Any) -> Any:
        """Record what somebody did to the run; it is in the audit, too."""
        record = self.sup.recorder.write(self, kind, **fields)
        self.sup.note_act(record, self.state.workflow)
        return record

    # ------------------------------------------------------------ mailbox

    def tell(self, message: msg.Message) -> None:
        """Deliver a message: decided now, or when the run's present turn is over."""
        if self._draining or self._mailbox or not self.sup.journal.has_room(_SMALL):
            self._mailbox.append(message)
            if not self._draining:
                self.drain()
            return
        self._draining = True
        held = False
        try:
            _DECIDE[type(message)](self, message)
        except Exception as error:  # noqa: BLE001  border: an actor's own failure stops it alone
            held = self._failed_on(message, error)
            return
        finally:
            self._draining = held
        if self._mailbox:
            self.drain()

    def drain(self) -> None:
        """Decide what is in the mailbox, as long as there is room for records."""
        self._draining = True
        message: msg.Message | None = None
        held = False
        try:
            while self._mailbox:
                if not (self.has_room(self._mailbox[0]) or self._cancel_goes_first()):
                    self.sup.stall(self)
                    return
                message = self._mailbox.popleft()
                _DECIDE[type(message)](self, message)
        except Exception as error:  # noqa: BLE001  border: an actor's own failure stops it alone
            held = self._failed_on(message, error)
        finally:
            self._draining = held

    def _failed_on(self, message: msg.Message | None, error: Exception) -> bool:
        """Say whether what comes until it has started again must stay behind this message."""
        self.sup.actor_failed(self, error, message)
        return self.undecided is not None and self.condition is None

    def go_on(self) -> None:
        """It has started again: decide what it failed on once more, then what came meanwhile."""
        self.retried, self.undecided = self.undecided, None
        if self.retried is not None:
            self._mailbox.appendleft(self.retried)
        self._mailbox.append(msg.WakeUp())
        self.drain()

    def has_room(self, message: msg.Message) -> bool:
        """Whether what the message leads to may be decided now."""
        reserve = isinstance(message, msg.CancelAsked | msg.EventArrived)
        return self.sup.journal.has_room(_SMALL, reserve=reserve)

    def _cancel_goes_first(self) -> bool:
        """With a full disk a cancel does not queue behind what has no room: say whether it may."""
        cancel = next((m for m in self._mailbox if isinstance(m, msg.CancelAsked)), None)
        if cancel is None or not self.has_room(cancel):
            return False
        self._mailbox.remove(cancel)
        self._mailbox.appendleft(cancel)
        return True

    def calls_asked(self, message: msg.CallsAsked) -> None:
        """Begin calls that found no room when they were asked for."""
        asks = [ask for ask in message.asks if ask.alive]
        if asks and message.session is self.session and not message.session.fenced:
            start_calls(self, asks)

    # ------------------------------------------------------------ activation

    def activate(self, args: tuple[Any, ...] | None = None) -> None:
        """Give the run its task and replay its body against its records.

        `args` is a decoded copy of its input, for the body alone, where the caller has one.
        """
        state = self.open_state or self.state
        if self.session is not None or state.status != "running" or self.sup.stopping:
            return
        if self.condition in {"quarantined", "parked"}:
            return
        if state.paused:
            # What has happened to it is recorded: it hears of that when it goes on.
            self.pack()
            return
        workflow = self.sup.workflow(state.workflow)
        if workflow is None:
            self.sup.workflow_missing(self)
            return
        self.condition = None
        self.reason = ""
        sup = self.sup
        gate = sup.seams.gate.of(
            self,
            state.calls.values(),
            sup.loop.call_soon,
            passes=sup.settings.quiet_passes,
            strict=sup.strict,
            renamed=workflow.options.renamed,
        )
        session = self.session = Session(
            self, gate, sup.loop, self.id, self.id.encode(), state.workflow
        )
        session.born_s = sup.clock.monotonic_s()
        if state.cancelling:
            gate.cancel(state.cancel_lsn)
        self.sup.activated(self)
        session.root = start_root(
            session, drive(self, session, workflow, args), self.sup.base_context
        )

    def woken(self, _: msg.WakeUp) -> None:
        """Go on from the records: with the body, or with waiting for admission."""
        state = self.state
        if state.status == "running":
            self.activate()
        elif state.status == "pending" and state.due <= self.sup.time.now_ms():
            self.sup.admission.enter(self)

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

    def let_go_on(self) -> None:
        """Let an active body hear and do what a pause had held back."""
        let_go_on(self)

    # ------------------------------------------------------------ GateHost

    def start_calls(self, asks: Sequence[Ask]) -> None:
        """Begin calls without a recorded result."""
        session = self.session
        if session is None or session.fenced or self.sup.stopping:
            return
        if not session.replay_s:
            session.replay_s = self.sup.clock.monotonic_s() - session.born_s or _NO_TIME_S
        if session.held is not None:
            session.held.append(asks)
        elif self.sup.seams.replays_always and session.gate.unused:
            self.diverged_by_leaving(session.gate.unused[0], asks[0].fn or asks[0].kind)
        elif self.sup.journal.has_room(_SMALL):
            start_calls(self, asks)
        else:
            # Decided later, when there is room; until then nothing of it exists.
            self.tell(msg.CallsAsked(session, asks))

    def adopt(self, ask: Ask, outcome: CallState) -> None:
        """Record that the call takes a result recorded for another one."""
        displaced = self.state.calls.get(ask.key)
        if displaced is not None and displaced is not outcome:
            leave_waiters(self, displaced)
        self.record(
            rec.CallAdopted,
            key=ask.key,
            name=ask.name,
            kind=ask.kind,
            fn=ask.fn,
            args=ask.args,
            of=outcome.lsn,
        )

    def deliver_cancel(self) -> None:
        """Cancel the body's root task, unless it is undoing its steps already."""
        session = self.session
        if session is not None and session.root is not None and not session.undoing:
            session.root.cancel()

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
            end_run(self, rec.RunFailed, error=Raw(encode_error(error)))
            return
        self.condition = "parked"
        self.reason = str(error)
        self.sup.spawn(self.suspend())

    def diverged_by_leaving(self, key: str, asked: str) -> None:
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
            if not ask.group or ask.wait.may_begin:
                start_call(self, ask)

    @property
    def solo(self) -> bool:
        """Whether the body has one task and that waits in one call."""
        return self.session is not None and self.session.gate.solo

    def recorded(self, key: str) -> None:
        """Hand a call's fresh result to the gate, or wake the run that sleeps on it."""
        call = self.state.calls[key]
        if self.session is None:
            if call.group:
                drop_losers(self, call)
            self.activate()
        else:
            self.settled(call)

    def settled(self, call: CallState) -> None:
        """Hand a call's fresh result to the gate of an active run."""
        if call.group:
            drop_losers(self, call)
        session = self.session
        if session is None or session.fenced:
            return
        if self.sup.seams.replays_always and not self.sup.steps.has(session):
            self.sup.replay(self)
        else:
            session.gate.recorded(call)

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
            if isinstance(ask, ChildAsk):
                give_up_child(self, call)
            else:
                self.record(rec.CallCancelled, key=ask.key)

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

    # ------------------------------------------------------------ the end

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


_DECIDE: dict[type[msg.Message], Callable[[RunActor, Any], None]] = {
    msg.StepEnded: step_ended,
    msg.BodyEnded: body_ended,
    msg.RestartAsked: restart_asked,
    msg.CallsAsked: RunActor.calls_asked,
    msg.TimerFired: timer_fired,
    msg.EventArrived: event_arrived,
    msg.ChildFinished: child_finished,
    msg.CancelAsked: cancel_asked,
    msg.PauseAsked: pause_asked,
    msg.ResumeAsked: resume_asked,
    msg.RetryAsked: retry_asked,
    msg.WakeUp: RunActor.woken,
}
assert _DECIDE.keys() == set(get_args(msg.Message)), "every message has one who decides on it"
