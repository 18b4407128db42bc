"""Time that passes only when nothing else happens.

`VirtualClock` is a `Clock` on which a three-day sleep takes no time. It drives a loop of asyncio's
own (the loop's `time()` too, so `asyncio.sleep`, `timeout` and `wait_for` follow it)::

    loop has something to do ──► it does it, time stands still
    loop would wait ──► work in a thread is under way? ──► yes: really wait for it
                                                      └─► no: jump to the next timer

**Coarse** timers (housekeeping, a look at the wall clock) may come late, so a jump passes over
them: of a row of them the first few are met one by one, then they are caught up with at the next
timer that matters.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from stepflow.clock import TimerHandle

__all__ = ["VirtualClock"]

START_MS: Final = 1_704_067_200_000
"""2024-01-01T00:00:00Z, unless another start is given."""
_COARSE_MET: Final = 16
_SELECTOR: Final = "_selector"


class _Timer:
    """One call that is due at `when`."""

    __slots__ = ("callback", "number", "when")

    def __init__(self, when: float, number: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.number = number
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: _Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """A clock for tests. Satisfies `stepflow.clock.Clock`.

    With `auto` time jumps to the next timer whenever the loop is idle; without it only `advance`
    moves it. `watch` names work that time must wait for: threads, a disk.
    """

    def __init__(self, start_ms: int = START_MS, *, auto: bool = True) -> None:
        self.auto = auto
        self._start_ms = start_ms
        self._now_s = 0.0
        self._skew_ms = 0
        self._goal_s = 0.0
        """Time may come this far without `auto`, and does not wait for threads until then."""
        self._numbers = 0
        self._timers: list[_Timer] = []
        self._coarse: list[_Timer] = []
        self._coarse_left = _COARSE_MET
        self._probes: list[Callable[[], bool]] = []
        self._executing = 0

    # ------------------------------------------------------------ Clock

    def wall_ms(self) -> int:
        return self._start_ms + self._skew_ms + math.floor(self._now_s * 1000 + 1e-6)

    def monotonic_s(self) -> float:
        return self._now_s

    def call_later(
        self, delay_s: float, callback: Callable[[], None], *, coarse: bool = False
    ) -> TimerHandle:
        self._numbers += 1
        timer = _Timer(self._now_s + max(0.0, delay_s), self._numbers, callback)
        heapq.heappush(self._coarse if coarse else self._timers, timer)
        return timer

    # ------------------------------------------------------------ for tests

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, firing what is due on the way; threads do not hold it up."""
        self._goal_s = max(self._goal_s, self._now_s + seconds)
        there = asyncio.Event()
        self.call_later(seconds, there.set)
        await there.wait()

    def jump_wall(self, milliseconds: int) -> None:
        """Set the wall clock forward or back; monotonic time does not notice."""
        self._skew_ms += milliseconds

    def watch(self, busy: Callable[[], bool]) -> Callable[[], None]:
        """Let time stand still while `busy()`; return how to forget it."""
        self._probes.append(busy)
        return lambda: self._probes.remove(busy)

    @contextmanager
    def driving(self, loop: asyncio.AbstractEventLoop | None = None) -> Generator[VirtualClock]:
        """Drive the running loop, or `loop`, inside the block."""
        target: Any = loop or asyncio.get_running_loop()
        selector = getattr(target, _SELECTOR, None)
        if not isinstance(target, asyncio.BaseEventLoop) or selector is None:
            message = (
                f"a virtual clock cannot drive {type(target).__module__}.{type(target).__name__}; "
                "run the test on asyncio's own loop"
            )
            raise TypeError(message)
        offset = target.time() - self._now_s
        executor = target.run_in_executor
        setattr(target, _SELECTOR, _IdleSelector(selector, self))
        target.time = lambda: self._now_s + offset  # type: ignore[method-assign]
        target.run_in_executor = lambda *args: self._counted(executor(*args))  # type: ignore[method-assign]
        try:
            yield self
        finally:
            del target.time, target.run_in_executor
            setattr(target, _SELECTOR, selector)

    # ------------------------------------------------------------ the loop is idle

    def _counted(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        self._executing += 1
        future.add_done_callback(self._executed)
        return future

    def _executed(self, _: asyncio.Future[Any]) -> None:
        self._executing -= 1

    def next_timeout(self, timeout: float | None) -> float | None:
        """Return how long the loop may really wait; it would wait `timeout`. May move time on."""
        limit = math.inf if self.auto and not self._busy() else self._goal_s
        if self._now_s >= limit:
            return None
        # A little beyond: far out, floats are so coarse that the loop's own timer would not be due.
        due = self._next_due(
            math.inf if timeout is None else self._now_s + timeout + 4 * math.ulp(self._now_s)
        )
        if math.isinf(due):
            return None
        self._now_s = max(self._now_s, min(due, limit))
        self._fire()
        return 0

    def _busy(self) -> bool:
        return self._executing > 0 or any(busy() for busy in self._probes)

    def _next_due(self, loop_due: float) -> float:
        """Return the time to jump to: the next timer that matters, or an early coarse one."""
        for heap in (self._timers, self._coarse):
            while heap and heap[0].callback is None:
                heapq.heappop(heap)
        due = min(loop_due, self._timers[0].when if self._timers else math.inf)
        if self._coarse and self._coarse[0].when < due and self._coarse_left > 0:
            self._coarse_left -= 1
            return self._coarse[0].when
        if not math.isinf(due):
            self._coarse_left = _COARSE_MET
        return due

    def _fire(self) -> None:
        """Call what is due, in order of its time."""
        due: list[_Timer] = []
        for heap in (self._timers, self._coarse):
            while heap and heap[0].when <= self._now_s:
                due.append(heapq.heappop(heap))
        loop = asyncio.get_running_loop()
        for timer in sorted(due):
            if timer.callback is not None:
                loop.call_soon(_fire, timer)


def _fire(timer: _Timer) -> None:
    callback, timer.callback = timer.callback, None
    if callback is not None:
        callback()


class _IdleSelector:
    """The loop's selector, which asks the clock before it waits."""

    def __init__(self, selector: Any, clock: VirtualClock) -> None:
        self._selector = selector
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return self._selector.select(timeout)
        # What a thread or a socket has to say comes before any jump.
        events = self._selector.select(0)
        if events:
            return events
        return self._selector.select(self._clock.next_timeout(timeout))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)
