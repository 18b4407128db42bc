"""A client that trusts nothing: `python checker.py URL KEY STEP_LOG ACKS RUNS SUBSCRIBERS SEED`.

It knows Stepflow by its HTTP API alone. It keeps runs in flight, follows them on streams that it
drops and resumes at random, and writes down what it was told and when. When its standard input
ends it lets everything finish, then checks:

1. each acknowledged run exists and has the right result;
2. no step whose completion it was told of, on a stream or by a GET, ran after that moment;
3. the events with an id that each subscriber put together equal a fresh read, without a repeat;
4. the same idempotency key never gave two runs;
5. each acknowledged event reached its run, in order.

It prints a report as JSON and exits with 1 when a claim is broken.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_PAUSE_S = 0.02
_STARTERS = 6
_SENDERS = 4


@dataclass
class Run:
    """What the checker was told of one run."""

    id: str
    number: int
    token: str
    told: dict[str, float] = field(default_factory=dict)
    """Step keys by the moment the checker was told that they had completed."""
    events: list[list[tuple[int, str, str]]] = field(default_factory=list)
    """What each subscriber has put together: (id, event, data)."""
    result: Any = None
    done: bool = False


def expected(number: int) -> int:
    """Return the right result of `mixed`."""
    return (
        number * 2
        + sum(k * k for k in range(4))
        + sum(2 * k for k in range(5))
        + (number + 1)
        + 2 * number
    )


class Checker:
    """One client with many hands."""

    def __init__(self, url: str, key: str, rng: random.Random, acks: Path) -> None:
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=100)
        self.http = httpx.AsyncClient(base_url=url, limits=limits, timeout=30)
        self.headers = {"X-API-Key": key}
        self.rng = rng
        self.acks = acks.open("w")
        self.runs: list[Run] = []
        self.faults: list[str] = []
        self.stopping = False
        self.tiny: dict[str, int] = {}
        self.counts = {
            "letters": 0,
            "triggers": 0,
            "retries": 0,
            "resumes": 0,
            "gets": 0,
            "streams": 0,
        }

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST until there is an answer that says what happened."""
        while True:
            try:
                answer = await self.http.post(path, json=body, headers=self.headers | headers)
            except httpx.TransportError:
                self.counts["retries"] += 1
                await asyncio.sleep(_PAUSE_S)
                continue
            if answer.status_code == 503:  # starting, or the outcome is unknown
                self.counts["retries"] += 1
                await asyncio.sleep(_PAUSE_S)
                continue
            return answer

    async def trigger(self, number: int) -> Run:
        body = {"id": f"j{number}", "n": number}
        answer = await self.post("/trigger/mixed", body, **{"Idempotency-Key": f"k{number}"})
        if answer.status_code != 200:
            self.faults.append(f"trigger {number}: {answer.status_code} {answer.text}")
        told = answer.json()
        run = Run(told["runId"], number, told["publicAccessToken"])
        self.runs.append(run)
        self.counts["triggers"] += 1
        self.acks.write(run.id + "\n")
        self.acks.flush()
        return run

    async def get(self, run: Run) -> dict[str, Any]:
        while True:
            try:
                # A token where there is one; the key decides where both are given.
                query = {"token": run.token} if run.token else {}
                headers = {} if run.token else self.headers
                answer = await self.http.get(f"/runs/{run.id}", params=query, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(_PAUSE_S)
                continue
            if answer.status_code == 503:
                await asyncio.sleep(_PAUSE_S)
                continue
            if answer.status_code != 200:
                self.faults.append(f"acknowledged run {run.id}: GET gives {answer.status_code}")
                return {"status": "lost", "steps": []}
            self.counts["gets"] += 1
            shown: dict[str, Any] = answer.json()
            now = time.monotonic()
            for step in shown["steps"]:
                if step["status"] == "completed" and step["kind"] == "step":
                    run.told.setdefault(step["key"], now)
            return shown

    async def ended(self, run: Run) -> dict[str, Any]:
        """Return the run once it has ended."""
        while True:
            shown = await self.get(run)
            if shown["status"] != "running":
                return shown
            await asyncio.sleep(_PAUSE_S)

    async def live(self, number: int) -> None:
        """One run from its trigger to its end."""
        run = await self.trigger(number)
        notified = False
        while True:
            shown = await self.get(run)
            if shown["status"] != "running":
                break
            waiting = any(s["name"] == "go" for s in shown["steps"])
            if (waiting or self.rng.random() < 0.05) and not notified:
                answer = await self.post(f"/notify/go-j{number}", number)
                # An answer may have been lost: then the second one finds nobody.
                notified = answer.status_code in {200, 404}
            await asyncio.sleep(self.rng.uniform(0.01, 0.15))
        run.result = shown.get("result")
        run.done = True
        if shown["status"] != "completed" or run.result != expected(number):
            self.faults.append(f"run {run.id} ended {shown['status']} with {run.result!r}")

    async def subscribe(self, run: Run) -> None:
        """Follow a run to its end, dropping the stream at random and resuming by the last id."""
        got: list[tuple[int, str, str]] = []
        run.events.append(got)
        while True:
            headers = {"Last-Event-ID": str(got[-1][0])} if got else {}
            drop_after = self.rng.randint(1, 8)
            try:
                if await self._read(run, got, headers, drop_after):
                    return
            except (httpx.TransportError, httpx.StreamError):
                await asyncio.sleep(_PAUSE_S)
            self.counts["resumes"] += 1

    async def _read(
        self, run: Run, got: list[tuple[int, str, str]], headers: dict[str, str], drop_after: int
    ) -> bool:
        """Read events until the end (true), or until it is time to drop the stream."""
        self.counts["streams"] += 1
        async with self.http.stream(
            "GET", f"/runs/{run.id}/stream", params={"token": run.token}, headers=headers
        ) as answer:
            if answer.status_code == 204:
                return True
            if answer.status_code != 200:
                await asyncio.sleep(_PAUSE_S)
                return False
            block: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                    continue
                event, block = block, {}
                if "id" not in event:
                    if event.get("event") == "resync":
                        self.faults.append(f"run {run.id}: resync after {headers}")
                    continue
                self._take(run, got, event)
                if event["event"] in {"complete", "error"}:
                    return True
                drop_after -= 1
                if not drop_after:
                    return False
        return False

    def _take(self, run: Run, got: list[tuple[int, str, str]], event: dict[str, str]) -> None:
        got.append((int(event["id"]), event["event"], event["data"]))
        if event["event"] == "step":
            data = json.loads(event["data"])
            if data["status"] == "completed" and data["kind"] == "step":
                run.told.setdefault(data["key"], time.monotonic())

    async def starts(self, hand: int) -> None:
        """Start small runs without a pause: most kills find one that was just acknowledged."""
        for number in itertools.count():
            if self.stopping:
                break
            value = hand * 1_000_000 + number
            answer = await self.post("/trigger/tiny", value)
            self.tiny[answer.json()["runId"]] = value

    async def mails(self, hand: int) -> None:
        """Send numbered events to one run, each after the answer to the one before."""
        answer = await self.post(
            "/trigger/inbox", {"id": str(hand)}, **{"Idempotency-Key": f"box-{hand}"}
        )
        told, sent = answer.json(), 0
        while not self.stopping:
            # A lost answer is asked for again, so one letter may come twice.
            answer = await self.post(f"/notify/mail-{hand}", sent)
            if answer.status_code != 200:
                self.faults.append(f"letter {sent} to {told['runId']}: {answer.text}")
            sent += 1
        await self.post(f"/notify/mail-{hand}", "end")
        box = Run(told["runId"], hand, told["publicAccessToken"])
        shown = await self.ended(box)
        letters = [letter for letter, _ in itertools.groupby(shown.get("result", []))]
        self.counts["letters"] += sent
        if letters != [*range(sent), "end"]:
            self.faults.append(f"{box.id} got {letters[-5:]} of {sent} letters")

    async def load(self, in_flight: int, subscribers: int) -> None:
        """Keep so many runs in flight and so many subscribers on them until told to stop."""
        number = 0
        hands = [asyncio.create_task(self.starts(hand)) for hand in range(_STARTERS)]
        hands += [asyncio.create_task(self.mails(hand)) for hand in range(_SENDERS)]
        lives: set[asyncio.Task[None]] = set()
        streams: set[asyncio.Task[None]] = set()
        while not self.stopping:
            while len(lives) < in_flight:
                lives.add(asyncio.create_task(self.live(number)))
                number += 1
            open_runs = [run for run in self.runs if not run.done]
            while len(streams) < subscribers and open_runs:
                streams.add(asyncio.create_task(self.subscribe(self.rng.choice(open_runs))))
            await asyncio.wait(lives | streams, timeout=0.05, return_when="FIRST_COMPLETED")
            lives = {task for task in lives if not _over(task)}
            streams = {task for task in streams if not _over(task)}
        for task in [*lives, *streams, *hands]:
            await task

    async def check(self, step_log: Path) -> None:
        """Check every claim that is left."""
        if len({run.id for run in self.runs}) != len(self.runs):
            self.faults.append("one run was given to two idempotency keys")
        for run_id, value in self.tiny.items():
            shown = await self.ended(Run(run_id, value, ""))
            if shown.get("result") != 2 * value:
                self.faults.append(f"{run_id}, acknowledged, is {shown['status']}")
        await self._check_streams()
        told = {(run.id, key): at for run in self.runs for key, at in run.told.items()}
        for line in step_log.read_text().splitlines():  # noqa: ASYNC240  nothing else runs now
            at, run_id, key, _ = line.split(" ")
            known = told.get((run_id, key))
            if known is not None and float(at) > known:
                self.faults.append(f"{run_id}: step {key} ran again after its completion was told")

    async def _check_streams(self) -> None:
        for run in self.runs:
            if not run.events:
                continue
            fresh: list[tuple[int, str, str]] = []
            await self._read(run, fresh, {}, 10**9)
            for got in run.events:
                if got != fresh:
                    self.faults.append(f"{run.id}: a subscriber got {got}, a fresh read {fresh}")


def _over(task: asyncio.Task[None]) -> bool:
    if task.done():
        task.result()
    return task.done()


async def main() -> int:
    url, key, step_log, acks, in_flight, subscribers, seed = sys.argv[1:]
    checker = Checker(url, key, random.Random(int(seed)), Path(acks))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(setattr, checker, "stopping", True)

    stopper = loop.run_in_executor(None, stop)
    await checker.load(int(in_flight), int(subscribers))
    await stopper
    await checker.check(Path(step_log))
    report = {
        "runs": len(checker.runs) + len(checker.tiny),
        **checker.counts,
        "faults": checker.faults[:20],
    }
    print(json.dumps(report))  # noqa: T201  its one output
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
