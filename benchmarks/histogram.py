"""Many durations in little memory: what measures memory must not take any itself.

Buckets of 2 % each from 1 µs to some 100 s; a percentile is the middle of its bucket.
"""

from __future__ import annotations

import math
from typing import Final

_FLOOR_MS: Final = 1e-3
_GROWTH: Final = math.log(1.02)
_BUCKETS: Final = 932


class Histogram:
    """Counts of milliseconds, by bucket."""

    __slots__ = ("_counts", "count", "longest_ms")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.longest_ms = 0.0

    def add(self, value_ms: float) -> None:
        place = int(math.log(max(value_ms, _FLOOR_MS) / _FLOOR_MS) / _GROWTH)
        self._counts[min(place, _BUCKETS - 1)] += 1
        self.count += 1
        self.longest_ms = max(self.longest_ms, value_ms)

    def percentile(self, part: float) -> float:
        """Return the milliseconds below which `part` of the values lie; 0 where there are none."""
        wanted, seen = self.count * part, 0
        for place, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_FLOOR_MS * math.exp((place + 0.5) * _GROWTH), self.longest_ms)
        return 0.0

    def coarse(self, edges_ms: tuple[float, ...]) -> list[int]:
        """Return how many values lie below each edge and above the one before; the rest last."""
        shown = [0] * (len(edges_ms) + 1)
        for place, count in enumerate(self._counts):
            if count:
                middle = _FLOOR_MS * math.exp((place + 0.5) * _GROWTH)
                shown[sum(edge <= middle for edge in edges_ms)] += count
        return shown
