"""Calls begun: what a body asked for and has no recorded result is recorded as started.

A step's body starts when the run's last strict record is durable; a sleep and a wait are entered
into the tables of timers and waiters at once, since only a message comes of those.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import Raw

from stepflow.errors import StepInterruptedError
from stepflow.model import records as rec
from stepflow.model.codec import encode_error
from stepflow.runtime.calls import (
    ChildAsk,
    EventAsk,
    NotifyAsk,
    OneWait,
    RunAsk,
    SleepAsk,
    StepAsk,
)
from stepflow.runtime.children import start_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.model.run import CallState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.replay import Ask

__all__ = ["begin_attempt", "leave_waiters", "start_call", "start_calls"]


def start_calls(actor: RunActor, asks: Sequence[Ask]) -> None:
    """Begin what of these calls may begin now; several go into one frame."""
    try:
        first = asks[0]
        if type(first) is not StepAsk or len(asks) > 1 or type(first.wait) is not OneWait:
            _start_waits(actor, asks)
        elif first.key in (actor.open_state or actor.state).calls:
            _start_step(actor, first)
        else:
            begin_attempt(actor, first, 1)
    except Exception as error:  # noqa: BLE001  border: an actor's own failure stops it alone
        actor.sup.actor_failed(actor, error)


def _start_waits(actor: RunActor, asks: Sequence[Ask]) -> None:
    by_wait: dict[int, list[RunAsk]] = {}
    for ask in asks:
        if isinstance(ask, RunAsk) and ask.alive:
            by_wait.setdefault(id(ask.wait), []).append(ask)
    if len(asks) == 1:
        for calls in by_wait.values():
            actor.start_ready(calls[0].wait.begin(calls))
        return
    with actor.sup.recorder.group():
        for calls in by_wait.values():
            actor.start_ready(calls[0].wait.begin(calls))


def start_call(actor: RunActor, ask: RunAsk) -> None:
    """Record that the call begins, and begin it."""
    match ask:
        case StepAsk():
            _start_step(actor, ask)
        case SleepAsk():
            _start_sleep(actor, ask)
        case EventAsk():
            _start_wait(actor, ask)
        case ChildAsk():
            start_child(actor, ask, _same_call(actor, ask, given_up=True))
        case NotifyAsk():
            actor.sup.send_notify(actor, ask)
        case _:
            message = f"{type(ask).__name__} cannot be started"
            raise TypeError(message)


def _same_call(actor: RunActor, ask: RunAsk, *, given_up: bool = False) -> CallState | None:
    """Return the call as it was begun before a restart, if it was; given up, if that counts."""
    call = actor.state.calls.get(ask.key)
    if call is None or (call.kind, call.fn, call.args) != (ask.kind, ask.fn, ask.args):
        return None
    return None if call.cancelled and not given_up else call


def _start_step(actor: RunActor, ask: StepAsk) -> None:
    if ask.key not in actor.state.calls:
        begin_attempt(actor, ask, 1)
        return
    # Also one that the body gave up and asks for once more: it has begun, and has its number.
    call = _same_call(actor, ask, given_up=True)
    if call is not None and call.due > actor.sup.time.now_ms():
        # A retry whose wait goes on: its timer is armed.
        return
    if call is not None and call.once and call.failures < call.attempt:
        error = encode_error(StepInterruptedError(ask.name), step=ask.name, attempts=call.attempt)
        actor.record(rec.StepFailed, key=ask.key, error=Raw(error), attempt=call.attempt)
        actor.recorded(ask.key)
        return
    begin_attempt(actor, ask, call.attempt + 1 if call is not None else 1)


def begin_attempt(actor: RunActor, ask: StepAsk, attempt: int) -> None:
    """Record that an attempt starts; its body starts when what it rests on is durable."""
    session = actor.session
    sup = actor.sup
    gate = session.gate if session is not None else None
    effects_wait_for = actor.strict_lsn
    state = actor.open_state or actor.state
    recorder = sup.recorder
    record = rec.StepStarted(
        lsn=recorder.sink.next_lsn,
        r=state.id,
        rs=state.rs + 1,
        ts=recorder.time.now_ms(),
        key=ask.key,
        name=ask.name,
        fn=ask.fn,
        args=ask.args,
        attempt=attempt,
        # What `gate.solo` says.
        solo=gate is not None and gate.outstanding == 1 and gate.tasks == 1,
        once=ask.once,
        undo=ask.undo,
        group=ask.group,
    )
    recorder.take(actor, state, record, strict=ask.once)
    lsn = record.lsn if ask.once else effects_wait_for
    if session is None:
        return
    journal = sup.journal
    if journal.durable_lsn >= lsn:
        sup.steps.run(actor, session, ask, attempt)
    else:
        if journal.strict_lsn < lsn:
            journal.hurry(lsn)
        journal.when_durable(lsn, partial(sup.steps.released, actor, session, ask, attempt))


def _start_sleep(actor: RunActor, ask: SleepAsk) -> None:
    call = _same_call(actor, ask)
    if call is not None and call.status == "pending":
        return
    due = ask.until_ms or actor.sup.time.now_ms() + ask.delay_ms
    actor.record(
        rec.SleepStarted, key=ask.key, name=ask.name, due=due, solo=actor.solo, group=ask.group
    )
    actor.sup.timers.add(due, actor.id, ask.key)


def _start_wait(actor: RunActor, ask: EventAsk) -> None:
    actor.sup.delivery.learn(actor.state.workflow, ask)
    call = _same_call(actor, ask)
    if call is not None and call.status == "pending":
        return
    due = actor.sup.time.now_ms() + ask.timeout_ms if ask.timeout_ms else 0
    old = actor.state.calls.get(ask.key)
    if old is not None:
        leave_waiters(actor, old)
    actor.record(
        rec.WaitStarted,
        key=ask.key,
        name=ask.name,
        event=ask.event,
        due=due,
        solo=actor.solo,
        group=ask.group,
    )
    kept = actor.state.kept.get(ask.event)
    if kept:
        actor.record(rec.WaitResolved, key=ask.key, payload=kept[0])
        actor.recorded(ask.key)
        return
    actor.sup.waiters.wait(ask.event, actor.id)
    if due:
        actor.sup.timers.add(due, actor.id, ask.key)


def leave_waiters(actor: RunActor, call: CallState) -> None:
    """Another call takes the key of this one."""
    if call.event and call.status == "pending" and not call.cancelled:
        actor.sup.waiters.unwait(call.event, actor.id)
