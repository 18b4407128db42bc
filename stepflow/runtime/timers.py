"""Durable timers in memory: a heap of what is due soon, one call on the loop.

A timer is a hybrid time, a run and a key. It sends a message, it never calls user code. A timer is
not deleted when it has lost its purpose: the actor checks it against its run's state when it fires.
Those of runs that have ended are left out now and then, or a day's timeouts would pile up.

What is due in more than a minute or two lies in arrays (far_timers.py) and goes into the heap in
slices, a minute before the first of it is due. Nothing fires while something that may be due
earlier lies there: so all fire in order, even when the clock jumps.
"""

from __future__ import annotations

import heapq
from math import inf
from sys import intern
from typing import TYPE_CHECKING

from stepflow.clock import next_pass
from stepflow.runtime.far_timers import FarTimers

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import Clock, HybridTime, TimerHandle
    from stepflow.config import Settings
    from stepflow.runtime.far_timers import Timer

__all__ = ["Timers", "slice_of"]

_SLICE_S = 0.005
"""What is late is fired in slices: so often, and within the rate, none of them is long."""
_TIDY_SLICE = 1000
_TIDY_SLACK = 1000
_LEAD_MS = 60_000
"""Far timers are made ready so long before the first of them is due."""
_READY_SLICE = 1000
"""So many in one go, about a millisecond."""


def slice_of(per_second: int) -> tuple[int, float]:
    """Return how many to wake in one go, and for how long to wait then, at so many a second."""
    pause_s = max(_SLICE_S, 1 / per_second)
    return max(1, int(per_second * pause_s)), pause_s


class Timers:
    """All timers of all runs."""

    __slots__ = (
        "_armed_ms",
        "_clock",
        "_far",
        "_fire",
        "_handle",
        "_heap",
        "_horizon_ms",
        "_look",
        "_settings",
        "_tidied",
        "_tidying",
        "_time",
        "_untidy",
        "_waking",
    )

    def __init__(
        self,
        clock: Clock,
        time: HybridTime,
        settings: Settings,
        fire: Callable[[str, str, int], None],
    ) -> None:
        self._clock = clock
        self._time = time
        self._settings = settings
        self._fire = fire
        self._heap: list[Timer] = []
        self._far = FarTimers()
        self._horizon_ms = 0
        """What is due before it goes into the heap at once."""
        self._untidy: list[Timer] = []
        """While it is tidied: the heap of before."""
        self._tidying = False
        self._waking = False
        self._tidied = 0
        """How many there were when it was tidied last."""
        self._handle: TimerHandle | None = None
        self._look: TimerHandle | None = None
        self._armed_ms: float = 0

    def __len__(self) -> int:
        return len(self._heap) + len(self._untidy) + len(self._far)

    def add(self, due_ms: int, run_id: str, key: str) -> None:
        """Send (`run_id`, `key`, `due_ms`) when hybrid time reaches `due_ms`, never earlier."""
        # There are few keys and many timers.
        key = intern(key)
        if due_ms < self._horizon_ms or not self._put_far(due_ms, run_id, key):
            heapq.heappush(self._heap, (due_ms, run_id, key))
        if self._waking:
            return
        if self._handle is not None and due_ms < self._armed_ms:
            self._disarm()
        if self._handle is None:
            self._arm()

    def _put_far(self, due_ms: int, run_id: str, key: str) -> bool:
        self._horizon_ms = self._time.now_ms() + _LEAD_MS
        return self._far.put(due_ms, run_id, key, self._horizon_ms)

    def stop(self) -> None:
        """Fire nothing more."""
        self._disarm()
        self._heap.clear()
        self._untidy.clear()
        self._far.clear()

    def is_untidy(self) -> bool:
        """Whether there are so many more than last time that looking through them pays."""
        return not self._tidying and len(self) > 2 * self._tidied + _TIDY_SLACK

    async def tidy(self, counts: Callable[[str, str, int], bool]) -> None:
        """Leave out timers that do not count any more, a slice in each pass of the loop."""
        self._tidying = True
        self._heap, self._untidy = [], self._heap
        while self._untidy:
            # The last of a heap can be taken without upsetting it: what is due is fired meanwhile.
            for _ in range(min(_TIDY_SLICE, len(self._untidy))):
                timer = self._untidy.pop()
                due_ms, run_id, key = timer
                if counts(run_id, key, due_ms):
                    heapq.heappush(self._heap, timer)
            await next_pass()
        await self._far.tidy(counts)
        self._tidied = len(self)
        self._tidying = False

    def _due(self) -> list[Timer]:
        """Return the heap whose first timer is the next one of all; empty when there is none."""
        if not self._untidy or (self._heap and self._heap[0] < self._untidy[0]):
            return self._heap
        return self._untidy

    def _disarm(self) -> None:
        for handle in (self._handle, self._look):
            if handle is not None:
                handle.cancel()
        self._handle = self._look = None

    def _next_ms(self) -> float:
        """Return when the next timer of all is due, or a little before."""
        heap = self._due()
        return min(heap[0][0], self._far.due_ms) if heap else self._far.due_ms

    def _arm(self) -> None:
        self._armed_ms = self._next_ms()
        if self._armed_ms == inf:
            return
        now = self._time.now_ms()
        wait_s = max(0.0, (self._armed_ms - now) / 1000)
        self._handle = self._clock.call_later(wait_s, self._wake)
        # Looking at the clock now and then is how a jump of the wall clock is noticed, and that far
        # timers are to be made ready.
        ready = self._far.begin_ms > now + _LEAD_MS
        look_s = self._settings.clock_check_s if ready else _SLICE_S
        if wait_s > look_s:
            self._look = self._clock.call_later(look_s, self._wake, coarse=True)

    def _wake(self) -> None:
        self._disarm()
        now = self._time.now_ms()
        self._make_ready(now)
        if self._far.begin_ms <= now:
            # After a jump of the clock: nothing fires before what may be due earlier is ready.
            self._armed_ms = now
            self._handle = self._clock.call_later(0.0, self._wake)
            return
        budget, pause_s = slice_of(self._settings.timers_per_second)
        self._waking = True
        try:
            while (heap := self._due()) and heap[0][0] <= now and budget:
                due_ms, run_id, key = heapq.heappop(heap)
                budget -= 1
                self._fire(run_id, key, due_ms)
        finally:
            self._waking = False
        if budget or self._next_ms() == inf:
            self._arm()
        else:
            # More is due than one slice fires: a forward jump must not become a stampede.
            self._armed_ms = self._next_ms()
            self._handle = self._clock.call_later(pause_s, self._wake)

    def _make_ready(self, now_ms: int) -> None:
        """Take a slice of what begins soon nearer: into the heap, or into a narrower span."""
        self._horizon_ms = now_ms + _LEAD_MS + 1
        left = _READY_SLICE
        while left and self._far.begin_ms < self._horizon_ms:
            taken = self._far.take(left)
            left -= len(taken) or 1
            for due_ms, run_id, key in taken:
                if not self._far.put(due_ms, run_id, key, self._horizon_ms):
                    heapq.heappush(self._heap, (due_ms, run_id, key))
