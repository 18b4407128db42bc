"""Planted bugs of what happens to runs: records, steps, timers, events, children, retention."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from stepflow.engine.local import LocalEngine
from stepflow.model import records as rec
from stepflow.model.run import ApplyError, RunState
from stepflow.runtime import children, held, recorder, starting, supervisor
from stepflow.runtime import messages as msg
from stepflow.runtime.actor import RunActor
from stepflow.runtime.delivery import Delivery
from stepflow.runtime.events import Waiters
from stepflow.runtime.recorder import Recorder
from stepflow.runtime.restore import Restorer
from stepflow.runtime.retention import Retention
from stepflow.runtime.shards import shard_of
from stepflow.runtime.snapshotter import Snapshotter
from stepflow.runtime.supervisor import Supervisor
from stepflow.runtime.timers import Timers
from tests.sim.patching import replaced
from tests.sim.planted import Ran, planted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _recovered_otherwise(change: Callable[[RunState], bool], ran: Ran) -> Any:
    """Let recovery change each live run's state, and say whether it did.

    Most runs are only bytes after a start, and what is open is packed into its records: so the
    state is changed again whenever it is opened, until the run's next record.
    """
    runs: Any = Restorer.runs
    opened: Any = vars(held)["state_of"]
    found: dict[str, int] = {}

    def recovered(self: Restorer) -> Iterator[Any]:
        for run in runs(self):
            outline = run.outline
            if outline is not None:
                found[run.id] = outline.lsn
            else:
                found[run.id] = run.state.lsn
                if not run.state.finished:
                    change(run.state)
            yield run

    def broken(parked: bytes, run_id: str) -> RunState:
        state: RunState = opened(parked, run_id)
        if not state.finished and found.get(state.id) == state.lsn and change(state):
            ran()
        return state

    stack = ExitStack()
    stack.enter_context(replaced(Restorer, "runs", recovered))
    stack.enter_context(replaced(held, "state_of", broken))
    return stack


# ---------------------------------------------------------------- decide, append, apply


@planted()
def apply_fails_after_the_append(ran: Ran) -> Any:
    """A record is queued that could not be applied."""
    take: Any = Recorder.take

    def broken(self: Any, actor: Any, state: Any, record: Any, **options: Any) -> None:
        if type(record) is rec.StepCompleted and state.rs % 4 == 3:
            ran()
            self.journal.append((rec.encode_record(record),), strict=True)
            message = "planted"
            raise ApplyError(message)
        take(self, actor, state, record, **options)

    return replaced(Recorder, "take", broken)


@planted()
def effects_do_not_wait(ran: Ran) -> Any:
    """A step begins though what its run has seen is not on disk."""
    take: Any = Recorder.take

    def broken(self: Any, actor: Any, state: Any, record: Any, **options: Any) -> None:
        take(self, actor, state, record, **options)
        ran()
        actor.strict_lsn = 0

    return replaced(Recorder, "take", broken)


@planted("values")
def effects_do_not_wait_for_values(ran: Ran) -> Any:
    """A step begins upon a random number that is not on disk."""

    class Nothing(tuple[Any, ...]):
        __slots__ = ()

        def __contains__(self, _: object) -> bool:
            ran()
            return False

    return replaced(recorder, "_BINDING", Nothing())


@planted("snapshot")
def snapshot_of_before_the_rotation(ran: Ran) -> Any:
    """A snapshot's lines are taken before its base is."""
    run: Any = Snapshotter.run
    line: Any = RunActor.line

    async def broken(self: Any) -> bool:
        ran()
        sup = self._sup
        old = {actor.id: (actor.lsn, line(actor)) for actor in sup.runs.values()}

        async def write(writer: Any) -> None:
            await writer.write(list(old.values()))

        stale = _Stale(self, write)
        return bool(await run(stale))

    return replaced(Snapshotter, "run", broken)


class _Stale:
    """A snapshotter that writes what it has."""

    def __init__(self, inner: Any, write: Any) -> None:
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_write", write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)


# ---------------------------------------------------------------- steps


@planted()
def recorded_step_runs_again(ran: Ran) -> Any:
    """Recovery forgets the last result of a step."""

    def forget(state: RunState) -> bool:
        done = [c for c in state.calls.values() if c.kind == "step" and c.status == "completed"]
        for call in done[-1:]:
            call.status, call.result, call.lsn = "pending", None, 0
        return bool(done)

    return _recovered_otherwise(forget, ran)


@planted()
def attempt_number_lost(ran: Ran) -> Any:
    """After a restart attempts are counted from one again."""

    def forget(state: RunState) -> bool:
        begun = [c for c in state.pending_calls() if c.kind == "step" and c.attempt]
        for call in begun:
            call.attempt = 0
        return bool(begun)

    return _recovered_otherwise(forget, ran)


@planted()
def failures_lost(ran: Ran) -> Any:
    """After a restart the failures of a step no longer count."""

    def forget(state: RunState) -> bool:
        failed = [c for c in state.pending_calls() if c.failures]
        for call in failed:
            call.failures = 0
        return bool(failed)

    return _recovered_otherwise(forget, ran)


@planted()
def at_most_once_forgotten(ran: Ran) -> Any:
    """Recovery takes an at-most-once step for one like any other."""

    def forget(state: RunState) -> bool:
        begun = [call for call in state.pending_calls() if call.once]
        for call in begun:
            call.once = False
        return bool(begun)

    return _recovered_otherwise(forget, ran)


@planted()
def running_step_put_to_sleep(ran: Ran) -> Any:
    """A run is put to sleep while a step of it runs."""
    may: Any = Supervisor.may_passivate

    def broken(self: Any, actor: Any, session: Any, now_s: float) -> bool:
        idle = now_s - session.born_s > 0.3 and not session.fenced
        if idle and not may(self, actor, session, now_s):
            ran()
            return True
        return bool(may(self, actor, session, now_s))

    return replaced(Supervisor, "may_passivate", broken)


