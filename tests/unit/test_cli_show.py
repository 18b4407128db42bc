"""`stepflow runs show`: a run as lines."""

from __future__ import annotations

from typing import Any

import msgspec

from stepflow.cli.printing import state_text
from stepflow.cli.render import error_text
from stepflow.cli.runs import shown
from stepflow.model.views import RunView


def run(**members: Any) -> RunView:
    told = {
        "id": "run_0123456789",
        "workflowId": "trip",
        "status": "failed",
        "state": "failed",
        "input": {"room": "12b"},
        "steps": [],
        "createdAt": "2024-01-15T10:30:00Z",
        "updatedAt": "2024-01-15T10:30:09Z",
    }
    return msgspec.json.decode(msgspec.json.encode(told | members), type=RunView)


def left(name: str) -> dict[str, Any]:
    return {"name": name, "key": f"{name}#1", "error": {"type": "Gone", "message": "no hotel"}}


def test_what_was_not_undone_is_shown_with_its_error() -> None:
    error = {"type": "ValueError", "message": "no", "compensation": [left("two"), left("one")]}
    lines = shown(run(error=error | {"compensationMore": 3}))
    place = lines.index("  error    ValueError: no (not undone: two#1, one#1 and 3 more)")
    assert lines[place + 1 : place + 4] == [
        "           not undone: two#1  Gone: no hotel",
        "           not undone: one#1  Gone: no hotel",
        "           not undone: 3 more",
    ]


def test_the_line_of_an_error_names_the_first_few_that_were_not_undone() -> None:
    error = {"type": "ValueError", "message": "no", "step": "pay"}
    many = error | {"compensation": [left(name) for name in "abcde"]}
    assert error_text(error) == "ValueError: no (step pay)"
    assert error_text(many) == "ValueError: no (step pay; not undone: a#1, b#1, c#1 and 2 more)"
    one = {"type": "ValueError", "message": "no", "compensation": [left("a")]}
    assert error_text(one) == "ValueError: no (not undone: a#1)"


def test_restarts_parent_children_and_lineage_have_rows() -> None:
    children = [
        {"runId": f"run_{n}", "workflowId": "mail", "key": f"mail#{n + 1}", "awaited": n > 0}
        for n in range(12)
    ]
    lines = shown(
        run(
            status="running",
            state="waiting",
            restarts=7,
            lineage={"runId": "run_s", "fromStep": "pay#1"},
            parent={"runId": "run_p", "key": "trip#1"},
            children=children,
        )
    )
    place = lines.index("  restarts 7")
    assert lines[place + 1 : place + 5] == [
        "  fork of  run_s, from pay#1",
        "  parent   run_p  awaits it in trip#1",
        "  child    run_0  mail  mail#1  not awaited",
        "  child    run_1  mail  mail#2",
    ]
    assert sum(line.startswith("  child    run_") for line in lines) == 10
    assert "  child    and 2 more: --json has them all" in lines
    free = shown(run(parent={"runId": "run_p"}))
    assert "  parent   run_p" in free


def test_a_run_without_them_has_no_such_rows() -> None:
    lines = shown(run(status="completed", state="completed", result=1))
    heads = ("queue", "restarts", "parent", "child", "fork", "not undone")
    assert not [line for line in lines if line.strip().startswith(heads)]


def test_the_place_in_the_queue_is_in_the_status_and_in_a_row() -> None:
    queue = {"position": 4, "ahead": 3, "limit": "trip: at most 2 at once", "key": "acme"}
    view = run(status="pending", state="queued", queue=queue)
    assert state_text(view) == "pending, queued as 4"
    assert '  queue    4, 3 ahead of it: trip: at most 2 at once (here "acme")' in shown(view)
    del queue["key"]
    lines = shown(run(status="pending", state="queued", queue=queue))
    assert "  queue    4, 3 ahead of it: trip: at most 2 at once" in lines
    assert state_text(run(status="pending", state="queued")) == "pending, queued"


def test_what_a_run_that_has_ended_left_open_waits_for_nothing() -> None:
    asked = {
        "name": "answer",
        "key": "answer#1",
        "kind": "event",
        "status": "pending",
        "eventId": "answer-1",
        "startedAt": "2024-01-15T10:30:02Z",
    }
    error = {"type": "RunCancelledError", "message": "cancelled"}
    ended = shown(run(status="cancelled", state="cancelled", steps=[asked], error=error))
    assert "  pending   answer  7.0s  the run ended before it did" in ended
    live = shown(run(status="running", state="waiting", steps=[asked]))
    assert any(line.endswith("waiting for event answer-1") for line in live)
