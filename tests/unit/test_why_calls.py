"""What a call waits for, in words: one sentence a call, with the time that is left."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.why import WaitingFor, of_call, sentence, span
from tests.unit.run_writer import Writer

ERROR = Raw(b'{"type":"ValueError","message":"no such card"}')


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (-5, "0s"),
        (59_999, "59s"),
        (185_000, "3m 05s"),
        (2 * 3_600_000 + 600_000, "2h 10m"),
        (76 * 3_600_000, "3d 4h"),
    ],
)
def test_a_time_is_said_in_its_two_greatest_units(ms: int, said: str) -> None:
    assert span(ms) == said


def why(*kinds: tuple[Any, dict[str, Any]], now_ms: int = 61_000) -> Any:
    """Return what the last call that these records begin waits for, as the API shows it."""
    run = Writer().start()
    for kind, fields in kinds:
        run.write(kind, **fields)
    call = list(run.state.calls.values())[-1]
    return msgspec.json.decode(msgspec.json.encode(of_call(call, now_ms)))


STEP = (rec.StepStarted, {"key": "pay#1", "name": "pay", "fn": "f", "args": "x"})


def test_a_step_runs_since_its_start() -> None:
    told = why(STEP)
    assert told["says"] == "step 'pay' runs since 59s, in attempt 1"
    assert (told["kind"], told["attempts"]) == ("step", 1)
    assert "error" not in told


def test_a_step_that_is_tried_again_names_its_last_error_and_when() -> None:
    told = why(
        STEP, (rec.StepRetrying, {"key": "pay#1", "attempt": 1, "due": 246_000, "error": ERROR})
    )
    assert told["kind"] == "retry"
    assert told["error"]["message"] == "no such card"
    assert told["dueAt"] == "1970-01-01T00:04:06.000Z"
    assert told["says"] == (
        "step 'pay' is tried again in 3m 05s: attempt 1 failed with ValueError: no such card"
    )


def test_a_step_in_a_later_attempt_shows_the_error_of_the_one_before() -> None:
    again = (STEP[0], STEP[1] | {"attempt": 2})
    told = why(
        STEP, (rec.StepRetrying, {"key": "pay#1", "attempt": 1, "due": 5000, "error": ERROR}), again
    )
    assert (told["kind"], told["attempts"], told["error"]["type"]) == ("step", 2, "ValueError")
    assert told["says"].endswith("in attempt 2")


def test_a_sleep_an_event_and_a_child_say_what_is_left() -> None:
    told = why((rec.SleepStarted, {"key": "s#1", "name": "s", "due": 71_000}))
    assert told["says"] == "it sleeps in 's', for 10s more"
    wait = {"key": "w#1", "name": "w", "event": "paid"}
    assert why((rec.WaitStarted, wait))["says"] == "it waits for the event 'paid' since 59s"
    told = why((rec.WaitStarted, wait | {"due": 71_000}))
    assert told["says"] == "it waits for the event 'paid' since 59s, for 10s more"
    child = {"key": "c#1", "name": "c", "workflow": "v", "child": "run_bbbbbbbb", "args": ""}
    told = why((rec.ChildStarted, child | {"awaited": True}))
    assert (told["runId"], told["kind"]) == ("run_bbbbbbbb", "child")
    assert told["says"] == "it waits for its child run_bbbbbbbb since 59s"


def test_a_sentence_names_the_first_and_counts_the_others() -> None:
    rows = [
        WaitingFor(kind="sleep", name="s", key="s#1", since="", says=f"it sleeps in '{n}'")
        for n in range(9)
    ]
    assert sentence(rows[:1]) == "It sleeps in '0'."
    assert sentence(rows[:1], 2).endswith("; and for 2 more.")
    named = sentence(rows, 3)
    assert named.startswith("It sleeps in '0'; it sleeps in '1'")
    assert named.count("it sleeps") + 1 + int(named.split()[-2]) == 12
