"""A service under load is ended and the next process takes over; what its clients saw of it.

The clients are the product's own: each stream follows one run to its end, each trigger is sent with
a key of its own and again until it is answered. There are two ways to hand over:

`socket`: the listening socket outlives both processes, as under systemd's socket activation. The
next process is started first, loads everything, and waits for the directory's lock without taking
connections; then the first gets SIGTERM. Whoever comes in between queues at the socket.

`port`: the first gets SIGTERM, ends its streams and shuts its port; then the next is started, takes
the port and waits for the lock; meanwhile its routes answer 503 (the first one is kept in its
`stop` until the next says that it waits).

Either way the first leaves, the next recovers and serves, and streams go on after their last event.
Of each restart it is noted when what happened, so that the gap can be told by its parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from stepflow.client import Client
from tests.cli_kit import Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "restart-test-key-0123456789"
_TRIES = 60

APP = """
from __future__ import annotations

import asyncio
from pathlib import Path

from stepflow import Context, Stepflow

flow = Stepflow()
real_stop = flow.engine.stop


async def stop() -> None:
    # Leave when the next process has said that it waits for this one.
    while Path("next").exists():
        await asyncio.sleep(0.01)
    await real_stop()


flow.engine.stop = stop


async def same(number: int) -> int:
    return number


@flow.workflow(events=["the-end"])
async def beats(ctx: Context, plan: dict[str, int]) -> int:
    for number in range(plan["count"]):
        await ctx.sleep(f"before-{number}", plan["every_ms"] / 1000)
        await ctx.step(f"beat-{number}", same, number)
    # So that every stream is open at every restart.
    await ctx.wait_for_event("end", "the-end", timeout=None)
    return plan["count"]


@flow.workflow()
async def once(ctx: Context, number: int) -> int:
    return await ctx.step("same", same, number)
"""


@dataclass(frozen=True, slots=True)
class Load:
    streams: int
    triggers_per_s: int
    restarts: int = 1
    beats: int = 10
    every_ms: int = 300
    way: str = "socket"


PARTS = {
    "ended": "open streams end",
    "warm": "the next process starts and imports",
    "left": "the first one drains and leaves",
    "ready": "the next one takes the lock and recovers",
    "reopened": "the clients' streams are open again",
}


class Restart:
    """When what happened in one restart, in seconds of one clock."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.at: dict[str, float] = {}

    def note(self, part: str) -> None:
        self.at[part] = time.monotonic()

    def parts(self) -> dict[str, float]:
        """Return how long each part took; one that was over before it could matter is left out."""
        found: dict[str, float] = {}
        before = self.begun
        for part, when in sorted(self.at.items(), key=lambda each: each[1]):
            found[part] = max(0.0, when - before)
            before = max(before, when)
        return found

    def line(self) -> str:
        parts = self.parts()
        whole = sum(parts.values()) or 1.0
        told = (f"{took / whole:4.0%} {PARTS[part]}" for part, took in parts.items())
        return f"{whole:.2f} s from SIGTERM until the last stream is open again: {'; '.join(told)}"


