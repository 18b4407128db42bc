"""Calls settled: a step, a timer, an event or a child ended, and its result is recorded.

What comes too late is dropped here: the run was suspended, gave the call up, or timed it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from stepflow.errors import ApiError, AuthoringError
from stepflow.model import records as rec
from stepflow.model.codec import encode_error
from stepflow.runtime.calls import RunAsk, StepAsk
from stepflow.runtime.ending import (
    CANCEL_TIMER,
    RELEASE_TIMER,
    TIMEOUT_TIMER,
    check_result,
    grace_over,
    time_over,
)
from stepflow.runtime.starting import begin_attempt

if TYPE_CHECKING:
    from stepflow.model.run import CallState
    from stepflow.runtime import messages as msg
    from stepflow.runtime.actor import RunActor

__all__ = ["child_finished", "event_arrived", "step_ended", "timer_fired"]


def step_ended(actor: RunActor, message: msg.StepEnded) -> None:
    """Record the step's result, its next attempt or its failure."""
    session, ask = message.session, message.ask
    state = actor.open_state or actor.state
    call = state.calls.get(ask.key)
    if (
        call is None
        or call.attempt != message.attempt
        or session is not actor.session
        or session.fenced
        or not session.gate.is_started(ask.key)
        or ask.wait.future.done()
    ):
        # The run was suspended, gave the call up, or timed the attempt out.
        return
    error = message.error
    if error is None:
        sup = actor.sup
        try:
            converter = ask.converter
            data = converter.encode(message.value, "result")
            size = len(data)
            if size > sup.small_result or state.nbytes + size > sup.run_bytes_max:
                check_result(actor, data)
            decoded = converter.decode(data)
        except (AuthoringError, ApiError) as refused:
            error = refused
        else:
            recorder = sup.recorder
            record = rec.StepCompleted(
                lsn=recorder.sink.next_lsn,
                r=state.id,
                rs=state.rs + 1,
                ts=recorder.time.now_ms(),
                key=ask.key,
                result=Raw(data),
                attempt=call.attempt,
            )
            recorder.take(actor, state, record, strict=not ask.relaxed)
            ask.decoded = decoded
            if sup.seams.replays_always or call.group:
                actor.settled(call)
            else:
                session.gate.completed(ask, call)
            return
    _fail_attempt(actor, ask, call, error)


def _fail_attempt(actor: RunActor, ask: StepAsk, call: CallState, error: BaseException) -> None:
    settings = actor.sup.settings
    data = encode_error(
        error,
        step=ask.name,
        attempts=call.attempt,
        traceback_bytes_max=settings.traceback_bytes_max,
    )
    delay_ms = actor.sup.steps.retry_delay_ms(ask, call, error)
    if delay_ms is None:
        actor.sup.steps.failed_total += 1
        actor.record(rec.StepFailed, key=ask.key, error=Raw(data), attempt=call.attempt)
        actor.recorded(ask.key)
        return
    due = actor.sup.time.now_ms() + delay_ms
    actor.sup.steps.retried_total += 1
    actor.record(rec.StepRetrying, key=ask.key, attempt=call.attempt, error=Raw(data), due=due)
    actor.sup.timers.add(due, actor.id, ask.key)


def timer_fired(actor: RunActor, message: msg.TimerFired) -> None:
    """End the sleep or the wait that was due, or begin the attempt that was."""
    key, due_ms = message.key, message.due_ms
    if key == CANCEL_TIMER:
        grace_over(actor, due_ms)
        return
    if key == RELEASE_TIMER:
        if actor.state.due <= due_ms:
            actor.sup.admission.enter(actor)
        return
    if key == TIMEOUT_TIMER:
        time_over(actor, due_ms)
        return
    call = actor.state.calls.get(key)
    if (
        call is None
        or call.status != "pending"
        or call.due != due_ms
        or actor.state.finished
        or _given_up(actor, call)
    ):
        # The call has ended, was given up, or got another due time: a stale timer.
        actor.pack()
        return
    if call.kind == "sleep":
        actor.record(rec.SleepEnded, key=key)
        actor.recorded(key)
    elif call.kind == "event":
        actor.sup.waiters.unwait(call.event, actor.id)
        actor.record(rec.WaitTimedOut, key=key)
        actor.recorded(key)
    else:
        _retry_due(actor, call)


def _retry_due(actor: RunActor, call: CallState) -> None:
    session = actor.session
    if actor.state.paused:
        # Begun when the run goes on.
        actor.pack()
        return
    if session is None:
        # The replay asks for the step again; its due time has passed by then.
        actor.activate()
        return
    if session.fenced:
        session.missed = True
        return
    ask = session.gate.started_ask(call.key)
    if isinstance(ask, StepAsk) and ask.alive:
        begin_attempt(actor, ask, call.attempt + 1)


def event_arrived(actor: RunActor, message: msg.EventArrived) -> None:
    """Give the event to the calls that wait for it, or keep it for one that will."""
    waiting = [
        call
        for call in actor.state.pending_calls()
        if call.kind == "event" and call.event == message.event and not _given_up(actor, call)
    ]
    if not waiting:
        actor.record(rec.EventKept, payload=message.lsn, event=message.event, body=message.payload)
        return
    taking = [call for call in waiting if _takes(actor, call, message)]
    for call in taking:
        actor.recorded(call.key)


def _takes(actor: RunActor, call: CallState, message: msg.EventArrived) -> bool:
    """Give the event to the call, unless the one before has ended it: both of a `ctx.first`."""
    if call.dropped:
        return False
    actor.sup.waiters.unwait(call.event, actor.id)
    actor.record(rec.WaitResolved, payload=message.lsn, key=call.key, body=message.payload)
    return True


def child_finished(actor: RunActor, message: msg.ChildFinished) -> None:
    """Record how an awaited child ended."""
    call = actor.state.calls.get(message.key)
    if call is None or call.status != "pending" or call.cancelled or actor.state.finished:
        return
    if call.child != message.child:
        # Of a call that had this key before.
        return
    if _given_up(actor, call):
        return
    actor.record(rec.ChildEnded, key=message.key, result=message.result, error=message.error)
    actor.recorded(message.key)


def _given_up(actor: RunActor, call: CallState) -> bool:
    """Whether the body has cancelled the call's wait, though its task has not run since."""
    session = actor.session
    if session is None or session.fenced:
        return False
    ask = session.gate.started_ask(call.key)
    if not isinstance(ask, RunAsk) or ask.alive:
        return False
    actor.give_up((ask,))
    return True
