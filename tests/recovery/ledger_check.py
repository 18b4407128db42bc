"""Does a server still keep what a ledger says was promised? Speaks HTTP, imports nothing of it.

1. Each acknowledged run exists; one idempotency key never gave two runs, and gives the same again.
2. A step that a client was told of has the result that it had, and did not run after that moment.
3. What each subscriber put together is the beginning of a fresh read: no gap, no repeat, no change.
4. A run that was told to have ended has the same end; each acknowledged run ends with its result.
5. Each acknowledged letter is in its box, in order.
6. After an acknowledged cancel no step began, and the run is cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from tests.recovery.load_client import PAUSE_S, expected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Facts", "check"]

_AT_ONCE = 32
_SHOWN = 20
_LIVE = frozenset({"running", "pending"})


@dataclass(frozen=True)
class Promised:
    """A run that was acknowledged."""

    workflow: str
    value: Any
    idem: str


@dataclass
class Facts:
    """A ledger, sorted by what it is about."""

    runs: dict[str, Promised] = field(default_factory=dict[str, Promised])
    steps: dict[str, dict[str, tuple[float, Any]]] = field(
        default_factory=dict[str, "dict[str, tuple[float, Any]]"]
    )
    """Run and step key to when it was told, and with which result."""
    streams: dict[tuple[str, int], list[tuple[int, str, str]]] = field(
        default_factory=dict["tuple[str, int]", "list[tuple[int, str, str]]"]
    )
    """(run, subscriber) to the events in the order in which they came."""
    ends: dict[str, tuple[str, Any]] = field(default_factory=dict[str, "tuple[str, Any]"])
    letters: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])
    cancels: dict[str, float] = field(default_factory=dict[str, float])
    faults: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> Facts:
        """Return the facts of a ledger's rows."""
        facts = cls()
        for row in rows:
            match row["k"]:
                case "run":
                    facts.add_run(row)
                case "step":
                    told = row["at"], row["result"]
                    facts.steps.setdefault(row["run"], {}).setdefault(row["key"], told)
                case "event":
                    stream = facts.streams.setdefault((row["run"], row["s"]), [])
                    stream.append((row["id"], row["event"], row["data"]))
                case "end":
                    facts.add_end(row)
                case "letter":
                    facts.letters.setdefault(row["run"], []).append(row["number"])
                case "cancel":
                    facts.cancels[row["run"]] = row["at"]
                case "fault":
                    facts.faults.append(row["text"])
                case _:
                    pass  # what was asked, not what was answered
        facts._check_keys()
        return facts

    def add_run(self, row: dict[str, Any]) -> None:
        """Take an acknowledged run; no two triggers may get the same one."""
        promised = Promised(row["workflow"], row["value"], row["idem"])
        if self.runs.setdefault(row["run"], promised) != promised:
            self.faults.append(f"run {row['run']} was given to two triggers")

    def add_end(self, row: dict[str, Any]) -> None:
        """Take an end; it may be told twice, but not differently."""
        end = row["status"], row["result"]
        if self.ends.setdefault(row["run"], end) != end:
            self.faults.append(f"run {row['run']} ended twice: {self.ends[row['run']]}, {end}")

    def _check_keys(self) -> None:
        by_key: dict[tuple[str, str], str] = {}
        for run_id, run in self.runs.items():
            place = run.workflow, run.idem
            if run.idem and by_key.setdefault(place, run_id) != run_id:
                self.faults.append(f"key {run.idem} gave {by_key[place]} and {run_id}")


