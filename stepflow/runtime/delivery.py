"""Delivers one event to everyone who takes it, decided in one turn of the loop.

One frame holds the `EventReceived` record with the payload and, after it, one record a taker: a run
that waits gets `WaitResolved`, a run that declared the event, or is addressed, keeps it. With very
many takers further frames follow before the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow.clock import next_pass
from stepflow.errors import InvalidInputError, PayloadTooLargeError, RateLimitedError
from stepflow.model.converter import Converter
from stepflow.runtime import messages as msg
from stepflow.runtime.calls import refusal_of

if TYPE_CHECKING:
    from stepflow.authoring.registry import Workflow
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.calls import EventAsk
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Delivery"]

_TYPES_MAX = 10_000
_STRANGERS_MAX = 100
_PASSES_MAX = 10_000
_TAKER_BYTES = 160
_EVENT_BYTES = 4096

ANYTHING: Converter[Any] = Converter.of(Any)


def _waits(state: RunState, event: str) -> list[CallState]:
    """Return the run's waits for the event that are under way."""
    return [c for c in state.pending_calls() if c.kind == "event" and c.event == event]


class Delivery:
    """What `notify` does, from outside and from a workflow."""

    __slots__ = ("_sup", "_types", "delivered_total")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._types: dict[tuple[str, str], Converter[Any]] = {}
        """What waits want, by workflow and name: a run that sleeps has no objects to ask."""
        self.delivered_total = 0

    def learn(self, workflow: str, ask: EventAsk) -> None:
        """A wait begins, or is replayed: remember its type."""
        if len(self._types) < _TYPES_MAX:
            self._types[workflow, ask.name] = ask.converter

    async def meet(self, event: str, run_id: str | None) -> None:
        """Wake one run of each kind that waits asleep with a type that is not known yet."""
        while (actor := self._stranger(event, run_id)) is not None:
            actor.tell(msg.WakeUp())
            for _ in range(_PASSES_MAX):
                if actor.session is None or actor.event_asks(event):
                    break
                await next_pass()
            self._meet_no_more(actor, event)

    def _stranger(self, event: str, run_id: str | None) -> RunActor | None:
        for actor in self._takers(event, run_id)[:_STRANGERS_MAX]:
            if actor.session is None and not all(
                (actor.state.workflow, call.name) in self._types
                for call in _waits(actor.state, event)
            ):
                return actor
        return None

    def _meet_no_more(self, actor: RunActor, event: str) -> None:
        """Whatever came of it: a kind whose type cannot be known takes anything."""
        for call in _waits(actor.state, event):
            self._types.setdefault((actor.state.workflow, call.name), ANYTHING)

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

    def count(self, event: str, run_id: str | None) -> int:
        """Return how many runs would take the event, at most."""
        return 1 if run_id is not None else len(self._sup.waiters.takers(event))

    def _takers(self, event: str, run_id: str | None) -> list[RunActor]:
        runs = self._sup.runs
        if run_id is not None:
            actor = runs.get(run_id)
            return [actor] if actor is not None and not actor.finished else []
        return [runs[r] for r in self._sup.waiters.takers(event) if r in runs]

    def _starts(self, event: str, payload: bytes) -> list[Workflow]:
        """Return the workflows that the event starts, where their input type takes the payload."""
        willing: list[Workflow] = []
        refusal: InvalidInputError | None = None
        for workflow in self._sup.registry.all():
            if workflow.options.on != event:
                continue
            try:
                workflow.signature.arguments(payload)
                workflow.event_ids(payload)
            except InvalidInputError as error:
                refusal = error
                continue
            willing.append(workflow)
        if refusal is not None and not willing and not self._sup.waiters.takers(event):
            raise refusal
        return willing

    def _willing(
        self, takers: list[RunActor], event: str, payload: bytes, *, others: int
    ) -> list[RunActor]:
        """Leave out the runs whose declared type refuses the payload, and check the bounds."""
        willing: list[RunActor] = []
        refusal: InvalidInputError | None = None
        for actor in takers:
            refused = self._refusals(actor, event, payload)
            if refused and all(refused):
                refusal = refused[0]
                continue
            self._check_kept(actor, event, payload)
            willing.append(actor)
        if refusal is not None and not willing and not others:
            raise refusal
        return willing

    def _refusals(
        self, actor: RunActor, event: str, payload: bytes
    ) -> list[InvalidInputError | None]:
        """Return what each of the run's waits for the event says to the payload."""
        asks = actor.event_asks(event)
        if asks:
            return [ask.accepts(payload) for ask in asks]
        workflow = actor.state.workflow
        known = (self._types.get((workflow, call.name)) for call in _waits(actor.state, event))
        return [refusal_of(want, payload) if want is not None else None for want in known]

    def _check_kept(self, actor: RunActor, event: str, payload: bytes) -> None:
        state, settings = actor.state, self._sup.settings
        if state.nbytes + len(payload) > settings.run_bytes_max:
            message = f"Run {actor.id} would hold more than {settings.run_bytes_max} bytes"
            raise PayloadTooLargeError(message)
        if _waits(state, event):
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
