"""Retention against its rule: oldest end first beyond the bytes, and past the age of its kind."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stepflow.config import Settings
from stepflow.runtime.retention import Ended, Retention

_runs = st.lists(st.tuples(st.booleans(), st.integers(0, 1000), st.integers(1, 50)), max_size=40)


class Bench:
    """A supervisor with nothing but what retention asks of it."""

    def __init__(self, *, now_ms: int, room: int = 1_000_000, **settings: float) -> None:
        self.purged: list[str] = []
        self.room = room
        self.sup: Any = SimpleNamespace(
            settings=Settings(**settings),  # type: ignore[arg-type]
            time=SimpleNamespace(now_ms=lambda: now_ms),
            journal=SimpleNamespace(has_room=self._has_room),
            recorder=SimpleNamespace(write_purge=self._write),
            idempotency=SimpleNamespace(remove=lambda *_: None),
            stopping=False,
            gone={},
            runs={},
        )
        self.retention = Retention(self.sup)

    def _has_room(self, _size: int) -> bool:
        return self.room > 0

    def _write(self, run_id: str, _rs: int, _by: str) -> int:
        self.room -= 1
        self.purged.append(run_id)
        return len(self.purged)

    def adopt(self, rows: list[Ended]) -> None:
        for row in rows:
            self.sup.runs[row.run_id] = SimpleNamespace(
                id=row.run_id, summary=lambda: None, feed=None, purged=False
            )
        self.retention.adopt(rows)

    def sweep(self) -> list[str]:
        asyncio.run(self.retention.sweep())
        return self.purged


def rows_of(runs: list[tuple[bool, int, int]]) -> list[Ended]:
    """Runs that ended one after the other; the numbers are the time in between and the size."""
    rows = []
    ended_ms = 0
    for number, (completed, pause_ms, size) in enumerate(runs, 1):
        ended_ms += pause_ms
        rows.append(Ended(f"run{number}", completed, number, 3, ended_ms, size))
    return rows


@given(_runs, st.integers(0, 300), st.randoms())
def test_what_is_left_is_young_fits_and_ended_last(
    runs: list[tuple[bool, int, int]], bytes_max: int, dice: Any
) -> None:
    rows = rows_of(runs)
    now = rows[-1].ended_ms + 500 if rows else 0
    bench = Bench(now_ms=now, finished_bytes_max=bytes_max, completed_age_s=2, failed_age_s=6)
    shuffled = list(rows)
    dice.shuffle(shuffled)
    bench.adopt(shuffled)
    bench.sweep()
    young = [row for row in rows if now - row.ended_ms <= (2000 if row.completed else 6000)]
    left = [row for row in rows if row.run_id in bench.sup.runs]
    assert sum(row.size for row in left) == bench.retention.bytes <= max(bytes_max, 0)
    assert set(left) <= set(young)
    assert left == young[len(young) - len(left) :]
    if len(left) < len(young):
        # The youngest of those that had to go would not have fitted.
        last = young[len(young) - len(left) - 1]
        assert bench.retention.bytes + last.size > bytes_max
    assert len(bench.retention) == len(left)
    assert set(bench.sup.gone) == set(bench.purged)


def test_all_that_is_due_goes_in_one_sweep_of_many_slices() -> None:
    bench = Bench(now_ms=10_000, completed_age_s=1)
    bench.adopt(rows_of([(True, 0, 1)] * 1234))
    assert len(bench.sweep()) == 1234


def test_without_room_nothing_is_purged_that_cannot_be_recorded() -> None:
    bench = Bench(now_ms=10_000, completed_age_s=1, room=7)
    bench.adopt(rows_of([(True, 0, 1)] * 20))
    assert len(bench.sweep()) == 7
    assert len(bench.retention) == len(bench.sup.runs) == 13
    bench.room = 100
    assert len(bench.sweep()) == 20


def test_a_stop_ends_the_sweep() -> None:
    bench = Bench(now_ms=10_000, completed_age_s=1)
    bench.adopt(rows_of([(True, 0, 1)] * 20))
    bench.sup.stopping = True
    assert bench.sweep() == []


def test_a_store_a_little_over_its_limit_waits_for_the_regular_sweep() -> None:
    """Whoever waits for the end of a run of a small store may still read it."""
    bench = Bench(now_ms=0, finished_bytes_max=20_000)
    spawned: list[Any] = []
    bench.sup.spawn = spawned.append

    def end(size: int) -> None:
        state = SimpleNamespace(status="completed", lsn=1, rs=3, updated_ms=0, nbytes=size)
        actor: Any = SimpleNamespace(id=f"run{len(bench.retention)}", state=state)
        bench.retention.ended(actor)

    end(20_000 + 8 * 1024 * 1024)
    assert spawned == []
    end(1)
    assert [sweep.close() for sweep in spawned] == [None]
