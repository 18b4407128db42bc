"""An event loop without a selector, a thread or a real moment, and the clock that goes with it.

The loop does what is ready, in the order asyncio promises. Only when nothing is ready does time
move, to the next timer; of timers due at the same moment the seed says which is first. `death` ends
it in the middle: no handle runs after it.

What in production runs in threads (the writer, the files' second thread, sync steps) runs here as a
handle of the loop, later by a latency that the seed draws; its report comes back later still.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from asyncio import events
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import contextvars
    import random
    from collections.abc import Callable, Coroutine, Iterable

    from stepflow.clock import TimerHandle

__all__ = ["LoopEnd", "SimBackground", "SimClock", "SimLoop", "SimStepThreads", "SimWriter"]

_T = TypeVar("_T")

START_MS: Final = 1_704_067_200_000
_COARSE_MET: Final = 6
"""So many housekeeping timers are met one by one; then time jumps to the next that matters."""
_HANDLES_MAX: Final = 300_000
LoopEnd = str
"""`done`, `dead`, `idle` (nothing will ever happen) or `spinning`."""


class SimClock:
    """Wall, monotonic and loop time. Satisfies `stepflow.clock.Clock`; outlives loops."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.skew_ms = 0
        self.jumps: list[tuple[float, int]] = []
        self.loop: SimLoop | None = None

    def wall_ms(self) -> int:
        return START_MS + self.skew_ms + math.floor(self.now_s * 1000 + 1e-6)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(
        self, delay_s: float, callback: Callable[[], None], *, coarse: bool = False
    ) -> TimerHandle:
        assert self.loop is not None
        return self.loop.timer(self.now_s + max(0.0, delay_s), callback, coarse=coarse)

    def jump(self, milliseconds: int) -> None:
        """Set the wall clock forward or back."""
        self.skew_ms += milliseconds
        self.jumps.append((self.now_s, milliseconds))

    def forward_ms(self, since_s: float) -> int:
        """Return by how much the wall clock was set forward since then."""
        return sum(by for at, by in self.jumps if at >= since_s and by > 0)