class _Check:
    def __init__(
        self, url: str, key: str, facts: Facts, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self.http = httpx.AsyncClient(
            base_url=url, headers={"X-API-Key": key}, timeout=30, transport=transport
        )
        self.facts = facts
        self.faults = facts.faults
        self.gate = asyncio.Semaphore(_AT_ONCE)
        self.shown: dict[str, dict[str, Any]] = {}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Return the answer, asking again while the server starts or its answer is lost."""
        while True:
            try:
                answer = await self.http.request(
                    method, path, json=body if method == "POST" else None, headers=headers
                )
            except httpx.TransportError:
                pass
            else:
                if answer.status_code != 503:
                    return answer
            await asyncio.sleep(PAUSE_S)

    async def one(self, run_id: str, run: Promised, *, finish: bool) -> None:
        """Check one acknowledged run."""
        async with self.gate:
            shown = await self.get(run_id)
            if shown is None:
                self.faults.append(f"acknowledged run {run_id} is lost")
                return
            if run.idem:
                headers = {"Idempotency-Key": run.idem}
                again = await self.ask("POST", f"/trigger/{run.workflow}", run.value, **headers)
                if again.json().get("runId") != run_id:
                    self.faults.append(f"key {run.idem} gave {run_id}, then {again.text}")
            if finish and shown["status"] in _LIVE:
                shown = await self.finish(run_id, run)
            self.shown[run_id] = shown
            self.check_end(run_id, run, shown, finish=finish)
            self.check_steps(run_id, shown)

    async def get(self, run_id: str) -> dict[str, Any] | None:
        answer = await self.ask("GET", f"/runs/{run_id}")
        shown: dict[str, Any] = answer.json()
        return shown if answer.status_code == 200 else None

    async def finish(self, run_id: str, run: Promised) -> dict[str, Any]:
        """Do what lets the run end, and return it when it has."""
        while True:
            shown = await self.get(run_id)
            if shown is None:
                return {"status": "lost", "steps": []}
            if shown["status"] not in _LIVE:
                return shown
            waits = any(s["kind"] == "event" and s["status"] == "pending" for s in shown["steps"])
            match run.workflow:
                case "mixed" if waits:
                    await self.ask("POST", f"/notify/go-{run.value['id']}", run.value["n"])
                case "inbox":
                    await self.ask("POST", f"/notify/mail-{run.value['id']}", "end")
                case "held":
                    await self.ask("POST", f"/runs/{run_id}/cancel")
                case _:
                    pass
            await asyncio.sleep(PAUSE_S)

    def check_end(self, run_id: str, run: Promised, shown: dict[str, Any], *, finish: bool) -> None:
        end = shown["status"], shown.get("result")
        told = self.facts.ends.get(run_id)
        if told is not None and told != end:
            self.faults.append(f"{run_id} was told to have ended {told}, now {end}")
        if shown["status"] in _LIVE:
            if finish:
                self.faults.append(f"{run_id} did not end")
            return
        right: tuple[str, Any]
        match run.workflow:
            case "mixed":
                right = "completed", expected(run.value["n"])
            case "tiny":
                right = "completed", 2 * run.value
            case "held":
                right = "cancelled", None
            case _:
                right = "completed", end[1]
                self.check_letters(run_id, end[1])
        if end != right:
            self.faults.append(f"{run_id} of {run.workflow} ended {end}, should have {right}")

    def check_letters(self, run_id: str, result: Any) -> None:
        """Sent again when the answer was lost, a letter may come twice in a row."""
        numbers = [letter for letter, _ in itertools.groupby(result or [])]
        told = self.facts.letters.get(run_id, [])
        got = [letter for letter in numbers if letter != "end"]
        if got[: len(told)] != told or got != [*range(len(got))]:
            self.faults.append(f"{run_id} got {got[-5:]}, acknowledged were {told[-5:]}")

    def check_steps(self, run_id: str, shown: dict[str, Any]) -> None:
        now = {s["key"]: s.get("result") for s in shown["steps"] if s["status"] == "completed"}
        for key, (_, result) in self.facts.steps.get(run_id, {}).items():
            if key not in now or now[key] != result:
                was, shows = json.dumps(result), json.dumps(now.get(key))
                self.faults.append(f"{run_id}: step {key} was told {was}, now {shows}")

    async def streams(self) -> None:
        """Compare what each subscriber put together with a fresh read."""
        by_run: dict[str, list[list[tuple[int, str, str]]]] = {}
        for (run_id, _), got in self.facts.streams.items():
            by_run.setdefault(run_id, []).append(got)
        tasks = (self.stream(run_id, streams) for run_id, streams in by_run.items())
        await asyncio.gather(*tasks)

    async def stream(self, run_id: str, streams: list[list[tuple[int, str, str]]]) -> None:
        async with self.gate:
            highest = max(got[-1][0] for got in streams)
            fresh = await self.read(run_id, highest)
            for got in streams:
                if fresh[: len(got)] != got:
                    self.faults.append(f"{run_id}: a subscriber got {got}, a fresh read {fresh}")

    async def read(self, run_id: str, until: int) -> list[tuple[int, str, str]]:
        """Return the events of a fresh stream, up to the one with the id `until` or the end."""
        got: list[tuple[int, str, str]] = []
        async with self.http.stream("GET", f"/runs/{run_id}/stream") as answer:
            block: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                    continue
                event, block = block, {}
                if "id" in event:
                    got.append((int(event["id"]), event["event"], event["data"]))
                    if got[-1][0] >= until:
                        return got
        return got

    def check_step_log(self, step_log: Path) -> None:
        """No step ran after a client was told of its end, or of its run's cancel."""
        for line in step_log.read_text().splitlines():
            at, run_id, key, _ = line.split(" ")
            told = self.facts.steps.get(run_id, {}).get(key)
            if told is not None and float(at) > told[0]:
                self.faults.append(f"{run_id}: step {key} ran again after its end was told")
            if float(at) > self.facts.cancels.get(run_id, float("inf")):
                self.faults.append(f"{run_id}: step {key} began after the cancel was acknowledged")


async def check(
    url: str,
    key: str,
    rows: Iterable[dict[str, Any]],
    *,
    step_log: Path | None,
    finish: bool,
    limit_s: float,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Return a report; its `faults` are empty when every promise in the ledger is kept.

    `transport` takes the place of the network, for tests of the check itself.
    """
    facts = Facts.of(rows)
    checking = _Check(url, key, facts, transport)
    try:
        async with asyncio.timeout(limit_s):
            jobs = (checking.one(run_id, run, finish=finish) for run_id, run in facts.runs.items())
            await asyncio.gather(*jobs)
            await checking.streams()
    except TimeoutError:
        facts.faults.append(f"not all could be checked within {limit_s} s")
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        facts.faults.append(f"the server does not answer as it should: {error!r}")
    finally:
        await checking.http.aclose()
    if step_log is not None:
        checking.check_step_log(step_log)
    return {
        "runs": len(facts.runs),
        "steps": sum(map(len, facts.steps.values())),
        "events": sum(map(len, facts.streams.values())),
        "ends": len(facts.ends),
        "letters": sum(map(len, facts.letters.values())),
        "cancels": len(facts.cancels),
        "faults": facts.faults[:_SHOWN],
    }
