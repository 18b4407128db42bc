"""Durable timers in memory: one heap, one call on the loop.

A timer is a hybrid time, a run and a key. It sends a message, it never calls user code. Timers are
not deleted from the heap: the actor checks a timer against its run's state when it fires.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import Clock, HybridTime, TimerHandle
    from stepflow.config import Settings

__all__ = ["Timers"]

_SLICE_S = 0.05


class Timers:
    """All timers of all runs."""

    __slots__ = ("_armed_ms", "_clock", "_fire", "_handle", "_heap", "_look", "_settings", "_time")

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
        self._heap: list[tuple[int, str, str]] = []
        self._handle: TimerHandle | None = None
        self._look: TimerHandle | None = None
        self._armed_ms = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due_ms: int, run_id: str, key: str) -> None:
        """Send (`run_id`, `key`, `due_ms`) when hybrid time reaches `due_ms`, never earlier."""
        heapq.heappush(self._heap, (due_ms, run_id, key))
        if self._handle is not None and due_ms < self._armed_ms:
            self._disarm()
        if self._handle is None:
            self._arm()

    def stop(self) -> None:
        """Fire nothing more."""
        self._disarm()
        self._heap.clear()

    def _disarm(self) -> None:
        for handle in (self._handle, self._look):
            if handle is not None:
                handle.cancel()
        self._handle = self._look = None

    def _arm(self) -> None:
        due_ms = self._heap[0][0]
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
        budget = max(1, int(self._settings.timers_per_second * _SLICE_S))
        while self._heap and self._heap[0][0] <= now and budget:
            due_ms, run_id, key = heapq.heappop(self._heap)
            budget -= 1
            self._fire(run_id, key, due_ms)
        if not self._heap or self._handle is not None:
            return
        if not budget:
            # More is due than one slice fires: a forward jump must not become a stampede.
            self._armed_ms = self._heap[0][0]
            self._handle = self._clock.call_later(_SLICE_S, self._wake)
        else:
            self._arm()