@planted()
def idempotency_key_of_the_attempt(ran: Ran) -> Any:
    """Each attempt of a step has its own idempotency key."""
    key: Any = RunState.idempotency_key

    def broken(self: RunState, call: Any) -> str:
        ran()
        return f"{key(self, call)}@{call.attempt}"

    return replaced(RunState, "idempotency_key", broken)


# ---------------------------------------------------------------- timers and events


@planted()
def timer_early(ran: Ran) -> Any:
    """A timer fires before its time."""
    add: Any = Timers.add

    def broken(self: Any, due_ms: int, run_id: str, key: str) -> None:
        ran()
        add(self, due_ms, run_id, key)
        self._clock.call_later(0.0, lambda: self._fire(run_id, key, due_ms))

    return replaced(Timers, "add", broken)


def _not_indexed(cls: Any, method: str, ran: Ran) -> Any:
    """Let recovery skip a method of a table."""
    index: Any = Supervisor.index_live

    def skip(*_: Any) -> None:
        ran()

    def broken(self: Supervisor, actor: Any) -> None:
        with replaced(cls, method, skip):
            index(self, actor)

    return replaced(Supervisor, "index_live", broken)


@planted()
def timer_lost(ran: Ran) -> Any:
    """Recovery does not arm a run's timers."""
    return _not_indexed(Timers, "add", ran)


@planted()
def waiter_lost(ran: Ran) -> Any:
    """Recovery does not enter a run among those that wait for an event."""
    return _not_indexed(Waiters, "wait", ran)


@planted("events")
def waiter_lost_with_another(ran: Ran) -> Any:
    """When one run no longer waits for an event, none is thought to."""
    unwait: Any = Waiters.unwait

    def broken(self: Any, event: str, run_id: str) -> None:
        unwait(self, event, run_id)
        row = self._parts[shard_of(event)].shared.get(event)
        if row is not None and row.waiting:
            row.waiting.clear()
            ran()

    return replaced(Waiters, "unwait", broken)


@planted("events")
def delivered_twice(ran: Ran) -> Any:
    """An event goes to each of its takers twice."""
    frame: Any = vars(Delivery)["_frame"]

    def broken(self: Any, takers: Any, event: str, payload: bytes, by: str) -> None:
        frame(self, takers, event, payload, by)
        waiting = [actor for actor in takers if not actor.finished and event.startswith("kept")]
        if waiting:
            ran()
            frame(self, waiting, event, payload, by)

    return replaced(Delivery, "_frame", broken)


@planted("events")
def kept_event_taken_twice(ran: Ran) -> Any:
    """An event that was kept and taken is kept on."""
    apply: Any = RunState.apply

    def broken(self: RunState, record: Any, data: bytes, payload: bytes | None = None) -> None:
        if not isinstance(record, rec.WaitResolved):
            apply(self, record, data, payload)
            return
        call = self.calls.get(record.key)
        event = call.event if call is not None else ""
        kept = list(self.kept.get(event, ()))
        apply(self, record, data, payload)
        if kept:
            ran()
            self.kept[event] = deque(kept)

    return replaced(RunState, "apply", broken)


# ---------------------------------------------------------------- cancels, children, retention


@planted("cancel")
def cancel_lost(ran: Ran) -> Any:
    """Recovery forgets that a run is being cancelled."""

    def forget(state: RunState) -> bool:
        cancelling = state.cancelling
        state.cancel_deadline_ms = state.cancel_lsn = 0
        return cancelling

    return _recovered_otherwise(forget, ran)


@planted()
def child_started_twice(ran: Ran) -> Any:
    """A run that is replayed starts its child once more."""
    start: Any = children.start_child

    def broken(parent: Any, ask: Any, call: Any) -> None:
        if call is not None:
            ran()
        start(parent, ask, None)

    return replaced(starting, "start_child", broken)


@planted()
def parent_not_told(ran: Ran) -> Any:
    """A child's end does not reach its parent."""

    def broken(sup: Any, parent_id: str, key: str, child: Any) -> None:
        ran()

    return replaced(supervisor, "tell_parent", broken)


@planted()
def retention_purges_what_lives(ran: Ran) -> Any:
    """The oldest run goes, whether it has ended or not."""
    purge: Any = vars(Retention)["_purge_slice"]

    def broken(self: Any) -> bool:
        sup = self._sup
        actor = next(iter(sup.runs.values()), None)
        full = self.bytes > sup.settings.finished_bytes_max
        if full and actor is not None and not actor.finished and actor.session is None:
            ran()
            sup.recorder.write_purge(actor.id, actor.state.rs + 1, "planted")
            sup.runs.pop(actor.id)
        return bool(purge(self))

    return replaced(Retention, "_purge_slice", broken)


@planted()
def purge_not_recorded(ran: Ran) -> Any:
    """A purge is forgotten by the next start."""

    def broken(self: Any, run_id: str, rs: int, by: str) -> int:
        ran()
        return int(self.journal.last_lsn)

    return replaced(Recorder, "write_purge", broken)


@planted()
def delay_forgotten(ran: Ran) -> Any:
    """A delayed run begins when the service starts again."""
    adopt: Any = vars(LocalEngine)["_adopt"]

    async def broken(self: Any, sup: Any, *rest: Any) -> Any:
        to_wake = await adopt(self, sup, *rest)
        for actor in sup.runs.values():
            if actor.state.status == "pending":
                ran()
                actor.tell(msg.TimerFired("@release", actor.state.due))
        return to_wake

    return replaced(LocalEngine, "_adopt", broken)
