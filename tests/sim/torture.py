"""The simulation's part of `make torture`: planted bugs, then seeds as long as there is time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.sim.bugs import BUGS, find
from tests.sim.many import RUNS, Summary, explain, run_for
from tests.sim.worlds import WORLDS
from tests.sim.worlds import find as find_in

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SHARES", "torture"]

_APART: Final = 1_000_000
"""So far apart begin the seeds of one torture and of the next."""
_FOR_BUGS: Final = 0.4
"""Of the time, for planted bugs."""
_SECONDS_PER_BUG: Final = 4.0
SHARES: Final = dict.fromkeys(WORLDS, 1) | {RUNS: 3}
"""Of the time for seeds, by world: that of random runs has as much as all others together."""


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Run seeds of all worlds and look for planted bugs for about so long; return the figures.

    Raises `AssertionError` with what is wrong when a seed fails (in the world of random runs with
    the shortest schedule found), and when a planted bug is not found.
    """
    began = time.monotonic()
    bugs = _bugs(seed)
    found = _planted(bugs, min(seconds * _FOR_BUGS, _SECONDS_PER_BUG * len(bugs)), say)
    total = Summary()
    shares = sum(SHARES.values())
    for name, share in SHARES.items():
        left_s = seconds - (time.monotonic() - began)
        summary = run_for(left_s * share / shares, seed * _APART, say=say, world=name)
        shares -= share
        say(f"simulation of {name}: {summary.seeds} seeds, {summary.per_hour} an hour")
        if summary.failures:
            raise AssertionError(explain(summary.failures[0].seed, world=name))
        total.merge(summary)
        total.seconds += summary.seconds
    return total.figures() | found


def _bugs(seed: int) -> dict[str, Callable[[], object]]:
    """Return how to look for each planted bug, by world and name.

    Each time another one comes first: with too little time for all, none is left out for ever.
    """
    bugs: dict[str, Callable[[], object]] = {
        f"{RUNS}: {name}": partial(find, bug) for name, bug in BUGS.items()
    }
    for world in WORLDS.values():
        bugs |= {f"{world.name}: {name}": partial(find_in, world, name) for name in world.bugs}
    names = sorted(bugs)
    first = seed * 17 % len(names)
    return {name: bugs[name] for name in names[first:] + names[:first]}


def _planted(
    bugs: dict[str, Callable[[], object]], seconds: float, say: Callable[[str], None]
) -> dict[str, int]:
    """Look for each planted bug, as far as there is time."""
    deadline = time.monotonic() + seconds
    looked = 0
    for name, look in bugs.items():
        if time.monotonic() >= deadline:
            break
        found = look()
        looked += 1
        assert found is not None, f"planted bug {name} was not found"
    say(f"simulation: {looked} of {len(bugs)} planted bugs looked for, all found")
    return {"planted_found": looked, "planted_total": looked}
