"""The clients send the current span's context, and the run joins its trace."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from opentelemetry import trace

from stepflow.client import Client, SyncClient
from tests.clients.service import KEY
from tests.spans import spans, traceparent

__all__ = ["spans"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_run_that_a_client_triggers_is_below_the_current_span(spans, service, url, kind):
    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        if kind == "sync":
            with SyncClient(url, KEY) as client:
                run = client.trigger("echo", 1)
                client.result(run.id)
        else:
            asyncio.run(ask(url))
    service.stop()
    below = spans.one("run echo").parent
    assert below is not None
    assert (below.trace_id, below.span_id) == (
        caller.get_span_context().trace_id,
        caller.get_span_context().span_id,
    )
    assert below.is_remote


async def ask(url: str) -> None:
    async with Client(url, KEY) as client:
        run = await client.trigger("echo", 1)
        await client.result(run.id)


def test_without_a_current_span_nothing_is_sent_and_with_one_it_is(spans, monkeypatch):
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={"status": "ok", "timestamp": "2024-01-15T10:30:00Z"})

    with SyncClient("http://nowhere.invalid") as client:
        monkeypatch.setattr(client, "_http", httpx.Client(transport=httpx.MockTransport(answer)))
        client.health()
        with trace.get_tracer("caller").start_as_current_span("caller") as caller:
            client.health()
    assert "traceparent" not in seen[0]
    assert seen[1]["traceparent"] == traceparent(caller)
