"""`GET /runs/{runId}/why`: what a run waits for, from its records and from the supervisor's tables.

What holds the whole run comes first (the disk, quarantine, a pause, the queue), then the calls of
its body that have no result. A child is explained one level down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from stepflow.clock import rfc3339
from stepflow.engine.part import RECORD_BYTES, EnginePart
from stepflow.model import records as rec
from stepflow.model.audit import acts_of
from stepflow.model.likeness import alike
from stepflow.model.views import derived_state
from stepflow.model.why import (
    HeldThread,
    NearMiss,
    WaitingFor,
    WhyView,
    of_call,
    sentence,
    since,
    span,
)
from stepflow.runtime.circles import CODE, circle_of, say_circle

if TYPE_CHECKING:
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.admission import Place
    from stepflow.runtime.unheard import Sent

__all__ = ["Why", "of_place"]

_SHOWN_MAX = 100
_LANES_MAX = 20_000
"""So many keys of full limits are looked at, in one go of the loop, for where children stand."""
_ZOMBIES_MAX = 10


def of_place(place: Place, now_ms: int) -> WaitingFor:
    """Return what a run waits for that stands in the queue."""
    ahead = f", {place.ahead} ahead of it" if place.position else ""
    says = f"it waits for its turn{ahead}: {place.limit}"
    if place.key:
        says += f" (here {place.key})"
    if place.holders:
        says += f"; under way is {', '.join(place.holders)}"
    if place.free_at_ms:
        says += f"; the next one begins in {span(place.free_at_ms - now_ms)}"
    return WaitingFor(
        kind="queue",
        name=place.limit,
        position=place.position or UNSET,
        ahead=place.ahead if place.position else UNSET,
        limit=place.limit,
        held_by=place.holders or UNSET,
        due_at=rfc3339(place.free_at_ms) if place.free_at_ms else UNSET,
        says=says,
    )


class Why(EnginePart):
    """Read in one turn, shown when all of it is durable."""

    async def why(self, run_id: str) -> WhyView:
        actor = await self._durable_run(run_id)
        place = await self.sup.admission.place_in_slices(run_id)
        view = self._explain(actor, place, children=True)
        await self.sup.journal.durable(self.sup.journal.last_lsn)
        return view

    def _explain(self, actor: RunActor, place: Place | None, *, children: bool) -> WhyView:
        state = actor.peek()
        if state.finished:
            return WhyView(summary=f"It is {state.status}: it waits for nothing.", waiting_for=[])
        found = [*self._held(actor, state, place)]
        calls = state.pending_calls()
        shown = calls[:_SHOWN_MAX]
        lanes = _LANES_MAX // len(shown) if children and shown else 0
        session = actor.session
        ahead = {} if session is None else self.sup.steps.waiting_of(session)
        for call in shown:
            row = self._call(call, lanes=lanes)
            if call.key in ahead and row.kind == "step":
                self._add_thread(row, call, ahead[call.key])
            found.append(row)
        if not found:
            found.append(self._own_code(actor, state))
        more = len(calls) - len(shown)
        view = WhyView(summary=sentence(found, more), waiting_for=found)
        if more:
            view.more = more
        return view

    # ------------------------------------------------------------ what holds the whole run

    def _held(self, actor: RunActor, state: RunState, place: Place | None) -> list[WaitingFor]:
        found: list[WaitingFor] = []
        if self._state == "ready" and not self.sup.journal.has_room(RECORD_BYTES):
            why = self.sup.journal.why_no_room
            found.append(WaitingFor(kind="disk", name="disk", reason=why, says=why))
        if actor.condition is not None:
            found.append(self._condition(actor, state))
        if state.paused:
            found.append(_pause(state, self._now_ms()))
        if state.cancelling:
            found.append(self._cancelling(state))
        if state.status == "pending" and not state.paused:
            found.append(self._pending(actor, state, place))
        return found

    def _now_ms(self) -> int:
        return self.sup.time.now_ms()

    def _condition(self, actor: RunActor, state: RunState) -> WaitingFor:
        reason = actor.reason
        match actor.condition:
            case "missing-workflow":
                names = alike(state.workflow, (w.id for w in self.registry.all()))
                hint = f"; registered is {' and '.join(map(repr, names))}" if names else ""
                return WaitingFor(
                    kind="missing-workflow",
                    name=state.workflow,
                    names=names,
                    reason=reason,
                    says=f"its workflow {state.workflow!r} is not registered{hint}",
                )
            case "parked":
                says = f"its code has changed, and it goes on with fitting code: {reason}"
                return WaitingFor(kind="divergence", name=state.workflow, reason=reason, says=says)
            case _:
                says = f"it was set aside: {reason}"
                return WaitingFor(kind="quarantine", name=state.workflow, reason=reason, says=says)

    def _cancelling(self, state: RunState) -> WaitingFor:
        left = span(state.cancel_deadline_ms - self._now_ms())
        found = WaitingFor(
            kind="cancelling",
            name="cancel",
            due_at=rfc3339(state.cancel_deadline_ms),
            says=f"it is being cancelled, and is ended by force in {left}",
        )
        return _with_act(found, state, "cancel")

    def _pending(self, actor: RunActor, state: RunState, place: Place | None) -> WaitingFor:
        if place is None:
            left = span(state.due - self._now_ms())
            due_at = rfc3339(state.due) if state.due else UNSET
            says = f"it is delayed, and begins in {left}" if state.due else "it is about to begin"
            return WaitingFor(kind="delay", name="delay", due_at=due_at, says=says)
        found = of_place(place, self._now_ms())
        circle = circle_of(self.sup, actor.id)
        if circle:
            found.code, found.circle = CODE, circle
            found.says += f". It never comes by itself: {say_circle(circle)}"
        return found

    def _own_code(self, actor: RunActor, state: RunState) -> WaitingFor:
        if actor.session is None and derived_state(state) == "active":
            says = "it goes on in a moment: it is being woken"
            return WaitingFor(kind="wake", name=state.workflow, says=says)
        began = since(state.updated_ms, self._now_ms())
        says = f"its own code runs {began}: no step, sleep or wait is under way"
        return WaitingFor(
            kind="code", name=state.workflow, since=rfc3339(state.updated_ms), says=says
        )

    # ------------------------------------------------------------ its calls

    def _call(self, call: CallState, *, lanes: int) -> WaitingFor:
        found = of_call(call, self._now_ms())
        if call.kind == "event":
            self._add_sent(found, call.event)
        elif call.kind == "child":
            self._add_child(found, call, lanes=lanes)
        return found

    def _add_thread(self, found: WaitingFor, call: CallState, ahead: int) -> None:
        """Say that the step has not begun: no thread is free, and who holds them."""
        steps = self.sup.steps
        found.kind = "thread"
        found.ahead = ahead
        found.limit = f"{steps.threads} threads"
        found.zombies = steps.zombies
        began = since(call.started_ms, self._now_ms())
        found.says = f"step {call.name!r} waits {began} for a free thread, {ahead} ahead of it"
        if not steps.zombies:
            found.says += f": all {steps.threads} run other steps (STEPFLOW_THREADS)"
            return
        rows = steps.zombie_list(_ZOMBIES_MAX)
        found.held_threads = [
            HeldThread(
                run_id=row.run_id,
                workflow_id=row.workflow,
                key=row.key,
                attempt=row.attempt,
                since=rfc3339(row.since_ms),
            )
            for row in rows
        ]
        first = rows[0]
        found.says += (
            f": {steps.zombies} of {steps.threads} are held by steps that timed out or were given "
            f"up and go on, the oldest {first.key!r} of {first.run_id} "
            f"{since(first.since_ms, self._now_ms())}; it begins when a thread returns, or after a "
            "restart of the process"
        )

    def _add_sent(self, found: WaitingFor, event: str) -> None:
        unheard = self.sup.unheard
        same = unheard.get(event)
        if same is not None and same.refused:
            found.near_misses = [_near_miss(same)]
            ago = span(self._now_ms() - same.last_ms)
            found.says += f"; it was sent {ago} ago and refused: {same.refused}"
            return
        near = unheard.like(event)
        found.says += "; nobody has sent it"
        if near:
            found.near_misses = [_near_miss(sent) for sent in near]
            first = near[0]
            ago = span(self._now_ms() - first.last_ms)
            times = "once" if first.times == 1 else f"{first.times} times"
            found.says += f"; {first.event_id!r} was sent {times}, {ago} ago, and nobody took it"

    def _add_child(self, found: WaitingFor, call: CallState, *, lanes: int) -> None:
        child = self.sup.runs.get(call.child)
        if child is None or not lanes:
            return
        place = self.sup.admission.place(child.id, lanes)
        below = self._explain(child, place, children=False)
        found.reason = below.summary
        held = next((row for row in below.waiting_for if row.circle), None)
        if held is not None:
            found.code, found.circle = held.code, held.circle
        found.says += f", which waits in turn: {below.summary.rstrip('.')}"


def _pause(state: RunState, now_ms: int) -> WaitingFor:
    found = WaitingFor(kind="pause", name="pause", says="it is paused")
    found = _with_act(found, state, "pause")
    paused = [act for act in state.acts if isinstance(act, rec.RunPaused)]
    found.since = rfc3339(paused[-1].ts)
    found.says += f" {since(paused[-1].ts, now_ms)}"
    if isinstance(found.by, str):
        found.says += f", by {found.by}"
    if isinstance(found.reason, str):
        found.says += f": {found.reason}"
    return found


def _with_act(found: WaitingFor, state: RunState, action: str) -> WaitingFor:
    """Say who did it, and why."""
    act = next((a for a in reversed(acts_of(state)) if a.action == action), None)
    if act is not None and act.by:
        found.by = act.by
    if act is not None and isinstance(act.reason, str):
        found.reason = act.reason
    return found


def _near_miss(sent: Sent) -> NearMiss:
    return NearMiss(
        event_id=sent.event_id,
        times=sent.times,
        last_at=rfc3339(sent.last_ms),
        refused=sent.refused or UNSET,
    )
