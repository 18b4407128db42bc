"""What each client has: every route, a run in hand, limits, an application of this process."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stepflow import MEMORY, Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.client import (
    BlockingInProcess,
    Client,
    ClientRun,
    InProcess,
    SyncClient,
    SyncClientRun,
)
from stepflow.errors import (
    InvalidInputError,
    NotFoundError,
    RunCancelledError,
    RunFailedError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.handles import RunHandle
from tests.clients.service import KEY, Service, register

ROOT = Path(__file__).resolve().parents[2]

METHODS = {
    "triggerWorkflow": "trigger",
    "triggerWorkflowBatch": "trigger_many",
    "bulkRuns": "bulk",
    "getRun": "get_run",
    "purgeRun": "purge",
    "streamRun": "stream",
    "streamRuns": "stream_all",
    "notifyEvent": "notify",
    "getHealth": "health",
    "listRuns": "list_runs",
    "explainRun": "why",
    "getStep": "get_step",
    "getRunAudit": "audit",
    "listAudit": "audit_log",
    "cancelRun": "cancel",
    "pauseRun": "pause",
    "resumeRun": "resume",
    "retryRun": "retry",
    "forkRun": "fork",
    "createRunToken": "token",
    "createToken": "token_for",
    "exportRun": "export_run",
    "listWorkflows": "workflows",
    "getWorkflow": "workflow",
    "listSchedules": "schedules",
    "getSchedule": "schedule",
    "pauseSchedule": "pause_schedule",
    "resumeSchedule": "resume_schedule",
    "triggerSchedule": "trigger_schedule",
    "backfillSchedule": "backfill_schedule",
    "listEvents": "events",
    "getReady": "ready",
    "getMetrics": "metrics",
    "getSystem": "system",
    "getOpenApi": "openapi",
    "listKeys": "api_keys",
    "createKey": "create_key",
    "revokeKey": "revoke_key",
}
# A browser's alone: pages, and the cookie of a login.
PAGES = {"getDocs", "getDashboard", "getSession", "createSession", "deleteSession"}


def operations() -> set[str]:
    document = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    return {
        operation["operationId"]
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in {"get", "post", "put", "patch", "delete"}
    }


@pytest.mark.parametrize("kind", [Client, SyncClient])
def test_every_route_has_a_method_whose_arguments_and_answer_are_typed(kind: type) -> None:
    assert operations() == set(METHODS) | PAGES
    for name in METHODS.values():
        signature = inspect.signature(getattr(kind, name))
        assert signature.return_annotation not in {inspect.Signature.empty, "Any"}, name
        for parameter in list(signature.parameters.values())[1:]:
            assert parameter.annotation is not inspect.Parameter.empty, (name, parameter)


def public(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("kind", [ClientRun, SyncClientRun])
def test_a_run_in_hand_is_the_same_over_http_as_embedded(kind: type) -> None:
    assert public(kind) == public(RunHandle)
    assert {"id", "public_access_token"} <= set(dir(kind))


@pytest.mark.asyncio
async def test_a_run_in_hand_is_watched_acted_on_and_asked_for_its_result(url: str) -> None:
    async with Client(url, KEY) as client:
        run = await client.trigger("rounds", {"id": "h", "rounds": 1})
        assert "pat_" not in repr(run)
        assert run.public_access_token.startswith("pat_")
        assert (await run.pause("look")).state == "paused"
        assert (await run.resume()).id == run.id
        await client.notify("round-h", 41)
        assert await run.result() == 42
        assert [event.event async for event in run.stream()][-1] == "complete"
        assert (await run.get()).status == "completed"
        again = await run.fork("round", results={})
        assert isinstance(again, ClientRun)
        await again.cancel("enough", force=True)
        with pytest.raises(RunCancelledError):
            await again.result()
        failed = await client.trigger("fails")
        with pytest.raises(RunFailedError):
            await failed.result()
        assert (await failed.retry()).id == failed.id
        first, second = await client.trigger_many("typed", [{"a": 1}, "wrong"])
        assert isinstance(first, ClientRun)
        assert isinstance(second, InvalidInputError)
        assert await first.result() == 1
        assert await (await client.trigger_schedule("report")).result() == "full"


def test_so_it_is_without_a_loop(url: str) -> None:
    with SyncClient(url, KEY) as client:
        run = client.trigger("rounds", {"id": "s", "rounds": 1})
        assert run.pause().state == "paused"
        assert run.resume().id == run.id
        client.notify("round-s", 41)
        assert run.result() == 42
        assert [event.event for event in run.stream()][-1] == "complete"
        assert run.get().status == "completed"
        again = run.fork("round")
        assert isinstance(again, SyncClientRun)
        again.cancel(force=True)
        with pytest.raises(RunCancelledError):
            again.result()
        assert again.retry().id == again.id
        assert client.trigger_schedule("report").result() == "full"


@pytest.mark.asyncio
async def test_keys_are_made_listed_and_taken_back(url: str) -> None:
    async with Client(url, KEY) as admin:
        made = await admin.create_key("reader", scopes=["read"], ttl="1h")
        assert made.key not in repr(made)
        async with Client(url, made.key) as reader:
            assert (await reader.list_runs()).runs == []
            assert [key.id for key in await admin.api_keys()] == [made.id]
            assert (await admin.revoke_key(made.id)).revoked_at is not None
    with SyncClient(url, KEY) as blocking:
        again = blocking.create_key("second")
        assert [key.name for key in blocking.api_keys()] == ["reader", "second"]
        assert blocking.revoke_key(again.id).revoked_by


# ---------------------------------------------------------------- limits


class Counting:
    """How many connections an application's server has at once, at most."""

    def __init__(self, service: Service) -> None:
        self.most = 0
        server: Any = service._server
        state = server.server_state.connections
        self.now = lambda: len(state)

    def look(self) -> None:
        self.most = max(self.most, self.now())


