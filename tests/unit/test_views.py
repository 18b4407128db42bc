"""What the API shows of a run, and its events, from records alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.ids import RunId
from stepflow.model.records import encode_record
from stepflow.model.run import RunState
from stepflow.model.views import RunEvent, event_of, passing_emit, run_view, sse_frame

RUN = RunId("run_aaaaaaaa")
ERROR = Raw(b'{"type":"ValueError","message":"no","traceback":"secret paths","step":"s"}')


def told(*kinds: tuple[Any, dict[str, Any]]) -> tuple[RunState, list[RunEvent | None]]:
    """Fold records into a run; return it and its events."""
    state = RunState(RUN)
    events: list[RunEvent | None] = []
    for number, (kind, fields) in enumerate(kinds, 1):
        payload = fields.pop("body", None)
        record = kind(lsn=10 * number, r=RUN, rs=number, ts=1000 * number, **fields)
        state.apply(record, encode_record(record), payload)
        events.append(event_of(record, state.payloads))
    return state, events


def begun(**fields: Any) -> tuple[Any, dict[str, Any]]:
    return rec.RunStarted, {"workflow": "w", "input": Raw(b'{"a":1}'), **fields}


def step(key: str = "s#1", **fields: Any) -> tuple[Any, dict[str, Any]]:
    return rec.StepStarted, {"key": key, "name": "s", "fn": "f", "args": "", **fields}


def shown(state: RunState) -> Any:
    return msgspec.json.decode(msgspec.json.encode(run_view(state)))


def names(events: list[RunEvent | None]) -> list[Any]:
    return [(e.id, e.event, e.json()) for e in events if e is not None]


def test_a_run_has_the_keys_of_the_contract() -> None:
    state, events = told(begun(), step(), (rec.StepCompleted, {"key": "s#1", "result": Raw(b"5")}))
    view = shown(state)
    contract = {"id", "workflowId", "status", "input", "steps", "createdAt", "updatedAt"}
    assert contract <= set(view)
    assert view["createdAt"] == "1970-01-01T00:00:01.000Z"
    assert view["updatedAt"] == "1970-01-01T00:00:03.000Z"
    (shown_step,) = view["steps"]
    assert (shown_step["name"], shown_step["status"], shown_step["result"]) == ("s", "completed", 5)
    assert names(events) == [
        (1, "status", {"status": "running"}),
        (2, "status", {
            "status": "running", "stepName": "s", "key": "s#1", "kind": "step", "attempt": 1,
        }),
        (3, "step", {
            "name": "s", "status": "completed", "result": 5, "key": "s#1", "kind": "step",
        }),
    ]  # fmt: skip


def test_a_step_without_a_result_is_pending_and_has_no_result_key() -> None:
    state, _ = told(begun(), step())
    (view,) = shown(state)["steps"]
    assert view["status"] == "pending"
    assert "result" not in view
    assert "error" not in view


def test_no_traceback_leaves_the_process() -> None:
    state, events = told(
        begun(),
        step(),
        (rec.StepFailed, {"key": "s#1", "error": ERROR}),
        (rec.RunFailed, {"error": ERROR}),
    )
    text = msgspec.json.encode(run_view(state)) + b"".join(e.data for e in events if e)
    assert b"secret" not in text
    assert b'"ValueError"' in text
    assert shown(state)["error"] == shown(state)["steps"][0]["error"]
    assert names(events)[-1][1] == "error"
    assert names(events)[-1][2]["status"] == "failed"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ([], "active"),
        ([step()], "active"),
        ([(rec.SleepStarted, {"key": "z#1", "name": "z", "due": 99})], "sleeping"),
        ([(rec.WaitStarted, {"key": "w#1", "name": "w", "event": "e"})], "waiting"),
        (
            [step(), (rec.StepRetrying, {"key": "s#1", "attempt": 1, "error": ERROR, "due": 99})],
            "retrying",
        ),
        ([(rec.CancelRequested, {"deadline": 99})], "cancelling"),
        ([(rec.RunCompleted, {"result": Raw(b"1")})], "completed"),
        ([(rec.RunFailed, {"error": ERROR})], "failed"),
        ([(rec.RunCancelled, {"error": ERROR})], "cancelled"),
    ],
)
def test_the_finer_state_follows_from_the_records(more: list[Any], state: str) -> None:
    run, _ = told(begun(), *[(kind, dict(fields)) for kind, fields in more])
    assert shown(run)["state"] == state


def test_a_delayed_run_is_pending_and_queued_until_it_is_released() -> None:
    run, events = told(begun(due=99))
    assert (shown(run)["status"], shown(run)["state"]) == ("pending", "queued")
    assert names(events) == [(1, "status", {"status": "pending"})]
    run, events = told(begun(due=99), (rec.RunReleased, {}))
    assert shown(run)["status"] == "running"
    assert names(events)[1] == (2, "status", {"status": "running"})


def test_an_event_shows_its_payload_and_a_wait_its_event() -> None:
    run, events = told(
        begun(),
        (rec.WaitStarted, {"key": "w#1", "name": "w", "event": "paid", "due": 5000}),
        (rec.WaitResolved, {"key": "w#1", "payload": 7, "body": b'{"n":1}'}),
    )
    assert shown(run)["steps"][0]["eventId"] == "paid"
    assert shown(run)["steps"][0]["result"] == {"n": 1}
    assert names(events)[2][2]["result"] == {"n": 1}


def test_a_wait_that_timed_out_says_so_in_the_run_and_in_the_event_alike() -> None:
    run, events = told(
        begun(),
        (rec.WaitStarted, {"key": "w#1", "name": "w", "event": "paid", "due": 5000}),
        (rec.WaitTimedOut, {"key": "w#1"}),
    )
    error = shown(run)["steps"][0]["error"]
    assert error["type"] == "EventTimeoutError"
    assert names(events)[2][2]["error"] == error


def test_a_frame_is_one_data_line_and_an_event_without_an_id_has_none() -> None:
    frame = sse_frame(RunEvent(5, "step", msgspec.json.encode({"a": "x\n\r\u2028y"})))
    assert frame.startswith(b"id: 5\nevent: step\ndata: ")
    assert frame.count(b"\n") == 4
    assert b"\r" not in frame
    assert frame.endswith(b"\n\n")
    assert sse_frame(RunEvent(0, "resync", b"{}")) == b"event: resync\ndata: {}\n\n"


def test_a_run_shows_its_tags_its_parent_and_why_it_waits() -> None:
    run, _ = told(begun(tags=("a", "b"), parent="run_bbbbbbbb"))
    view = msgspec.json.decode(msgspec.json.encode(run_view(run, "parked", reason="other code")))
    assert (view["tags"], view["parentRunId"]) == (["a", "b"], "run_bbbbbbbb")
    assert (view["state"], view["reason"]) == ("parked", "other code")


def test_a_row_of_a_list_has_no_steps() -> None:
    run, _ = told(begun(), step())
    assert "steps" not in msgspec.json.decode(msgspec.json.encode(run_view(run, steps=False)))


CHILD = {"key": "c#1", "name": "c", "workflow": "v", "child": "run_bbbbbbbb", "args": ""}


@pytest.mark.parametrize(
    ("end", "status"), [({"result": Raw(b"7")}, "completed"), ({"error": ERROR}, "failed")]
)
def test_a_child_is_shown_and_told_as_it_ends(end: dict[str, Any], status: str) -> None:
    run, events = told(
        begun(),
        (rec.ChildStarted, {**CHILD, "awaited": True}),
        (rec.ChildEnded, {"key": "c#1"} | end),
    )
    (child,) = shown(run)["steps"]
    assert (child["childRunId"], child["status"]) == ("run_bbbbbbbb", status)
    assert names(events)[1][2]["childRunId"] == "run_bbbbbbbb"
    assert names(events)[2][2]["status"] == status


def test_a_sleep_a_notify_and_what_the_body_says_are_told() -> None:
    _, events = told(
        begun(),
        (rec.SleepStarted, {"key": "s#1", "name": "s", "due": 5000}),
        (rec.SleepEnded, {"key": "s#1"}),
        (rec.NotifySent, {"key": "n#1", "name": "n", "args": "", "count": 2}),
        (rec.Emitted, {"key": "e#1", "name": "e", "data": Raw(b"[1]")}),
        (rec.Progressed, {"key": "p#1", "done": 1, "total": 4, "message": "a quarter"}),
        (rec.ValueRecorded, {"key": "@now#1", "value": Raw(b"5")}),
    )
    said = names(events)
    assert said[2][2]["result"] is None
    assert said[3][2] == {"name": "n", "status": "completed", "result": 2, "key": "n#1"} | {
        "kind": "notify"
    }
    assert said[4][1:] == ("emit", {"name": "e", "data": [1]})
    assert said[5][1:] == ("progress", {"done": 1, "total": 4, "message": "a quarter"})
    assert events[6] is None, "a value of the clock is nobody's event"


def test_a_call_that_was_given_up_says_so_and_one_without_a_time_shows_none() -> None:
    run, _ = told(
        begun(),
        (rec.SleepStarted, {"key": "s#1", "name": "s", "due": 5000}),
        (rec.CallCancelled, {"key": "s#1"}),
    )
    run.calls["s#1"].started_ms = 0
    (sleep,) = shown(run)["steps"]
    assert sleep["cancelled"] is True
    assert "startedAt" not in sleep


def test_an_emit_that_is_not_durable_has_no_id_and_says_which_step_made_it() -> None:
    event = passing_emit("tick", b"[1]")
    assert (event.id, event.event, event.json()) == (0, "emit", {"name": "tick", "data": [1]})
    event = passing_emit("tick", b"[1]", "s", 2)
    assert event.json() == {"name": "tick", "data": [1], "step": "s", "attempt": 2}


def test_what_operators_did_to_a_run_is_told_with_its_state() -> None:
    start = rec.RunStarted(lsn=10, r=RUN, rs=1, ts=1000, workflow="w", input=Raw(b'{"a":1}'))
    _, events = told(
        begun(),
        (rec.RunPaused, {"crit": True, "by": "ada"}),
        (rec.RunResumed, {"crit": True, "by": "ada"}),
        (
            rec.RunRestarted,
            {"crit": True, "input": Raw(b"2"), "restarts": 1, "started": Raw(encode_record(start))},
        ),
        (rec.RunFailed, {"error": ERROR}),
        (rec.RunRetried, {"crit": True, "by": "ada"}),
    )
    assert [told for _, name, told in names(events) if name == "status"] == [
        {"status": "running"},
        {"status": "running", "state": "paused"},
        {"status": "running"},
        {"status": "running", "restarts": 1},
        {"status": "running", "retry": True},
    ]
