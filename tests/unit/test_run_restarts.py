"""`RunState` over a restart: one record, whole in itself, in whose place no broken one is taken."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.records import encode_record
from stepflow.model.run import ACTS_CARRIED, ApplyError, RunState
from stepflow.model.soundness import doubt
from tests.unit.run_writer import RUN, Writer


def restart(w: Writer, **fields: Any) -> dict[str, Any]:
    state = w.state
    return {
        "crit": True,
        "input": Raw(b"2"),
        "restarts": state.restarts + 1,
        "started": Raw(state.start_data),
        "kept": state.kept_events(),
    } | fields


def worked() -> Writer:
    """Return a run with a result, a value, a wait that goes on and two kept events."""
    w = Writer().start()
    w.step("s#1")
    w.write(rec.ValueRecorded, key="v", value=Raw(b"1"))
    w.write(rec.VersionChosen, name="v", n=2)
    w.write(rec.WaitStarted, key="w#1", name="w", event="e")
    for payload in (90, 91):
        w.lsn = payload
        w.write(rec.EventKept, b'"p"', event="e", payload=payload)
    return w


def test_a_restart_forgets_the_history_and_keeps_the_run() -> None:
    w = worked()
    before = w.state.rs
    w.write(rec.RunRestarted, **restart(w))
    state = w.state
    assert (state.calls, state.values, state.versions, state.marks) == ({}, {}, {}, set())
    assert (state.input, state.first_input, state.restarts) == (b"2", b"1", 1)
    assert (state.status, state.forgotten, state.rs) == ("running", before, before + 1)
    assert (state.workflow, state.created_ms) == ("w", 1000)
    assert state.kept_events() == (("e", 90), ("e", 91))
    assert (state.kept_count, state.kept_bytes) == (2, 6)
    assert len(state.records) == 1
    assert state.nbytes == len(state.records[0]) + 6
    w.step("s#1")
    assert state.idempotency_key(state.calls["s#1"]) == f"{RUN}+1/s#1"


def test_a_packed_run_begins_with_its_last_restart() -> None:
    w = worked()
    w.write(rec.RunRestarted, **restart(w))
    w.write(rec.RunRestarted, **restart(w))
    w.step("s#1")
    line = w.state.pack()
    again = RunState.unpack(line, doubt)
    assert again.failure == ""
    assert again.pack() == line
    assert (again.restarts, again.forgotten, again.rs) == (2, w.state.forgotten, w.state.rs)
    assert again.started == w.state.started
    assert (again.nbytes, again.kept_events()) == (w.state.nbytes, w.state.kept_events())
    assert again.start_data == w.state.start_data


def test_a_restart_that_makes_no_sense_sets_the_run_aside_and_changes_nothing() -> None:
    w = worked()
    other = rec.RunStarted(lsn=77, r=RUN, rs=1, ts=1, workflow="w", input=Raw(b"1"))
    stranger = rec.RunStarted(lsn=1, r="run_bbbbbbbb", rs=1, ts=1, workflow="w", input=Raw(b"1"))
    for wrong, why in (
        ({"started": Raw(encode_record(other))}, "restarts as the run of LSN 77"),
        ({"started": Raw(encode_record(stranger))}, "does not say how it was started"),
        ({"started": Raw(w.state.records[1])}, "does not say how it was started"),
        ({"kept": (("e", 5),)}, "the payload at LSN 5 is not known"),
    ):
        line = w.state.pack()
        with pytest.raises(ApplyError, match=why):
            w.write(rec.RunRestarted, **restart(w, **wrong))
        assert w.state.pack() == line
        assert w.state.calls


@pytest.mark.parametrize(
    "started",
    [
        b"5",
        b'{"t":"nobody-knows","crit":true}',
        encode_record(rec.RunReleased(lsn=1, r=RUN, rs=1, ts=1)),
    ],
)
def test_a_restart_without_a_start_is_doubted(started: bytes) -> None:
    w = worked()
    record = w.make(rec.RunRestarted, **restart(w, started=Raw(started)))
    assert doubt(record, encode_record(record)) == "it does not say how its run was started"


def test_a_restart_whose_start_is_outside_the_calendar_is_doubted() -> None:
    w = worked()
    start = rec.RunStarted(lsn=1, r=RUN, rs=1, ts=-1, workflow="w", input=Raw(b"1"))
    record = w.make(rec.RunRestarted, **restart(w, started=Raw(encode_record(start))))
    assert doubt(record, encode_record(record)) == "a time of it is outside the calendar"
    nobody = rec.RunStarted(lsn=1, r="x", rs=1, ts=1, workflow="w", input=Raw(b"1"))
    record = w.make(rec.RunRestarted, **restart(w, started=Raw(encode_record(nobody))))
    assert "is no run id" in doubt(record, encode_record(record))


def test_only_a_restart_may_stand_first_in_a_line_with_a_number_of_its_own() -> None:
    w = worked()
    record = w.write(rec.RunRestarted, **restart(w, kept=()))
    data = encode_record(record)
    RunState(RUN).apply(record, data)
    with pytest.raises(ApplyError, match="expects 1"):
        RunState("run_bbbbbbbb").apply(record, data)
    state = RunState(RUN)
    state.apply(record, data)
    with pytest.raises(ApplyError):
        state.apply(record, data)
    released = w.make(rec.RunReleased)
    with pytest.raises(ApplyError, match="expects 1"):
        RunState(RUN).apply(released, encode_record(released))
    start = rec.RunStarted(lsn=1, r=RUN, rs=1, ts=1, workflow="w", input=Raw(b"1"))
    first = rec.RunRestarted(
        lsn=9,
        r=RUN,
        rs=1,
        ts=1,
        crit=True,
        input=Raw(b"1"),
        restarts=1,
        started=Raw(encode_record(start)),
    )
    RunState(RUN).apply(first, encode_record(first))


def test_the_first_of_a_group_to_end_gives_the_others_up() -> None:
    w = Writer().start()
    w.write(rec.SleepStarted, key="a#1", name="a", due=50, group="@first#1")
    w.write(rec.WaitStarted, key="b#1", name="b", event="e", due=60, group="@first#1")
    w.write(rec.StepStarted, key="c#1", name="c", fn="f", args="x", group="@first#1")
    w.write(rec.SleepStarted, key="d#1", name="d", due=70)
    ended = w.write(rec.SleepEnded, key="a#1")
    calls = w.state.calls
    assert [c.key for c in w.state.losers(calls["a#1"])] == ["b#1", "c#1"]
    assert [c.key for c in w.state.pending_calls()] == ["d#1"]
    assert (calls["b#1"].due, calls["b#1"].dropped) == (0, ended.lsn)
    # Asked for once more, it is as good as any.
    w.write(rec.StepStarted, key="c#1", name="c", fn="f", args="x", attempt=2, group="@first#1")
    assert (calls["c#1"].cancelled, calls["c#1"].dropped) == (False, 0)


def test_a_step_that_ends_first_of_its_group_gives_the_others_up() -> None:
    w = Writer().start()
    w.write(rec.StepStarted, key="a#1", name="a", fn="f", args="x", group="@first#1")
    w.write(rec.SleepStarted, key="b#1", name="b", due=50, group="@first#1")
    won = w.write(rec.StepCompleted, key="a#1", result=Raw(b"1"))
    lost = w.state.calls["b#1"]
    assert (lost.cancelled, lost.dropped, lost.due) == (True, won.lsn, 0)


def test_a_restart_takes_the_newest_acts_along() -> None:
    w = worked()
    for _ in range(60):
        w.write(rec.RunPaused, crit=True, by="ada", reason="lunch")
        w.write(rec.RunResumed, crit=True, by="bob")
    told = w.state.acts[-ACTS_CARRIED:]
    assert len(told) == ACTS_CARRIED < len(w.state.acts)
    w.write(rec.RunRestarted, **restart(w, acts=w.state.carried_acts()))
    assert w.state.acts == told
    w.write(rec.RunPaused, crit=True, by="eve")
    w.write(rec.RunRestarted, **restart(w, acts=w.state.carried_acts()))
    assert [act.lsn for act in w.state.acts] == [act.lsn for act in told[1:]] + [w.lsn - 1]
    again = RunState.unpack(w.state.pack(), doubt)
    assert again.failure == ""
    assert again.acts == w.state.acts


def test_a_retry_that_is_taken_along_names_no_call_of_the_history_before() -> None:
    w = worked()
    w.write(rec.RunFailed, error=Raw(b'{"type":"E","message":""}'))
    w.write(rec.RunRetried, crit=True, by="ada", reason="fixed", again=("s#1",), forget=("v",))
    w.write(rec.RunRestarted, **restart(w, acts=w.state.carried_acts()))
    (act,) = w.state.acts
    assert isinstance(act, rec.RunRetried)
    assert (act.by, act.reason, act.again, act.forget) == ("ada", "fixed", (), ())


def test_what_a_restart_takes_along_must_be_acts_on_its_run() -> None:
    w = worked()

    def pause(lsn: int, **changes: Any) -> Raw:
        fields: dict[str, Any] = {"lsn": lsn, "r": RUN, "rs": 3, "ts": 1, "crit": True, **changes}
        return Raw(encode_record(rec.RunPaused(**fields)))

    for acts, why in (
        ((Raw(b"5"),), "is no act on its run"),
        ((Raw(b'{"t":"nobody-knows","crit":true}'),), "is no act on its run"),
        ((Raw(w.state.records[1]),), "is no act on its run"),
        ((pause(3, r="run_bbbbbbbb"),), "is no act on its run"),
        ((pause(4), pause(3)), "not in order"),
        ((pause(w.lsn + 1),), "not in order"),
        ((pause(3, rs=-1),), "a number of it is out of range"),
        ((pause(3, ts=-1),), "outside the calendar"),
        ((pause(3), pause(4)), ""),
    ):
        record = w.make(rec.RunRestarted, **restart(w, acts=acts))
        told = doubt(record, encode_record(record))
        assert why in told
        assert bool(why) == bool(told)
