"""A followed run: events folded into rows, rows into words and pictures."""

from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from stepflow.cli.live import picture
from stepflow.cli.render import PlainLines, detail, error_text, short, span, value_text
from stepflow.cli.watching import RunWatch, millis
from stepflow.model.views import RunEvent

RUN = "run_0123456789"
NOW = 1_000_000


def event(name, data, number=1) -> RunEvent:
    return RunEvent(number, name, orjson.dumps(data))


def began(name, kind="step", key="", **more):
    data = {"status": "running", "stepName": name, "key": key or name, "kind": kind, **more}
    return event("status", data)


def ended(name, kind="step", key="", status="completed", **more):
    return event("step", {"name": name, "status": status, "key": key or name, "kind": kind, **more})


def watched(*events: RunEvent, now=NOW) -> RunWatch:
    watch = RunWatch(RUN, "shop", NOW)
    for each in events:
        watch.apply(each, now)
    return watch


def drawn(watch: RunWatch, now=NOW, **how) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(picture(watch, now, **how))
    return console.export_text()


def plain(*events: RunEvent, now=NOW) -> list[str]:
    watch = RunWatch(RUN, "shop", NOW)
    lines = PlainLines(watch)
    said: list[str] = []
    for each in events:
        watch.apply(each, now)
        said += lines.of(each, now)
    return said


# ------------------------------------------------------------ the fold


def test_a_step_runs_from_its_status_to_its_end() -> None:
    watch = watched(event("status", {"status": "running"}), began("charge"))
    assert (watch.status, watch.rows["charge"].status) == ("running", "running")
    watch.apply(ended("charge", result={"ok": True}), NOW + 1500)
    row = watch.rows["charge"]
    assert (row.status, row.result, row.elapsed_s(NOW + 9999)) == ("completed", {"ok": True}, 1.5)


def test_steps_of_one_name_are_told_apart_by_key() -> None:
    watch = watched(began("reserve", key="reserve[tea]"), began("reserve", key="reserve[cup]"))
    assert len(watch.rows) == 2


def test_a_later_attempt_keeps_the_first_ones_start() -> None:
    watch = watched(began("charge", attempt=1))
    watch.apply(began("charge", attempt=2), NOW + 5000)
    row = watch.rows["charge"]
    assert (row.attempt, row.elapsed_s(NOW + 5000)) == (2, 5.0)


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (event("complete", {"status": "completed", "result": 1}), "completed"),
        (event("error", {"status": "failed", "error": {"type": "E", "message": "m"}}), "failed"),
        (event("error", {"status": "cancelled", "error": {"type": "E"}}), "cancelled"),
    ],
)
def test_the_last_event_ends_the_run(last, status) -> None:
    watch = watched(last)
    assert (watch.status, watch.ended) == (status, True)


def test_a_resync_begins_anew_from_the_whole_run() -> None:
    run = {
        "id": RUN,
        "workflowId": "shop",
        "status": "completed",
        "input": None,
        "createdAt": "2024-01-15T10:30:00.000Z",
        "updatedAt": "2024-01-15T10:30:09.000Z",
        "result": {"ok": True},
        "steps": [
            {
                "name": "charge",
                "key": "charge",
                "kind": "step",
                "status": "completed",
                "result": 7,
                "startedAt": "2024-01-15T10:30:01.000Z",
                "completedAt": "2024-01-15T10:30:03.000Z",
            }
        ],
    }
    watch = watched(began("old"), event("resync", run, 0))
    assert list(watch.rows) == ["charge"]
    assert watch.rows["charge"].elapsed_s(NOW) == 2.0
    assert (watch.ended, watch.result) == (True, {"ok": True})
    assert watch.ended_ms - watch.began_ms == 9000


def test_times_are_milliseconds() -> None:
    assert millis("1970-01-01T00:00:01.234Z") == 1234


# ------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (12.7, "12s"),
        (185, "3m 05s"),
        (7800, "2h 10m"),
        (273_600, "3d 4h"),
    ],
)
def test_durations_are_for_people(seconds, text) -> None:
    assert span(seconds) == text


def test_long_values_are_cut_on_one_line() -> None:
    assert short("a\n b", 10) == "a b"
    assert len(short("x" * 100, 10)) == 10
    assert value_text(None) == ""
    assert value_text({"a": "x" * 99}, 10) == '{"a":"xxx…'


def test_an_error_names_its_step() -> None:
    error = {"type": "ValueError", "message": "no card", "step": "charge"}
    assert error_text(error) == "ValueError: no card (step charge)"


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (began("nap", "sleep", dueAt="1970-01-01T00:17:00Z"), "sleeping, 20s left"),
        (began("pay", "event", eventId="paid-1"), "waiting for event paid-1"),
        (began("sub", "child", childRunId="run_2"), "waiting for run_2"),
        (began("charge", attempt=3), "running, attempt 3"),
        (began("charge"), "running"),
    ],
)
def test_a_row_says_what_it_waits_for(begin, words) -> None:
    watch = watched(begin)
    assert detail(next(iter(watch.rows.values())), NOW) == words


