"""The supervisor of one worker: only the runs that it has claimed are here.

Nothing is delivered from here: events, children and cancels go through the database to whoever has
the run by then, with the records that they come of. So the tables of waiters, of finished runs and
of the order of creation are the database's, and stay empty here.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from stepflow.engine.postgres.admission import ClusterAdmission
from stepflow.engine.postgres.inbox import cancel_letter, child_letter, event_letter
from stepflow.engine.postgres.passing import ClusterHub
from stepflow.engine.postgres.rows import Sent
from stepflow.errors import ConflictError
from stepflow.model import records as rec
from stepflow.model.ids import RunId
from stepflow.runtime import messages as msg
from stepflow.runtime.actor import RunActor
from stepflow.runtime.retention import Retention
from stepflow.runtime.runs import Runs
from stepflow.runtime.supervisor import Supervisor, sleeps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepflow.authoring.registry import Registry, Workflow
    from stepflow.clock import Clock, HybridTime
    from stepflow.config import Settings
    from stepflow.engine.postgres.journal import ClusterJournal
    from stepflow.engine.postgres.passing import Passing
    from stepflow.entropy import Entropy
    from stepflow.model.run import RunState
    from stepflow.runtime.calls import NotifyAsk
    from stepflow.runtime.tracing import Traces

    Sending = Callable[[str, str, str, bytes], Awaitable[int]]

__all__ = ["ClusterSupervisor"]

_log: Final = logging.getLogger("stepflow.supervisor")


class _HeldRuns(Runs):
    """The runs that are here at the moment: they come and go, and their order is elsewhere."""

    __slots__ = ()

    def enter(self, actor: RunActor, start_lsn: int) -> None:
        del start_lsn
        self._rows[actor.id] = actor

    def _place(self, start_lsn: int, run_id: RunId) -> None:
        del start_lsn, run_id


class _NoRetention(Retention):
    """Finished runs are not here."""

    __slots__ = ()

    def ended(self, actor: RunActor) -> None:
        del actor

    def revived(self, actor: RunActor) -> None:
        del actor


class ClusterSupervisor(Supervisor):
    """The runs of one worker. `send` delivers what a workflow sends, once."""

    live: int
    started_total: int

    def __init__(  # noqa: PLR0913  as in the base, and what goes to others
        self,
        journal: ClusterJournal,
        registry: Registry,
        settings: Settings,
        clock: Clock,
        time: HybridTime,
        *,
        send: Sending,
        look_for: Callable[[str, str, str], Awaitable[msg.ChildFinished | None]],
        passing: Passing,
        entropy: Entropy | None = None,
    ) -> None:
        # The runtime asks no more of a journal than this one has.
        super().__init__(journal, registry, settings, clock, time, entropy=entropy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.cluster = journal
        self.runs = _HeldRuns(partial(RunActor, self))
        self.hub = ClusterHub(self.journal, self.loop, self.runs, passing)
        self.journal.on_commit = self.hub.commit
        self.retention = _NoRetention(self)
        self.admission = self.gate = ClusterAdmission(self)
        self.elsewhere = self
        self._send = send
        self._look_for = look_for
        self.leaving: dict[str, asyncio.Event] = {}
        """Runs whose task is being given up, though they are not here any more."""

    # ------------------------------------------------------------ coming and going

    def adopt(self, state: RunState) -> RunActor:
        """Enter a run that was claimed, and let it go on."""
        self.cluster.reach(state.lsn)
        self.time.observe(state.updated_ms)
        actor = RunActor(self, RunId(state.id))
        actor.restore(state)
        self.adopt_run(actor, state.started.lsn if state.started else 0)
        if state.failure:
            self.set_aside(actor, state.failure, releasable=False)
        elif not state.finished:
            self.recorder.live_bytes += state.nbytes
            self.index_live(actor)
        return actor

    def go_on(self, actor: RunActor) -> None:
        """Let a claimed run do what comes next, unless a wait holds it."""
        state = actor.state
        if state.finished or actor.condition is not None or self.gate.begins(actor.id):
            return
        if not sleeps(state):
            actor.tell(msg.WakeUp())
        for call in state.calls.values():
            if call.child and call.cancelled and call.status == "pending":
                self.tell(actor.id, call.child, msg.CancelAsked(f"run:{actor.id}", "", force=False))

    def remove(self, actor: RunActor) -> None:
        """The run is not here any more. Its task, where it has one, is fenced and given up."""
        if self.runs.pop(actor.id) is None:
            return
        state = actor.peek()
        self.gate.forget(actor.id)
        self.aside.pop(actor.id, None)
        for waiting in self.missing.values():
            waiting.discard(actor.id)
        if not state.finished:
            self.live -= 1
            self.live_by[state.workflow] -= 1
            self.recorder.live_bytes -= state.nbytes
            if state.status == "pending":
                self.tally.let_go(state.workflow)
            if state.started is not None:
                self.waiters.undeclare(state.started.events, actor.id)
                self.schedules.ended(actor.id, state.started.schedule)
            for call in state.pending_calls():
                if call.kind == "event":
                    self.waiters.unwait(call.event, actor.id)
        if actor.session is not None:
            actor.session.fence()
            # Nothing that still comes to it may give it a task again.
            actor.condition = "parked"
            gone = self.leaving[actor.id] = asyncio.Event()
            self.spawn(self._leave(actor, gone))

    async def _leave(self, actor: RunActor, gone: asyncio.Event) -> None:
        try:
            await actor.suspend()
        finally:
            gone.set()
            if self.leaving.get(actor.id) is gone:
                del self.leaving[actor.id]

    # ------------------------------------------------------------ what goes to others

    def start_run(  # noqa: PLR0913  as in the base
        self,
        workflow: Workflow,
        data: bytes,
        *,
        run_id: str | None = None,
        events: tuple[str, ...] = (),
        idem: str = "",
        by: str = "",
        tags: tuple[str, ...] = (),
        due: int = 0,
        parent: str = "",
        parent_key: str = "",
        args: tuple[Any, ...] | None = None,
        history: Callable[[RunActor], None] | None = None,
        activated: bool = True,
        traceparent: str = "",
        **more: Any,
    ) -> RunActor:
        """Record that a child begins, for whoever claims it."""
        del args, history, activated
        if run_id is not None and run_id in self.runs:
            raise ConflictError(f"Run id {run_id} is taken")
        actor = RunActor(self, RunId(run_id) if run_id is not None else self.new_run_id())
        if workflow.options.timeout_ms:
            more["timeout"] = workflow.options.timeout_ms
        if workflow.options.limits and not due:
            more["held"] = True
        if self.traces is not None:
            self.traces.begin(actor, workflow.id, parent, traceparent, more)
        record = self.recorder.write(
            actor,
            rec.RunStarted,
            workflow=workflow.id,
            input=Raw(data),
            by=by,
            tags=(*workflow.options.tags, *tags),
            events=events,
            idem=idem,
            due=due,
            parent=parent,
            parent_key=parent_key,
            **more,
        )
        if self.traces is not None:
            self.cluster.when_durable(record.lsn, partial(_handed_over, self.traces, actor.id))
        self.recorder.live_bytes -= actor.state.nbytes
        self.started_total += 1
        self.started_by[workflow.id] += 1
        return actor

    def tell(self, sender: str, run_id: str, message: msg.CancelAsked | msg.ChildFinished) -> None:
        """Write to a run that somebody else has."""
        if isinstance(message, msg.CancelAsked):
            body = cancel_letter(message.by, message.reason, force=message.force)
            self.cluster.attach(Sent(sender, run_id, "cancel", body))
        else:
            body = child_letter(message.key, message.child, message.result, message.error)
            self.cluster.attach(Sent(sender, run_id, "child", body))

    def look_for(self, parent_id: str, key: str, child_id: str) -> None:
        """Look whether a child has ended: the letter that said so may have come too early."""
        self.spawn(self._find_child(parent_id, key, child_id))

    async def _find_child(self, parent_id: str, key: str, child_id: str) -> None:
        told = await self._look_for(parent_id, key, child_id)
        parent = self.runs.get(parent_id)
        if told is not None and parent is not None and not parent.finished:
            parent.tell(told)

    def send_notify(self, actor: RunActor, ask: NotifyAsk) -> None:
        """Send an event when all that it rests on is durable; record it when it was sent."""
        lsn = actor.strict_lsn

        def released(failed: BaseException | None) -> None:
            if failed is None:
                self.spawn(self._deliver(actor, ask))

        self.cluster.hurry(lsn)
        self.cluster.when_durable(lsn, released)

    async def _deliver(self, actor: RunActor, ask: NotifyAsk) -> None:
        session = actor.session
        token = f"{actor.state.restarts}/{actor.state.generations.get(ask.key, 0)}/{ask.key}"
        body = event_letter(ask.event, ask.payload, f"run:{actor.id}")
        count = await self._send(actor.id, token, ask.event, body)
        if actor.session is not session or session is None or session.fenced or not ask.alive:
            return
        actor.record(rec.NotifySent, key=ask.key, name=ask.name, args=ask.args, count=count)
        session.gate.recorded(actor.state.calls[ask.key])


def _handed_over(traces: Traces, run_id: str, failed: BaseException | None) -> None:
    """A child is on disk, and another process may have it by now."""
    traces.hand_over(run_id, told=failed is None)
