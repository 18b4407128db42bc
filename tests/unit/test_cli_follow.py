"""Following a run: what is shown when the server goes and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.cli import follow as following
from stepflow.cli.follow import Json, Plain, follow, pick_display
from stepflow.cli.watching import RunWatch
from stepflow.errors import UnavailableError
from stepflow.model.views import RunEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN = "run_0000000000000000000001"
STARTED = {"status": "running", "stepName": "nap", "key": "nap#1", "kind": "step"}
DONE = {"name": "nap", "status": "completed", "result": 7, "key": "nap#1", "kind": "step"}
FULL_RUN = {
    "id": RUN,
    "workflowId": "rest",
    "status": "completed",
    "input": None,
    "result": 7,
    "createdAt": "2024-01-15T10:30:00Z",
    "updatedAt": "2024-01-15T10:30:05Z",
    "steps": [],
}


def event(id: int, name: Any, data: dict[str, Any]) -> RunEvent:
    return RunEvent(id, name, msgspec.json.encode(data))


HISTORY = [
    event(1, "status", {"status": "running"}),
    event(2, "status", STARTED),
    event(3, "step", DONE),
    event(4, "complete", {"status": "completed", "result": 7}),
]


class Cut(UnavailableError):
    """The connection ends here."""


class Server:
    """Sends the run's history up to `stops[i]` on the i-th connection, all of it on the last."""

    def __init__(self, *stops: int, history: list[RunEvent] = HISTORY) -> None:
        self.asked: list[int | None] = []
        self._stops = list(stops)
        self._history = history

    def stream(self, run_id: str, after: int | None, *, tries_max: int) -> Iterator[RunEvent]:
        assert (run_id, tries_max) == (RUN, 1)
        self.asked.append(after)
        stop = self._stops.pop(0) if self._stops else None
        for each in self._history:
            if stop is not None and each.id > stop:
                raise Cut("the server is gone")
            if each.id > (after or 0):
                yield each


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch) -> None:
    monkeypatch.setattr(following, "_PAUSE_S", 0)


@pytest.fixture
def show() -> Callable[..., int]:
    def shown(server: Any, *, as_json: bool = False) -> int:
        watch = RunWatch(RUN, "rest", 0)
        return follow(server, RUN, pick_display(watch, as_json=as_json), watch)

    return shown


def test_a_run_is_followed_to_its_end(show, capsys) -> None:
    assert show(Server()) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{RUN}  rest"
    assert out[-1] == "completed  7"


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_no_event_comes_twice_or_is_missed_wherever_the_connection_breaks(
    stop, show, capsys
) -> None:
    assert show(Server(stop, stop, stop), as_json=True) == 0
    out, err = capsys.readouterr()
    lines = [msgspec.json.decode(line) for line in out.splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3, 4]
    assert "connection lost" in err


def test_a_run_that_only_waits_says_that_the_server_is_back(show, capsys) -> None:
    class Waiting(Server):
        def stream(self, run_id, after, *, tries_max):
            yield from super().stream(run_id, after, tries_max=tries_max)
            if len(self.asked) == 1:
                raise Cut("the server is gone")
            raise KeyboardInterrupt  # who watches has seen enough

    assert show(Waiting(history=HISTORY[:2])) == 130
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "  connected again"
    assert out.count("begun") == 1
    assert f"stepflow runs watch {RUN}" in err


def test_a_loss_is_said_once_however_long_it_lasts(show, capsys) -> None:
    assert show(Server(1, 0, 0, 0)) == 0
    out = capsys.readouterr().out
    assert out.count("connection lost") == 1
    assert out.count("connected again") == 1


def test_a_history_that_is_not_kept_is_replaced_by_the_run(show, capsys) -> None:
    resync = RunEvent(2, "resync", msgspec.json.encode(FULL_RUN))

    class Short(Server):
        def stream(self, run_id, after, *, tries_max):
            if after is None or after < 1:
                yield from super().stream(run_id, after, tries_max=tries_max)
            else:
                yield resync

    assert show(Short(2)) == 0
    assert "the run is completed" in capsys.readouterr().out


def test_a_stream_that_ends_without_its_end_asks_for_the_run(show) -> None:
    class Silent:
        def stream(self, *_: Any, **__: Any) -> Iterator[RunEvent]:
            return iter(())

        def get_run(self, run_id: str) -> Any:
            from stepflow.model.views import RunView

            return msgspec.json.decode(msgspec.json.encode(FULL_RUN), type=RunView)

    assert show(Silent()) == 0


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("error", {"status": "failed", "error": {"type": "ValueError", "message": "no"}}),
        ("error", {"status": "cancelled", "error": {"type": "Cancelled", "message": "stop"}}),
    ],
)
def test_an_end_that_is_no_completion_is_status_1(name, data, show, capsys) -> None:
    assert show(Server(history=[event(1, name, data)])) == 1
    assert data["error"]["message"] in capsys.readouterr().out


def test_a_pipe_gets_lines_and_json_gets_json() -> None:
    watch = RunWatch(RUN, "rest", 0)
    assert isinstance(pick_display(watch, as_json=False), Plain)
    assert isinstance(pick_display(watch, as_json=True), Json)
