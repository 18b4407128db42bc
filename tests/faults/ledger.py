"""What the load was told, and whether a server that has come back still says so.

A `Ledger` is read before a cut and judged after it: an answer that arrives while the power goes is
in no promise. `check` knows the HTTP API alone.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY: Final = "fault-test-key-0123456789"
PATIENCE_S: Final = 90.0
"""How long something may take on a crowded machine before a test says that it never came."""
SAMPLE: Final = 40
"""So many runs of each kind are asked for one by one."""


@dataclass
class Ledger:
    """The facts, by kind."""

    started: dict[str, int] = field(default_factory=dict[str, int])
    """Runs of `tiny` by their input."""
    keys: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Idempotency keys by the run and the input."""
    seen: dict[str, Any] = field(default_factory=dict[str, Any])
    """Completed runs by the result that was shown."""
    boxes: dict[str, str] = field(default_factory=dict[str, str])
    letters: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    cancelled: set[str] = field(default_factory=set[str])
    known: set[str] = field(default_factory=set[str])
    """Runs that a list has shown, acknowledged or not."""
    wrong: list[Any] = field(default_factory=list[Any])
    _read_bytes: int = 0

    @property
    def acknowledged(self) -> int:
        """How many promises there are."""
        letters = sum(map(len, self.letters.values()))
        return len(self.started) + len(self.boxes) + letters + len(self.cancelled)

    def read(self, path: Path) -> None:
        """Take in what the file says beyond what was read before.

        Its last line may be half written yet: it is left for the next time.
        """
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._read_bytes += whole
        for line in data[:whole].splitlines():
            fact, what = json.loads(line)
            self.take(fact, what)

    def take(self, fact: str, what: Any) -> None:
        """Take one fact in."""
        match fact:
            case "started":
                self.started.update(what)
            case "keyed":
                run, value, key = what
                self.started[run] = value
                self.keys[key] = run, value
            case "seen":
                run, result = what
                self.seen[run] = result
            case "box":
                run, box = what
                self.boxes[run] = box
            case "letter":
                run, letter = what
                self.letters.setdefault(run, []).append(letter)
            case "cancelled":
                self.cancelled.add(what)
            case _:
                self.wrong.append(what)

    def run_again(self, step_log: Path) -> list[str]:
        """Return which steps of runs that were seen completed are in the log all the same."""
        rows = [line.split(" ") for line in step_log.read_text().splitlines()]
        return [
            f"{run}: step {key} ran again after its end was told"
            for _, _, run, key, _ in rows
            if run in self.seen
        ]


def check(ledger: Ledger, url: str) -> list[str]:
    """Return what is broken of the promises in the ledger."""
    with _client(url) as http:
        return _Check(ledger, http).run()


def known_runs(url: str) -> set[str]:
    """Return the ids of all runs that the server lists."""
    with _client(url) as http:
        return set(rows_of(http))


def rows_of(http: httpx.Client) -> dict[str, Any]:
    """Return all runs that the server lists, by id."""
    rows: dict[str, Any] = {}
    query: dict[str, Any] = {"limit": 200}
    while True:
        answer = http.get("/runs", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        rows |= {row["id"]: row for row in page["runs"]}
        if not page["nextCursor"]:
            return rows
        query["cursor"] = page["nextCursor"]


def _client(url: str) -> httpx.Client:
    headers = {"X-API-Key": KEY}
    return httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False)


class _Check:
    def __init__(self, ledger: Ledger, http: httpx.Client) -> None:
        self.ledger = ledger
        self.http = http
        self.faults = [f"refused: {wrong}" for wrong in ledger.wrong]

    def run(self) -> list[str]:
        rows = rows_of(self.http)
        told = self.ledger
        for run in [*told.started, *told.boxes, *told.cancelled, *told.known]:
            if run not in rows:
                self.faults.append(f"lost: {run}")
        try:
            self._check_cancelled(rows)
            self._check_keys()
            self._check_results()
            for run, box in self.ledger.boxes.items():
                if run in rows:
                    self._check_box(run, box)
        except AssertionError as error:
            # What was found before it is told with it.
            self.faults.append(str(error))
        return self.faults

    def _check_cancelled(self, rows: dict[str, Any]) -> None:
        for run in self.ledger.cancelled & rows.keys():
            row = rows[run]
            if row["status"] != "cancelled" and row.get("state") != "cancelling":
                self.faults.append(f"{run} was cancelled and is {row['status']}")

    def _check_keys(self) -> None:
        for key, (run, value) in _some(self.ledger.keys):
            answer = self.http.post("/trigger/tiny", json=value, headers={"Idempotency-Key": key})
            if answer.status_code != 200 or answer.json()["runId"] != run:
                self.faults.append(f"key {key} gave {run}, now {answer.text}")

    def _check_results(self) -> None:
        """All runs come to their end, and what was shown is shown again."""
        until(lambda: not self._get("/runs", {"status": "running", "workflowId": "tiny"})["runs"])
        for run, value in _some(self.ledger.started):
            self._check_result(run, value * 4)
        for run, result in _some(self.ledger.seen):
            self._check_result(run, result)

    def _check_result(self, run: str, result: Any) -> None:
        answer = self.http.get(f"/runs/{run}")
        if answer.status_code != 200 or answer.json().get("result") != result:
            self.faults.append(f"{run}: {result} was promised, now {answer.text}")

    def _check_box(self, run: str, box: str) -> None:
        """Each acknowledged letter is there, in order; the one under way may be, and twice."""
        told = self.ledger.letters.get(run, [])
        if "end" not in told:
            answer = self.http.post(f"/notify/mail-{box}", json="end")
            if answer.status_code != 200:
                shown = self._get(f"/runs/{run}", {})
                if shown["status"] == "running":
                    self.faults.append(f"{run} waits for mail-{box}, which gives {answer.text}")
                    return
        shown = until(lambda: (s := self._get(f"/runs/{run}", {}))["status"] != "running" and s)
        letters = shown["result"]
        # A letter whose answer was lost was sent again, so it may have come twice.
        got = [letter for at, letter in enumerate(letters) if letter not in letters[:at]]
        if got[: len(told)] != told or got != [*range(len(got) - 1), "end"]:
            self.faults.append(f"{run} was promised {told}, has {got}")

    def _get(self, path: str, query: dict[str, Any]) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()


def until(
    what: Callable[[], Any], say: Callable[[], str] = lambda: "", within_s: float = PATIENCE_S
) -> Any:
    """Return what `what` returns once it is true."""
    ends = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < ends, f"never came true: {say()}"
        time.sleep(0.02)
    return found


def _some(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the first, the last and some between: the last one is the likeliest to be lost."""
    items = list(facts.items())
    return items[:: max(1, len(items) // SAMPLE)] + items[-5:]
