"""What recovery found becomes the tables of a supervisor: a slice of runs in each pass of the loop.

A run in outline goes into its row as bytes, and into the tables of timers, waiters and idempotency
keys: it has no actor before something wakes it. A run that is open (set aside, or not plain) gets
its actor now. Which runs must go on by themselves is returned: those that a wait does not hold.
"""

from __future__ import annotations

import heapq
import logging
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from stepflow.clock import next_pass
from stepflow.journal.suspects import SUSPICIONS_MAX
from stepflow.model.ids import RunId
from stepflow.runtime.actor import RunActor
from stepflow.runtime.retention import Ended, ended_of
from stepflow.runtime.supervisor import sleeps

if TYPE_CHECKING:
    from stepflow.journal.suspects import Suspects
    from stepflow.model.outline import Outline
    from stepflow.runtime.restore import Restored, Restorer
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["adopt"]

_SORTED_SLICE = 1000
_lsn_of = attrgetter("lsn")

_log = logging.getLogger("stepflow.engine")


async def adopt(sup: Supervisor, restorer: Restorer, suspects: Suspects) -> list[RunId]:
    """Enter what recovery found into the tables; return the runs that must go on now."""
    await sup.journal.run_blocking(restorer.sort)
    known = (found for found in restorer.runs() if suspects.knows(found.id))
    aside = suspects.count(found.state for found in known if not found.state.finished)
    adopting = _Adopting(sup, aside)
    for number, found in enumerate(restorer.runs()):
        adopting.take(found)
        found.forget()
        if number % sup.settings.snapshot_slice_runs == 0:
            await next_pass()
    await _adopt_ended(sup, adopting.ended)
    sup.admission.open(restorer.rates)
    sup.audit = restorer.audit
    sup.audit.trim(sup.settings)
    return adopting.to_wake


async def _adopt_ended(sup: Supervisor, rows: list[Ended]) -> None:
    """Enter the runs that have ended in the order in which they did; sorted in slices, too."""
    slices: list[list[Ended]] = []
    for begin in range(0, len(rows), _SORTED_SLICE):
        slices.append(sorted(rows[begin : begin + _SORTED_SLICE], key=_lsn_of))
        await next_pass()
    merged = heapq.merge(*slices, key=_lsn_of)
    while some := list(islice(merged, _SORTED_SLICE)):
        sup.retention.adopt(some)
        await next_pass()


class _Adopting:
    """What was adopted so far."""

    def __init__(self, sup: Supervisor, aside: set[str]) -> None:
        self._sup = sup
        self._aside = aside
        """Runs whose code may have ended the process too often."""
        self.ended: list[Ended] = []
        self.to_wake: list[RunId] = []

    def take(self, found: Restored) -> None:
        outline = found.outline if found.id not in self._aside else None
        if outline is not None and (outline.finished or not self._limits(outline.workflow)):
            self._take_outline(RunId(found.id), outline)
        else:
            self._take_open(found)

    def _limits(self, workflow_id: str) -> bool:
        """Whether runs of the workflow are counted, so that this one must be opened."""
        workflow = self._sup.workflow(workflow_id)
        return workflow is not None and bool(workflow.options.limits)

    def _take_outline(self, run_id: RunId, run: Outline) -> None:
        sup = self._sup
        sup.adopt_outline(run_id, run)
        if run.idem:
            sup.idempotency.add(run.summary(), run_id)
        if run.finished:
            self.ended.append(ended_of(run_id, run))
        elif not run.sleeps:
            self.to_wake.append(run_id)

    def _take_open(self, found: Restored) -> None:
        sup, state = self._sup, found.state
        actor = RunActor(sup, RunId(state.id))
        actor.restore(state)
        sup.adopt_run(actor, state.started.lsn if state.started else 0)
        sup.idempotency.add(state.summary(), state.id)
        if state.status == "pending":
            sup.tally.held(state.workflow)
        if found.failure:
            if state.finished:
                sup.tally.found_aside(state)
            sup.set_aside(actor, found.failure, releasable=False)
            if state.status == "running":
                # What it holds it keeps until somebody has looked at it, and cancels it.
                sup.admission.found(actor)
            return
        if state.finished:
            self.ended.append(ended_of(actor.id, state))
            actor.pack()
            return
        sup.index_live(actor)
        sup.recorder.live_bytes += state.nbytes
        if state.id in self._aside:
            sup.set_aside(actor, _say_poison(state.id))
            return
        if not sleeps(state):
            self.to_wake.append(actor.id)
        actor.pack()


def _say_poison(run_id: str) -> str:
    reason = (
        f"SFW402 run {run_id} set aside: its code was running at {SUSPICIONS_MAX} process deaths "
        f"in a row; mend its code, then `stepflow runs resume {run_id}`, or cancel it"
    )
    _log.error("%s", reason)
    return reason
