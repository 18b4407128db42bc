"""Owns the actors: makes, finds, wakes and passivates them, and routes what concerns them.

It holds the tables that belong to no single run: runs by id and in order of creation, timers, event
waiters, idempotency keys. It decides nothing about a run: that is its actor's business.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw
from msgspec.structs import replace

from stepflow.clock import next_pass
from stepflow.entropy import Entropy, system_entropy
from stepflow.errors import (
    ApiError,
    ConflictError,
    OutcomeUnknownError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.journal.marker import NoMarker
from stepflow.model import records as rec
from stepflow.model.ids import RunId, run_ids_of
from stepflow.runtime import messages as msg
from stepflow.runtime.actor import RunActor
from stepflow.runtime.admission import ADMISSION, Admission, begin_run
from stepflow.runtime.audit import AuditTable
from stepflow.runtime.branches import install_factory, uninstall_factory
from stepflow.runtime.children import cancel_child, cancel_children, tell_parent
from stepflow.runtime.delivery import Delivery
from stepflow.runtime.ending import CANCEL_TIMER, RELEASE_TIMER, SMALL, TIMEOUT_TIMER
from stepflow.runtime.events import Waiters
from stepflow.runtime.host import HostWatch
from stepflow.runtime.hub import Hub
from stepflow.runtime.idempotency import IdempotencyKeys
from stepflow.runtime.pace import Pace
from stepflow.runtime.parked import park_outline
from stepflow.runtime.recorder import Recorder
from stepflow.runtime.retention import Retention
from stepflow.runtime.runs import Runs
from stepflow.runtime.schedules import SCHEDULE, Schedules
from stepflow.runtime.seams import Seams
from stepflow.runtime.steps import StepRunner
from stepflow.runtime.tally import Tally
from stepflow.runtime.timers import Timers
from stepflow.runtime.tracing import open_traces
from stepflow.runtime.unheard import Unheard

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stepflow.authoring.registry import Registry, Workflow
    from stepflow.clock import Clock, HybridTime
    from stepflow.config import Settings
    from stepflow.journal.api import Journal
    from stepflow.model.outline import Outline
    from stepflow.model.records import Record
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.admission import Door
    from stepflow.runtime.calls import NotifyAsk
    from stepflow.runtime.elsewhere import Elsewhere
    from stepflow.runtime.session import Session

__all__ = ["Supervisor"]

_log = logging.getLogger("stepflow.supervisor")

_ENTROPY_BYTES = 4096
_FAILURES_MAX = 2
_SUSPENDED_AT_ONCE = 1000
_UNPACKED_MAX = 1000
_UNPACKED_BYTES_MAX = 16 * 1024
_LOOSE_BYTES_MAX = 16 * 1024 * 1024
_PACKED_A_SECOND = 200
_PACK_SLICE = 50
_OWNERS = frozenset({ADMISSION, SCHEDULE})
"""Of timers that are no run's."""
_ACTIVATED_AT_ONCE = 50
_LOOKED_AT = 500
"""Active runs are looked at so many at a time."""


