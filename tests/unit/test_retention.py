"""Retention against its rule: what is past the age of its kind, then the oldest end first."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.authoring.retention import Kept
from stepflow.config import Settings
from stepflow.runtime.retention import Ended, Retention

if TYPE_CHECKING:
    from stepflow.model.run import RunStatus

_runs = st.lists(st.tuples(st.booleans(), st.integers(0, 1000), st.integers(1, 50)), max_size=40)


class Bench:
    """A supervisor with nothing but what retention asks of it."""

    def __init__(self, *, now_ms: int, room: int = 1_000_000, **settings: float) -> None:
        self.workflows: dict[str, Any] = {}
        self.purged: list[str] = []
        self.room = room
        self.sup: Any = SimpleNamespace(
            settings=Settings(**settings),  # type: ignore[arg-type]
            time=SimpleNamespace(now_ms=lambda: now_ms),
            journal=SimpleNamespace(has_room=self._has_room),
            recorder=SimpleNamespace(write_purge=self._write),
            idempotency=SimpleNamespace(remove=lambda *_: None),
            workflow=self.workflows.get,
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
            summary = SimpleNamespace(workflow=row.workflow)
            self.sup.runs[row.run_id] = SimpleNamespace(
                id=row.run_id, summary=partial(_same, summary), feed=None, purged=False
            )
        self.retention.adopt(rows)

    def register(self, workflow_id: str, own: Kept | None, *aliases: str) -> None:
        """Say, as a deploy would, what the workflow keeps."""
        workflow = SimpleNamespace(id=workflow_id, options=SimpleNamespace(retention=own))
        self.workflows.update(dict.fromkeys((workflow_id, *aliases), workflow))

    @property
    def left(self) -> set[str]:
        return set(self.sup.runs)

    def sweep(self) -> list[str]:
        asyncio.run(self.retention.sweep())
        return self.purged


def _same(value: Any) -> Any:
    return value


def rows_of(runs: list[tuple[bool, int, int]], workflow: str = "w") -> list[Ended]:
    """Runs that ended one after the other; the numbers are the time in between and the size."""
    rows = []
    ended_ms = 0
    for number, (completed, pause_ms, size) in enumerate(runs, 1):
        ended_ms += pause_ms
        status: RunStatus = "completed" if completed else "failed"
        rows.append(Ended(f"run{number}", workflow, status, number, 3, ended_ms, size))
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
        state = SimpleNamespace(
            status="completed", workflow="w", lsn=1, rs=3, updated_ms=0, nbytes=size
        )
        actor: Any = SimpleNamespace(id=f"run{len(bench.retention)}", state=state)
        bench.retention.ended(actor)

    end(20_000 + 8 * 1024 * 1024)
    assert spawned == []
    end(1)
    assert [sweep.close() for sweep in spawned] == [None]


# ---------------------------------------------------------------- a workflow's own limits

_names = ("plain", "own", "former", "other", "unknown")
_limit = st.none() | st.integers(0, 3000)
_own = st.none() | st.builds(
    Kept, _limit, _limit, st.none() | st.integers(1, 8), st.none() | st.integers(1, 120)
)


def fitting(rows: list[Ended], runs_max: int | None, bytes_max: int | None) -> list[Ended]:
    """Return as many of the last rows as fit."""
    for begin in range(len(rows) + 1):
        rest = rows[begin:]
        if (runs_max is None or len(rest) <= runs_max) and (
            bytes_max is None or sum(row.size for row in rest) <= bytes_max
        ):
            return rest
    raise AssertionError


@given(
    st.lists(st.tuples(st.sampled_from(_names), _runs.map(lambda runs: runs[:2])), max_size=30),
    _own,
    _own,
    st.integers(0, 25),
    st.integers(0, 600),
    st.integers(1, 50),
)
def test_what_is_left_is_what_its_workflow_keeps_and_then_what_all_keep(
    named: list[tuple[str, list[tuple[bool, int, int]]]],
    own: Kept | None,
    other: Kept | None,
    runs_max: int,
    bytes_max: int,
    slice_size: int,
) -> None:
    flat = [(name, run) for name, runs in named for run in runs]
    rows = [
        msgspec.structs.replace(row, workflow=name)
        for (name, _), row in zip(flat, rows_of([run for _, run in flat]), strict=True)
    ]
    now = rows[-1].ended_ms + 500 if rows else 0
    bench = Bench(
        now_ms=now,
        finished_bytes_max=bytes_max,
        finished_runs_max=runs_max,
        completed_age_s=2,
        failed_age_s=6,
    )
    bench.register("plain", None)
    bench.register("own", own, "former")
    bench.register("other", other)
    bench.adopt(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepflow.runtime.retention._SLICE", slice_size)
        bench.sweep()

    keeps = {"own": own, "former": own, "other": other}
    nothing = Kept(None, None, None, None)

    def young(row: Ended) -> bool:
        kept = keeps.get(row.workflow) or nothing
        own_ms = kept.completed_ms if row.completed else kept.failed_ms
        everyones_ms = 2000 if row.completed else 6000
        return now - row.ended_ms <= (everyones_ms if own_ms is None else own_ms)

    expected: list[Ended] = []
    for group in (("plain",), ("own", "former"), ("other",), ("unknown",)):
        kept = keeps.get(group[0]) or nothing
        mine = [row for row in rows if row.workflow in group and young(row)]
        expected += fitting(mine, kept.runs_max, kept.bytes_max)
    expected = fitting(sorted(expected, key=lambda row: row.lsn), runs_max, bytes_max)
    assert bench.left == {row.run_id for row in expected}
    assert bench.retention.bytes == sum(row.size for row in expected)
    assert len(bench.retention) == len(expected)
    assert set(bench.sup.gone) == set(bench.purged)


@pytest.mark.parametrize(
    ("own", "completed", "failed"),
    [
        (Kept(1000, 1000, None, None), 1000, 1000),
        (Kept(1000, 9000, None, None), 1000, 9000),
        (Kept(None, 9000, None, None), 2000, 9000),
        (Kept(None, None, 5, None), 2000, 6000),
        (None, 2000, 6000),
    ],
)
def test_an_age_is_kept_to_the_millisecond(own: Kept | None, completed: int, failed: int) -> None:
    for after, left in ((0, {"run1", "run2"}), (1, set[str]())):
        for row, age in ((True, completed), (False, failed)):
            bench = Bench(now_ms=age + after, completed_age_s=2, failed_age_s=6)
            bench.register("w", own)
            bench.adopt(rows_of([(row, 0, 1), (row, 0, 1)]))
            bench.sweep()
            assert bench.left == left


def test_of_a_number_the_last_to_end_stay_however_they_ended() -> None:
    bench = Bench(now_ms=0)
    bench.register("w", Kept(None, None, 3, None))
    bench.adopt(rows_of([(True, 0, 1), (False, 0, 1), (False, 0, 1), (True, 0, 1), (False, 0, 1)]))
    assert bench.sweep() == ["run1", "run2"]


def test_a_workflow_takes_nothing_from_another() -> None:
    bench = Bench(now_ms=0)
    bench.register("w", Kept(None, None, 1, 1))
    bench.adopt(rows_of([(True, 0, 1)] * 3, "quiet"))
    bench.adopt(
        [msgspec.structs.replace(row, run_id=f"w{row.lsn}") for row in rows_of([(True, 0, 1)] * 3)]
    )
    assert bench.sweep() == ["w1", "w2"]


def test_all_together_keep_what_the_settings_say_also_of_one_that_would_keep_more() -> None:
    bench = Bench(now_ms=0, finished_runs_max=2, finished_bytes_max=100)
    bench.register("w", Kept(None, None, 1000, 10_000))
    bench.adopt(rows_of([(True, 0, 1)] * 4))
    assert bench.sweep() == ["run1", "run2"]


def test_a_deploy_that_changes_the_limits_counts_for_what_has_ended_before() -> None:
    bench = Bench(now_ms=5000, completed_age_s=2)
    bench.register("w", Kept(60_000, 60_000, None, None))
    bench.adopt(rows_of([(True, 0, 1)] * 4))
    assert bench.sweep() == []
    bench.register("w", Kept(60_000, 60_000, 3, None))
    assert bench.sweep() == ["run1"]
    del bench.workflows["w"]
    # Nobody says any more that they are to be kept for longer.
    assert len(bench.sweep()) == 4


def test_more_than_a_slice_of_several_workflows_goes_in_one_sweep() -> None:
    bench = Bench(now_ms=10_000, finished_runs_max=10)
    for name in ("a", "b", "c"):
        bench.register(name, Kept(None, None, 100, None))
        rows = rows_of([(True, 0, 1)] * 700, name)
        bench.adopt([msgspec.structs.replace(row, run_id=f"{name}{row.lsn}") for row in rows])
    assert len(bench.sweep()) == 2090
    assert len(bench.left) == len(bench.retention) == 10
