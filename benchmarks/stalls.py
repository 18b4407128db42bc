"""The loop's longest pass, watched from inside."""

from __future__ import annotations

import asyncio
import time


class Stalls:
    """The loop's longest pass, as seen by a timer that wants to run each millisecond.

    `longest_cpu_ms` is the same in processor time of the loop's thread: what its own work held it
    for. A machine that others use stretches the first and leaves the second.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = time.perf_counter()
        self._last_cpu = time.thread_time()
        self.longest_ms = 0.0
        self.longest_cpu_ms = 0.0
        self._handle = self._loop.call_later(0.001, self._beat)

    def _beat(self) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        self.longest_ms = max(self.longest_ms, (now - self._last) * 1e3 - 1)
        self.longest_cpu_ms = max(self.longest_cpu_ms, (cpu - self._last_cpu) * 1e3)
        self._last, self._last_cpu = now, cpu
        self._handle = self._loop.call_later(0.001, self._beat)

    def reset(self) -> None:
        self._last = time.perf_counter()
        self._last_cpu = time.thread_time()
        self.longest_ms = self.longest_cpu_ms = 0.0

    def stop(self) -> float:
        self._handle.cancel()
        return self.longest_ms
