"""`stepflow runs show`: a run as lines."""

from __future__ import annotations

from typing import Any

import msgspec

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
