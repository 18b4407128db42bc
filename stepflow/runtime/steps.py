"""Runs attempts of steps: async functions in the loop (crew.py), sync ones in threads of our own.

The pool's threads are daemons, so a thread that never returns cannot keep the process alive. A
thread whose step timed out, or was given up, cannot be killed: it is a **zombie**, holds its place
in the pool, and its late result is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from stepflow.authoring.signature import is_async
from stepflow.errors import RetryAfterError, StepInterruptedError
from stepflow.model.durations import parse_duration_ms
from stepflow.runtime import messages as msg
from stepflow.runtime.crew import Crew
from stepflow.runtime.current import StepInfo, in_step
from stepflow.runtime.emitting import Told, pass_on, record_emit, tell_thread
from stepflow.runtime.plain import Plain
from stepflow.runtime.threads import StepThreads, Zombie

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import TimerHandle
    from stepflow.model.run import CallState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.calls import StepAsk
    from stepflow.runtime.session import Session
    from stepflow.runtime.supervisor import Supervisor
    from stepflow.runtime.tracing import AttemptSpan

__all__ = ["StepRunner"]

_log = logging.getLogger("stepflow.step")

_ASYNC_END_S = 5.0


class Attempt(Plain):
    """One running attempt."""

    actor: RunActor
    session: Session
    ask: StepAsk
    number: int
    slot: int
    """Of the marker."""
    body: Callable[..., Any]
    in_thread: bool = False
    task: asyncio.Task[Any] | None = None
    """The one that runs its body, while it does."""
    begun_s: float = 0.0
    """When, where it has a timeout."""
    timer: TimerHandle | None = None
    timed_out: bool = False
    closed: bool = False
    emitted: int = 0
    span: AttemptSpan | None = None
    """Where the run is traced."""

    def place(self) -> tuple[str, str, str, int]:
        """Return run id, workflow, step key and attempt, without a look at the run's state."""
        session = self.session
        return session.run_id, session.workflow, self.ask.key, self.number

    def info(self) -> StepInfo:
        """Return what `current_step` shows."""
        actor, ask = self.actor, self.ask
        state = actor.state
        return StepInfo(
            run_id=actor.id,
            name=ask.name,
            key=ask.key,
            attempt=self.number,
            idempotency_key=state.idempotency_key(state.calls[ask.key]),
            emitter=self.emit,
        )

    def emit(self, data: Any, *, durable: bool) -> Told:
        """Record a live event of the step. Raises `StepInterruptedError` in a late attempt.

        Those of a few milliseconds share a frame: they wait for the next strict record of anybody.
        """
        if self._is_late():
            raise StepInterruptedError(self.ask.name, late=True)
        session = self.session
        if not durable and not self.actor.sup.hub.is_heard(self.actor):
            return Told(session)
        body = self.ask.converter.encode(data, "data")
        if _running_loop() is session.loop:
            self._emit(body, durable)
        else:
            # A thread: it waits for the loop, and learns there that its attempt is over.
            tell_thread(session, self.ask.name, partial(self._emit, body, durable))
        return Told(session)

    def _is_late(self) -> bool:
        return (
            self.closed
            or self.timed_out
            or self.session.fenced
            or not self.ask.alive
            or self.actor.finished
        )

    def _emit(self, body: bytes, durable: bool) -> None:  # noqa: FBT001  through `partial`
        ask = self.ask
        if self._is_late():
            raise StepInterruptedError(ask.name, late=True)
        if not durable:
            pass_on(self.session, ask.name, body, ask.key, self.number)
            return
        key = f"{ask.key}@{self.number}.{self.emitted + 1}"
        record_emit(self.session, key, ask.name, body, lazy=True)
        self.emitted += 1

    def end(self, value: Any, error: BaseException | None) -> None:
        """Tell the actor, once."""
        if self.closed:
            return
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        span = self.span
        if span is None:
            self.actor.tell(msg.StepEnded(self.session, self.ask, self.number, value, error))
            return
        span.stop()
        self.actor.tell(msg.StepEnded(self.session, self.ask, self.number, value, error))
        span.settled(self.actor, self.ask.key, self.number, error)

    def close(self) -> None:
        """The actor hears nothing of it any more."""
        if self.span is not None and not self.closed:
            self.span.given_up(self.actor)
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()