class SimLoop(asyncio.BaseEventLoop):
    """The loop of one life."""

    _ready: deque[asyncio.Handle]

    def __init__(self, clock: SimClock, dice: random.Random) -> None:
        super().__init__()
        self.clock = clock
        self.dice = dice
        self.dead = False
        self.halted = False
        self.errors: list[str] = []
        self._heap: list[tuple[float, int, asyncio.Handle]] = []
        self._coarse: list[tuple[float, int, asyncio.Handle]] = []
        self._numbers = 0
        self._coarse_left = _COARSE_MET
        self._buried: set[asyncio.Task[Any]] = set()
        self.set_debug(False)
        self.set_exception_handler(None)
        clock.loop = self

    # ------------------------------------------------------------ what asyncio asks of it

    def time(self) -> float:
        return self.clock.now_s

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._push(self._heap, when, handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.clock.now_s + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def call_soon_threadsafe(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.errors.append(str(context.get("message")))

    # ------------------------------------------------------------ time

    def timer(
        self, when: float, callback: Callable[[], None], *, coarse: bool = False
    ) -> asyncio.Handle:
        """Call at `when`."""
        handle = asyncio.Handle(callback, (), self)
        self._push(self._coarse if coarse else self._heap, when, handle)
        return handle

    def _push(
        self, heap: list[tuple[float, int, asyncio.Handle]], when: float, handle: asyncio.Handle
    ) -> None:
        # Timers of one moment have no promised order: the dice say.
        self._numbers += 1
        place = self.dice.getrandbits(16) << 32 | self._numbers
        heapq.heappush(heap, (when, place, handle))

    def _next_s(self) -> float | None:
        """Return the moment to go to, None when there is none."""
        for heap in (self._heap, self._coarse):
            while heap and heap[0][2]._cancelled:
                heapq.heappop(heap)
        due = self._heap[0][0] if self._heap else math.inf
        if self._coarse and self._coarse[0][0] < due and self._coarse_left > 0:
            self._coarse_left -= 1
            return self._coarse[0][0]
        if math.isinf(due):
            return None
        self._coarse_left = _COARSE_MET
        return due

    def _pass_time(self) -> bool:
        due = self._next_s()
        if due is None:
            return False
        clock = self.clock
        clock.now_s = max(clock.now_s, due)
        for heap in (self._heap, self._coarse):
            while heap and heap[0][0] <= clock.now_s:
                handle = heapq.heappop(heap)[2]
                if not handle._cancelled:
                    self._ready.append(handle)
        return True

    # ------------------------------------------------------------ running

    def go(self) -> LoopEnd:
        """Run until `halted`, death, or nothing is left to do."""
        ready = self._ready
        events._set_running_loop(self)
        left = _HANDLES_MAX
        try:
            while not (self.dead or self.halted):
                if not ready and not self._pass_time():
                    return "idle"
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                    left -= 1
                    if not left:
                        return "spinning"
            return "dead" if self.dead else "done"
        finally:
            events._set_running_loop(None)

    def do(self, coro: Coroutine[Any, Any, Any]) -> LoopEnd:
        """Run until the coroutine has ended, or as `go` does. Its error is raised."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self)
        task.add_done_callback(self._halt)
        self.halted = False
        end = self.go()
        if self.dead:
            return "dead"
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
        return end

    def _halt(self, _: object) -> None:
        self.halted = True

    def bury(self) -> None:
        """Drop what was under way when the process died, without a word."""
        self.dead = True
        events._set_running_loop(self)
        try:
            while tasks := [t for t in asyncio.all_tasks(self) if t not in self._buried]:
                self._buried.update(tasks)
                for task in tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    coro: Any = task.get_coro()
                    # A body may answer its end with another await.
                    with contextlib.suppress(BaseException):
                        coro.close()
        finally:
            events._set_running_loop(None)
        self._ready.clear()
        self._heap.clear()
        self._coarse.clear()
        self.close()


class SimWriter:
    """`journal.background.Writing` with latency. The journal makes it, so it finds its loop."""

    latency_s: tuple[float, ...] = (0.0,)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Any = loop
        self._stopped = False

    def submit(self, work: Callable[[], Callable[[], None]]) -> None:
        self._later(self._run, work)

    def stop(self, **_: Any) -> None:
        self._stopped = True

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        delay = self._loop.dice.choice(self.latency_s)
        if delay:
            self._loop.call_later(delay, callback, *args)
        else:
            self._loop.call_soon(callback, *args)

    def _run(self, work: Callable[[], Callable[[], None]]) -> None:
        if self._stopped:
            return
        report = work()
        if not self._loop.dead:
            self._later(report)


class SimBackground:
    """`journal.background.Background` with latency: one thing at a time, in order."""

    latency_s: tuple[float, ...] = (0.0,)

    def __init__(self) -> None:
        self._last: asyncio.Future[None] | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        loop: Any = asyncio.get_running_loop()
        before, mine = self._last, loop.create_future()
        self._last = mine
        try:
            if before is not None and not before.done():
                # Whoever is cancelled in the queue must not cancel the one before.
                await asyncio.wait([before])
            await _pause(loop, self.latency_s)
            value = work()
            await _pause(loop, self.latency_s)
            return value
        finally:
            if not mine.done():
                mine.set_result(None)

    def stop(self, **_: Any) -> None:
        return


async def _pause(loop: Any, latency_s: tuple[float, ...]) -> None:
    delay = loop.dice.choice(latency_s)
    if delay:
        await asyncio.sleep(delay)


class SimStepThreads:
    """`runtime.threads.StepThreads` on the loop: a job begins later, and ends later still."""

    latency_s: tuple[float, ...] = (0.0,)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._running = 0
        self._queue: deque[tuple[Any, ...]] = deque()
        self._stopped = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def ahead_of(self, wanted: Iterable[Any]) -> dict[Any, int]:
        """Return how many wait before each of these that waits."""
        left = set(wanted)
        queue = enumerate(job[0] for job in self._queue)
        return {attempt: place for place, attempt in queue if attempt in left}

    def withdraw(self, attempt: Any) -> bool:
        """Take it out of the queue, if it is there."""
        job = next((job for job in self._queue if job[0] is attempt), None)
        if job is not None:
            self._queue.remove(job)
        return job is not None

    def submit(
        self,
        attempt: Any,
        context: contextvars.Context,
        function: Callable[..., Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Run the attempt, unless it is closed by then."""
        self._queue.append((attempt, context, function, ended))
        self._next()

    def _next(self) -> None:
        loop: Any = asyncio.get_running_loop()
        while self._queue and self._running < self.limit:
            self._running += 1
            job = self._queue.popleft()
            loop.call_later(loop.dice.choice(self.latency_s), self._begin, *job)

    def _begin(
        self,
        attempt: Any,
        context: contextvars.Context,
        function: Callable[..., Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        loop: Any = asyncio.get_running_loop()
        value: Any = None
        failure: BaseException | None = None
        try:
            value = None if attempt.closed else context.run(function, *attempt.ask.call_args)
        except Exception as error:  # noqa: BLE001  told to the runner
            failure = error
        loop.call_later(loop.dice.choice(self.latency_s), self._end, ended, value, failure)

    def _end(self, ended: Callable[..., None], value: Any, failure: BaseException | None) -> None:
        self._running -= 1
        ended(value, failure)
        if not self._stopped:
            self._next()

    def stop(self) -> None:
        self._stopped = True