def test_a_wait_shows_the_command_that_ends_it() -> None:
    lines = plain(began("pay", "event", eventId="paid it"))
    assert lines[1].endswith("send it: stepflow notify 'paid it' '{}'")


def test_each_thing_that_happens_is_a_line() -> None:
    lines = plain(
        event("status", {"status": "running"}),
        began("charge"),
        ended("charge", result=1),
        event("emit", {"name": "note", "data": {"n": 1}}, 0),
        event("emit", {"name": "talk", "data": "a", "step": "talk#1", "attempt": 1}, 0),
        event("emit", {"name": "talk", "data": "a", "step": "talk#1", "attempt": 2}, 0),
        event("progress", {"done": 3, "total": 10, "message": "importing"}, 0),
        event("progress", {"done": 3, "total": None, "message": None}, 0),
        event("status", {"status": "running", "state": "cancelling"}),
        event("error", {"status": "failed", "error": {"type": "E", "message": "m"}}),
    )
    assert [line.split() for line in lines] == [
        ["begun", "charge", "running"],
        ["completed", "charge", "0.0s", "1"],
        ["emitted", "note", '{"n":1}'],
        ["emitted", "talk", '"a"'],
        ["emitted", "talk", '"a"', "attempt", "2"],
        ["progress", "3", "of", "10", "importing"],
        ["progress", "3"],
        ["cancelling"],
        ["failed", "E:", "m"],
    ]


def test_what_a_later_server_sends_is_no_error() -> None:
    assert plain(event("novelty", {"what": 1})) == []


# ------------------------------------------------------------ the picture


def test_the_picture_shows_each_step_and_how_to_go_on() -> None:
    text = drawn(
        watched(
            event("status", {"status": "running"}),
            began("charge"),
            ended("charge", result={"ok": True}),
            began("nap", "sleep", dueAt="1970-01-01T00:17:00Z"),
            began("payment", "event", eventId="paid-1"),
        )
    )
    assert "shop" in text
    assert RUN in text
    assert '✓ charge  0.0s {"ok":true}' in text
    assert "☾ nap" in text
    assert "send it: stepflow notify paid-1" in text


def test_many_rows_of_one_name_are_one_line() -> None:
    events = [began("page", key=f"page[{n}]") for n in range(1000)]
    events += [ended("page", key=f"page[{n}]") for n in range(250)]
    text = drawn(watched(*events))
    assert "page × 1,000" in text
    assert "250 completed, 750 running" in text
    assert len(text.splitlines()) < 5


def test_what_does_not_fit_the_screen_is_counted() -> None:
    text = drawn(watched(*[ended(f"step-{n}") for n in range(60)]), height=20)
    assert "… 47 earlier" in text
    assert "step-59" in text


def test_a_lost_connection_is_shown() -> None:
    text = drawn(watched(event("status", {"status": "running"})), lost="no connection: refused")
    assert "connection lost, trying again: no connection: refused" in text


def test_a_failed_run_shows_why() -> None:
    error = {"type": "E", "message": "no [card]", "step": "charge"}
    text = drawn(
        watched(
            ended("charge", status="failed", error=error),
            event("error", {"status": "failed", "error": error}),
        )
    )
    assert "✗ charge" in text
    assert "E: no [card] (step charge)" in text


def test_a_running_progress_is_shown() -> None:
    text = drawn(
        watched(
            event("status", {"status": "running"}),
            event("progress", {"done": 3, "total": 10, "message": "importing"}, 0),
            event("emit", {"name": "note", "data": [1]}, 0),
        )
    )
    assert "progress: 3 of 10  importing" in text
    assert "emitted: note [1]" in text


def test_a_wide_terminal_shows_when_each_step_went_on() -> None:
    watch = watched(event("status", {"status": "running"}))
    watch.apply(began("first"), NOW)
    watch.apply(ended("first"), NOW + 5_000)
    watch.apply(began("rest", kind="sleep", dueAt="1970-01-01T00:20:00Z"), NOW + 5_000)
    watch.apply(ended("rest", kind="sleep"), NOW + 10_000)
    watch.apply(began("last"), NOW + 10_000)
    watch.apply(ended("last", status="failed", error={"type": "E", "message": "m"}), NOW + 20_000)
    lines = drawn(watch, NOW + 20_000, width=100).splitlines()
    bars = {
        name: next(line for line in lines if name in line) for name in ("first", "rest", "last")
    }
    assert bars["first"].count("━") == 6
    assert bars["rest"].count("┄") == 6
    assert bars["last"].count("━") == 12
    starts = [
        min(bars[n].index(c) for c in "━┄" if c in bars[n]) for n in ("first", "rest", "last")
    ]
    assert starts == sorted(starts)
    assert starts[1] - starts[0] == starts[2] - starts[1] == 6
    assert "━" not in drawn(watch, NOW + 20_000, width=80)
