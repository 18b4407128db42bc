"""`WorkflowTest`: the flow's workflows in memory, on virtual time, crashed and replayed at will.

The engine is the real one. Only what is under it is the test's: a `VirtualClock` drives the loop, a
`MemoryDisk` holds the journal, the dice are seeded. So a test runs the same way each time, and time
passes only when nothing else can happen and the test waits for something.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from msgspec import UNSET

from stepflow.auth.public_token import TokenSigner
from stepflow.config import MEMORY
from stepflow.engine.local import LocalEngine
from stepflow.errors import DivergenceError, UnavailableError
from stepflow.handles import RunHandle
from stepflow.journal.memory import MemoryDisk
from stepflow.model.durations import parse_duration_ms
from stepflow.model.views import run_view
from stepflow.testing.clock import VirtualClock
from stepflow.testing.seen import called, calls_in_words, seen_steps
from stepflow.testing.stubs import TestSeams

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType
    from typing import Self

    from stepflow.clock import TimerHandle
    from stepflow.config import Settings
    from stepflow.flow import Stepflow
    from stepflow.model.durations import Duration
    from stepflow.model.views import RunView
    from stepflow.testing.seen import SeenStep
    from stepflow.testing.stubs import Attempt

__all__ = ["DivergedError", "StuckError", "WorkflowTest", "heard"]

R = TypeVar("R")

_FOREVER_S: Final = 200 * 365 * 86_400.0
"""Longer than any duration: when time gets there, nothing else was left to happen."""
_SHOWN_MAX: Final = 10
_EVENTS_AT_ONCE: Final = 1000


class DivergedError(AssertionError):
    """A run was replayed and did not do the same again. `.run_id` names it."""

    def __init__(self, run_id: str, error: DivergenceError) -> None:
        self.run_id = run_id
        super().__init__(f"{run_id} is not deterministic, or its code has changed: {error}")


class StuckError(AssertionError):
    """The test waits, and nothing can happen any more: no timer, no step, no event."""


class WorkflowTest:
    """Runs a flow's workflows in memory, on virtual time.

    `strict`: other arguments under a recorded step are an error. `replay="always"`: a run is
    replayed after every result, so that code which is not deterministic fails the test.
    `threads`: sync steps run in threads, as in production, and not in the loop. `seed` decides ids
    and jitter, `start_ms` when it is.

    ::

        async with WorkflowTest(flow) as t:
            t.stub("charge", {"ok": True})
            assert await t.run("checkout", order) == {"paid": True}

    Work with the flow itself as well: inside the block `flow.trigger` and all else goes to the
    test's engine. Real I/O in a step does not stop virtual time: stub such steps.
    """

    def __init__(
        self,
        flow: Stepflow,
        *,
        strict: bool = True,
        replay: Literal["never", "always"] = "never",
        threads: bool = False,
        seed: int = 0,
        start_ms: int | None = None,
    ) -> None:
        self.flow = flow
        self.clock = VirtualClock() if start_ms is None else VirtualClock(start_ms)
        self.disk = MemoryDisk()
        self._strict = strict
        self._entropy = random.Random(seed)  # noqa: S311  the same each time on purpose
        self._seams = self._new_seams(replays_always=replay == "always", threads=threads)
        self._signer = TokenSigner(b"the test kit's key, not a secret")
        self._engine = self._new_engine()
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[Any] | None = None
        self._told = 0
        """How many divergences the test has been told of."""
        self._stuck: asyncio.Future[None] | None = None
        self._guard: TimerHandle | None = None
        self._results = 0
        """How many calls of `result` wait; they raise by themselves."""
        self._waiting = ""

    def _new_seams(self, *, replays_always: bool, threads: bool) -> TestSeams:
        return TestSeams(replays_always=replays_always, threads=threads)

    def _settings(self) -> Settings:
        return self.flow.settings

    def _new_engine(self) -> LocalEngine:
        return LocalEngine(
            self.flow.registry,
            MEMORY,
            settings=self._settings(),
            clock=self.clock,
            disk=self.disk,
            entropy=self._entropy,
            strict=self._strict,
            sign=self._signer.sign_run,
            on_fatal=_raise,
            threads=False,
            seams=self._seams,
        )

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        self._task = _task_of_test()
        self._stack.enter_context(self.clock.driving())
        self._stack.callback(self.clock.watch(self._threads_work))
        before = self.flow.swap_engine(self._engine)
        self._stack.callback(self.flow.swap_engine, before)
        self._stack.push_async_callback(self._stop)
        await self._engine.start()
        self._stuck = asyncio.get_running_loop().create_future()
        self._guard = self.clock.call_later(_FOREVER_S, self._nothing_left)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        assert self._stuck is not None
        assert self._guard is not None
        self._guard.cancel()
        await self._stack.aclose()
        if kind is asyncio.CancelledError and self._stuck.done() and self._task.uncancel() == 0:
            self._check()
            raise self._why_stuck() from None
        if kind is None:
            self._check()

    async def _stop(self) -> None:
        await self._engine.stop()

    def _threads_work(self) -> bool:
        return self._engine.state == "ready" and self._engine.sup.steps.in_threads > 0

    def _nothing_left(self) -> None:
        """Time came to its end: wake who waits in `result`, or cut the test's own wait short."""
        assert self._stuck is not None
        assert self._task is not None
        self._waiting = self._describe()
        if not self._stuck.done():
            self._stuck.set_result(None)
        if not self._results:
            self._task.cancel()

    # ------------------------------------------------------------ running

    async def trigger(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        delay: Duration | None = None,
    ) -> RunHandle:
        """Start a run."""
        return await self.flow.trigger(
            workflow,
            input,
            run_id=run_id,
            idempotency_key=idempotency_key,
            tags=tags,
            delay=delay,
        )

    @overload
    async def run(
        self, workflow: Callable[..., Coroutine[Any, Any, R]], input: object = None
    ) -> R: ...

    @overload
    async def run(self, workflow: str, input: object = None) -> Any: ...

    async def run(self, workflow: str | Callable[..., Any], input: object = None) -> Any:
        """Start a run, let time pass until it has ended, and return its result.

        Raises as `result` does.
        """
        return await self.result(await self.trigger(workflow, input))

    async def result(self, run: RunHandle | str) -> Any:
        """Let time pass until the run has ended, crashes included, and return its result.

        Raises `RunFailedError` or `RunCancelledError` as the run ended, `DivergedError` when a run
        has diverged, `StuckError` when nothing can happen any more.
        """
        run_id = run if isinstance(run, str) else run.id
        self._results += 1
        try:
            while not await self._ended(run_id):
                pass
        finally:
            self._results -= 1
        self._check()
        return await RunHandle(self.flow, run_id).result()

    async def _ended(self, run_id: str) -> bool:
        """Wait for the run's end; return False when the engine was crashed under the wait."""
        assert self._stuck is not None
        ending = asyncio.ensure_future(self._engine.wait(run_id))
        try:
            both: set[asyncio.Future[Any]] = {ending, self._stuck}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                self._check()
                raise self._why_stuck()
            ending.result()
        except UnavailableError:
            await self.settle()
            return False
        finally:
            ending.cancel()
            ending.add_done_callback(heard)
        return True

    async def notify(
        self, event_id: str, payload: object = None, *, run_id: str | None = None
    ) -> int:
        """Deliver an event; return how many runs it reached.

        What can move has moved before, so that a run which is about to wait does wait.
        """
        await self.settle()
        return await self.flow.notify(event_id, payload, run_id=run_id)

    async def get(self, run: RunHandle | str) -> RunView:
        """Return the run as it is once everything that can move without time has moved."""
        await self.settle()
        return await self.flow.get_run(run if isinstance(run, str) else run.id)

    # ------------------------------------------------------------ steps

    def stub(self, step: str, *outcomes: object, key: str | None = None) -> None:
        """Let the steps of that name come to an outcome in place of running their function.

        A value is their result, an exception or its class their failure, and a function, sync or
        async, is called with the step's arguments. Of several outcomes the first is the first
        attempt's, and so on; the last one stands for all further attempts. With `key` only the
        step that the author gave this key is replaced.
        """
        if not outcomes:
            message = f"say what {step!r} comes to: t.stub({step!r}, result)"
            raise TypeError(message)
        self._seams.stub(step, key, outcomes)

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every attempt at a step that began, of all runs, in order; crashes included."""
        return tuple(self._seams.attempts)

    def calls(self, step: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each attempt at the steps of that name, in order."""
        return called(self._seams.attempts, step)

    def assert_called(self, step: str, *args: Any, times: int | None = None) -> None:
        """Check that a step of that name ran: with these arguments, if some are given.

        `times`: with so many attempts, and no more.
        """
        found = [call for call in self.calls(step) if not args or call == args]
        what = f"{step}{args!r}" if args else step
        if times is None and not found:
            message = f"{what} did not run; what did:\n{calls_in_words(self.attempts)}"
            raise AssertionError(message)
        if times is not None and len(found) != times:
            message = (
                f"{what} ran {len(found)} time(s), not {times}; what ran:\n"
                f"{calls_in_words(self.attempts)}"
            )
            raise AssertionError(message)

    def assert_not_called(self, step: str) -> None:
        """Check that no step of that name ran."""
        self.assert_called(step, times=0)

    async def steps(self, run: RunHandle | str) -> list[SeenStep]:
        """Return what the run asked for by name, with decoded results, in the order of asking."""
        return seen_steps(await self.get(run))

    async def step(self, run: RunHandle | str, key: str) -> SeenStep:
        """Return one step by its key, or by its name, which means the first of that name.

        Raises `AssertionError` that shows the run's steps when there is none.
        """
        steps = await self.steps(run)
        for step in steps:
            if step.key == key:
                return step
        for step in steps:
            if step.name == key:
                return step
        listed = "\n".join(f"  {step}" for step in steps) or "  none"
        message = f"the run did not ask for {key!r}; its steps:\n{listed}"
        raise AssertionError(message)

    async def emitted(self, run: RunHandle | str, name: str | None = None) -> list[Any]:
        """Return the data of the live events that the run and its steps have emitted, in order."""
        await self.settle()
        run_id = run if isinstance(run, str) else run.id
        stream = await self._engine.stream(run_id)
        try:
            rows: list[Any] = []
            while events := stream.read_events(_EVENTS_AT_ONCE):
                rows += [event.json() for event in events if event.event == "emit"]
        finally:
            stream.close()
        return [row["data"] for row in rows if name is None or row["name"] == name]

    # ------------------------------------------------------------ time

    @property
    def now(self) -> datetime:
        """What time it is, in UTC."""
        return datetime.fromtimestamp(self.clock.wall_ms() / 1000, UTC)

    async def advance(self, duration: Duration) -> None:
        """Let so much time pass, and everything happen that is due on the way."""
        await self.clock.advance(parse_duration_ms(duration) / 1000)
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that can without time passing.

        Raises `DivergedError` when a run has diverged.
        """
        await self.clock.advance(0)
        self._check()

    # ------------------------------------------------------------ accidents

    async def crash(self, *, power_cut: bool = False) -> None:
        """Kill the process and start it again on what is on its disk.

        Steps that run are cut; they run again. With `power_cut` the machine died with it, and what
        was written but not synced is gone.
        """
        engine = self._engine
        await engine.crash()
        self.disk = self.disk.power_cut() if power_cut else self.disk.process_kill()
        self._engine = self._new_engine()
        self.flow.swap_engine(self._engine)
        await self._engine.start()

    # ------------------------------------------------------------ what went wrong

    def _check(self) -> None:
        """Raise the next divergence that the test was not told of."""
        found = self._seams.divergences
        if self._told < len(found):
            run_id, error = found[self._told]
            self._told = len(found)
            raise DivergedError(run_id, error)

    def _why_stuck(self) -> StuckError:
        return StuckError(
            "the test waits, and nothing can happen any more: no timer is due, no step runs; "
            + (self._waiting or "no run is live")
        )

    def _describe(self) -> str:
        """Return what each live run waits for, the first few of them."""
        actors = [actor for actor in self._engine.sup.runs.values() if not actor.finished]
        views = [run_view(actor.peek(), actor.condition) for actor in actors[:_SHOWN_MAX]]
        return "; ".join(f"{view.id} ({view.workflow_id}) {_waits_for(view)}" for view in views)


def _waits_for(view: RunView) -> str:
    steps = [] if view.steps is UNSET else view.steps
    names = [
        f"event {step.event_id!r}" if step.event_id is not UNSET else f"{step.kind} {step.name!r}"
        for step in steps
        if step.status == "pending"
    ]
    return f"waits for {', '.join(names)}" if names else f"is {view.state}"


def heard(ending: asyncio.Future[Any]) -> None:
    """Look at how it ended: nobody else does."""
    if not ending.cancelled():
        ending.exception()


def _task_of_test() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        message = (
            "WorkflowTest runs on asyncio; with anyio's plugin let the fixture `anyio_backend` "
            'return "asyncio"'
        )
        raise TypeError(message) from None


def _raise(error: BaseException) -> None:
    raise error
