"""Raced calls on one run must look as if they had come one after the other: linearizability.

`python -m tests.recovery.wgl_check --url URL --key KEY [--rounds N] [--seed N] [--limit-s S]`

Each round races a handful of calls on one new run of `race` (crash_app.py): triggers with the same
idempotency key, notifies, cancels, reads. When each began and ended is written down, and a search
after Wing and Gong looks for an order that fits the clock and this little machine::

    none ─trigger─► waiting ─notify v─► got v ─(by itself)─► completed v
                       └────── cancel ────┴──► cancelling ─(by itself)─► cancelled

A call whose answer was lost may have happened at any time since, or not at all. A report is printed
as one line of JSON; no order for a round is an exit with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Call", "State", "linearizable", "next_states"]

_LIVE: Final = frozenset({"waiting", "got", "cancelling"})
_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what was asked, what came back, when. `answer` None: nobody knows."""

    kind: str
    value: Any
    answer: tuple[Any, ...] | None
    began: float
    ended: float = math.inf


@dataclass(frozen=True, slots=True)
class State:
    """Where the run is."""

    name: str = "none"
    run_id: str = ""
    value: Any = None


def _by_itself(state: State) -> Iterator[State]:
    """Give the state itself, and the one that it may have come to meanwhile."""
    yield state
    if state.name == "got":
        yield State("completed", state.run_id, state.value)
    if state.name == "cancelling":
        yield State("cancelled", state.run_id)


def next_states(state: State, call: Call) -> Iterator[State]:
    """Give every state in which the call may leave a run that is in this one, with its answer."""
    for now in _by_itself(state):
        answer, after = _apply(now, call)
        if call.answer is None or call.answer == answer:
            yield after


def _apply(now: State, call: Call) -> tuple[tuple[Any, ...], State]:
    """Return the answer to a call in this state, and the state after it."""
    match call.kind:
        case "trigger" if now.name == "none":
            run_id = call.answer[1] if call.answer else "?"
            return (200, run_id), State("waiting", run_id)
        case "trigger":
            # A trigger whose answer was lost made it: now its id is known.
            known = now.run_id if now.run_id != "?" or not call.answer else call.answer[1]
            return (200, known), State(now.name, known, now.value)
        case "notify" if now.name == "waiting":
            return (200,), State("got", now.run_id, call.value)
        case "notify":
            return (200 if now.name in _LIVE else 404,), now
        case "cancel" if now.name in _LIVE:
            return (200,), State("cancelling", now.run_id)
        case "cancel":
            return (409,), now
        case _:
            return _read(now), now


def _read(now: State) -> tuple[Any, ...]:
    status = "running" if now.name in _LIVE else now.name
    return 200, status, now.value if now.name == "completed" else None


def linearizable(history: Sequence[Call]) -> bool:
    """Whether some order of the calls fits their times and their answers."""
    calls = sorted(history, key=lambda call: call.began)
    everything = (1 << len(calls)) - 1
    known = sum(1 << i for i, call in enumerate(calls) if call.answer is not None)
    seen: set[tuple[int, State]] = set()
    left: list[tuple[int, State]] = [(0, State())]
    while left:
        done, state = left.pop()
        if done & known == known:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        # Whatever ended before another began comes first.
        horizon = min(c.ended for i, c in enumerate(calls) if not done >> i & 1)
        for i, call in enumerate(calls):
            if not done >> i & 1 and call.began <= horizon:
                left += [(done | 1 << i, after) for after in next_states(state, call)]
    assert known & ~everything == 0
    return False


# ---------------------------------------------------------------- a real server


class Race:
    """Races calls on a server that may die."""

    def __init__(self, url: str, key: str, seed: int) -> None:
        self.http = httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=30)
        self.random = random.Random(seed)
        self.seed = seed
        self.unknown = 0

    async def round(self, number: int) -> list[Call]:
        """Race some calls on one run and return what happened."""
        name = f"{self.seed}-{number}"
        history: list[Call] = []
        made: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        tasks = [
            *(self.trigger(history, name, made) for _ in range(self.random.randint(1, 3))),
            *(self.notify(history, name, v) for v in range(self.random.randint(1, 3))),
            *(self.cancel(history, made) for _ in range(self.random.randint(0, 2))),
            *(self.read(history, made) for _ in range(self.random.randint(1, 4))),
        ]
        await asyncio.gather(*tasks)
        return history

    async def trigger(self, history: list[Call], name: str, made: asyncio.Future[str]) -> None:
        await self._jitter(0.0)
        while True:
            headers = {"Idempotency-Key": name}
            row = await self._call(history, "trigger", name, "/trigger/race", {"id": name}, headers)
            if row is not None:
                if not made.done():
                    made.set_result(row["runId"])
                return
            await asyncio.sleep(_PAUSE_S)

    async def notify(self, history: list[Call], name: str, value: int) -> None:
        await self._jitter(0.03)
        await self._call(history, "notify", value, f"/notify/race-{name}", value)

    async def cancel(self, history: list[Call], made: asyncio.Future[str]) -> None:
        run_id = await made
        await self._jitter(0.02)
        await self._call(history, "cancel", None, f"/runs/{run_id}/cancel", None)

    async def read(self, history: list[Call], made: asyncio.Future[str]) -> None:
        run_id = await made
        await self._jitter(0.05)
        await self._call(history, "get", None, f"/runs/{run_id}")

    async def _jitter(self, most_s: float) -> None:
        await asyncio.sleep(self.random.uniform(0, most_s))

    async def _call(
        self,
        history: list[Call],
        kind: str,
        value: Any,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Make one call once and write it down; return what it answered, None where unknown."""
        method = "GET" if kind == "get" else "POST"
        began = time.monotonic()
        try:
            answer = await self.http.request(
                method, path, json=None if kind == "get" else body, headers=headers
            )
        except httpx.TransportError:
            answer = None
        row = answer.json() if answer is not None and answer.status_code != 503 else None
        if answer is None or row is None:
            self.unknown += 1
            if kind != "get":
                history.append(Call(kind, value, None, began))
            return None
        told: tuple[Any, ...] = (answer.status_code,)
        if kind == "trigger":
            told = (*told, row["runId"])
        elif kind == "get":
            told = (*told, row["status"], row.get("result"))
        history.append(Call(kind, value, told, began, time.monotonic()))
        return row


async def check(url: str, key: str, rounds: int, seed: int, limit_s: float) -> dict[str, Any]:
    """Race so many rounds; return the report."""
    race = Race(url, key, seed)
    calls, faults = 0, list[str]()
    try:
        async with asyncio.timeout(limit_s):
            for number in range(rounds):
                history = await race.round(number)
                calls += len(history)
                if not linearizable(history):
                    rows = "; ".join(str(call) for call in history)
                    faults.append(f"seed {seed}, round {number}: no order fits {rows}")
    except TimeoutError:
        faults.append(f"{rounds} rounds were not done within {limit_s} s")
    finally:
        await race.http.aclose()
    return {"rounds": rounds, "calls": calls, "unknown": race.unknown, "faults": faults[:5]}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="wgl_check")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=120)
    options = parser.parse_args(arguments)
    report = asyncio.run(
        check(options.url, options.key, options.rounds, options.seed, options.limit_s)
    )
    print(json.dumps(report))  # noqa: T201  its one output
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
