"""A reader of all runs over kills of the server: each event once, in order, none lost."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from stepflow.client import SyncClient
from stepflow.errors import ApiError
from tests.plenty.server import KEY, Served, until

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.model.all_event import AllEvent

APP = "tests/plenty/flood_app.py"
LIVES = 5

pytestmark = pytest.mark.timeout(300)


class Follower:
    """Follows `/stream` from one server to the next, and keeps every event with an id."""

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        self.events: list[AllEvent] = []

    def follow(self, url: str) -> threading.Thread:
        """Read until the connection is lost."""
        thread = threading.Thread(target=self._read, args=(url,), daemon=True)
        thread.start()
        return thread

    def _read(self, url: str) -> None:
        with SyncClient(url, KEY, tries=1) as client:
            try:
                for event in client.stream_all(after=self.cursor, tries_max=1):
                    if event.cursor:
                        self.events.append(event)
                        self.cursor = event.cursor
            except ApiError:
                return

    def ended(self) -> set[str]:
        """Return the runs whose end it was told."""
        return {event.run_id for event in list(self.events) if event.event == "complete"}


def _until_read(follower: Follower, count: int) -> None:
    until(lambda: len(follower.events) >= count)


def test_a_reader_of_all_runs_loses_and_repeats_nothing_over_kill_9(tmp_path: Path) -> None:
    rng = random.Random(5)
    follower: Follower | None = None
    acknowledged: set[str] = set()
    for _ in range(LIVES):
        with Served(tmp_path, APP) as server:
            server.ready()
            if follower is None:
                follower = Follower(server.get("/runs")["streamCursor"])
            # Two events a run: so it is killed while they come, or soon after.
            enough = len(follower.events) + rng.randrange(5, 40)
            reading = follower.follow(server.url)
            acknowledged.update(server.trigger("echo", n) for n in range(rng.randrange(20, 60)))
            _until_read(follower, enough)
            server.kill()
            reading.join()
    assert follower is not None
    last = follower
    with Served(tmp_path, APP) as server:
        server.ready()
        reading = follower.follow(server.url)
        until(lambda: acknowledged <= last.ended(), lambda: str(acknowledged - last.ended()))
        with SyncClient(server.url, KEY) as client:
            own = {
                run_id: [(event.event, event.json()) for event in client.stream(run_id)]
                for run_id in acknowledged
            }
        server.stop()
        reading.join()
    numbers = [int(event.cursor.rpartition("-")[2]) for event in follower.events]
    assert numbers == sorted(set(numbers))
    for run_id, events in own.items():
        told = [
            (
                event.event,
                {k: v for k, v in event.json().items() if k not in ("runId", "workflowId", "at")},
            )
            for event in follower.events
            if event.run_id == run_id
        ]
        assert told == events
