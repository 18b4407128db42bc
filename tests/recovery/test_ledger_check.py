"""The outside checker finds each broken promise, and none where all are kept."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.recovery.ledger import Ledger, read_ledger
from tests.recovery.ledger_check import check
from tests.recovery.load_client import expected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEP = {"key": "double#1", "kind": "step", "status": "completed", "result": 4, "name": "double"}
EVENTS = [(1, "status", '{"status":"running"}'), (2, "step", "{}"), (3, "complete", "{}")]


class Told:
    """What a server would say, for a test to spoil."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {
            "run_tiny": {"status": "completed", "result": 4, "steps": [STEP]},
            "run_mixed": {"status": "completed", "result": expected(3), "steps": []},
            "run_box": {"status": "completed", "result": [0, 0, 1, 2, "end"], "steps": []},
            "run_held": {"status": "cancelled", "steps": []},
        }
        self.keys = {"mixed": "run_mixed", "inbox": "run_box", "held": "run_held"}
        self.events = list(EVENTS)
        self.step_log = ["2.0 run_tiny double#1 1", "4.0 run_held tick#1 1"]
        self.rows: list[dict[str, Any]] = [
            _run("run_tiny", "tiny", 2),
            _run("run_mixed", "mixed", {"id": "j3", "n": 3}, "k3"),
            _run("run_box", "inbox", {"id": "0"}, "box-0"),
            _run("run_held", "held", 0, "held-0"),
            {"k": "step", "at": 3.0, "run": "run_tiny", "key": "double#1", "result": 4},
            *({"k": "letter", "at": 3.0, "run": "run_box", "number": n} for n in range(3)),
            {"k": "cancel", "at": 5.0, "run": "run_held"},
            {"k": "end", "at": 6.0, "run": "run_held", "status": "cancelled", "result": None},
            *(
                {"k": "event", "at": 6.0, "run": "run_tiny", "s": 0, "id": i, "event": e, "data": d}
                for i, e, d in EVENTS[:2]
            ),
            {"k": "inv", "at": 7.0, "path": "/trigger/tiny", "body": 1},
        ]

    def answer(self, request: httpx.Request) -> httpx.Response:
        _, kind, of, *rest = request.url.path.split("/")
        if kind == "trigger":
            return httpx.Response(200, json={"runId": self.keys[of], "publicAccessToken": "pat_x"})
        if rest == ["stream"]:
            blocks = (f"id: {i}\nevent: {e}\ndata: {d}\n\n" for i, e, d in self.events)
            return httpx.Response(200, text="retry: 1000\n\n" + "".join(blocks))
        run = self.runs.get(of)
        return httpx.Response(404, json={}) if run is None else httpx.Response(200, json=run)


def _run(run_id: str, workflow: str, value: Any, idem: str = "") -> dict[str, Any]:
    return {
        "k": "run",
        "at": 1.0,
        "run": run_id,
        "workflow": workflow,
        "value": value,
        "idem": idem,
    }


def faults(told: Told, tmp_path: Path) -> list[str]:
    log = tmp_path / "steps.log"
    log.write_text("".join(line + "\n" for line in told.step_log))
    report = asyncio.run(
        check(
            "http://server",
            "key",
            told.rows,
            step_log=log,
            finish=True,
            limit_s=2,
            transport=httpx.MockTransport(told.answer),
        )
    )
    return list(report["faults"])


def test_no_fault_is_found_where_every_promise_is_kept(tmp_path: Path) -> None:
    assert faults(Told(), tmp_path) == []


def _lose_run(told: Told) -> None:
    del told.runs["run_tiny"]


def _forget_key(told: Told) -> None:
    told.keys["mixed"] = "run_other"


def _key_gave_two(told: Told) -> None:
    told.rows.append(_run("run_second", "mixed", {"id": "j3", "n": 3}, "k3"))
    told.runs["run_second"] = told.runs["run_mixed"]


def _run_given_twice(told: Told) -> None:
    told.rows.append(_run("run_tiny", "tiny", 9))


def _wrong_result(told: Told) -> None:
    told.runs["run_mixed"]["result"] = 0


def _other_step_result(told: Told) -> None:
    told.runs["run_tiny"]["steps"] = [STEP | {"result": 5}]


def _lose_step(told: Told) -> None:
    told.runs["run_tiny"]["steps"] = []


def _run_step_again(told: Told) -> None:
    told.step_log.append("3.5 run_tiny double#1 1")


def _step_after_cancel(told: Told) -> None:
    told.step_log.append("5.5 run_held tick#2 1")


def _end_undone(told: Told) -> None:
    told.runs["run_held"]["status"] = "completed"


def _lose_letter(told: Told) -> None:
    told.runs["run_box"]["result"] = [0, 1, "end"]


def _swap_letters(told: Told) -> None:
    told.runs["run_box"]["result"] = [1, 0, 2, "end"]


def _gap_in_stream(told: Told) -> None:
    del told.events[0]


def _change_event(told: Told) -> None:
    told.events[1] = (2, "step", '{"other":1}')


def _two_ends(told: Told) -> None:
    end = {"k": "end", "at": 7.0, "run": "run_held", "status": "failed", "result": None}
    told.rows.append(end)


def _never_ends(told: Told) -> None:
    told.runs["run_tiny"]["status"] = "running"


def _client_saw_it(told: Told) -> None:
    told.rows.append({"k": "fault", "at": 7.0, "text": "a resync"})


@pytest.mark.parametrize(
    "spoil",
    [
        _lose_run,
        _forget_key,
        _key_gave_two,
        _run_given_twice,
        _wrong_result,
        _other_step_result,
        _lose_step,
        _run_step_again,
        _step_after_cancel,
        _end_undone,
        _lose_letter,
        _swap_letters,
        _gap_in_stream,
        _change_event,
        _two_ends,
        _never_ends,
        _client_saw_it,
    ],
)
def test_a_broken_promise_is_found(spoil: Callable[[Told], None], tmp_path: Path) -> None:
    told = Told()
    spoil(told)
    assert faults(told, tmp_path)


# ---------------------------------------------------------------- the ledger


def test_a_ledger_is_read_up_to_where_it_was_when_it_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    async def write() -> int:
        ledger = Ledger(path)
        ledger.note("run", run="a")
        await ledger.synced()
        size = path.stat().st_size
        ledger.note("run", run="b")
        await asyncio.gather(*(ledger.synced() for _ in range(5)))
        await ledger.close()
        return size

    size = asyncio.run(write())
    assert [row["run"] for row in read_ledger(path)] == ["a", "b"]
    assert [row["run"] for row in read_ledger(path, size)] == ["a"]
    # A line that was begun when the file was read is none yet.
    assert [row["run"] for row in read_ledger(path, size + 5)] == ["a"]
    assert json.loads(path.read_text().splitlines()[0])["k"] == "run"
