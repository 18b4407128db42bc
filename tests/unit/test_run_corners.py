"""`RunState` where a history is rare or broken: every record has its effect or is kept aside."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.records import UnknownRecordError, decode_record, encode_record
from stepflow.model.run import ApplyError, RunState, call_name
from tests.unit.run_writer import RUN, Writer


@pytest.mark.parametrize(
    ("key", "name"),
    [("charge#2", "charge"), ("pay#1/charge#2", "charge"), ("charge[sku-7]", "charge")],
)
def test_the_name_is_in_the_key(key: str, name: str) -> None:
    assert call_name(key) == name


# ---------------------------------------------------------------- one record each


def test_a_run_may_be_asked_to_end_and_then_be_cut() -> None:
    w = Writer().start()
    w.write(rec.CancelRequested, deadline=9_000, reason="enough")
    assert w.state.cancelling
    assert (w.state.cancel_reason, w.state.cancel_lsn) == ("enough", 2)
    w.write(rec.RunCancelled, error=Raw(b'{"type":"A","message":"b"}'), forced=True)
    assert (w.state.status, w.state.forced, w.state.cancelling) == ("cancelled", True, False)


def test_a_run_that_was_to_wait_runs_once_it_is_released() -> None:
    w = Writer()
    w.write(rec.RunStarted, workflow="w", input=Raw(b"1"), due=5)
    assert w.state.status == "pending"
    w.write(rec.RunReleased)
    assert (w.state.status, w.state.due) == ("running", 0)


def test_a_child_that_nobody_awaits_has_its_result_at_once() -> None:
    w = Writer().start()
    child = {"key": "c#1", "name": "c", "workflow": "v", "child": "run_bbbbbbbb", "args": "x"}
    w.write(rec.ChildStarted, **child, awaited=False)
    call = w.state.calls["c#1"]
    assert (call.status, call.result) == ("completed", b'"run_bbbbbbbb"')


@pytest.mark.parametrize("failed", [True, False])
def test_a_child_ends_as_it_ended(failed: object) -> None:
    w = Writer().start()
    child = {"key": "c#1", "name": "c", "workflow": "v", "child": "run_bbbbbbbb", "args": "x"}
    w.write(rec.ChildStarted, **child, awaited=True)
    error, result = Raw(b'{"type":"A","message":"b"}'), Raw(b"7")
    w.write(rec.ChildEnded, key="c#1", **({"error": error} if failed else {"result": result}))
    call = w.state.calls["c#1"]
    assert call.status == ("failed" if failed else "completed")
    assert (call.error, call.result) == ((bytes(error), None) if failed else (None, bytes(result)))


def test_a_payload_that_the_run_has_need_not_be_given_again() -> None:
    w = Writer().start()
    w.write(rec.EventKept, b"[1]", event="go", payload=77)
    w.write(rec.EventKept, event="go", payload=77)
    w.write(rec.WaitStarted, key="e#1", name="e", event="go")
    assert w.state.kept_count == 2
    w.write(rec.WaitResolved, key="e#1", payload=77)
    assert w.state.calls["e#1"].result == b"[1]"
    assert (w.state.kept_count, list(w.state.kept["go"])) == (1, [77])


def test_a_sleep_ends_and_a_notify_is_done_at_once() -> None:
    w = Writer().start()
    w.write(rec.SleepStarted, key="s#1", name="s", due=9)
    w.write(rec.SleepEnded, key="s#1")
    w.write(rec.NotifySent, key="n#1", name="n", args="x", count=3)
    assert [call.result for call in w.state.calls.values()] == [b"null", b"3"]


def test_versions_marks_and_values_are_kept() -> None:
    w = Writer().start()
    w.write(rec.VersionChosen, name="v", n=3)
    w.write(rec.Emitted, key="e#1", name="e", data=Raw(b"1"))
    w.write(rec.Progressed, key="p#1", done=1, total=2, message="half")
    w.write(rec.ValueRecorded, key="@now#1", value=Raw(b"5"))
    assert (w.state.versions, w.state.marks) == ({"v": 3}, {"e#1", "p#1"})
    assert w.state.values == {"@now#1": b"5"}


def test_a_call_that_was_given_up_is_not_pending_until_it_is_begun_again() -> None:
    w = Writer().start()
    w.write(rec.SleepStarted, key="s#1", name="s", due=9)
    w.write(rec.CallCancelled, key="s#1")
    assert w.state.pending_calls() == []
    w.write(rec.SleepStarted, key="s#1", name="s", due=12)
    assert [call.key for call in w.state.pending_calls()] == ["s#1"]


# ---------------------------------------------------------------- adoption


def adopt(w: Writer, key: str, of: int) -> None:
    call = {"key": key, "name": call_name(key), "kind": "step", "fn": "f", "args": "new"}
    w.write(rec.CallAdopted, **call, of=of)


def test_a_result_may_be_adopted_under_another_key() -> None:
    w = Writer().start()
    done = w.step("a#1")
    adopt(w, "b#1", done.lsn)
    assert list(w.state.calls) == ["b#1"]
    assert w.state.calls["b#1"].lsn == w.state.lsn, "its place in the order of results is new"
    w.step("a#1", done=False)
    assert w.state.idempotency_key(w.state.calls["a#1"]).endswith("~1"), "the key was used once"


def test_a_result_may_be_adopted_under_its_own_key_with_other_arguments() -> None:
    w = Writer().start()
    done = w.step("a#1", args="old")
    adopt(w, "a#1", done.lsn)
    assert (w.state.calls["a#1"].args, w.state.generations) == ("new", {})


@pytest.mark.parametrize("done", [True, False])
def test_who_had_the_key_before_gives_it_up_but_keeps_its_result(done: object) -> None:
    w = Writer().start()
    source = w.step("a#1")
    other = w.step("b#1", done=bool(done))
    adopt(w, "b#1", source.lsn)
    [displaced] = [call for key, call in w.state.calls.items() if key != "b#1"]
    assert displaced.key == (f"b#1@{other.lsn}" if done else f"b#1@{w.state.lsn}")
    assert displaced.cancelled is not done
    assert w.state.calls["b#1"].result == b'"a#1"'


# ---------------------------------------------------------------- histories that do not fit


def line_of(w: Writer, **changes: object) -> bytes:
    """The packed line of the run with some of its members changed."""
    packed: dict[str, object] = msgspec.json.decode(w.state.pack())
    return msgspec.json.encode(packed | changes)


def unknown(lsn: int, rs: int, **more: object) -> bytes:
    return msgspec.json.encode({"t": "new-kind", "lsn": lsn, "r": RUN, "rs": rs, "ts": 1, **more})


def fold(w: Writer, data: bytes, doubt: Any = None) -> RunState:
    w.state.fold_data(data, lambda _lsn: None, doubt)
    return w.state


def test_a_line_whose_records_end_elsewhere_is_set_aside() -> None:
    w = Writer().start()
    state = RunState.unpack(line_of(w, lsn=99))
    assert "its line says LSN 99, its records end at 1" in state.failure


def test_a_run_that_was_set_aside_is_so_when_it_is_unpacked() -> None:
    w = Writer().start()
    fold(w, b'{"t":5}')
    again = RunState.unpack(RunState.unpack(w.state.pack()).pack())
    assert again.failure == w.state.failure
    assert again.nbytes == w.state.nbytes


def test_bytes_that_are_no_record_set_the_run_aside_and_are_kept() -> None:
    w = Writer().start()
    state = fold(w, b'{"t":5}')
    assert "a record cannot be read" in state.failure
    assert state.misfits == [(1, 1, b'{"t":5}')]


def off_the_calendar(_record: rec.Record, _data: bytes) -> str:
    return "its time is outside the calendar"


def test_a_record_that_is_doubted_sets_the_run_aside() -> None:
    w = Writer().start()
    record = w.make(rec.RunReleased)
    state = fold(w, encode_record(record), off_the_calendar)
    assert "its time is outside the calendar" in state.failure
    assert state.seen_lsn == record.lsn
    assert state.lsn == 1


def test_the_first_failure_is_the_one_that_is_told_and_the_end_ends_it() -> None:
    w = Writer().start()
    fold(w, b"1")
    first = w.state.failure
    fold(w, encode_record(w.make(rec.StepCompleted, key="nobody#1", result=Raw(b"1"))))
    assert w.state.failure == first
    fold(w, encode_record(w.make(rec.RunCompleted, result=Raw(b"1"))))
    assert (w.state.failure, w.state.status) == ("", "completed")


def test_an_unknown_record_that_may_be_skipped_is_kept_in_its_place() -> None:
    w = Writer().start()
    state = fold(w, unknown(2, 2))
    assert (state.lsn, state.rs, state.failure) == (2, 2, "")
    assert RunState.unpack(state.pack()).pack() == state.pack()


@pytest.mark.parametrize(("lsn", "rs"), [(2, 9), (1, 2)])
def test_an_unknown_record_out_of_order_sets_the_run_aside(lsn: int, rs: int) -> None:
    w = Writer().start()
    state = fold(w, unknown(lsn, rs))
    assert f"record {lsn} has number {rs}" in state.failure


def test_an_unknown_record_without_a_number_sets_the_run_aside() -> None:
    w = Writer().start()
    w.state.skip(b'{"t":"new-kind"}')
    assert "a record cannot be read" in w.state.failure


def test_an_unknown_record_that_must_be_understood_is_nobodys_to_skip() -> None:
    w = Writer().start()
    with pytest.raises(UnknownRecordError):
        fold(w, unknown(2, 2, crit=True))


def test_a_known_record_with_wrong_members_is_no_unknown_one() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_record(b'{"t":"run.started","lsn":"one"}')


def test_a_payload_that_nobody_has_is_missed_before_anything_changes() -> None:
    w = Writer().start()
    record = w.make(rec.EventKept, event="go", payload=77)
    with pytest.raises(ApplyError, match="payload at LSN 77 is not known"):
        w.state.apply(record, encode_record(record))
    assert (w.state.kept_count, w.state.lsn) == (0, 1)


def test_a_step_that_has_its_result_is_not_due_any_more() -> None:
    w = Writer().start()
    w.step("s#1", done=False)
    w.write(rec.StepRetrying, key="s#1", attempt=1, error=Raw(b"{}"), due=9000)
    assert w.state.calls["s#1"].due == 9000
    w.write(rec.StepCompleted, key="s#1", result=Raw(b"1"))
    call = w.state.calls["s#1"]
    assert (call.status, call.due, call.error) == ("completed", 0, None)


def test_a_step_that_was_given_up_and_has_its_result_all_the_same_counts() -> None:
    w = Writer().start()
    w.step("s#1", done=False)
    w.write(rec.CallCancelled, key="s#1")
    call = w.state.calls["s#1"]
    assert (call.status, call.cancelled) == ("pending", True)
    w.write(rec.StepCompleted, key="s#1", result=Raw(b"1"))
    assert (call.status, call.cancelled, call.result) == ("completed", False, b"1")
