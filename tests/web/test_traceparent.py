"""A caller's trace context comes in with a trigger, with a task of the request's and without."""

from __future__ import annotations

import json

import pytest

from tests.spans import spans
from tests.web.test_direct import Server, asked, both, key

pytestmark = pytest.mark.asyncio

__all__ = ["key", "spans"]

REMOTE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NONE = REMOTE.replace("-01", "-0g")


async def context_of_run(server: Server, path: str, body: bytes, *lines: str) -> str:
    """Return the trace context that the new run's record has."""
    answer = await server.ask(asked("POST", path, body, *lines))
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    run_id = (told[0] if isinstance(told, list) else told)["runId"]
    started = server.flow.engine.sup.runs[run_id].peek().started  # type: ignore[attr-defined]
    assert started is not None
    return str(started.trace)


@pytest.mark.parametrize("way", [0, 1], ids=["direct", "application"])
@pytest.mark.parametrize("path", ["/trigger/anything", "/trigger/anything/batch"])
async def test_a_run_joins_the_trace_of_the_header(spans, way, path):
    body = b"[1]" if path.endswith("batch") else b"1"
    async with both() as servers:
        server = servers[way]
        known = await context_of_run(server, path, body, f"traceparent: {REMOTE}")
        assert known[:36] == REMOTE[:36]
        assert known != REMOTE, "the run has a span of its own"
        for lines in ((), (f"traceparent: {NONE}",), ("traceparent: \xff",)):
            other = await context_of_run(server, path, body, *lines)
            assert other
            assert other[:36] != REMOTE[:36]


async def test_where_nobody_traces_the_header_is_not_looked_at():
    async with both() as servers:
        for server in servers[:2]:
            assert not await context_of_run(
                server, "/trigger/anything", b"1", f"traceparent: {REMOTE}"
            )
