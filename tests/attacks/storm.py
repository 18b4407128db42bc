"""A reconnect storm: a server with many open streams is killed and comes back.

Every client resumes by its last event id and ends with precisely the run's events: none missed,
none twice, whatever was under way when the process was killed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import httpx

from stepflow.client import Client
from tests.attacks.process import ServerProcess
from tests.cli_kit import PROGRAM
from tools.ports import free_port

__all__ = ["reconnect_storm"]

KEY: Final = "storm-key-0123456789abcdef"
TICKS: Final = 30
_HOST: Final = Path(__file__).with_name("storm_host.py")
_WITHIN_S: Final = 300.0

Seen = list[tuple[int, str, bytes]]


async def reconnect_storm(streams: int, kills: int, where: Path) -> int:
    """Hold so many streams through so many kills; return how many clients came back each time.

    Raises `AssertionError` when a client has missed an event, or has one twice.
    """
    port = free_port()
    log = where / "log"
    env = {
        "STEPFLOW_API_KEYS": KEY,
        "STEPFLOW_DATA_DIR": str(where / "data"),
        "STEPFLOW_LOG_LEVEL": "warning",
    }
    server = ServerProcess([*PROGRAM, "serve", str(_HOST)], log, port, **env)
    try:
        await asyncio.to_thread(server.until_ready)
        run = _trigger(server.url)
        crowd = _Crowd(server.url, run, streams)
        for number in range(1, kills + 1):
            await crowd.until_each_has(4 * number)
            server.kill()
            server = ServerProcess([*PROGRAM, "serve", str(_HOST)], log, port, **env)
            await asyncio.to_thread(server.until_ready)
        seen = await crowd.all()
        fresh = await _read(server.url, run, [])
    finally:
        server.kill()
    assert fresh[-1][1] == "complete"
    assert [number for number, _, _ in fresh] == sorted({number for number, _, _ in fresh})
    wrong = [one for one in seen if one != fresh]
    assert not wrong, f"{len(wrong)} of {streams} clients differ; the first saw {wrong[0]}"
    return streams * kills


def _trigger(url: str) -> str:
    reply = httpx.post(f"{url}/trigger/ticks", json=TICKS, headers={"X-API-Key": KEY}, timeout=60)
    run: str = reply.json()["runId"]
    return run


class _Crowd:
    """Clients that all watch one run."""

    def __init__(self, url: str, run: str, count: int) -> None:
        self._seen: list[Seen] = [[] for _ in range(count)]
        self._tasks = [asyncio.create_task(_read(url, run, seen)) for seen in self._seen]

    async def until_each_has(self, events: int) -> None:
        async with asyncio.timeout(_WITHIN_S):
            while min(map(len, self._seen)) < events:
                failed = [task for task in self._tasks if task.done() and task.exception()]
                assert not failed, failed[0].exception()
                await asyncio.sleep(0.05)

    async def all(self) -> list[Seen]:
        async with asyncio.timeout(_WITHIN_S):
            return await asyncio.gather(*self._tasks)


async def _read(url: str, run: str, seen: Seen) -> Seen:
    async with Client(url, api_key=KEY) as client:
        async for event in client.stream(run):
            if event.id:
                seen.append((event.id, event.event, bytes(event.data)))
    return seen
