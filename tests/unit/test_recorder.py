"""What is queued for the journal is exactly what memory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from stepflow.clock import HybridTime
from stepflow.model import records as rec
from stepflow.model.ids import RunId
from stepflow.model.records import decode_record
from stepflow.model.run import ApplyError, RunState
from stepflow.runtime.recorder import Recorder
from stepflow.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Sequence


class Journal:
    """Remembers what was appended."""

    def __init__(self) -> None:
        self.next_lsn = 1
        self.groups: list[tuple[list[bytes], bool]] = []

    def append(self, records: Sequence[bytes], *, strict: bool = True) -> int:
        self.groups.append((list(records), strict))
        self.next_lsn += len(records)
        return self.next_lsn - 1


class Actor:
    """A run's state and what it noted."""

    def __init__(self, number: int = 1) -> None:
        self.state = self.open_state = RunState(RunId(f"run_{number:08d}"))
        self.strict_lsn = 0
        self.feed = object()
        self.seen: list[int] = []

    def noted(self, lsn: int) -> None:
        self.seen.append(lsn)


def bench() -> tuple[Journal, Any, Any]:
    journal: Any = Journal()
    return journal, Recorder(journal, HybridTime(VirtualClock())), Actor()


def begin(recorder: Any, actor: Any) -> Any:
    return recorder.write(actor, rec.RunStarted, workflow="w", input=Raw(b"1"))


def lsns(journal: Journal) -> list[list[int]]:
    return [[decode_record(data).lsn for data in group] for group, _ in journal.groups]  # type: ignore[union-attr]


def test_a_record_is_applied_and_queued_in_one_go() -> None:
    journal, recorder, actor = bench()
    record = begin(recorder, actor)
    assert (record.lsn, record.rs, actor.state.rs, actor.strict_lsn) == (1, 1, 1, 1)
    recorder.write(actor, rec.Progressed, key="p", done=1.0)
    assert actor.strict_lsn == 1
    recorder.write(actor, rec.Progressed, lazy=False, key="q", done=1.0)
    assert actor.strict_lsn == 3
    assert [strict for _, strict in journal.groups] == [True, False, True]
    assert actor.state.records == [data for group, _ in journal.groups for data in group]
    assert actor.seen == [1, 2, 3]


def test_a_record_that_does_not_fit_changes_and_queues_nothing() -> None:
    journal, recorder, actor = bench()
    begin(recorder, actor)
    before = actor.state.pack()
    with pytest.raises(ApplyError):
        recorder.write(actor, rec.StepCompleted, key="nobody", result=Raw(b"1"))
    assert actor.state.pack() == before
    assert journal.next_lsn == recorder.next_lsn == 2
    assert len(journal.groups) == 1


def test_a_group_is_one_frame_and_groups_nest() -> None:
    journal, recorder, actor = bench()
    other = Actor(2)
    with recorder.group():
        begin(recorder, actor)
        with recorder.group():
            begin(recorder, other)
            assert recorder.write_event("ev", b"1", 2, "me") == 3
        assert journal.groups == []
        assert recorder.next_lsn == 4
        assert recorder.write_purge("run_gone0000", 7, "me") == 4
    assert lsns(journal) == [[1, 2, 3, 4]]
    assert recorder.next_lsn == journal.next_lsn == 5


def test_a_group_of_lazy_records_is_lazy_and_one_strict_makes_it_strict() -> None:
    journal, recorder, actor = bench()
    begin(recorder, actor)
    with recorder.group():
        recorder.write(actor, rec.Progressed, key="p", done=1.0)
    with recorder.group():
        recorder.write(actor, rec.Progressed, key="q", done=1.0)
        recorder.write(actor, rec.Emitted, key="e", name="n", data=Raw(b"1"))
    with recorder.group():
        recorder.write(actor, rec.Progressed, key="r", done=1.0)
    assert [strict for _, strict in journal.groups] == [True, False, True, False]


def test_what_was_applied_before_an_error_in_a_group_is_queued() -> None:
    journal, recorder, actor = bench()
    with pytest.raises(ApplyError), recorder.group():
        begin(recorder, actor)
        begin(recorder, actor)
    assert lsns(journal) == [[1]]
    assert recorder.next_lsn == 2
    with recorder.group():
        pass
    assert len(journal.groups) == 1
