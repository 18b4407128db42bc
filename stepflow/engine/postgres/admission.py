"""The queue as a worker sees it: it is in the database, and decided there (gate.sql).

========================  =================================================================
a run may begin           its worker asks: `Enters`, written as any record of it is
it is let in              a letter says so: `RunReleased` is recorded, with `Begins`, which the
                          database refuses where it was not let in
it does not want to       a pause: `Leaves`, its place or its slot is the next one's
it ends                   the transaction of its end frees what it held (stepflow.finish)
========================  =================================================================
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from stepflow.engine.postgres.gate import later_ask
from stepflow.engine.postgres.rows import Begins, Enters, Leaves
from stepflow.model import records as rec
from stepflow.runtime.admission import Admission
from stepflow.runtime.ending import RELEASE_TIMER

if TYPE_CHECKING:
    from stepflow.engine.postgres.supervisor import ClusterSupervisor
    from stepflow.model.run import RunState
    from stepflow.runtime.actor import RunActor

__all__ = ["ClusterAdmission"]


class ClusterAdmission(Admission):
    """Asks the database. Nobody is queued here, nobody has slots here."""

    __slots__ = ("_asked", "_asking", "_beginning", "_cluster", "_coming")

    def __init__(self, sup: ClusterSupervisor) -> None:
        super().__init__(sup)
        self._cluster: Final = sup.cluster
        self._coming: set[str] = set()
        """Runs that are about to ask."""
        self._asking: dict[str, Enters | Leaves] = {}
        """Runs whose question is not written yet, and what it is."""
        self._beginning: set[str] = set()
        self._asked: set[str] = set()
        """Runs that have asked: they are written to when they are let in."""

    def moves(self, run_id: str) -> bool:
        """Whether the run must not be put to sleep: nobody would ask for it."""
        return run_id in self._coming or run_id in self._asking

    def has_asked(self, run_id: str) -> bool:
        """Whether the run waits for an answer, and for no time."""
        return run_id in self._asked

    def forget(self, run_id: str) -> None:
        """The run is not here any more."""
        self._coming.discard(run_id)
        self._asking.pop(run_id, None)
        self._asked.discard(run_id)

    def _tell(self, effect: Enters | Leaves) -> None:
        self._asking[effect.run_id] = effect
        self._cluster.attach(effect)
        self._cluster.after_effects(partial(self._told, effect))

    def _told(self, effect: Enters | Leaves) -> None:
        if self._asking.get(effect.run_id) is effect:
            del self._asking[effect.run_id]

    def found(self, actor: RunActor) -> None:
        """A run was claimed, or was retried: it asks again, unless its letter is there already."""
        state = actor.peek()
        if state.status != "pending":
            return
        if state.paused:
            self._tell(Leaves(actor.id))
        else:
            self._coming.add(actor.id)
            self._sup.timers.add(eligible_ms(state), actor.id, RELEASE_TIMER)

    def enter(self, actor: RunActor) -> None:
        """Ask for what the run needs to begin."""
        state = actor.peek()
        self._coming.discard(actor.id)
        asks = isinstance(self._asking.get(actor.id), Enters)
        if state.status != "pending" or state.paused or asks:
            return
        workflow = self._sup.workflow(state.workflow)
        if workflow is None:
            self._sup.workflow_missing(actor)
            return
        ask = later_ask(workflow, state, eligible_ms(state))
        if ask is None:
            self.admit(actor, None)
        else:
            self._asked.add(actor.id)
            self._tell(Enters(actor.id, ask))

    def let_in(self, actor: RunActor) -> None:
        """The database has let the run in: it begins, unless it does not want to any more."""
        state = actor.peek()
        if state.status != "pending" or state.paused:
            return
        self._beginning.add(actor.id)
        self._cluster.attach(Begins(actor.id))
        self.admitted_total += 1
        lsn = self.admit(actor, None)
        self._cluster.when_durable(lsn, partial(self._begun, actor.id))

    def _begun(self, run_id: str, _: BaseException | None) -> None:
        self._beginning.discard(run_id)

    def begins(self, run_id: str) -> bool:
        """Whether the run begins as soon as that is written, and not before."""
        return run_id in self._beginning

    def leave(self, run_id: str) -> None:
        """The run does not want to begin: it was paused or cancelled."""
        self._asked.discard(run_id)
        self._tell(Leaves(run_id))


def eligible_ms(state: RunState) -> int:
    """Return since when the run could have begun."""
    retried = max((act.ts for act in state.acts if isinstance(act, rec.RunRetried)), default=0)
    return retried or state.due or state.created_ms
