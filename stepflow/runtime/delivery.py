"""Delivers one event to everyone who takes it, decided in one turn of the loop.

One frame holds the `EventReceived` record with the payload and, after it, one record a taker: a run
that waits gets `WaitResolved`, a run that declared the event, or is addressed, keeps it. With very
many takers further frames follow before the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.errors import InvalidInputError, RateLimitedError
from stepflow.runtime import messages as msg

if TYPE_CHECKING:
    from stepflow.authoring.registry import Workflow
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Delivery"]

_TAKER_BYTES = 160
_EVENT_BYTES = 4096


class Delivery:
    """What `notify` does, from outside and from a workflow."""

    __slots__ = ("_sup", "delivered_total")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self.delivered_total = 0

    def deliver(
        self, event: str, payload: bytes, *, by: str, run_id: str | None = None, sender: str = ""
    ) -> int:
        """Record the event for its takers and wake them; return how many runs it reached.

        `sender` is a run that does not get its own event back. Raises `InvalidInputError` when
        every taker's type refuses the payload, `RateLimitedError` when a run keeps too many;
        then nothing is recorded.
        """
        takers = [a for a in self._takers(event, run_id) if a.id != sender]
        starts = self._starts(event, payload) if run_id is None else []
        takers = self._willing(takers, event, payload, others=len(starts))
        if not takers and not starts:
            return 0
        limit = self._sup.settings.notify_frame_waiters
        for begin in range(0, max(len(takers), 1), limit):
            with self._sup.recorder.group():
                self._frame(takers[begin : begin + limit], event, payload, by)
                if begin == 0:
                    for workflow in starts:
                        self._sup.start_run(
                            workflow, payload, events=workflow.event_ids(payload), by=by
                        )
        self.delivered_total += len(takers) + len(starts)
        return len(takers) + len(starts)

    def room_for(self, event: str, payload: bytes) -> int:
        """Return about how many bytes the records of the event would take."""
        takers = len(self._sup.waiters.takers(event))
        frames = 1 + takers // self._sup.settings.notify_frame_waiters
        return frames * len(payload) + takers * _TAKER_BYTES + _EVENT_BYTES

    def _takers(self, event: str, run_id: str | None) -> list[RunActor]:
        runs = self._sup.runs
        if run_id is not None:
            actor = runs.get(run_id)
            return [actor] if actor is not None and not actor.finished else []
        return [runs[r] for r in self._sup.waiters.takers(event) if r in runs]

    def _starts(self, event: str, payload: bytes) -> list[Workflow]:
        """Return the workflows that the event starts, where their input type takes the payload."""
        found = [w for w in self._sup.registry.all() if w.options.on == event]
        willing: list[Workflow] = []
        for workflow in found:
            try:
                workflow.signature.arguments(payload)
                workflow.event_ids(payload)
            except InvalidInputError:
                if len(found) == 1 and not self._sup.waiters.takers(event):
                    raise
                continue
            willing.append(workflow)
        return willing

    def _willing(
        self, takers: list[RunActor], event: str, payload: bytes, *, others: int
    ) -> list[RunActor]:
        """Leave out the runs whose declared type refuses the payload, and check the bounds."""
        willing: list[RunActor] = []
        refusal: InvalidInputError | None = None
        for actor in takers:
            refused = [ask.accepts(payload) for ask in actor.event_asks(event)]
            if refused and all(refused):
                refusal = refused[0]
                continue
            self._check_kept(actor, event, payload)
            willing.append(actor)
        if refusal is not None and not willing and not others:
            raise refusal
        return willing

    def _check_kept(self, actor: RunActor, event: str, payload: bytes) -> None:
        state, settings = actor.state, self._sup.settings
        if any(c.kind == "event" and c.event == event for c in state.pending_calls()):
            return
        if (
            state.kept_count >= settings.kept_events_max
            or state.kept_bytes + len(payload) > settings.kept_bytes_max
        ):
            message = f"Run {actor.id} keeps {state.kept_count} events already and takes no more"
            raise RateLimitedError(message, retry_after_s=1)

    def _frame(self, takers: list[RunActor], event: str, payload: bytes, by: str) -> None:
        if not takers:
            return
        lsn = self._sup.recorder.write_event(event, payload, len(takers), by)
        for actor in takers:
            actor.tell(msg.EventArrived(event, lsn, payload))
