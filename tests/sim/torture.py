"""The simulation's part of `make torture`: planted bugs, then seeds as long as there is time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tests.sim.bugs import BUGS, find
from tests.sim.many import explain, run_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["torture"]

_APART: Final = 1_000_000
"""So far apart begin the seeds of one torture and of the next."""
_FOR_BUGS: Final = 0.4
"""Of the time, for planted bugs."""
_SECONDS_PER_BUG: Final = 4.0


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Run seeds and look for planted bugs for about so long; return the figures.

    Raises `AssertionError` with the shortest schedule found when a seed fails, and when a planted
    bug is not found.
    """
    began = time.monotonic()
    found = _planted(min(seconds * _FOR_BUGS, _SECONDS_PER_BUG * len(BUGS)), say)
    summary = run_for(seconds - (time.monotonic() - began), seed * _APART, say=say)
    say(f"simulation: {summary.seeds} seeds, {summary.per_hour} an hour")
    if summary.failures:
        raise AssertionError(explain(summary.failures[0].seed))
    return summary.figures() | found


def _planted(seconds: float, say: Callable[[str], None]) -> dict[str, int]:
    """Look for each planted bug, as far as there is time."""
    deadline = time.monotonic() + seconds
    looked = 0
    for name, bug in sorted(BUGS.items()):
        if time.monotonic() >= deadline:
            break
        found = find(bug)
        looked += 1
        assert found is not None, f"planted bug {name} was not found"
    say(f"simulation: {looked} of {len(BUGS)} planted bugs looked for, all found")
    return {"planted_found": looked, "planted_total": looked}
