"""Durable timers in memory: one heap, one call on the loop.

A timer is a hybrid time, a run and a key. It sends a message, it never calls user code. A timer is
not deleted when it has lost its purpose: the actor checks it against its run's state when it fires.
Those of runs that have ended are left out now and then, or a day's timeouts would pile up.
"""

from __future__ import annotations

import heapq
from sys import intern
from typing import TYPE_CHECKING

from stepflow.clock import next_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import Clock, HybridTime, TimerHandle
    from stepflow.config import Settings

__all__ = ["Timers", "slice_of"]

_SLICE_S = 0.005
"""What is late is fired in slices: so often, and within the rate, none of them is long."""
_TIDY_SLICE = 1000
_TIDY_SLACK = 1000


def slice_of(per_second: int) -> tuple[int, float]:
    """Return how many to wake in one go, and for how long to wait then, at so many a second."""
    pause_s = max(_SLICE_S, 1 / per_second)
    return max(1, int(per_second * pause_s)), pause_s


class Timers:
    """All timers of all runs."""

    __slots__ = (
        "_armed_ms",
        "_clock",
        "_fire",
        "_handle",
        "_heap",
        "_look",
        "_settings",
        "_tidied",
        "_time",
        "_untidy",
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
        self._heap: list[_Timer] = []
        self._untidy: list[_Timer] = []
        """While it is tidied: the heap of before."""
        self._tidied = 0
        """How many there were when it was tidied last."""
        self._handle: TimerHandle | None = None
        self._look: TimerHandle | None = None
        self._armed_ms = 0

    def __len__(self) -> int:
        return len(self._heap) + len(self._untidy)

    def add(self, due_ms: int, run_id: str, key: str) -> None:
        """Send (`run_id`, `key`, `due_ms`) when hybrid time reaches `due_ms`, never earlier."""
        # There are few keys and many timers.
        heapq.heappush(self._heap, (due_ms, run_id, intern(key)))
        if self._handle is not None and due_ms < self._armed_ms:
            self._disarm()
        if self._handle is None:
            self._arm()

    def stop(self) -> None:
        """Fire nothing more."""
        self._disarm()
        self._heap.clear()
        self._untidy.clear()

    def is_untidy(self) -> bool:
        """Whether there are so many more than last time that looking through them pays."""
        return not self._untidy and len(self._heap) > 2 * self._tidied + _TIDY_SLACK

    async def tidy(self, counts: Callable[[str, str, int], bool]) -> None:
        """Leave out timers that do not count any more, a slice in each pass of the loop."""
        self._heap, self._untidy = [], self._heap
        while self._untidy:
            # The last of a heap can be taken without upsetting it: what is due is fired meanwhile.
            for _ in range(min(_TIDY_SLICE, len(self._untidy))):
                timer = self._untidy.pop()
                due_ms, run_id, key = timer
                if counts(run_id, key, due_ms):
                    heapq.heappush(self._heap, timer)
            await next_pass()
        self._tidied = len(self._heap)

    def _due(self) -> list[_Timer]:
        """Return the heap whose first timer is the next one of all; empty when there is none."""
        if not self._untidy or (self._heap and self._heap[0] < self._untidy[0]):
            return self._heap
        return self._untidy

    def _disarm(self) -> None:
        for handle in (self._handle, self._look):
            if handle is not None:
                handle.cancel()
        self._handle = self._look = None

    def _arm(self) -> None:
        due_ms = self._due()[0][0]
        wait_s = max(0.0, (due_ms - self._time.now_ms()) / 1000)
        self._armed_ms = due_ms
        self._handle = self._clock.call_later(wait_s, self._wake)
        if wait_s > self._settings.clock_check_s:
            # Looking at the clock now and then is how a jump of the wall clock is noticed.
            self._look = self._clock.call_later(
                self._settings.clock_check_s, self._wake, coarse=True
            )

    def _wake(self) -> None:
        self._disarm()
        now = self._time.now_ms()
        budget, pause_s = slice_of(self._settings.timers_per_second)
        while (heap := self._due()) and heap[0][0] <= now and budget:
            due_ms, run_id, key = heapq.heappop(heap)
            budget -= 1
            self._fire(run_id, key, due_ms)
        if not self._due() or self._handle is not None:
            return
        if not budget:
            # More is due than one slice fires: a forward jump must not become a stampede.
            self._armed_ms = self._due()[0][0]
            self._handle = self._clock.call_later(pause_s, self._wake)
        else:
            self._arm()


_Timer = tuple[int, str, str]
