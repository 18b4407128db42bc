"""An emit that is not durable reaches both clients over HTTP, and the run's handle, once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from served import KEY, served

from stepflow import Context, Stepflow, current_step
from stepflow.client import Client, SyncClient
from stepflow.config import MEMORY


def flow_that_talks() -> Stepflow:
    flow = Stepflow(MEMORY)

    async def talk() -> None:
        await current_step().emit("passing", durable=False)
        await current_step().emit("kept")

    @flow.workflow("talks")
    async def talks(ctx: Context) -> None:
        await ctx.wait_for_event("go", "go", timeout=None)
        await ctx.step("talk", talk)

    return flow


def test_both_clients_show_it_and_a_second_look_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    ready = threading.Barrier(3)

    def is_waiting(event: Any) -> bool:
        return event.event == "status" and event.json().get("kind") == "event"

    def read(url: str, run_id: str, found: list[Any]) -> None:
        with SyncClient(url, KEY) as client:
            for event in client.stream(run_id):
                if is_waiting(event):
                    ready.wait()
                found.append(event)

    async def read_on(url: str, run_id: str, found: list[Any]) -> None:
        async with Client(url, KEY) as client:
            async for event in client.stream(run_id):
                if is_waiting(event):
                    ready.wait()
                found.append(event)

    with served(flow_that_talks()) as url, SyncClient(url, KEY) as client:
        run_id = client.trigger("talks", None).id
        found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        readers = [
            threading.Thread(target=read, args=(url, run_id, found[0])),
            threading.Thread(target=lambda: asyncio.run(read_on(url, run_id, found[1]))),
        ]
        for reader in readers:
            reader.start()
        ready.wait()
        client.notify("go", 1)
        for reader in readers:
            reader.join()
        found[2].extend(client.stream(run_id))
    told = [[e.json() for e in events if e.event == "emit"] for events in found]
    both = [
        {"name": "talk", "data": data, "step": "talk#1", "attempt": 1}
        for data in ("passing", "kept")
    ]
    assert told == [both, both, both[1:]]
    assert [e.event for e in found[0]][-1] == "complete"


@pytest.mark.asyncio
async def test_the_handle_of_a_run_shows_it() -> None:
    flow = flow_that_talks()
    told: list[tuple[int, Any]] = []
    async with flow:
        run = await flow.trigger("talks")
        async for event in run.stream():
            if event.event == "status" and event.json().get("kind") == "event":
                await flow.notify("go", 1)
            if event.event == "emit":
                told.append((event.id, event.json()["data"]))
    assert [(bool(number), data) for number, data in told] == [(False, "passing"), (True, "kept")]
