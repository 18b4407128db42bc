"""The loop's longest pass, watched from inside."""

from __future__ import annotations

import asyncio
import time


class Stalls:
    """The loop's longest pass, as seen by a timer that wants to run each millisecond."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = time.perf_counter()
        self.longest_ms = 0.0
        self._handle = self._loop.call_later(0.001, self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest_ms = max(self.longest_ms, (now - self._last) * 1e3 - 1)
        self._last = now
        self._handle = self._loop.call_later(0.001, self._beat)

    def reset(self) -> None:
        self._last = time.perf_counter()
        self.longest_ms = 0.0

    def stop(self) -> float:
        self._handle.cancel()
        return self.longest_ms
