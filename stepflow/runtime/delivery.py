"""Delivers one event to everyone who takes it, decided in one turn of the loop.

One frame holds the `EventReceived` record with the payload and, after it, one record a taker: a run
that waits gets `WaitResolved`, a run that declared the event, or is addressed, keeps it. To decide
on a taker takes some tens of microseconds, and the loop must not be held: of many takers each slice
is a frame of its own, the next in a later pass, all before the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from stepflow.clock import next_pass
from stepflow.errors import (
    ApiError,
    InvalidInputError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RateLimitedError,
)
from stepflow.model.converter import Converter
from stepflow.runtime import messages as msg
from stepflow.runtime.calls import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stepflow.authoring.registry import Workflow
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.calls import EventAsk
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Delivery"]

_TYPES_MAX = 10_000
_STRANGERS_MAX = 100
_PASSES_MAX = 10_000
_ASKED_AT_ONCE = 100
_TAKER_BYTES = 160
_EVENT_BYTES = 4096

ANYTHING: Converter[Any] = Converter.of(Any)


def _waits(state: RunState, event: str) -> list[CallState]:
    """Return the run's waits for the event that are under way."""
    return [c for c in state.pending_calls() if c.kind == "event" and c.event == event]


class Delivery:
    """What `notify` does, from outside and from a workflow."""

    __slots__ = ("_sup", "_turns", "_types", "delivered_total")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._types: dict[tuple[str, str], Converter[Any]] = {}
        """What waits want, by workflow and name: a run that sleeps has no objects to ask."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of two events of one id that take many passes the second waits for the first."""
        self.delivered_total = 0

    def learn(self, workflow: str, ask: EventAsk) -> None:
        """A wait begins, or is replayed: remember its type."""
        if len(self._types) < _TYPES_MAX:
            self._types[workflow, ask.name] = ask.converter

    def wants(self, workflow: str, name: str) -> Converter[Any] | None:
        """Return what the workflow's wait of that name was seen to take, if it was."""
        return self._types.get((workflow, name))

    async def meet(self, event: str, run_id: str | None) -> None:
        """Wake one run of each kind that waits asleep with a type that is not known yet."""
        while (actor := self.stranger(event, run_id)) is not None:
            actor.tell(msg.WakeUp())
            for _ in range(_PASSES_MAX):
                if actor.session is None or actor.event_asks(event):
                    break
                await next_pass()
            self._meet_no_more(actor, event)

    def stranger(self, event: str, run_id: str | None) -> RunActor | None:
        """Return a run that sleeps at a wait whose type is not known yet, if there is one."""
        ids = [run_id] if run_id is not None else self._sup.waiters.takers(event)[:_STRANGERS_MAX]
        for actor in self._live(ids):
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
                    self._start_all(starts, payload, by)
        self.delivered_total += len(takers) + len(starts)
        return len(takers) + len(starts)

    async def deliver_to_all(self, event: str, payload: bytes, *, by: str) -> int:
        """Deliver to however many: a frame in each pass of the loop. Else as `deliver`.

        All are asked before anything is recorded. Who has ended, taken another event or filled up
        meanwhile is passed over. Raises `OutcomeUnknownError` when it is cut short: what was
        recorded stays, and who sends the event again reaches those that are left.
        """
        limit = self._sup.settings.notify_frame_waiters
        lock = self._turns.setdefault(event, asyncio.Lock())
        async with lock:
            if self.count(event, None) <= limit:
                return self.deliver(event, payload, by=by)
            willing, starts = await self._ask_all(event, payload)
            count = 0
            for begin in range(0, max(len(willing), 1), limit):
                if begin:
                    await next_pass()
                    self._check_goes_on(payload)
                count += self._deliver_some(willing[begin : begin + limit], event, payload, by)
                if begin == 0:
                    count += self._start_all(starts, payload, by)
            self.delivered_total += count
            return count

    async def _ask_all(self, event: str, payload: bytes) -> tuple[list[str], list[Workflow]]:
        """Ask all takers in slices; return the runs that are willing, and what the event starts."""
        willing: list[str] = []
        refusal: InvalidInputError | None = None
        for number, run_id in enumerate(self._sup.waiters.takers(event), 1):
            for actor in self._live((run_id,)):
                refused = self._refusal(actor, actor.peek(), event, payload)
                if refused is None:
                    willing.append(run_id)
                refusal = refused or refusal
            if number % _ASKED_AT_ONCE == 0:
                await next_pass()
        starts = self._starts(event, payload)
        if refusal is not None and not willing and not starts:
            raise refusal
        return willing, starts

    def _deliver_some(self, run_ids: Sequence[str], event: str, payload: bytes, by: str) -> int:
        takers: list[RunActor] = []
        for actor in self._live(run_ids):
            if not self._sup.waiters.takes(event, actor.id):
                continue
            with suppress(ApiError):
                if self._refusal(actor, actor.state, event, payload) is None:
                    takers.append(actor)
        with self._sup.recorder.group():
            self._frame(takers, event, payload, by)
        return len(takers)

    def _check_goes_on(self, payload: bytes) -> None:
        if self._sup.stopping or not self._sup.journal.has_room(len(payload) + _EVENT_BYTES):
            raise OutcomeUnknownError

    def _start_all(self, starts: Sequence[Workflow], payload: bytes, by: str) -> int:
        for workflow in starts:
            self._sup.start_run(workflow, payload, events=workflow.event_ids(payload), by=by)
        return len(starts)

    def room_for(self, event: str, payload: bytes) -> int:
        """Return about how many bytes the records of the event would take."""
        takers = self._sup.waiters.count(event)
        frames = 1 + takers // self._sup.settings.notify_frame_waiters
        return frames * len(payload) + takers * _TAKER_BYTES + _EVENT_BYTES

    def count(self, event: str, run_id: str | None) -> int:
        """Return how many runs would take the event, at most."""
        return 1 if run_id is not None else self._sup.waiters.count(event)

    def _takers(self, event: str, run_id: str | None) -> list[RunActor]:
        ids = [run_id] if run_id is not None else self._sup.waiters.takers(event)
        return list(self._live(ids))

    def _live(self, run_ids: Iterable[str]) -> Iterator[RunActor]:
        for run_id in run_ids:
            actor = self._sup.runs.get(run_id)
            if actor is not None and not actor.finished:
                yield actor

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
            refused = self._refusal(actor, actor.state, event, payload)
            if refused is None:
                willing.append(actor)
            refusal = refused or refusal
        if refusal is not None and not willing and not others:
            raise refusal
        return willing

    def _refusal(
        self, actor: RunActor, state: RunState, event: str, payload: bytes
    ) -> InvalidInputError | None:
        """Return why the run's declared type refuses the payload, if it does; check the bounds."""
        refused = self.refusals(actor, state, event, payload)
        if refused and all(refused):
            return refused[0]
        self._check_kept(state, event, payload)
        return None

    def refusals(
        self, actor: RunActor, state: RunState, event: str, payload: bytes
    ) -> list[InvalidInputError | None]:
        """Return what each of the run's waits for the event says to the payload."""
        asks = actor.event_asks(event)
        if asks:
            return [ask.accepts(payload) for ask in asks]
        workflow = state.workflow
        known = (self._types.get((workflow, call.name)) for call in _waits(state, event))
        return [refusal_of(want, payload) if want is not None else None for want in known]

    def _check_kept(self, state: RunState, event: str, payload: bytes) -> None:
        settings = self._sup.settings
        if state.nbytes + len(payload) > settings.run_bytes_max:
            message = f"Run {state.id} would hold more than {settings.run_bytes_max} bytes"
            raise PayloadTooLargeError(message)
        if _waits(state, event):
            return
        if (
            state.kept_count >= settings.kept_events_max
            or state.kept_bytes + len(payload) > settings.kept_bytes_max
        ):
            message = f"Run {state.id} keeps {state.kept_count} events already and takes no more"
            raise RateLimitedError(message, retry_after_s=1)

    def _frame(self, takers: list[RunActor], event: str, payload: bytes, by: str) -> None:
        if not takers:
            return
        lsn = self._sup.recorder.write_event(event, payload, len(takers), by)
        for actor in takers:
            actor.tell(msg.EventArrived(event, lsn, payload))