@pytest.mark.asyncio
async def test_so_many_calls_have_connections_and_streams_have_their_own(service: Service) -> None:
    count = Counting(service)
    async with Client(service.url, KEY, connections_max=2) as client:
        runs = [await client.trigger("rounds", {"id": f"n{n}", "rounds": 1}) for n in range(5)]
        streams = [run.stream() for run in runs]
        for events in streams:
            assert (await anext(events)).event == "status"
        assert 5 <= count.now() <= 7

        async def ask(n: int) -> None:
            assert await client.result((await client.trigger("echo", n)).id) == n
            count.look()

        await asyncio.gather(*map(ask, range(12)))
        # Those of the streams, two of calls, and the streams that `result` opens.
        assert count.most >= 7
        for events in streams:
            await events.aclose()


@pytest.mark.asyncio
async def test_a_call_beyond_the_limit_waits_for_one_and_then_says_so(url: str) -> None:
    async with Client(url, KEY, streams_max=1, timeout=0.05, tries=1) as client:
        first = await client.trigger("rounds", {"id": "x", "rounds": 1})
        async with aclosing(first.stream()) as events:
            await anext(events)
            with pytest.raises(UnavailableError, match="nothing was done"):
                await anext(client.stream(first.id))
    with SyncClient(url, KEY, streams_max=1, timeout=0.05, tries=1) as client_:
        with closing(client_.stream(first.id)) as events_:
            next(events_)
            with pytest.raises(UnavailableError, match="nothing was done"):
                next(client_.stream(first.id))


# ---------------------------------------------------------------- in this process


@pytest.mark.asyncio
async def test_a_live_stream_of_an_application_in_this_process_is_followed() -> None:
    flow = Stepflow(MEMORY)
    register(flow)
    transport = InProcess(flow.asgi(auth=allow_all))
    async with flow, Client("http://flow.test", transport=transport) as client:
        run = await client.trigger("rounds", {"id": "p", "rounds": 2})
        async with aclosing(run.stream()) as events, aclosing(client.stream_all()) as everything:
            assert (await anext(events)).event == "status"
            task = asyncio.ensure_future(anext(everything))
            await asyncio.sleep(0)
            await client.notify("round-p", 1)
            while (await anext(events)).event != "step":
                pass
            await client.notify("round-p", 2)
            assert [event.event async for event in events][-1] == "complete"
            assert (await task).run_id == run.id
        # Who leaves is a client that went away: nothing is left subscribed.
        assert (await client.system()).streams.of_all == 0
        with pytest.raises(WorkflowNotFoundError):
            await client.trigger("nowhere")


def test_so_it_is_from_a_thread_without_a_loop() -> None:
    flow = Stepflow(MEMORY)
    register(flow)
    with flow.start_background() as background:
        transport = BlockingInProcess(flow.asgi(auth=allow_all), background.run)
        with SyncClient("http://flow.test", transport=transport) as client:
            run = client.trigger("rounds", {"id": "q", "rounds": 1})
            with closing(run.stream()) as events:
                assert next(events).event == "status"
                client.notify("round-q", 1)
                assert [event.event for event in events][-1] == "complete"
            left = client.stream_all(after=client.list_runs().stream_cursor)
            other = client.trigger("echo", "x")
            assert next(left).run_id == other.id
            left.close()
            assert client.system().streams.of_all == 0


@pytest.mark.asyncio
async def test_an_application_that_raises_is_raised_or_breaks_off() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/early":
            raise LookupError("early")
        if scope["path"] == "/silent":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise LookupError("late")

    async with httpx.AsyncClient(transport=InProcess(app), base_url="http://a.test") as client:
        with pytest.raises(LookupError, match="early"):
            await client.get("/early")
        with pytest.raises(RuntimeError, match="without an answer"):
            await client.get("/silent")
        with pytest.raises(httpx.RemoteProtocolError, match="late"):
            await client.get("/late")


@pytest.mark.asyncio
async def test_an_application_is_a_few_pieces_ahead_of_its_reader_at_most() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        assert (await receive())["body"] == b"asked"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent += 1

    async with httpx.AsyncClient(transport=InProcess(app), base_url="http://a.test") as client:
        async with client.stream("POST", "/", content=b"asked") as response:
            pieces = response.aiter_raw()
            assert await anext(pieces) == b"x"
            for _ in range(100):
                await asyncio.sleep(0)
            assert 0 < sent < 30
            await pieces.aclose()


@pytest.mark.asyncio
async def test_a_caller_that_gives_up_before_an_answer_ends_the_application() -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with httpx.AsyncClient(transport=InProcess(app), base_url="http://a.test") as client:
        asking = asyncio.ensure_future(client.get("/"))
        for _ in range(10):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ended.is_set()


@pytest.mark.asyncio
async def test_a_flow_that_is_not_started_answers_503_in_process_too() -> None:
    flow = Stepflow(MEMORY)
    async with Client("http://a.test", transport=InProcess(flow.asgi(auth=allow_all))) as client:
        with pytest.raises(UnavailableError):
            await client.ready()
        with pytest.raises(NotFoundError):
            async with Client("http://a.test/api", transport=InProcess(flow.asgi())) as other:
                await other.health()