class Timed(httpx.AsyncHTTPTransport):
    """A network that notes when streams open and end."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None, keepalive_expiry=2))
        self.opened: list[float] = []
        self.ended: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if not request.url.path.endswith("/stream") or response.status_code != 200:
            return response
        self.opened.append(time.monotonic())
        body = _Watched(response.stream, self.ended)
        return httpx.Response(200, headers=response.headers, stream=body)


class _Watched(httpx.AsyncByteStream):
    def __init__(self, whole: Any, ended: list[float]) -> None:
        self._whole = whole
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._whole:
                yield chunk
        finally:
            self._ended.append(time.monotonic())

    async def aclose(self) -> None:
        await self._whole.aclose()


@dataclass
class Seen:
    """What the clients saw. Gaps are in seconds and for reading: no test asks how long they are."""

    triggers: int = 0
    streams: int = 0
    events: int = 0
    stream_gap_s: float = 0.0
    trigger_gap_s: float = 0.0
    waits_for_the_lock: int = 0
    restarts: list[Restart] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def lines(self) -> str:
        return (
            f"{self.streams:,} streams, {self.events:,} events: none missed, none twice\n"
            f"{self.triggers:,} triggers: each answered, each run once\n"
            f"longest gap of a stream {self.stream_gap_s:.2f} s, "
            f"longest time until a trigger was answered {self.trigger_gap_s:.2f} s\n"
            + "\n".join(restart.line() for restart in self.restarts)
            if not self.faults
            else "\n".join(["LOST", *self.faults])
        )


class Place:
    """One directory and one port, and the processes that serve them in turn."""

    def __init__(self, root: Path, way: str) -> None:
        self.root = root
        (root / "flows.py").write_text(APP)
        self.listener = _listening() if way == "socket" else None
        self.serving = self._start(0)
        self.serving.says("is ready")
        self.port = self.listener.getsockname()[1] if self.listener else self.serving.port

    def _start(self, port: int) -> Served:
        settings = {"STEPFLOW_API_KEYS": KEY, "STEPFLOW_LOCK_WAIT_S": "120"}
        handed = None
        if self.listener is not None:
            handed = self.listener.fileno()
            # Nobody is refused, so nobody need keep away.
            settings["STEPFLOW_STREAM_RETRY_MS"] = "100"
        return Served("flows.py", cwd=self.root, port=port, handed=handed, **settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hand_over(self) -> Restart:
        """End the process; the next has to wait for the lock. Return when what happened."""
        if self.listener is not None:
            return self._by_socket()
        return self._by_port()

    def _by_socket(self) -> Restart:
        first, self.serving = self.serving, self._start(0)
        self.serving.says("waiting for the data directory")
        restart = Restart()
        first.signal(signal.SIGTERM)
        return self._await(first, restart)

    def _by_port(self) -> Restart:
        first, held = self.serving, self.root / "next"
        held.touch()
        restart = Restart()
        try:
            first.signal(signal.SIGTERM)
            while _answers(self.port):
                time.sleep(0.005)
            self.serving = self._start(self.port)
            self.serving.says("waiting for the data directory")
            restart.note("warm")
        finally:
            held.unlink()
        return self._await(first, restart)

    def _await(self, first: Served, restart: Restart) -> Restart:
        code = first.wait()
        restart.note("left")
        assert code == 0, first.err
        self.serving.says("is ready")
        restart.note("ready")
        return restart

    def close(self) -> None:
        self.serving.stop()
        if self.listener is not None:
            self.listener.close()


def _listening() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(4096)
    return made


def _answers(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def restart_under(load: Load, root: Path) -> Seen:
    """Put the load on a service in `root`, restart it, and return what was seen."""
    place = await asyncio.to_thread(Place, root, load.way)
    seen = Seen()
    try:
        # A client for each of the crowd's halves: a stream takes a connection for itself.
        network = Timed()
        async with (
            Client(place.url, KEY, tries=_TRIES, transport=network) as streams,
            Client(place.url, KEY, tries=_TRIES) as calls,
        ):
            await _under(place, load, seen, streams, calls, network)
    finally:
        await asyncio.to_thread(place.close)
    return seen


async def _under(
    place: Place, load: Load, seen: Seen, streams: Client, calls: Client, network: Timed
) -> None:
    plan = {"count": load.beats, "every_ms": load.every_ms}
    answers = await calls.trigger_many("beats", [plan] * load.streams)
    runs = [each.id for each in answers if not isinstance(each, Exception)]
    assert len(runs) == load.streams, answers
    opened = asyncio.Semaphore(0)
    followers = [asyncio.create_task(_follow(streams, run, seen, opened)) for run in runs]
    for _ in runs:
        await opened.acquire()
    over = asyncio.Event()
    triggers = asyncio.create_task(_trigger(calls, load, seen, over))
    for _ in range(load.restarts):
        done = seen.triggers
        while seen.triggers < done + load.triggers_per_s // 2:
            await asyncio.sleep(0.01)
        network.opened.clear()
        network.ended.clear()
        restart = await asyncio.to_thread(place.hand_over)
        seen.waits_for_the_lock += 1
        while len(network.opened) < load.streams:
            await asyncio.sleep(0.01)
        restart.at["ended"] = sorted(network.ended)[load.streams - 1]
        restart.at["reopened"] = max(network.opened)
        seen.restarts.append(restart)
    assert not any(each.done() for each in followers)
    await calls.notify("the-end")
    histories = await asyncio.gather(*followers)
    over.set()
    await triggers
    for run, history in zip(runs, histories, strict=True):
        whole = [event.id async for event in streams.stream(run) if event.id]
        if history != whole:
            seen.faults.append(f"stream of {run}: {history}, and whole it is {whole}")


async def _follow(client: Client, run: str, seen: Seen, opened: asyncio.Semaphore) -> list[int]:
    ids: list[int] = []
    last_s = time.monotonic()
    first = True
    async for event in client.stream(run):
        if first:
            opened.release()
            first = False
            last_s = time.monotonic()
        seen.stream_gap_s = max(seen.stream_gap_s, time.monotonic() - last_s)
        last_s = time.monotonic()
        if event.id:
            ids.append(event.id)
    seen.streams += 1
    seen.events += len(ids)
    return ids


async def _trigger(client: Client, load: Load, seen: Seen, over: asyncio.Event) -> None:
    """Trigger at the rate, whatever becomes of those before; then look for each run."""
    sent: dict[int, asyncio.Task[Any]] = {}
    start_s = time.monotonic()
    while not over.is_set():
        number = len(sent)
        sent[number] = asyncio.create_task(_one(client, number, seen))
        await asyncio.sleep(max(0, start_s + number / load.triggers_per_s - time.monotonic()))
    answered = {number: await task for number, task in sent.items()}
    for number, run in answered.items():
        result = await client.result(run)
        if result != number:
            seen.faults.append(f"trigger {number}: {run} has the result {result}")
    runs = [run.id async for run in client.iter_runs(workflow_id="once")]
    if sorted(runs) != sorted(answered.values()):
        seen.faults.append(f"{len(runs)} runs of {len(answered)} triggers")


async def _one(client: Client, number: int, seen: Seen) -> str:
    began_s = time.monotonic()
    started = await client.trigger("once", number)
    seen.trigger_gap_s = max(seen.trigger_gap_s, time.monotonic() - began_s)
    seen.triggers += 1
    return started.id
