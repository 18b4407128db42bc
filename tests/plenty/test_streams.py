"""Ten thousand open streams and a thousand that never read: bounded memory, the others unharmed.

Here a twentieth of that; `STEPFLOW_PLENTY_STREAMS=10000` (`make test-streams`) is the whole of it.
"""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.plenty.crowd import Crowd
from tests.plenty.server import KEY, MIB, PATIENCE_S, Served, until

if TYPE_CHECKING:
    from pathlib import Path

APP = "tests/plenty/flood_app.py"
STREAMS = int(os.environ.get("STEPFLOW_PLENTY_STREAMS", "500"))
STUCK = STREAMS // 10
RUNS, EMITS, EMIT_BYTES = 4, 100, 1000
EVENTS = RUNS * (EMITS + 4)
"""Each run begins, begins a step, ends it, and waits."""
LONG_S = PATIENCE_S * max(1, STREAMS // 500)
STUCK_BYTES = 160 * 1024
"""A write buffer of our own connection, a slice, and what Python needs to hold them."""
BOUNDS = {
    "STEPFLOW_CONNECTIONS_MAX": STREAMS * 2 + 100,
    "STEPFLOW_STREAMS_MAX": STREAMS * 2,
    "STEPFLOW_STREAMS_PER_KEY_MAX": STREAMS * 2,
    "STEPFLOW_STREAMS_PER_RUN_MAX": STREAMS * 2,
    # The readers share one process: with thousands of them it takes a while until each has read.
    "STEPFLOW_STREAM_BLOCKED_S": max(5, STREAMS // 50),
    # Nothing but events is counted.
    "STEPFLOW_STREAM_COMMENT_S": 3600,
}

pytestmark = [pytest.mark.xdist_group("flood"), pytest.mark.timeout(600 + LONG_S)]


def test_readers_that_never_read_cost_their_buffers_and_the_others_get_everything(
    tmp_path: Path,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    env = {name: str(value) for name, value in BOUNDS.items()}
    with ExitStack() as held:
        server = held.enter_context(Served(tmp_path, APP, env=env)).ready()
        crowd = held.enter_context(Crowd(server.url, "/stream"))
        crowd.open(STREAMS)
        for _ in range(STUCK):
            stuck = held.enter_context(server.socket())
            stuck.sendall(f"GET /stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
        until(lambda: server.metric("stepflow_stream_all_subscribers") == STREAMS + STUCK)
        readers = crowd.readers
        # One that is slow, or never reads, costs so much and no more, whatever there is to tell.
        with server.grows_at_most((STREAMS + STUCK) * STUCK_BYTES + 32 * MIB):
            for run in range(1, RUNS + 1):
                server.trigger("emits", {"count": EMITS, "nbytes": EMIT_BYTES})
                told = EVENTS * run // RUNS
                until(
                    lambda told=told: min(r.count for r in readers) >= told,
                    lambda: str([(r.count, r.last, r.lost) for r in readers[:3]]),
                    within_s=LONG_S,
                )
            # Those that never read are cut off; they would resume by their last id.
            until(
                lambda: server.metric("stepflow_stream_all_subscribers") == STREAMS,
                lambda: str(server.metric("stepflow_stream_all_subscribers")),
                within_s=LONG_S,
            )
        assert {reader.count for reader in readers} == {EVENTS}
        assert len({reader.seen for reader in readers}) == 1, "not all saw the same"
        assert all(reader.rises for reader in readers)
        assert not any(reader.resyncs or reader.lost for reader in readers)
        # Everything else goes on as if they were not there.
        assert server.result(server.trigger("echo", 7)) == 7
