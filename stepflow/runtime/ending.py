"""The run ended: its body returned or raised, or it was cancelled, in time or by force."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from stepflow.errors import AuthoringError, StepFailedError, StepInterruptedError, UnavailableError
from stepflow.model import records as rec
from stepflow.model.codec import encode, encode_error
from stepflow.model.durations import format_duration
from stepflow.model.failures import with_compensation, without_compensation
from stepflow.runtime.blame import whose
from stepflow.runtime.children import cancel_child, cancel_children
from stepflow.runtime.messages import CancelAsked
from stepflow.runtime.undoing import not_undone

if TYPE_CHECKING:
    from stepflow.model.run import RunState
    from stepflow.runtime import messages as msg
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.session import Session

__all__ = ["CANCEL_TIMER", "RELEASE_TIMER", "SMALL", "TIMEOUT_TIMER", "body_ended", "cancel_asked"]
__all__ += ["check_emitted", "check_event_size", "check_result", "end_cancelled", "end_run"]
__all__ += ["grace_over", "time_over"]

_log = logging.getLogger("stepflow.run")

CANCEL_TIMER = "@cancel"
RELEASE_TIMER = "@release"
TIMEOUT_TIMER = "@timeout"
TIMED_OUT = "timeout"
"""Who cancels a run whose timeout is over: it fails."""
SMALL = 4096
"""Bytes of a result with which nothing can be wrong but the sum of all."""
_GROWTH = 8


def cancel_asked(actor: RunActor, message: msg.CancelAsked) -> None:
    """Record the cancel and tell the body; without a body, end the run."""
    state = actor.state
    if state.finished or (state.cancelling and not message.force):
        return
    if message.force or state.status == "pending":
        _end_now(actor, message)
        return
    deadline = actor.sup.time.now_ms() + int(actor.sup.settings.cancel_grace_s * 1000)
    actor.act(rec.CancelRequested, deadline=deadline, by=message.by, reason=message.reason)
    actor.sup.timers.add(deadline, actor.id, CANCEL_TIMER)
    cancel_children(actor, state.pending_calls())
    if actor.session is not None and not actor.session.fenced:
        actor.let_go_on()
        actor.session.gate.cancel(state.cancel_lsn)
    elif actor.condition in {"parked", "quarantined", "missing-workflow"}:
        # There is no body that could clean up.
        end_cancelled(actor, forced=True)
    else:
        actor.activate()


def _end_now(actor: RunActor, message: msg.CancelAsked) -> None:
    """End the run without waiting for it: it has not begun, or somebody wants it so."""
    state = actor.state
    forced = state.status != "pending"
    pending = state.pending_calls()
    if not forced:
        actor.sup.admission.leave(actor.id)
    else:
        _log.warning("%s: ended by force%s", actor.id, f" by {message.by}" if message.by else "")
    error = _cancel_error(message.reason or state.cancel_reason)
    end_run(
        actor,
        rec.RunCancelled,
        error=Raw(error),
        forced=forced,
        asked=True,
        by=message.by,
        reason=message.reason,
    )
    actor.sup.note_act(state.acts[-1], state.workflow)
    if not forced:
        actor.sup.tally.let_go(state.workflow)
    else:
        # After its own end, which has cancelled them: how they end is no result of it any more.
        for call in pending:
            cancel_child(actor, call, "the parent run was cancelled", force=True)


def time_over(actor: RunActor, due_ms: int) -> None:
    """Stop a run that did not end within its timeout: as a cancel does, but it fails."""
    state = actor.state
    if state.deadline_ms != due_ms or state.status != "running" or state.started is None:
        actor.pack()
        return
    reason = f"the run did not end within its timeout of {format_duration(state.started.timeout)}"
    _log.warning("%s: %s", actor.id, reason)
    cancel_asked(actor, CancelAsked(TIMED_OUT, reason))


def _cancel_error(reason: str) -> bytes:
    return encode({"type": "RunCancelledError", "message": reason or "cancelled"})


def end_cancelled(actor: RunActor, *, forced: bool = False) -> None:
    """End a run that was being cancelled, or timed out, now that its body has ended."""
    state = actor.state
    if state.cancel_by == TIMED_OUT:
        error = encode({"type": "RunTimeoutError", "message": state.cancel_reason})
        end_run(actor, rec.RunFailed, error=Raw(error))
        return
    error = _cancel_error(state.cancel_reason)
    end_run(actor, rec.RunCancelled, error=Raw(error), forced=forced)


def grace_over(actor: RunActor, due_ms: int) -> None:
    """End by force a run that did not end within its cancel's grace."""
    state = actor.state
    if not state.cancelling or state.cancel_deadline_ms != due_ms:
        actor.pack()
        return
    _log.warning("%s: did not end within its cancel's grace, ended by force", actor.id)
    end_cancelled(actor, forced=True)


def body_ended(actor: RunActor, message: msg.BodyEnded) -> None:
    """Record the run's end as its body ended: returned, raised or cancelled."""
    state = actor.open_state or actor.state
    if message.session is not actor.session or message.session.fenced or state.finished:
        return
    if state.paused:
        # Its end would be an effect: the body comes to it again when the run goes on.
        actor.sup.spawn(actor.suspend())
        return
    if actor.sup.seams.replays_always and (unused := message.session.gate.unused):
        actor.diverged_by_leaving(unused[0], "nothing before its end")
        return
    error = message.error
    if state.cancel_deadline_ms:  # it has not ended: see above
        end_cancelled(actor)
        return
    if error is None:
        try:
            data = _encode_result(actor, state, message.value)
        except AuthoringError as failure:
            error = failure
        else:
            end_run(actor, rec.RunCompleted, result=Raw(data))
            return
    failed, cleanup = _blamed(actor, message.session, error)
    end_run(
        actor,
        rec.RunFailed,
        error=Raw(_run_error(actor, error)),
        failed=failed,
        cleanup=cleanup,
    )


