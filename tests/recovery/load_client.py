"""A client that keeps Stepflow busy and writes down what it was told. Speaks HTTP, trusts nothing.

It drives the workflows of `crash_app.py`: runs that it follows by GET and on streams that it
drops and resumes at random (`mixed`), small ones started without a pause (`tiny`), numbered letters
to one run (`inbox`), runs that go on until they are cancelled (`held`). The server may die and come
back: every call is made again until there is an answer that says what happened.

Before each call its intent goes into the ledger, after it what was answered; both are on disk
before the client goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine

    from tests.recovery.ledger import Ledger

__all__ = ["LoadClient", "expected"]

PAUSE_S = 0.02
_STARTERS = 6
_SENDERS = 4
_CANCELLERS = 3
_COUNTS = ("triggers", "letters", "cancels", "retries", "resumes", "gets", "streams")


@dataclass
class Followed:
    """A run that is in flight."""

    id: str
    number: int
    token: str
    done: bool = False
    told: set[str] = field(default_factory=set[str])


@dataclass
class Reader:
    """One subscriber, through all its connections."""

    number: int
    last: int = -1
    """Id of the last event that it has."""


def expected(number: int) -> int:
    """Return the right result of `mixed`."""
    squares = sum(k * k for k in range(4))
    return number * 2 + squares + sum(2 * k for k in range(5)) + (number + 1) + 2 * number


class LoadClient:
    """One client with many hands."""

    def __init__(self, url: str, key: str, rng: random.Random, ledger: Ledger) -> None:
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=100)
        self.http = httpx.AsyncClient(base_url=url, limits=limits, timeout=30)
        self.headers = {"X-API-Key": key}
        self.rng = rng
        self.ledger = ledger
        self.stopping = False
        self.open: list[Followed] = []
        self.counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        self._readers = itertools.count()

    # ------------------------------------------------------------ calls

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """POST until there is an answer that says what happened."""
        self.ledger.note("inv", path=path, body=body, **headers)
        await self.ledger.synced()
        while True:
            try:
                answer = await self.http.post(path, json=body, headers=self.headers | headers)
            except httpx.TransportError:
                pass
            else:
                if answer.status_code != 503:  # starting, or the outcome is unknown
                    return answer
            self.counts["retries"] += 1
            await asyncio.sleep(PAUSE_S)

    async def told(self, kind: str, **fields: Any) -> None:
        """Write down what was acknowledged; return when the ledger has it on disk."""
        self.ledger.note(kind, **fields)
        await self.ledger.synced()

    async def trigger(self, workflow: str, value: Any, idem: str = "") -> dict[str, Any]:
        """Start a run; return its id and token."""
        headers = {"Idempotency-Key": idem} if idem else {}
        answer = await self.post(f"/trigger/{workflow}", value, **headers)
        if answer.status_code != 200:
            await self.told("fault", text=f"trigger {workflow} {value}: {answer.text}")
        row: dict[str, Any] = answer.json()
        await self.told("run", run=row["runId"], workflow=workflow, value=value, idem=idem)
        self.counts["triggers"] += 1
        return row

    async def get(self, run: Followed) -> dict[str, Any]:
        """Return the run as it is shown, with its steps and end written down."""
        # Every other one by its public token: that reads the same.
        by_token = run.number % 2 == 0
        query = {"token": run.token} if by_token else {}
        while True:
            try:
                answer = await self.http.get(
                    f"/runs/{run.id}", params=query, headers={} if by_token else self.headers
                )
            except httpx.TransportError:
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status_code == 503:
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status_code != 200:
                text = f"acknowledged run {run.id}: GET gives {answer.status_code}"
                await self.told("fault", text=text)
                return {"status": "lost", "steps": []}
            self.counts["gets"] += 1
            shown: dict[str, Any] = answer.json()
            self._note_steps(run, shown["steps"])
            return shown

    def _note_steps(self, run: Followed, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            done = step["status"] == "completed" and step["kind"] == "step"
            if done and step["key"] not in run.told:
                run.told.add(step["key"])
                self.ledger.note("step", run=run.id, key=step["key"], result=step["result"])

    async def ended(self, run: Followed) -> dict[str, Any]:
        """Return the run once it has ended."""
        while (shown := await self.get(run))["status"] in {"running", "pending"}:
            await asyncio.sleep(self.rng.uniform(0.01, 0.1))
        await self.told("end", run=run.id, status=shown["status"], result=shown.get("result"))
        return shown

    # ------------------------------------------------------------ hands

    async def follow(self, number: int) -> None:
        """One run of `mixed` from its trigger to its end."""
        told = await self.trigger("mixed", {"id": f"j{number}", "n": number}, f"k{number}")
        run = Followed(told["runId"], number, told["publicAccessToken"])
        self.open.append(run)
        notified = False
        while (shown := await self.get(run))["status"] == "running":
            waiting = any(step["name"] == "go" for step in shown["steps"])
            if (waiting or self.rng.random() < 0.05) and not notified:
                answer = await self.post(f"/notify/go-j{number}", number)
                # An answer may have been lost: then the second one finds nobody.
                notified = answer.status_code in {200, 404}
            await asyncio.sleep(self.rng.uniform(0.01, 0.15))
        run.done = True
        await self.told("end", run=run.id, status=shown["status"], result=shown.get("result"))

    async def subscribe(self, run: Followed) -> None:
        """Follow a run to its end, dropping the stream at random and resuming by the last id."""
        reader = Reader(next(self._readers))
        while True:
            drop_after = self.rng.randint(1, 8)
            try:
                if await self._read(run, reader, drop_after):
                    return
            except (httpx.TransportError, httpx.StreamError):
                await asyncio.sleep(PAUSE_S)
            self.counts["resumes"] += 1

    async def _read(self, run: Followed, reader: Reader, drop_after: int) -> bool:
        """Read events until the end (true), or until it is time to drop the stream."""
        self.counts["streams"] += 1
        headers = {"Last-Event-ID": str(reader.last)} if reader.last >= 0 else {}
        async with self.http.stream(
            "GET", f"/runs/{run.id}/stream", params={"token": run.token}, headers=headers
        ) as answer:
            if answer.status_code == 204:
                return True
            if answer.status_code != 200:
                await asyncio.sleep(PAUSE_S)
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
                        self.ledger.note("fault", text=f"run {run.id}: resync after {headers}")
                    continue
                reader.last = int(event["id"])
                self._note_event(run, reader.number, event)
                if event["event"] in {"complete", "error"}:
                    return True
                drop_after -= 1
                if not drop_after:
                    return False
        return False

    def _note_event(self, run: Followed, reader: int, event: dict[str, str]) -> None:
        kind, data = event["event"], event["data"]
        self.ledger.note("event", run=run.id, s=reader, id=int(event["id"]), event=kind, data=data)
        if kind == "step":
            self._note_steps(run, [json.loads(data)])

    async def start_many(self, hand: int) -> None:
        """Start small runs without a pause: most kills find one that was just acknowledged."""
        for number in itertools.count():
            if self.stopping:
                return
            await self.trigger("tiny", hand * 1_000_000 + number)

    async def send_letters(self, hand: int) -> None:
        """Send numbered events to one run, each after the answer to the one before."""
        told = await self.trigger("inbox", {"id": str(hand)}, f"box-{hand}")
        for number in itertools.count():
            if self.stopping:
                break
            # A lost answer is asked for again, so one letter may come twice.
            answer = await self.post(f"/notify/mail-{hand}", number)
            if answer.status_code != 200:
                await self.told("fault", text=f"letter {number} to {hand}: {answer.text}")
            await self.told("letter", run=told["runId"], number=number)
            self.counts["letters"] += 1
        await self.post(f"/notify/mail-{hand}", "end")
        await self.ended(Followed(told["runId"], hand, told["publicAccessToken"]))

    async def cancel_many(self, hand: int) -> None:
        """Start runs that would never end, and cancel them."""
        for number in itertools.count():
            if self.stopping:
                return
            told = await self.trigger("held", number, f"held-{hand}-{number}")
            await asyncio.sleep(self.rng.uniform(0.0, 0.4))
            answer = await self.post(f"/runs/{told['runId']}/cancel")
            # 409: an answer was lost, and the run has ended of it meanwhile.
            if answer.status_code not in {200, 409}:
                await self.told("fault", text=f"cancel {told['runId']}: {answer.text}")
            await self.told("cancel", run=told["runId"])
            self.counts["cancels"] += 1
            await self.ended(Followed(told["runId"], number, told["publicAccessToken"]))

    async def load(self, in_flight: int, subscribers: int) -> None:
        """Keep so many runs in flight and so many subscribers on them until told to stop."""
        numbers = itertools.count()
        hands: list[Coroutine[Any, Any, None]] = [
            *(self.start_many(hand) for hand in range(_STARTERS)),
            *(self.send_letters(hand) for hand in range(_SENDERS)),
            *(self.cancel_many(hand) for hand in range(_CANCELLERS)),
        ]
        lives = {asyncio.ensure_future(hand) for hand in hands}
        streams: set[asyncio.Future[None]] = set()
        fixed = len(lives)
        while not self.stopping:
            while len(lives) < in_flight + fixed:
                lives.add(asyncio.ensure_future(self.follow(next(numbers))))
            self.open = [run for run in self.open if not run.done]
            while len(streams) < subscribers and self.open:
                run = self.rng.choice(self.open)
                streams.add(asyncio.ensure_future(self.subscribe(run)))
            await asyncio.wait(lives | streams, timeout=0.05, return_when="FIRST_COMPLETED")
            lives = {task for task in lives if not _over(task)}
            streams = {task for task in streams if not _over(task)}
        await asyncio.gather(*lives, *streams)


def _over(task: asyncio.Future[None]) -> bool:
    if task.done():
        task.result()
    return task.done()
