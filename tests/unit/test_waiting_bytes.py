"""What a run that waits takes of the tables' memory, counted by the allocator: a ceiling."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from benchmarks.histories import batches, waiting
from stepflow.clock import HybridTime
from stepflow.config import Settings
from stepflow.model.ids import RunId
from stepflow.runtime.events import Waiters
from stepflow.runtime.parked import Names, park_outline, press
from stepflow.runtime.restore import Restorer
from stepflow.runtime.runs import Runs
from stepflow.runtime.timers import Timers
from stepflow.testing.clock import VirtualClock

RUNS = 3000
BYTES_MAX = 445
"""A run with a step, an event and a timer of its own, beside its payload; 429 were counted."""


def _never(*_: Any) -> Any:
    raise AssertionError("no run is woken")


@pytest.mark.asyncio
async def test_a_run_that_waits_for_its_own_event_and_timer_takes_little() -> None:
    restorer = Restorer()
    lsn = 0
    for frame in batches(waiting, RUNS, 0, 1_800_000_000_000):
        for data in frame:
            lsn += 1
            restorer.on_record(lsn, data)
    found = [run.outline for run in restorer.runs()]
    names = Names()
    payload = 0
    clock = VirtualClock()
    with clock.driving():
        timers = Timers(clock, HybridTime(clock), Settings(), _never)
        waiters = Waiters()
        runs = Runs(_never)
        gc.collect()
        tracemalloc.start()
        try:
            for number, run in enumerate(found):
                assert run is not None
                assert run.event
                payload += len(b'{"to":"%d"}' % number)
                run_id = RunId(run.id.encode().decode())
                event = run.event.encode().decode()
                parked = press(park_outline(run, names), run_id)
                runs.enter_parked(run_id, run.start_lsn, parked)
                waiters.declare((event,), run_id)
                waiters.wait(event, run_id)
                timers.add(timers._time.now_ms() + 86_400_000 + number, run_id, run.key)
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        timers.stop()
    assert len(runs) == len(waiters) == RUNS
    assert (taken - payload) / RUNS <= BYTES_MAX