class Supervisor:
    """All runs of one engine. Lives on one loop."""

    __slots__ = (
        # More than thirty: without slots each would be looked up in a dict of its own.
        "__dict__",  # for tests that put something in the place of a method
        "_factory",
        "_fresh_ids",
        "_given_up",
        "_host",
        "_idling",
        "_loose_bytes",
        "_stalled",
        "_tasks",
        "unpacked",
        "active",
        "admission",
        "aside",
        "base_context",
        "clock",
        "delivery",
        "elsewhere",
        "ended_by",
        "ended_total",
        "entropy",
        "gone",
        "hub",
        "idempotency",
        "journal",
        "live",
        "live_by",
        "loop",
        "marker",
        "missing",
        "pace",
        "recorder",
        "registry",
        "retention",
        "run_bytes_max",
        "runs",
        "seams",
        "settings",
        "small_result",
        "started_by",
        "started_s",
        "started_total",
        "steps",
        "stopping",
        "strict",
        "tally",
        "time",
        "timers",
        "traces",
        "waiters",
        "zombies",
    )

    def __init__(  # noqa: PLR0913, PLR0915  one place makes it
        self,
        journal: Journal,
        registry: Registry,
        settings: Settings,
        clock: Clock,
        time: HybridTime,
        *,
        strict: bool = False,
        entropy: Entropy | None = None,
        marker: NoMarker | None = None,
        seams: Seams | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal = journal
        self.registry = registry
        self.settings = settings
        self.small_result = min(SMALL, settings.result_bytes_max)
        """No result of a step that is not larger is looked at again, unless its run is full."""
        self.run_bytes_max = settings.run_bytes_max
        self.clock = clock
        self.time = time
        self.strict = strict
        self.marker = marker or NoMarker()
        self.seams = seams or Seams()
        self.seams.opened(journal)
        self.entropy = entropy or system_entropy()
        self.base_context = contextvars.copy_context()
        self.traces = open_traces(self.base_context)
        self.recorder = Recorder(journal, time)
        self.timers = Timers(clock, time, settings, self._timer_fired)
        self.waiters = Waiters()
        self.runs = Runs(partial(RunActor, self))
        self.hub = Hub(journal, self.loop, self.runs)
        self.steps = StepRunner(self, settings.threads)
        self.idempotency = IdempotencyKeys(int(settings.idempotency_ttl_s * 1000))
        self.retention = Retention(self)
        self.tally = Tally(self)
        self.audit = AuditTable()
        self.unheard = Unheard()
        self.recorder.on_act = self.note_act
        self.admission = Admission(self)
        self.schedules = Schedules(self)
        self.delivery = Delivery(self)
        self.elsewhere: Elsewhere | None = None
        """The way to runs of other processes, where there are any."""
        self.active: dict[str, RunActor] = {}
        self.missing: dict[str, set[str]] = {}
        """Workflow ids that are not registered, with the runs that wait for them."""
        self.aside: dict[str, bool] = {}
        """Live runs that are set aside, and whether they can be released."""
        self.gone: dict[str, int] | None = None
        """While a snapshot is written: runs purged since it began, with the purge's LSN."""
        self.stopping = False
        self.zombies = 0
        self.live = 0
        self.live_by: defaultdict[str, int] = defaultdict(int)
        """Runs that live, by workflow; those begun and ended since the start likewise."""
        self.started_by: defaultdict[str, int] = defaultdict(int)
        self.ended_by: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.started_total = 0
        self.started_s = clock.monotonic_s()
        self.ended_total: dict[str, int] = {"completed": 0, "failed": 0, "cancelled": 0}
        self._idling = False
        self._stalled: dict[RunActor, None] = {}
        self._loose_bytes = 0
        """What the runs held whose objects have gone since the last collection."""
        self.unpacked: deque[RunActor] = deque()
        self._unbegun: deque[RunActor] = deque()
        """Runs of batches whose bodies are still to begin."""
        self.pace = Pace(self)
        self._given_up: list[RunActor] = []
        """Recovered runs that had given children up."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fresh_ids: list[RunId] = []
        self._factory = install_factory(self.loop)
        self._host = HostWatch(self.loop, self.base_context.copy(), self._host_left)
        journal.on_commit = self.hub.commit
        journal.on_room = self._room

    # ------------------------------------------------------------ small services

    def workflow(self, workflow_id: str) -> Workflow | None:
        """Return the registered workflow, if there is one."""
        return self.registry.get(workflow_id)

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run something of the engine's own, outside every run."""
        # Not through the loop's factory: it may be called in a run's turn.
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self.loop, context=self.base_context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task of the engine failed", exc_info=error)

    def new_run_id(self) -> RunId:
        """Return a fresh run id."""
        if not self._fresh_ids:
            self._fresh_ids = run_ids_of(self.entropy.randbytes(_ENTROPY_BYTES))
        return self._fresh_ids.pop()

    # ------------------------------------------------------------ finding

    def get(self, run_id: str) -> RunActor:
        """Return the run's actor, or raise `RunNotFoundError`."""
        actor = self.runs.get(run_id)
        if actor is None:
            raise RunNotFoundError
        return actor

    # ------------------------------------------------------------ starting

    def check_capacity(self, count: int = 1, nbytes: int = 0) -> None:
        """Raise `UnavailableError` when new work cannot be taken: certainly nothing is done."""
        if self.stopping:
            message = "The engine is stopping"
            raise UnavailableError(message, retry_after_s=1)
        if self.live + count > self.settings.live_runs_max:
            message = "Too many live runs"
            raise UnavailableError(message, retry_after_s=5)
        if nbytes:
            self.check_live_bytes(nbytes)

    def check_live_bytes(self, nbytes: int) -> None:
        """Raise `UnavailableError` when the runs that live would hold too much with that."""
        if self.recorder.live_bytes + nbytes > self.settings.live_bytes_max:
            message = "The runs that live hold as much as they may"
            raise UnavailableError(message, retry_after_s=5)

    def check_room(self, nbytes: int) -> None:
        """Raise `UnavailableError` when the disk has no room for so much."""
        if not self.journal.has_room(nbytes):
            raise UnavailableError(self.journal.why_no_room, retry_after_s=5)

    def start_run(  # noqa: PLR0913  the facts of a start
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
        """Make a run and its actor in this turn; durable when its `start_lsn` is.

        `args` is a decoded copy of the input for the first activation, where there is one; `more`
        are further members of its first record. `history` records what the run begins with, before
        its body does. Whoever makes many leaves it to `activate_later` to have them `activated`.

        Raises `ConflictError` for a taken id.
        """
        if run_id is not None and run_id in self.runs:
            message = f"Run id {run_id} is taken"
            raise ConflictError(message)
        actor = RunActor(self, RunId(run_id) if run_id is not None else self.new_run_id())
        options = workflow.options
        door = None
        if options.timeout_ms:
            more["timeout"] = options.timeout_ms
        if (options.limits or "exclusive" in more) and not due:
            exclusive = more.get("exclusive", "")
            door = self.admission.door(
                workflow, data, exclusive=exclusive, parent=parent, parent_key=parent_key
            )
            if door is not None and self.admission.is_open(door):
                more["admission"] = self.admission.rates(door)
            else:
                more["held"] = True
        plain = door is None and not more
        if self.traces is not None:
            self.traces.begin(actor, workflow.id, parent, traceparent, more)
        recorder = self.recorder
        state = actor.open_state or actor.state
        record = rec.RunStarted(
            lsn=recorder.sink.next_lsn,
            r=state.id,
            rs=1,
            ts=recorder.time.now_ms(),
            workflow=workflow.id,
            input=Raw(data),
            by=by,
            tags=(*options.tags, *tags),
            events=events,
            idem=idem,
            due=due,
            parent=parent,
            parent_key=parent_key,
        )
        record = replace(record, **more) if more else record
        recorder.take(actor, state, record, strict=True)
        self.adopt_run(actor, record.lsn)
        if history is not None:
            history(actor)
        self.started_total += 1
        self.started_by[workflow.id] += 1
        if due:
            self.tally.held(workflow.id)
            self.timers.add(due, actor.id, RELEASE_TIMER)
        elif plain:
            if activated:
                actor.activate(args)
            else:
                self._unbegun.append(actor)
        else:
            self._begin(actor, record, door, args)
        return actor

    def _begin(
        self,
        actor: RunActor,
        record: rec.RunStarted,
        door: Door | None,
        args: tuple[Any, ...] | None,
    ) -> None:
        """Let a new run begin that has limits or a deadline, or let it wait for its turn."""
        if record.held:
            self.tally.held(record.workflow)
            self.admission.enter(actor)
            return
        if actor.state.deadline_ms:
            self.timers.add(actor.state.deadline_ms, actor.id, TIMEOUT_TIMER)
        if door is None:
            actor.activate(args)
            return
        self.admission.take(actor.id, door, record.lsn, record.ts)
        self.journal.when_durable(record.lsn, partial(begin_run, actor, args))

    async def activate_later(self) -> None:
        """Give the runs that were left to this their tasks, a few in each pass of the loop."""
        while self._unbegun:
            for _ in range(min(len(self._unbegun), _ACTIVATED_AT_ONCE)):
                self._unbegun.popleft().activate()
            await next_pass()

    def adopt_run(self, actor: RunActor, start_lsn: int) -> None:
        """Enter a run into the tables: a new one, or one that recovery found."""
        actor.start_lsn = start_lsn
        self.runs.enter(actor, start_lsn)
        state = actor.open_state or actor.state
        start = state.started
        if start is None or state.finished:
            return
        self.live += 1
        self.live_by[state.workflow] += 1
        if start.events:
            self.waiters.declare(start.events, actor.id)

    def adopt_outline(self, run_id: RunId, run: Outline) -> None:
        """Enter a run that recovery found in outline; it stays parked until something wakes it."""
        self.runs.enter_parked(run_id, run.start_lsn, park_outline(run, self.runs.names))
        if run.finished:
            return
        self.live += 1
        self.live_by[run.workflow] += 1
        self.recorder.live_bytes += run.nbytes
        if run.status == "pending":
            self.tally.held(run.workflow)
        if run.events:
            self.waiters.declare(run.events, run_id)
        if run.key:
            if run.kind == "event":
                self.waiters.wait(run.event, run_id)
            if run.call_due:
                self.timers.add(run.call_due, run_id, run.key)
        if run.status == "pending" and run.due:
            self.timers.add(run.due, run_id, RELEASE_TIMER)

    def send_notify(self, actor: RunActor, ask: NotifyAsk) -> None:
        """`ctx.notify`: what it does to others and that it was sent go into one frame."""
        with self.recorder.group():
            try:
                count = self.delivery.deliver(
                    ask.event, ask.payload, by=f"run:{actor.id}", sender=actor.id
                )
            except ApiError as error:
                # Refused by everyone there is: recorded as having reached nobody.
                _log.warning("%s: event %r was refused: %s", actor.id, ask.event, error.message)
                count = 0
            self.recorder.write(
                actor, rec.NotifySent, key=ask.key, name=ask.name, args=ask.args, count=count
            )
        if actor.session is not None:
            actor.session.gate.recorded(actor.state.calls[ask.key])

    # ------------------------------------------------------------ what actors report

    def activated(self, actor: RunActor) -> None:
        """The run has a task."""
        self.active[actor.id] = actor

    def deactivated(self, actor: RunActor) -> None:
        """The run has none any more."""
        self.active.pop(actor.id, None)
        self._loose_bytes += (actor.open_state or actor.state).nbytes

    def run_ended(self, actor: RunActor, pending: list[CallState]) -> None:
        """The run's end was recorded, in the group that is open: tell its parent in the same."""
        state = actor.open_state or actor.state
        self.live -= 1
        self.recorder.live_bytes -= state.nbytes
        self.aside.pop(actor.id, None)
        self.ended_total[state.status] += 1
        self.live_by[state.workflow] -= 1
        self.ended_by[state.workflow, state.status] += 1
        start = state.started
        if pending:
            for call in pending:
                if call.kind == "event":
                    self.waiters.unwait(call.event, actor.id)
            cancel_children(actor, pending)
        if start is None:
            return
        if start.events:
            self.waiters.undeclare(start.events, actor.id)
        self.retention.ended(actor)
        if start.schedule:
            self.schedules.ended(actor.id, start.schedule)
        if start.parent_key:
            tell_parent(self, start.parent, start.parent_key, actor.id)

    def run_revived(self, actor: RunActor, nbytes: int) -> None:
        """A run that had ended, holding so many bytes, goes on: its retry was recorded."""
        state = actor.state
        self.live += 1
        self.live_by[state.workflow] += 1
        if state.status == "pending":
            self.tally.held(state.workflow)
        self.recorder.live_bytes += nbytes
        self.retention.revived(actor)
        if state.started is not None and state.started.events:
            self.waiters.declare(state.started.events, actor.id)
        self.index_live(actor)
        if actor.feed is not None:
            actor.feed.revived()
        self.hub.firehose.undo(state)

    def pack_later(self, actor: RunActor) -> None:
        """The run has ended, durably: it gives up its objects when some others have ended too."""
        if (actor.open_state or actor.state).nbytes > _UNPACKED_BYTES_MAX:
            # Its objects take as much again as its records.
            self.pace.note(actor)
            actor.pack()
            return
        self.unpacked.append(actor)
        if len(self.unpacked) > _UNPACKED_MAX:
            self.unpacked.popleft().pack()

    async def pack_ended(self, most: int = _PACKED_A_SECOND) -> None:
        """Pack so many of the runs that have ended, a slice in each pass of the loop."""
        for _ in range(0, min(len(self.unpacked), most), _PACK_SLICE):
            for _ in range(min(len(self.unpacked), _PACK_SLICE)):
                self.unpacked.popleft().pack()
            await next_pass()

    async def _collect(self) -> None:
        """Let the collector look at what is young.

        What has ended is packed first: a thousand runs as objects would hold the loop for some
        twenty milliseconds, and nothing of them goes in cycles.
        """
        await self.pack_ended(_UNPACKED_MAX)
        gc.collect(1)

    def workflow_missing(self, actor: RunActor) -> None:
        """The run's workflow is not registered: it waits, and says so."""
        name = actor.state.workflow
        actor.condition = "missing-workflow"
        actor.reason = f"workflow {name!r} is not registered"
        runs = self.missing.setdefault(name, set())
        if not runs:
            _log.warning("workflow %r is not registered; its runs wait until it is back", name)
        runs.add(actor.id)

    def actor_failed(
        self, actor: RunActor, error: Exception, message: msg.Message | None = None
    ) -> None:
        """An actor's own code failed, on this message: start it again from its records.

        The message is tried once more. When that fails, or too much else, the run is set aside.
        """
        _log.error("%s: the actor failed", actor.id, exc_info=error)
        actor.failures += 1
        if actor.session is not None:
            actor.session.fence()
        again = message is not None and message is actor.retried
        actor.undecided = message if _may_be_tried_again(actor, message) else None
        if again or actor.failures > _FAILURES_MAX:
            self.set_aside(actor, f"SFW401 set aside: {type(error).__name__}: {error}")
        self.spawn(self._restart(actor))

    def set_aside(self, actor: RunActor, reason: str, *, releasable: bool = True) -> None:
        """The run's code gets no turn any more; what happens to it is still recorded."""
        actor.condition = "quarantined"
        actor.reason = reason
        self.aside[actor.id] = releasable

    def release(self, actor: RunActor) -> None:
        """Let a run that was set aside go on from its records."""
        del self.aside[actor.id]
        actor.condition = None
        actor.reason = ""
        actor.failures = 0
        actor.go_on()

    def replay(self, actor: RunActor) -> None:
        """Suspend the run and run its body again from its records."""
        if actor.session is not None:
            actor.session.fence()
        self.spawn(self._restart(actor))

    async def _restart(self, actor: RunActor) -> None:
        await actor.suspend()
        if actor.condition is None and not actor.finished:
            actor.go_on()
        else:
            actor.drain()

    def stall(self, actor: RunActor) -> None:
        """There is no room for the actor's next record: it goes on when there is."""
        self._stalled[actor] = None

    def _room(self) -> None:
        stalled, self._stalled = self._stalled, {}
        for actor in stalled:
            actor.drain()
        self.admission.go_on()
        self.schedules.go_on()

    def _timer_fired(self, run_id: str, key: str, due_ms: int) -> None:
        actor = self.runs.get(run_id)
        if actor is None:
            if run_id == ADMISSION:
                self.admission.timer_fired(key)
            elif run_id == SCHEDULE:
                self.schedules.timer_fired(key, due_ms)
        elif not actor.finished:
            actor.tell(msg.TimerFired(key, due_ms))

    # ------------------------------------------------------------ recovery

    def index_live(self, actor: RunActor) -> None:
        """Enter a recovered live run's waits and timers."""
        state = actor.state
        self.schedules.entered(state)
        for call in state.pending_calls():
            if call.kind == "event":
                self.waiters.wait(call.event, actor.id)
            if call.due:
                self.timers.add(call.due, actor.id, call.key)
        if any(call.child and call.cancelled for call in state.calls.values()):
            self._given_up.append(actor)
        if state.cancelling:
            self.timers.add(state.cancel_deadline_ms, actor.id, CANCEL_TIMER)
        if state.deadline_ms and not state.cancelling:
            self.timers.add(state.deadline_ms, actor.id, TIMEOUT_TIMER)
        if state.status == "pending" and state.due > self.time.now_ms():
            self.timers.add(state.due, actor.id, RELEASE_TIMER)
        else:
            self.admission.found(actor)

    def cancel_given_up(self) -> None:
        """Cancel children that were given up while the disk had no room to say so to them."""
        parents, self._given_up = self._given_up, []
        for parent in parents:
            for call in parent.state.calls.values():
                if call.child and call.cancelled and call.status == "pending":
                    cancel_child(parent, call)

    def wake_missing(self) -> None:
        """Workflows were registered: wake the runs that wait for them."""
        self.admission.registered()
        self.schedules.refresh()
        for name in [n for n in self.missing if self.registry.get(n) is not None]:
            for run_id in self.missing.pop(name):
                actor = self.runs.get(run_id)
                if actor is not None:
                    actor.condition = None
                    actor.tell(msg.WakeUp())

    # ------------------------------------------------------------ passivation

    async def passivate_idle(self) -> int:
        """Put to sleep every run that waits and did not move for a while; return how many.

        One that is called while another is at it does nothing.
        """
        if self._idling:
            return 0
        self._idling = True
        try:
            return await self._passivate_idle()
        finally:
            self._idling = False

    async def _passivate_idle(self) -> int:
        count = 0
        now = self.clock.monotonic_s()
        for number, actor in enumerate(list(self.active.values()), 1):
            if number % _LOOKED_AT == 0:
                await next_pass()
            session = actor.session
            if session is None or not self.may_passivate(actor, session, now):
                continue
            await actor.suspend()
            count += 1
        return count

    def may_passivate(self, actor: RunActor, session: Session, now_s: float) -> bool:
        """Whether the run has one task, which waits directly in a `ctx` call, and nothing moves."""
        if actor.state.paused:
            return not (session.running or session.fenced)
        if not session.gate.solo or session.fenced:
            return False
        # Whatever moves it leaves a record, but for the replay itself.
        idle_s = (self.time.now_ms() - actor.state.updated_ms) / 1000
        idle_s = min(idle_s, now_s - session.born_s - session.replay_s)
        if idle_s < max(self.settings.passivate_after_s, 100 * session.replay_s):
            return False
        if self.journal.durable_lsn < actor.lsn or actor.state.cancelling:
            return False
        pending = actor.state.pending_calls()
        if not pending or not all(call.waits for call in pending):
            return False
        return session.waits_directly()

    def note_act(self, record: Record, workflow: str = "") -> None:
        """Somebody did something: it was recorded."""
        self.audit.note(record, workflow)
        self.audit.trim(self.settings)

    def tidy(self) -> None:
        """Drop the rows of purged runs and the timers of ended ones once they are the more."""
        if self._loose_bytes > _LOOSE_BYTES_MAX:
            # An exception and what raised it hold each other, and a run's values with them; the
            # collector would come by how many objects there are, not by how large they are.
            self._loose_bytes = 0
            self.spawn(self._collect())
        if self.timers.is_untidy():
            self.spawn(self.timers.tidy(self._counts))
        self.spawn(self.runs.tidy())
        self.admission.tidy()

    def _counts(self, run_id: str, key: str, due_ms: int) -> bool:
        """Whether a timer may still be due for something: a run that sleeps is not opened for it.

        A run that goes on for ever leaves one behind with each wait that it gives up.
        """
        if run_id in _OWNERS:
            return True
        if self.runs.finished(run_id):
            return False
        actor = self.active.get(run_id)
        if actor is None or key.startswith("@"):
            return True
        call = actor.state.calls.get(key)
        return call is not None and call.due == due_ms

    # ------------------------------------------------------------ the end

    @property
    def going(self) -> bool:
        """Whether work goes on: what is cancelled while it does not was cut, and has not failed."""
        return not (self.stopping or self._host.left)

    def _host_left(self) -> None:
        """The loop has cancelled all its tasks, or we end: nothing more is recorded."""
        self.stopping = True
        for actor in list(self.active.values()):
            if actor.session is not None:
                actor.session.fence()
        self.steps.cut()

    def halt(self) -> None:
        """The disk has failed: nothing may be recorded or shown any more. Nothing is waited for."""
        self.stopping = True
        self.hub.close()
        self.timers.stop()
        for actor in list(self.active.values()):
            if actor.session is not None:
                actor.session.fence()
        self.steps.stop()
        for actor in self.runs.awake():
            actor.answer_waiters(OutcomeUnknownError())

    async def crash(self) -> None:
        """End as a killed process would: what is queued is not written, nothing runs to its end."""
        self.stopping = True
        if self.traces is not None:
            self.traces.drop()
        # In this turn: whatever still runs after it must find nothing to record into.
        for actor in self.active.values():
            if actor.session is not None:
                actor.session.fence()
        cut = self.steps.cut()
        await self.journal.abandon()
        if cut:
            await asyncio.wait(cut, timeout=self.settings.drain_timeout_s)
        await self.stop()

    async def stop(self) -> None:
        """Put every run to sleep; nothing is recorded. Steps get `drain_timeout_s` to end."""
        self.stopping = True
        self.hub.close()
        self.timers.stop()
        await self.steps.drain(self.settings.drain_timeout_s)
        await self._suspend_all()
        for actor in self.runs.awake():
            actor.answer_waiters(UnavailableError("Stepflow is stopping", retry_after_s=1))
        self.steps.stop()
        for task in list(self._tasks):
            task.cancel()
        self.marker.close()
        uninstall_factory(self.loop, self._factory)
        await self._host.stop()

    async def _suspend_all(self) -> None:
        """Put active runs to sleep, many at once: one that will not end must not hold up others."""
        actors = list(self.active.values())
        for begin in range(0, len(actors), _SUSPENDED_AT_ONCE):
            some = actors[begin : begin + _SUSPENDED_AT_ONCE]
            await asyncio.gather(*(actor.suspend() for actor in some))


def _may_be_tried_again(actor: RunActor, message: msg.Message | None) -> bool:
    """Whether the message was not decided, and nothing else brings it back."""
    if isinstance(message, msg.EventArrived):
        return message.lsn not in actor.state.payloads
    return isinstance(message, msg.TimerFired | msg.ChildFinished | msg.CancelAsked)


def sleeps(state: RunState) -> bool:
    """Whether a recovered run may stay packed until something wakes it.

    Its last word must be a wait that it made with one task and one call: then nothing else of it
    was under way.
    """
    pending = state.pending_calls()
    if state.status == "pending" or state.paused:
        return True
    if not pending or state.cancelling or pending[-1] is not last_call(state):
        return False
    # Several only as the calls of one `ctx.first`.
    group = pending[0].group
    if len(pending) > 1 and not group:
        return False
    return all(call.solo and call.waits and call.group == group for call in pending)


def last_call(state: RunState) -> CallState | None:
    """Return the call asked for last."""
    return next(reversed(state.calls.values()), None)