class StepRunner:
    """All attempts that run."""

    __slots__ = (
        "_crew",
        "_drained",
        "_running",
        "_sup",
        "_left",
        "_threads",
        "failed_total",
        "retried_total",
    )

    def __init__(self, sup: Supervisor, threads: int) -> None:
        self._sup = sup
        self._threads = StepThreads(threads)
        self._crew = Crew(sup, self._waits, self._body_ended)
        self._running: dict[StepAsk, Attempt] = {}
        self._drained: asyncio.Event | None = None
        """Somebody waits until nothing runs."""
        self._left: dict[Attempt, int] = {}
        """Attempts that hold a thread and are not heard any more, and since when."""
        self.retried_total = 0
        self.failed_total = 0
        """Attempts that are tried again, and steps that failed for good, since the start."""

    @property
    def running(self) -> int:
        """How many attempts run now."""
        return len(self._running)

    @property
    def threads(self) -> int:
        """How many sync steps may run at once."""
        return self._threads.limit

    @property
    def waiting(self) -> int:
        """How many attempts wait for a free thread."""
        return self._threads.waiting

    @property
    def zombies(self) -> int:
        """How many threads are held by steps that nobody hears any more."""
        return len(self._left)

    def zombie_list(self, most: int) -> list[Zombie]:
        """Return the zombies, oldest first, at most so many."""
        rows = islice(self._left.items(), most)
        return [Zombie(*attempt.place(), since_ms) for attempt, since_ms in rows]

    def waiting_of(self, session: Session) -> dict[str, int]:
        """Return the keys of the session's steps that wait for a thread, each with its place."""
        if not self._threads.waiting:
            return {}
        mine = (a for a in self._running.values() if a.session is session and a.in_thread)
        return {a.ask.key: ahead for a, ahead in self._threads.ahead_of(mine).items()}

    @property
    def in_threads(self) -> int:
        """How many of them run in a thread or wait for one, zombies left out."""
        return sum(1 for attempt in self._running.values() if attempt.in_thread)

    def in_task(self, task: asyncio.Task[Any]) -> Attempt | None:
        """Return the attempt that the task is, for whoever must name it."""
        return next((a for a in list(self._running.values()) if a.task is task), None)

    def released(
        self,
        actor: RunActor,
        session: Session,
        ask: StepAsk,
        number: int,
        failed: BaseException | None,
    ) -> None:
        """What an attempt rests on is durable: start it, if it is still wanted."""
        if failed is None and not session.fenced and not ask.wait.future.done():
            self.run(actor, session, ask, number)

    def run(self, actor: RunActor, session: Session, ask: StepAsk, number: int) -> None:
        """Start an attempt; its end comes to the actor as `StepEnded`."""
        sup = self._sup
        body = sup.seams.body_of(ask)
        slot = sup.marker.begin(session.run_bytes)
        attempt = self._running[ask] = Attempt(actor, session, ask, number, slot, body)
        session.running += 1
        if sup.traces is not None:
            attempt.span = sup.traces.attempt(actor, ask.name, ask.key, number)
        if ask.timeout_ms:
            attempt.begun_s = sup.clock.monotonic_s()
        if ask.is_async if body is ask.func else is_async(body):
            self._crew.put(attempt)
            return
        attempt.in_thread = True
        self._waits(attempt)
        # It begins in this turn: its mark must be on file.
        sup.marker.flush()
        context = sup.base_context.copy()
        context.run(in_step.set, attempt)
        if attempt.span is not None:
            context.run(attempt.span.enter)
        self._threads.submit(attempt, context, body, self._report(attempt))

    def _waits(self, attempt: Attempt) -> None:
        """It takes longer than a turn of the loop: from now on it can be timed out."""
        if attempt.ask.timeout_ms and not attempt.closed:
            clock = self._sup.clock
            left_s = attempt.begun_s + attempt.ask.timeout_ms / 1000 - clock.monotonic_s()
            attempt.timer = clock.call_later(max(0.0, left_s), partial(self._timed_out, attempt))

    def _body_ended(self, attempt: Attempt, value: Any, failure: BaseException | None) -> None:
        """An async body has returned or raised, in the attempt's own task or in the crew's."""
        sup = self._sup
        sup.marker.end(attempt.slot)
        self._forget(attempt)
        task, attempt.task = attempt.task, None
        if attempt.closed:
            return
        if attempt.timed_out:
            failure = _timeout(attempt)
        elif task is not None and task.cancelling() and not sup.going:
            # Its host ends: it was cut, and runs again after the next start.
            attempt.close()
            return
        attempt.end(value, failure)

    def _report(self, attempt: Attempt) -> Callable[[Any, BaseException | None], None]:
        loop = self._sup.loop

        def ended(value: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(self._thread_ended, attempt, value, error)
            except RuntimeError:
                _log.debug("step %s ended after its loop", attempt.ask.key)

        return ended

    def _thread_ended(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        self._sup.marker.end(attempt.slot)
        self._forget(attempt)
        self._left.pop(attempt, None)
        attempt.end(value, error)

    def _timed_out(self, attempt: Attempt) -> None:
        attempt.timed_out = True
        if attempt.task is None:  # in a thread, or waiting for one
            self._forget(attempt)
            # What has not begun is known not to have run, and may be tried again.
            begun = self._leave(attempt)
            attempt.end(None, _left_running(attempt) if begun else _timeout(attempt))
            return
        attempt.task.cancel()
        # A body that swallows its cancellation must not hold the step for ever.
        attempt.timer = self._sup.clock.call_later(_ASYNC_END_S, partial(self._overdue, attempt))

    def _leave(self, attempt: Attempt) -> bool:
        """Hear no more of an attempt that has a thread, or will; return whether it has one."""
        if self._threads.withdraw(attempt):
            self._sup.marker.end(attempt.slot)
            return False
        self._left[attempt] = self._sup.time.now_ms()
        if len(self._left) == self._threads.limit:
            _log.error(
                "all %d threads are held by sync steps that timed out or were given up and go on; "
                "no other sync step begins until one returns, or the process is started anew",
                self._threads.limit,
            )
        return True

    def _overdue(self, attempt: Attempt) -> None:
        self._forget(attempt)
        _log.error("step %s goes on after its timeout and its cancellation", attempt.ask.key)
        attempt.end(None, _left_running(attempt))

    def _forget(self, attempt: Attempt) -> None:
        # A late end must not take the next attempt's place.
        ask, running = attempt.ask, self._running
        if running.get(ask) is attempt:
            del running[ask]
            attempt.session.running -= 1
            if self._drained is not None and not running:
                self._drained.set()

    def cancel(self, session: Session, ask: StepAsk) -> None:
        """The body gave the step up: stop it, or drop its result where it cannot be stopped."""
        attempt = self._running.get(ask)
        if attempt is None or attempt.session is not session:
            return
        self._forget(attempt)
        attempt.close()
        if attempt.task is not None:
            attempt.task.cancel()
        elif attempt.in_thread:
            self._leave(attempt)

    def abandon(self, session: Session) -> None:
        """The session is over: none of its attempts is reported any more."""
        if not session.running:
            return
        for ask, attempt in list(self._running.items()):
            if attempt.session is session:
                self.cancel(session, ask)

    def has(self, session: Session) -> bool:
        """Whether attempts of the session run."""
        return session.running > 0

    def retry_delay_ms(self, ask: StepAsk, call: CallState, error: BaseException) -> int | None:
        """Return after how many ms the step is tried again, or `None` when it is not."""
        policy = ask.policy
        failures = call.failures + 1
        if ask.once and isinstance(error, StepInterruptedError):
            return None
        if not policy.is_retryable(error) or failures >= policy.max_attempts:
            return None
        if isinstance(error, RetryAfterError):
            try:
                return parse_duration_ms(error.after)
            except ValueError:
                _log.warning("step %s: RetryAfterError(%r) is no duration", ask.key, error.after)
        return policy.delay_ms(failures, self._sup.entropy.random())

    async def drain(self, timeout_s: float) -> None:
        """Give running attempts so long to end."""
        if not self._running:
            return
        drained = self._drained = asyncio.Event()
        limit = self._sup.clock.call_later(timeout_s, drained.set)
        try:
            await drained.wait()
        finally:
            limit.cancel()

    def cut(self) -> list[asyncio.Task[Any]]:
        """Cancel what runs; return the tasks, which may take a moment to end."""
        tasks = [a.task for a in self._running.values() if a.task is not None]
        for attempt in list(self._running.values()):
            self.cancel(attempt.session, attempt.ask)
        return tasks

    def stop(self) -> None:
        """Cancel what runs and leave the threads behind."""
        self.cut()
        self._threads.stop()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _left_running(attempt: Attempt) -> Exception:
    """Return how an attempt has failed that goes on after its timeout.

    What may still take effect must not be run again where it may be run once.
    """
    return StepInterruptedError(attempt.ask.name) if attempt.ask.once else _timeout(attempt)


def _timeout(attempt: Attempt) -> TimeoutError:
    seconds = attempt.ask.timeout_ms / 1000
    return TimeoutError(f"step {attempt.ask.name!r} did not end within {seconds:g} s")