def _blamed(
    actor: RunActor, session: Session, error: BaseException
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which calls' failure the end is, and what was asked for while it was handled."""
    failed, cleanup = whose(error)
    calls = actor.state.calls
    begun = [calls[key].lsn for key in failed if key in calls]
    if begun and session.cut_short:
        first = min(begun)
        cleanup += [k for k in session.cut_short if k in calls and calls[k].begun > first]
    # A failed call is made again, though it was made while another failure was handled.
    return tuple(failed), tuple(key for key in dict.fromkeys(cleanup) if key not in failed)


def _encode_result(actor: RunActor, state: RunState, value: Any) -> bytes:
    workflow = actor.sup.workflow(state.workflow)
    data = workflow.signature.output.encode(value) if workflow else encode(value)
    check_size(actor, data)
    return data


def _run_error(actor: RunActor, error: BaseException) -> bytes:
    """Return the run's error: that of the failed step where one escaped the body."""
    if isinstance(error, StepFailedError | StepInterruptedError):
        for call in reversed(actor.state.calls.values()):
            if call.name == error.name and call.status == "failed" and call.error:
                return without_compensation(call.error) if call.child else call.error
    return encode_error(error, traceback_bytes_max=actor.sup.settings.traceback_bytes_max)


def end_run(actor: RunActor, kind: type[Any], **fields: Any) -> None:
    """Record the run's end, in one frame with what it means to its parent and its children."""
    state = actor.open_state or actor.state
    recorder = actor.sup.recorder
    if kind is not rec.RunCompleted and (rows := list(not_undone(state))):
        fields["error"] = Raw(with_compensation(bytes(fields["error"]), rows))
    start = state.started
    pending = state.pending_calls()
    children = pending and any(call.child for call in pending)
    if children or (start is not None and start.parent_key):
        with recorder.group():
            record = recorder.write(actor, kind, **fields)
            actor.sup.run_ended(actor, pending)
    else:
        record = recorder.write(actor, kind, **fields)
        actor.sup.run_ended(actor, pending)
    session, actor.session = actor.session, None
    if session is not None:
        actor.sup.steps.abandon(session)
        session.close()
        actor.sup.deactivated(actor)
    actor.condition = None
    actor.sup.journal.when_durable(record.lsn, partial(_released_end, actor))


def _released_end(actor: RunActor, failed: BaseException | None) -> None:
    if failed is not None:
        return
    admission = actor.sup.admission
    if admission.seats:
        admission.freed(actor.id)
    if actor.sup.traces is not None:
        actor.sup.traces.run_ended(actor)
    actor.answer_waiters()
    # Those who waited read it now: packed in a moment, not to be opened again at once.
    actor.sup.pack_later(actor)


def check_size(actor: RunActor, data: bytes) -> None:
    """Raise `AuthoringError` for a result that is too large, alone or with the rest of its run."""
    settings = actor.sup.settings
    if len(data) > settings.result_bytes_max:
        message = (
            f"the result has {len(data)} bytes, at most {settings.result_bytes_max} are kept; "
            "store it elsewhere and return a reference"
        )
        raise AuthoringError(message)
    if (actor.open_state or actor.state).nbytes + len(data) > settings.run_bytes_max:
        message = (
            f"the run would hold more than {settings.run_bytes_max} bytes; "
            "return less, or end it and start another"
        )
        raise AuthoringError(message)


def check_result(actor: RunActor, data: bytes) -> None:
    """Raise what `check_size` or `check_growth` does for a step's result that is not small."""
    check_size(actor, data)
    check_growth(actor, data)


def check_growth(actor: RunActor, data: bytes) -> None:
    """Raise `UnavailableError` for what is not small when the runs that live hold too much.

    What runs already may grow into an eighth more than new runs get, but not without end.
    """
    limit = actor.sup.settings.live_bytes_max
    nbytes = len(data)
    if nbytes > SMALL and actor.sup.recorder.live_bytes + nbytes > limit + limit // _GROWTH:
        message = "The runs that live hold as much as they may"
        raise UnavailableError(message, retry_after_s=5)


def check_event_size(actor: RunActor, data: bytes) -> None:
    """Raise `AuthoringError` for an emitted event that is too large by itself."""
    limit = actor.sup.settings.event_bytes_max
    if len(data) > limit:
        message = (
            f"what is emitted has {len(data)} bytes, at most {limit} are kept; "
            "store it elsewhere and emit a reference"
        )
        raise AuthoringError(message)


def check_emitted(actor: RunActor, data: bytes) -> None:
    """Raise `AuthoringError` for an emitted event that is too large, alone or with its run."""
    check_event_size(actor, data)
    settings, state = actor.sup.settings, actor.state
    if state.emits >= settings.run_emits_max:
        message = (
            f"the run has emitted {state.emits} events, at most {settings.run_emits_max} are kept "
            "(run_emits_max); put several into one"
        )
        raise AuthoringError(message)
    if state.emit_bytes + len(data) > settings.run_emit_bytes_max:
        message = (
            f"the run would have emitted more than {settings.run_emit_bytes_max} bytes "
            "(run_emit_bytes_max); store it elsewhere and emit a reference"
        )
        raise AuthoringError(message)
    if state.nbytes + len(data) > settings.run_bytes_max:
        message = f"the run would hold more than {settings.run_bytes_max} bytes; emit less"
        raise AuthoringError(message)
    check_growth(actor, data)
