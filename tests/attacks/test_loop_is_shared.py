"""A caller's largest bodies are checked in slices: between two slices others have their turn."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.attacks.door import Door, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.wire import Reply


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as opened:
        yield opened


async def others_turns(door: Door, request: Request) -> tuple[Reply, int]:
    """Return the answer, and how often something else had its turn before it came."""
    asking = asyncio.ensure_future(door.ask_soon(request))
    turns = 0
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    return await asking, turns


def test_a_batch_of_many_brackets_is_checked_in_slices(door: Door) -> None:
    one = b"[" + b",".join([b"[" * 40 + b"]" * 40] * 200) + b"]"
    body = b"[" + b",".join([one] * 100) + b"]"
    request = Request("POST", "/trigger/echo/batch", door.as_admin(), body)
    reply, turns = door.runner.run(others_turns(door, request))
    assert reply.status == 200
    assert len(json.loads(reply.body)) == 100
    # One slice is 32 KiB, which is two of these inputs.
    assert turns > 40


def test_a_batch_that_is_checked_when_the_server_stops_starts_nothing(door: Door) -> None:
    one = b"[" + b",".join([b"[" * 40 + b"]" * 40] * 200) + b"]"
    body = b"[" + b",".join([one] * 100) + b"]"
    request = Request("POST", "/trigger/echo/batch", door.as_admin(), body)

    async def stop_meanwhile() -> Reply:
        asking = asyncio.ensure_future(door.ask_soon(request))
        for _ in range(10):
            await asyncio.sleep(0)
        door.engine.begin_shutdown()
        return await asking

    reply = door.runner.run(stop_meanwhile())
    assert reply.status == 503
    assert json.loads(reply.body)["code"] == "UNAVAILABLE"
