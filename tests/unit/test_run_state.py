"""`RunState.apply` checks before it changes, and folds up the same from its packed line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.records import encode_record
from stepflow.model.run import ApplyError, RunState
from tests.unit.run_writer import RUN, Writer


def snapshot(state: RunState) -> Any:
    """Everything a state knows, to compare."""
    derived = {"open", "lost"}
    fields = set(RunState.__struct_fields__) - {"calls", "started"} - derived
    slots = sorted(fields)
    calls = {k: [getattr(c, slot) for slot in c.__struct_fields__] for k, c in state.calls.items()}
    return {name: repr(getattr(state, name)) for name in slots} | {"calls": repr(calls)}


def test_a_packed_run_is_the_run() -> None:
    w = Writer().start()
    w.step("a#1")
    w.write(rec.WaitStarted, key="e#1", name="e", event="go", due=5)
    w.write(rec.WaitResolved, b'{"n":1}', key="e#1", payload=77)
    w.write(rec.EventKept, b"[2]", event="later", payload=78)
    w.write(rec.ValueRecorded, key="@now#1", value=Raw(b"5"))
    line = w.state.pack()
    again = RunState.unpack(line)
    assert again.pack() == line
    assert snapshot(again) == snapshot(w.state)


def test_the_same_records_give_the_same_state() -> None:
    w = Writer().start()
    w.step("a#1")
    w.step("b#1", done=False)
    w.write(rec.StepRetrying, key="b#1", attempt=1, error=Raw(b"{}"), due=9)
    again = RunState(RUN)
    for record, data, payload in w.rows:
        again.apply(record, data, payload)
    assert snapshot(again) == snapshot(w.state)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (rec.RunStarted, {"workflow": "w", "input": Raw(b"1")}),
        (rec.StepCompleted, {"key": "nobody#1", "result": Raw(b"1")}),
        (rec.StepCompleted, {"key": "done#1", "result": Raw(b"1")}),
        (rec.StepStarted, {"key": "done#1", "name": "done", "fn": "f", "args": "x"}),
        (rec.StepStarted, {"key": "done#1", "name": "done", "fn": "g", "args": "x"}),
        (rec.SleepEnded, {"key": "nobody#1"}),
        (rec.WaitResolved, {"key": "waits#1", "payload": 999}),
        (rec.EventKept, {"event": "e", "payload": 999}),
        (rec.ChildEnded, {"key": "nobody#1"}),
        (rec.CallCancelled, {"key": "done#1"}),
        (
            rec.CallAdopted,
            {"key": "x#1", "name": "x", "kind": "step", "fn": "f", "args": "x", "of": 999},
        ),
        (rec.EventReceived, {"event": "e", "payload": Raw(b"1"), "takers": 1}),
    ],
)
def test_a_record_that_does_not_fit_changes_nothing(kind: type[Any], fields: Any) -> None:
    w = Writer().start()
    w.step("done#1")
    w.write(rec.WaitStarted, key="waits#1", name="waits", event="go")
    before = snapshot(w.state)
    record = w.make(kind, **fields)
    with pytest.raises(ApplyError):
        w.state.apply(record, encode_record(record))
    assert snapshot(w.state) == before


@pytest.mark.parametrize("changes", [{"r": "run_bbbbbbbb"}, {"rs": 9}, {"lsn": 0}, {"lsn": 1}])
def test_a_record_of_another_run_or_out_of_order_is_refused(changes: Any) -> None:
    w = Writer().start()
    before = snapshot(w.state)
    fields: dict[str, Any] = {"lsn": 5, "r": RUN, "rs": 2, "ts": 1} | changes
    record = rec.SleepStarted(**fields, key="s#1", name="s", due=1)
    with pytest.raises(ApplyError):
        w.state.apply(record, encode_record(record))
    assert snapshot(w.state) == before


def test_nothing_comes_after_the_end() -> None:
    w = Writer().start()
    w.write(rec.RunCompleted, result=Raw(b"1"))
    record = w.make(rec.SleepStarted, key="s#1", name="s", due=1)
    with pytest.raises(ApplyError, match="has ended"):
        w.state.apply(record, encode_record(record))


def test_a_begun_call_that_another_takes_over_leaves_its_idempotency_key_to_nobody() -> None:
    w = Writer().start()
    w.step("s#1", args="old", done=False)
    old = w.state.idempotency_key(w.state.calls["s#1"])
    w.step("s#1", args="new", done=False)
    assert w.state.idempotency_key(w.state.calls["s#1"]) != old
    w.step("s#1", args="newer", done=False)
    keys = {old, w.state.idempotency_key(w.state.calls["s#1"])}
    assert len(keys) == 2


def test_an_attempt_more_keeps_its_idempotency_key() -> None:
    w = Writer().start()
    w.step("s#1", done=False)
    key = w.state.idempotency_key(w.state.calls["s#1"])
    w.write(rec.StepRetrying, key="s#1", attempt=1, error=Raw(b"{}"), due=9)
    w.write(rec.StepStarted, key="s#1", name="s", fn="f", args="x", attempt=2)
    assert w.state.idempotency_key(w.state.calls["s#1"]) == key
    assert w.state.calls["s#1"].attempt == 2
    assert w.state.calls["s#1"].failures == 1


def adopt(w: Writer, key: str, of: int, args: str = "x") -> None:
    w.write(rec.CallAdopted, key=key, name="s", kind="step", fn="f", args=args, of=of)


def test_an_adopted_result_moves_to_its_new_key_and_place_in_the_order() -> None:
    w = Writer().start()
    done = w.step("s#1")
    adopt(w, "b/s#1", done.lsn)
    assert list(w.state.calls) == ["b/s#1"]
    assert w.state.calls["b/s#1"].lsn == w.lsn
    assert w.state.calls["b/s#1"].result == b'"s#1"'
    # The old key's idempotency key was used.
    w.step("s#1", done=False)
    assert w.state.idempotency_key(w.state.calls["s#1"]) == f"{RUN}/s#1~1"


def test_two_results_can_change_places() -> None:
    w = Writer().start()
    one, two = w.step("s#1", args="1"), w.step("s#2", args="2")
    adopt(w, "s#1", two.lsn, args="2")
    adopt(w, "s#2", one.lsn, args="1")
    assert w.state.calls["s#1"].result == b'"s#2"'
    assert w.state.calls["s#2"].result == b'"s#1"'
    assert len(w.state.calls) == 2
    assert snapshot(RunState.unpack(w.state.pack())) == snapshot(w.state)


def test_a_displaced_result_can_still_be_adopted_after_a_restart() -> None:
    w = Writer().start()
    one, two = w.step("s#1", args="1"), w.step("s#2", args="2")
    adopt(w, "s#1", two.lsn, args="2")
    w.state = RunState.unpack(w.state.pack())
    assert sum(call.lsn == one.lsn for call in w.state.calls.values()) == 1
    adopt(w, "s#2", one.lsn, args="1")
    assert w.state.calls["s#2"].result == b'"s#1"'


def test_kept_events_go_in_order_and_their_bytes_are_counted() -> None:
    w = Writer().start()
    w.write(rec.EventKept, b"11", event="go", payload=70)
    w.write(rec.EventKept, b"222", event="go", payload=71)
    assert (w.state.kept_count, w.state.kept_bytes) == (2, 5)
    w.write(rec.WaitStarted, key="e#1", name="e", event="go")
    w.write(rec.WaitResolved, key="e#1", payload=70)
    assert (w.state.kept_count, w.state.kept_bytes) == (1, 3)
    assert w.state.calls["e#1"].result == b"11"


def test_a_record_of_a_type_that_may_be_skipped_keeps_its_number() -> None:
    w = Writer().start()
    w.state.skip(b'{"t":"new","lsn":2,"r":"%b","rs":2,"ts":1}' % RUN.encode())
    w.lsn += 1
    w.step("a#1")
    assert snapshot(RunState.unpack(w.state.pack())) == snapshot(w.state)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2)), max_size=40))
def test_whatever_fits_folds_up_again(moves: list[tuple[int, int, int]]) -> None:
    w = Writer().start()
    for move, number, args in moves:
        key = f"s#{number}"
        lsns = [c.lsn for c in w.state.calls.values() if c.lsn] or [999]
        kinds: list[tuple[type[Any], dict[str, Any]]] = [
            (rec.StepStarted, {"key": key, "name": "s", "fn": "f", "args": str(args)}),
            (rec.StepCompleted, {"key": key, "result": Raw(b"1")}),
            (rec.StepFailed, {"key": key, "error": Raw(b"{}")}),
            (rec.StepRetrying, {"key": key, "attempt": 1, "error": Raw(b"{}"), "due": 5}),
            (rec.CallCancelled, {"key": key}),
            (
                rec.CallAdopted,
                {
                    "key": key,
                    "name": "s",
                    "kind": "step",
                    "fn": "f",
                    "args": str(args),
                    "of": lsns[number % len(lsns)],
                },
            ),
            (rec.SleepStarted, {"key": f"z#{number}", "name": "z", "due": 9}),
        ]
        kind, fields = kinds[move]
        before = snapshot(w.state)
        try:
            w.write(kind, **fields)
        except ApplyError:
            assert snapshot(w.state) == before
        assert all(call.key == k for k, call in w.state.calls.items())
    assert snapshot(RunState.unpack(w.state.pack())) == snapshot(w.state)


def test_a_run_counts_each_payload_that_it_holds_once() -> None:
    w = Writer().start()
    w.write(rec.WaitStarted, key="a#1", name="a", event="go")
    w.write(rec.WaitStarted, key="b#1", name="b", event="go")
    before = w.state.nbytes
    body = b'"' + 1000 * b"x" + b'"'
    for key in ("a#1", "b#1"):
        w.write(rec.WaitResolved, body, key=key, payload=77)
    records = sum(len(data) for _, data, _ in w.rows[-2:])
    assert w.state.nbytes == before + records + len(body)
    w.write(rec.EventKept, body, event="later", payload=78)
    assert w.state.nbytes == before + sum(len(row[1]) for row in w.rows[-3:]) + 2 * len(body)
    assert RunState.unpack(w.state.pack()).nbytes == w.state.nbytes
