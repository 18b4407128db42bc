"""Pause, retry and acts, as records fold into a run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.audit import acts_of, entry_of
from stepflow.model.run import ApplyError, RunState
from stepflow.model.views import derived_state, run_view
from stepflow.model.why import WaitingFor, sentence
from tests.unit.run_writer import Writer

ERROR = Raw(b'{"type":"ValueError","message":"no"}')


def same(state: RunState) -> RunState:
    """Return the run as its line tells it."""
    again = RunState.unpack(state.pack())
    assert (again.status, again.paused, again.generations) == (
        state.status,
        state.paused,
        state.generations,
    )
    assert list(again.calls) == list(state.calls)
    return again


def test_a_pause_is_a_state_until_the_run_goes_on_or_is_cancelled() -> None:
    w = Writer().start()
    w.write(rec.RunPaused, crit=True, by="key:a")
    assert derived_state(w.state) == "paused"
    assert same(w.state).paused
    w.write(rec.RunResumed, crit=True)
    assert not same(w.state).paused
    w.write(rec.RunPaused, crit=True)
    w.write(rec.CancelRequested, deadline=5)
    assert not same(w.state).paused
    assert [a.action for a in acts_of(w.state)] == ["pause", "resume", "pause", "cancel"]


def test_only_what_failed_or_was_cancelled_is_retried() -> None:
    w = Writer().start()
    with pytest.raises(ApplyError, match="is running"):
        w.write(rec.RunRetried, crit=True)
    w.write(rec.RunCompleted, result=Raw(b"1"))
    with pytest.raises(ApplyError, match="is completed"):
        w.write(rec.RunRetried, crit=True)


@pytest.mark.parametrize("held", [False, True])
def test_a_retry_takes_back_what_it_names_and_no_more(*, held: bool) -> None:
    w = Writer().start()
    w.step("a#1")
    w.step("b#1")
    w.step("c#1", done=False)
    w.write(rec.StepFailed, key="c#1", error=ERROR)
    w.write(rec.ValueRecorded, key="@now#1", value=Raw(b"1"))
    w.write(rec.Emitted, key="@emit:x#1", name="x", data=Raw(b"1"))
    w.write(rec.WaitStarted, key="e#1", name="e", event="e", due=9)
    w.write(rec.WaitTimedOut, key="e#1")
    w.write(rec.RunFailed, error=ERROR)
    forget = ("b#1", "@now#1", "@emit:x#1", "nothing")
    w.write(rec.RunRetried, crit=True, again=("c#1", "e#1", "gone"), forget=forget, held=held)
    state: Any = same(w.state)
    assert state.status == ("pending" if held else "running")
    assert (state.calls["a#1"].status, state.calls["c#1"].status) == ("completed", "pending")
    assert set(state.calls) == {"a#1", "c#1"}
    assert state.generations == {"b#1": 1}
    assert not state.values
    assert not state.marks
    assert run_view(state).error is not None


def test_a_step_that_runs_at_most_once_does_not_count_as_interrupted_again() -> None:
    w = Writer().start()
    w.write(rec.StepStarted, key="a#1", name="a", fn="f", args="x", once=True)
    w.write(rec.StepFailed, key="a#1", error=ERROR)
    w.write(rec.RunFailed, error=ERROR)
    w.write(rec.RunRetried, crit=True, again=("a#1",))
    call = w.state.calls["a#1"]
    assert call.failures == call.attempt == 1


def test_events_that_nobody_took_are_kept_again() -> None:
    w = Writer().start()
    w.write(rec.EventKept, b"1", event="e", payload=50)
    w.write(rec.EventKept, b"2", event="e", payload=51)
    w.write(rec.WaitStarted, key="e#1", name="e", event="e")
    w.write(rec.WaitResolved, key="e#1", payload=50)
    w.write(rec.RunFailed, error=ERROR)
    assert not w.state.kept_count
    w.write(rec.RunRetried, crit=True)
    assert {k: list(v) for k, v in same(w.state).kept.items()} == {"e": [51]}
    assert (w.state.kept_count, w.state.kept_bytes) == (1, 1)


def test_what_is_an_act_and_what_is_none() -> None:
    common: dict[str, Any] = {"lsn": 1, "r": "", "rs": 0, "ts": 1000}
    for paused in (True, False):
        entry = entry_of(rec.SchedulePaused(**common, schedule="s", paused=paused, by="k"))
        assert entry is not None
        assert entry.action == ("schedule-pause" if paused else "schedule-resume")
        assert entry.schedule == "s"
    assert entry_of(rec.RunPurged(**common, by="retention")) is None
    assert entry_of(rec.RunCancelled(**common, error=ERROR, forced=True)) is None


def test_a_sentence_names_three_and_counts_the_rest() -> None:
    rows = [WaitingFor(kind="sleep", name=str(n), says=f"sleeps {n}") for n in range(4)]
    assert sentence(rows, more=2) == "Sleeps 0; sleeps 1; sleeps 2; and for 3 more."
