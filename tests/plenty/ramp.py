"""Very many live runs, a kill, and the start after it: woken in a ramp, triggers answered.

Runs that only sleep stay as they are; those of which a step was under way are woken, at most
`wakes_per_second` of them in a second.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.plenty.server import MIB, Served, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP: Final = "tests/plenty/ramp_app.py"
BATCH: Final = 1000
SLICE_S: Final = 0.05
"""So many runs as may be woken in this time are woken at once."""


@dataclass(frozen=True)
class Ramp:
    """What was seen."""

    runs: int
    answered: int
    """Triggers that were answered, and whose runs ended, while runs were still being woken."""
    samples: int
    resident_bytes: int
    seconds: float


def climb(
    place: Path,
    *,
    busy: int,
    asleep: int,
    rate: int,
    fill_s: float = math.inf,
    say: Callable[[str], None] = print,
) -> Ramp:
    """Make so many runs, kill the server, start it again and watch it wake them.

    Where `fill_s` is over first, there are fewer that sleep.
    """
    env = {"STEPFLOW_WAKES_PER_SECOND": str(rate), "STEPFLOW_PASSIVATE_AFTER_S": "0.5"}
    with Served(place, APP, env=env) as server:
        server.ready()
        asleep = fill(server, "sleeps", asleep, fill_s, say)
        fill(server, "busy", busy, math.inf, say)
        until(lambda: server.metric("stepflow_steps_running") == busy, lambda: server.said)
        server.kill()
    with Served(place, APP, env=env) as server:
        return watch(server.ready(), busy, asleep, rate)


def fill(
    server: Served, workflow: str, count: int, fill_s: float, say: Callable[[str], None]
) -> int:
    """Start so many runs, in batches, and return how many.

    Runs that sleep are put to sleep before many more come.
    """
    ends = time.monotonic() + fill_s
    for begin in range(0, count, BATCH):
        if time.monotonic() > ends:
            return begin
        numbers = list(range(begin, min(count, begin + BATCH)))
        answer = server.post(f"/trigger/{workflow}/batch", numbers)
        assert answer.status_code == 200, answer.text
        if workflow == "sleeps":
            until(lambda: server.metric("stepflow_runs_active") < 10 * BATCH, lambda: server.said)
        if begin and begin % (50 * BATCH) == 0:
            say(f"{begin} runs live")
    return count


def watch(server: Served, busy: int, asleep: int, rate: int) -> Ramp:
    """Follow the ramp to its end. Raises `AssertionError` where it is too steep."""
    begun = time.monotonic()
    seen: list[tuple[float, float, float]] = []
    answered = 0
    while not seen or seen[-1][2] < busy:
        asked = time.monotonic()
        active = server.metric("stepflow_steps_running")
        told = time.monotonic()
        for before, _, less in seen:
            # Both moments lie somewhere between question and answer: the longest time counts.
            most = rate * (told - before) + 2 * rate * SLICE_S + 1
            assert active - less <= most, f"{active - less} runs woken, at most {most:.0f} may be"
        seen.append((asked, told, active))
        run_id = server.trigger("echo", len(seen))
        assert server.result(run_id) == len(seen)
        answered += active < busy
        assert told - begun < 600, f"it wakes no more: {seen[-3:]}"
    assert server.metric("stepflow_runs_live") == busy + asleep
    assert server.metric("stepflow_runs_quarantined") == 0
    seconds = seen[-1][1] - begun
    return Ramp(busy + asleep, answered, len(seen), server.resident_bytes(), seconds)


def per_run(ramp: Ramp) -> float:
    """Return how many KiB the process has for each run."""
    return (ramp.resident_bytes - 60 * MIB) / ramp.runs / 1024
