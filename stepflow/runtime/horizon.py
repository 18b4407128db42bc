"""For how long finished runs are kept, if they go on to end as they have since the start.

Each workflow is a **flow**: so many runs a second, so large, kept until its own limits take them.
All together hold more and more with time, until the settings' limits take the oldest.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Flow", "horizon_s"]

_HALVINGS: Final = 50


class Flow(NamedTuple):
    """How one workflow's runs end, and what is kept of them."""

    per_s: float
    size: float
    age_s: float
    runs_max: float = inf

    @property
    def kept_s(self) -> float:
        """For how long its own limits keep a run."""
        return min(self.age_s, self.runs_max / self.per_s)


def horizon_s(flows: Sequence[Flow], *, bytes_max: float, runs_max: float) -> float:
    """Return for how many seconds the run that is kept longest is kept; 0 where none has ended."""
    longest = max((flow.kept_s for flow in flows), default=0.0)

    def fits(seconds: float) -> bool:
        runs = [flow.per_s * min(seconds, flow.kept_s) for flow in flows]
        nbytes = sum(count * flow.size for count, flow in zip(runs, flows, strict=True))
        return nbytes <= bytes_max and sum(runs) <= runs_max

    if fits(longest):
        return longest
    low, high = 0.0, longest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
