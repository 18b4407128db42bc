"""A live list of runs: pages and events folded into rows, rows into lines and pictures."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
from msgspec import Raw
from rich.console import Console

from stepflow.cli import follow_list, run_list
from stepflow.cli.follow_list import JsonList, PlainList
from stepflow.cli.live_list import LiveList, list_picture
from stepflow.cli.run_list import RunList
from stepflow.clock import rfc3339
from stepflow.errors import UnavailableError
from stepflow.model.all_event import AllEvent
from stepflow.model.views import RunCounts, RunPage, RunView

NOW = 1_700_000_000_000
A, B = "run_aaaaaaaa", "run_bbbbbbbb"


def event(run_id: str, name: Any, data: dict[str, Any], cursor: str = "s-1") -> AllEvent:
    data = {**data, "runId": run_id, "workflowId": "shop"}
    return AllEvent.of(cursor, name, orjson.dumps(data))


def begun(run_id: str, status: str = "running") -> AllEvent:
    return event(run_id, "status", {"status": status})


def step(run_id: str, name: str, **more: Any) -> AllEvent:
    data = {"status": "running", "stepName": name, "key": f"{name}#1", "kind": "step", **more}
    return event(run_id, "status", data)


def step_ended(run_id: str, name: str, status: str = "completed") -> AllEvent:
    return event(run_id, "step", {"name": name, "status": status, "key": f"{name}#1"})


def completed(run_id: str, result: Any = 1) -> AllEvent:
    return event(run_id, "complete", {"status": "completed", "result": result})


def failed(run_id: str, status: str = "failed") -> AllEvent:
    error = {"type": "CardError", "message": "declined", "step": "charge"}
    return event(run_id, "error", {"status": status, "error": error})


def view(run_id: str, status: Any = "running", **more: Any) -> RunView:
    return RunView(
        id=run_id,
        workflow_id="shop",
        status=status,
        input=Raw(b"1"),
        created_at=rfc3339(NOW - 60_000),
        updated_at=rfc3339(NOW - 10_000),
        **more,
    )


def listed(*events: AllEvent, status: tuple[str, ...] = ()) -> RunList:
    runs = RunList(status)
    for each in events:
        runs.apply(each, NOW)
    return runs


def drawn(runs: RunList, width: int = 110, **how: Any) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(list_picture(runs, NOW + 5000, width=width, **how))
    return console.export_text()


def test_a_page_is_the_newest_first_with_what_it_knows_of_times() -> None:
    runs = RunList()
    runs.fill([view(B, state="waiting"), view(A, "completed", state="completed")])
    newest, oldest = runs.shown()
    assert (newest.run_id, newest.doing, newest.age_s(NOW)) == (B, "waiting", 60)
    assert (oldest.run_id, oldest.doing, oldest.age_s(NOW)) == (A, "", 50)
    assert runs.counts() == {"running": 1, "completed": 1}


def test_a_run_is_followed_from_its_begin_to_its_end() -> None:
    runs = listed(begun(A))
    row = runs.rows[A]
    assert (row.status, row.began_ms, runs.began_total) == ("running", NOW, 1)
    runs.apply(step(A, "charge"), NOW)
    assert row.doing == "charge"
    runs.apply(step(A, "approve", kind="event", eventId="approve-7"), NOW)
    assert row.doing == "waiting for approve-7"
    runs.apply(step(A, "rest", kind="sleep"), NOW)
    assert row.doing == "sleeping rest"
    runs.apply(step_ended(A, "rest"), NOW)
    assert row.doing == "approve"
    runs.apply(step_ended(A, "approve"), NOW)
    runs.apply(step_ended(A, "charge", "failed"), NOW)
    assert (row.doing, row.steps) == ("charge failed", 3)
    runs.apply(event(A, "progress", {"done": 3, "total": 10, "message": "x"}), NOW)
    assert row.doing == "3 of 10  x"
    runs.apply(event(A, "emit", {"name": "n", "data": 1}), NOW)
    runs.apply(completed(A, {"ok": True}), NOW + 4000)
    assert (row.status, row.doing, row.age_s(NOW + 9000)) == ("completed", '{"ok":true}', 4)
    assert runs.ended_total == {"completed": 1}


def test_a_run_that_a_retry_brings_back_goes_on() -> None:
    runs = listed(begun(A), failed(A), event(A, "status", {"status": "running", "retry": True}))
    row = runs.rows[A]
    assert (row.status, row.ended_ms, runs.began_total) == ("running", 0, 1)


def test_a_run_that_began_before_we_looked_has_no_age() -> None:
    runs = listed(event(A, "status", {"status": "running", "state": "paused"}))
    assert runs.rows[A].age_s(NOW) is None
    assert runs.rows[A].doing == "paused"
    assert runs.began_total == 0


def counts(**some: int) -> RunCounts:
    named = dict.fromkeys(("pending", "running", "completed", "failed", "cancelled"), 0)
    return RunCounts(**(named | some))


def test_the_counts_are_of_all_runs_where_the_server_has_them() -> None:
    runs = RunList()
    runs.fill([view(B)])
    runs.count(counts(running=200, completed=100_000))
    for each in (begun(A), completed(A), failed(B)):
        runs.apply(each, NOW)
    # It was running when we came, and is not in the list: the server is asked of it.
    runs.apply(completed("run_cccccccc"), NOW)
    assert +runs.counts() == {"running": 199, "completed": 100_001, "failed": 1}
    assert "199 running  1 failed  100,001 completed" in drawn(runs)
    runs.count(None)
    assert runs.counts() == {"completed": 2, "failed": 1}


class Counting(PlainList):
    has_counts = True


@pytest.mark.parametrize("error", [None, UnavailableError("gone")])
def test_the_server_is_asked_again_how_many_there_are(monkeypatch, error) -> None:
    monkeypatch.setattr(follow_list, "_COUNTED_S", -1.0)
    server: Any = Server(begun(A), begun("run_cccccccc"), KeyboardInterrupt())
    asked: list[Any] = []

    def list_runs(**how: Any) -> RunPage:
        asked.append(how.get("limit"))
        if error is not None and how["limit"] == 1:
            raise error
        said = counts(running=40 + len(asked))
        return RunPage(runs=[view(B)], next_cursor=None, stream_cursor="s-0", counts=said)

    server.list_runs = list_runs
    runs = RunList()
    follow_list.follow_list(server, runs, Counting(runs), workflow_id="", tag="")
    assert asked == [200, 1, 1]
    assert runs.counts()["running"] == 43


def test_only_the_statuses_that_are_asked_for_are_shown() -> None:
    runs = listed(begun(A), begun(B), failed(B), status=("failed", "cancelled"))
    assert [row.run_id for row in runs.shown()] == [B]


def test_the_list_is_bounded_and_forgets_what_has_ended_first(monkeypatch) -> None:
    monkeypatch.setattr(run_list, "_ROWS_MAX", 2)
    runs = listed(begun(A), begun(B), completed(B), begun("run_cccccccc"))
    assert list(runs.rows) == [A, "run_cccccccc"]
    runs.apply(begun("run_dddddddd"), NOW)
    assert list(runs.rows) == ["run_cccccccc", "run_dddddddd"]


def test_a_picture_has_counts_rows_and_what_does_not_fit() -> None:
    runs = listed(begun(A), step(A, "charge"), begun(B), failed(B))
    text = drawn(runs)
    assert "1 running  1 failed" in text
    assert "2 begun, 1 ended since you look" in text
    assert "✗ run_bbbbbbbb shop failed" in text
    assert "CardError: declined (step charge)" in text
    assert text.index(B) < text.index(A)
    many = listed(*[begun(f"run_{n:08d}") for n in range(50)])
    assert "… 40 more" in drawn(many, height=14)
    assert "no runs yet" in drawn(RunList())
    assert "connection lost, trying again: gone" in drawn(runs, lost="gone")


def test_nothing_in_a_run_commands_the_terminal() -> None:
    hostile = "\x1b[31m\x07[bold]x[/bold]"
    data = {"status": "completed", "result": hostile, "runId": A, "workflowId": hostile}
    runs = listed(AllEvent.of("s-1", "complete", orjson.dumps(data)))
    text = drawn(runs)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]" in text


def test_the_moving_list_is_drawn_until_it_is_left(monkeypatch) -> None:
    out = io.StringIO()
    runs = listed(begun(A))
    with LiveList(runs, Console(file=out, width=100, force_terminal=True)) as live:
        live.lost("gone")
        live.event(begun(B), runs.apply(begun(B), NOW))
    assert A in out.getvalue()
    assert B in out.getvalue()
    assert "connection lost" in out.getvalue()


# ---------------------------------------------------------------- lines


def test_a_pipe_gets_a_line_for_each_run_that_begins_or_ends(capsys) -> None:
    runs = RunList()
    runs.fill([view(B)])
    with PlainList(runs) as plain:
        for each in (begun(A), step(A, "charge"), step_ended(A, "charge"), completed(A)):
            plain.event(each, runs.apply(each, NOW))
        plain.lost("gone")
        plain.lost("")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        [B, "shop", "running"],
        [A, "shop", "running"],
        [A, "shop", "completed"],
    ]
    assert lines[3:] == ["connection lost, trying again: gone", "connected again"]


def test_json_is_an_event_a_line(capsys) -> None:
    with JsonList() as out:
        out.event(completed(A, "x\x1b"), None)
        out.event(AllEvent.of("", "resync", b'{"streamCursor":"s-9"}'), None)
        out.lost("gone")
        out.lost("")
    said = capsys.readouterr()
    first, second = map(orjson.loads, said.out.splitlines())
    assert "\x1b" not in said.out
    assert (first["cursor"], first["event"], first["runId"]) == ("s-1", "complete", A)
    assert (second["cursor"], second["runId"]) == (None, None)
    assert said.err == "connection lost, trying again: gone\n"


# ---------------------------------------------------------------- over breaks


class Server:
    """Answers what a client asks; it breaks where an event is an error."""

    def __init__(self, *script: AllEvent | Exception) -> None:
        self.script = list(script)
        self.asked: list[str] = []
        self.away = 0

    def list_runs(self, **_: Any) -> RunPage:
        return RunPage(runs=[view(B)], next_cursor=None, stream_cursor="s-0")

    def stream_all(self, *, after: str, **_: Any) -> Any:
        self.asked.append(after)
        while self.script:
            each = self.script.pop(0)
            if isinstance(each, BaseException):
                raise each
            yield each

    def ready(self) -> None:
        if self.away:
            self.away -= 1
            raise UnavailableError


@pytest.mark.parametrize("away", [0, 2])
def test_a_server_that_is_gone_is_waited_for_and_nothing_is_missed(
    monkeypatch, capsys, away
) -> None:
    monkeypatch.setattr(follow_list, "_PAUSE_S", 0.0)
    server: Any = Server(
        event(A, "status", {"status": "running"}, "s-3"),
        event(A, "emit", {"name": "n", "data": 1}, ""),
        UnavailableError("gone"),
        event(A, "complete", {"status": "completed", "result": 7}, "s-4"),
        AllEvent.of("s-9", "resync", b'{"streamCursor":"s-9"}'),
        KeyboardInterrupt(),
    )
    server.away = away
    runs = RunList()
    code = follow_list.follow_list(server, runs, PlainList(runs), workflow_id="", tag="")
    assert code == 130
    assert server.asked == ["s-0", "s-3"]
    said = capsys.readouterr().out
    assert said.count("connection lost") == said.count("connected again") == 1
    assert said.count("the list was read again") == 1
    assert list(runs.rows) == [B]
