"""What a start costs a record and a run, in instructions and bytes: a ceiling, not a rate."""

from __future__ import annotations

import sys

import msgspec
import pytest

from benchmarks.histories import batches, mixed, waiting
from benchmarks.instructions import Count
from stepflow.runtime.parked import Names, park_outline, press
from stepflow.runtime.restore import Restorer

RUNS = 400
INSTRUCTIONS_MAX = 300
"""A record; 283 were counted."""
BYTES_MAX = 200
"""A run's parked bytes; 189 were counted."""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts CPython's instructions")
def test_a_plain_record_is_folded_in_few_instructions() -> None:
    records = [data for frame in batches(mixed, RUNS, 0, 1_800_000_000_000) for data in frame]
    restorer = Restorer()
    with Count() as count:
        for lsn, data in enumerate(records, 1):
            restorer.on_record(lsn, data)
    assert len(records) == 3 * RUNS
    assert count.instructions.total() / len(records) <= INSTRUCTIONS_MAX
    assert all(found.outline is not None for found in restorer.runs())


def test_a_parked_run_that_waits_is_small_beside_its_payload() -> None:
    records = [data for frame in batches(waiting, RUNS, 0, 1_800_000_000_000) for data in frame]
    restorer = Restorer()
    for lsn, data in enumerate(records, 1):
        restorer.on_record(lsn, data)
    names = Names()
    sizes = []
    for found in restorer.runs():
        outline = found.outline
        assert outline is not None
        assert outline.sleeps
        payload = msgspec.json.decode(outline.line())["records"][0]["input"]
        parked = press(park_outline(outline, names), found.id)
        sizes.append(sys.getsizeof(parked) - len(msgspec.json.encode(payload)))
    assert len(sizes) == RUNS
    assert max(sizes) <= BYTES_MAX
