"""`Client` against a real server, against connections that break, and in this process."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from stepflow import MEMORY, Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.client import AllEvent, Client
from stepflow.errors import (
    ConfigurationError,
    ConflictError,
    EventNotFoundError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    UnauthorizedError,
    UnavailableError,
    WorkflowNotFoundError,
)
from tests.clients.service import KEY, Service, register, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stepflow.model.views import RunEvent

pytestmark = pytest.mark.asyncio

NO_RUN = "run_0000000000000000000000"


@pytest_asyncio.fixture
async def client(url):
    async with Client(url, KEY) as client:
        yield client


class Breaking(httpx.AsyncHTTPTransport):
    """A network that fails: after the request was sent, or in the middle of a stream."""

    def __init__(self, *, lose: int = 0, stream_bytes: int = 0) -> None:
        super().__init__()
        self.lose = lose
        self.stream_bytes = stream_bytes
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = await super().handle_async_request(request)
        if self.lose:
            self.lose -= 1
            await response.aread()
            raise httpx.ReadError("the cable was pulled", request=request)
        if self.stream_bytes and request.url.path.endswith("/stream"):
            return httpx.Response(
                response.status_code,
                headers=response.headers,
                stream=_Cut(response.stream, self.stream_bytes),
            )
        return response


class _Cut(httpx.AsyncByteStream):
    def __init__(self, whole: Any, nbytes: int) -> None:
        self._whole = whole
        self._left = nbytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._whole:
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0:
                raise httpx.ReadError("the cable was pulled")

    async def aclose(self) -> None:
        await self._whole.aclose()


async def read(client: Client, run_id: str, after: int | None = None) -> list[RunEvent]:
    return [event async for event in client.stream(run_id, after)]


# ---------------------------------------------------------------- each method


async def test_a_run_from_trigger_to_result(client) -> None:
    run = await client.trigger("typed", {"a": 1, "b": 2})
    assert run.id.startswith("run_")
    assert run.public_access_token.startswith("pat_")
    assert await client.result(run.id) == 3
    view = await client.get_run(run.id)
    assert (view.workflow_id, view.status) == ("typed", "completed")
    assert msgspec.json.decode(view.input) == {"a": 1, "b": 2}


async def test_an_events_way_through_a_run(client) -> None:
    run = await client.trigger("rounds", {"id": "x", "rounds": 2})
    await client.notify("round-x", 10)
    await client.notify("round-x", 5, run_id=run.id)
    assert await client.result(run.id) == 17
    steps = (await client.get_run(run.id)).steps
    assert [step.kind for step in steps] == ["event", "step", "event", "step"]


async def test_what_runs_wait_for_is_listed(client) -> None:
    run = await client.trigger("rounds", {"id": "x", "rounds": 1})
    async with aclosing(client.stream(run.id)) as stream:
        async for event in stream:
            if event.json().get("kind") == "event":
                break
    row = next(iter(await client.events()))
    assert (row.event_id, row.runs, row.run_ids) == ("round-x", 1, (run.id,))
    assert "round-x" not in {later.event_id for later in await client.events("round-x")}


async def test_a_batch_is_one_answer(client) -> None:
    first, second = await client.trigger_many("typed", [{"a": 1}, "wrong"])
    assert isinstance(second, InvalidInputError)
    assert await client.result(first.id) == 1


async def test_runs_are_listed_page_by_page(client) -> None:
    started = [(await client.trigger("echo", n)).id for n in range(5)]
    page = await client.list_runs(limit=2)
    assert [run.id for run in page.runs] == started[:-3:-1]
    rest = await client.list_runs(limit=50, cursor=page.next_cursor)
    assert [run.id for run in rest.runs] == started[2::-1]
    assert [run.id async for run in client.iter_runs()] == started[::-1]
    assert [run.id async for run in client.iter_runs(workflow_id="typed")] == []
    now = datetime.now(UTC)
    soon = await client.list_runs(created_after=now + timedelta(hours=1))
    assert soon.runs == []
    until = await client.list_runs(created_before=now + timedelta(hours=1), status=["completed"])
    assert {run.status for run in until.runs} <= {"completed"}


async def test_iter_runs_goes_through_all_pages(client) -> None:
    await client.trigger_many("echo", list(range(120)))
    assert len([run.id async for run in client.iter_runs()]) == 120


async def test_a_run_is_cancelled_then_purged(client) -> None:
    run = await client.trigger("rounds", {"id": "x", "rounds": 1})
    with pytest.raises(ConflictError):
        await client.purge(run.id)
    assert (await client.cancel(run.id)).id == run.id
    with pytest.raises(RunCancelledError):
        await client.result(run.id)
    with pytest.raises(ConflictError, match="was not set aside"):
        await client.resume(run.id)
    await client.purge(run.id)
    with pytest.raises(RunNotFoundError):
        await client.get_run(run.id)


async def test_a_failed_run_raises_its_error(client) -> None:
    run = await client.trigger("fails")
    with pytest.raises(RunFailedError) as failed:
        await client.result(run.id)
    assert (failed.value.error_type, failed.value.step) == ("ValueError", "refuse")


async def test_what_can_be_triggered_is_described(client) -> None:
    assert {view.id for view in await client.workflows()} == {
        "echo",
        "typed",
        "fails",
        "report",
        "rounds",
    }
    assert (await client.workflow("typed")).description == "Sum it up."
    with pytest.raises(WorkflowNotFoundError):
        await client.workflow("nothing")


async def test_the_service_says_how_it_is(client) -> None:
    assert (await client.health()).status == "ok"
    assert (await client.ready())["status"] == "ready"
    assert "stepflow_runs_live" in await client.metrics()
    assert (await client.openapi()).startswith("openapi:")


# ---------------------------------------------------------------- who calls


async def test_a_run_token_reads_its_run_and_nothing_else(client, url) -> None:
    run = await client.trigger("echo", 1)
    await client.result(run.id)
    grant = await client.token(run.id, timedelta(hours=2))
    other = await client.trigger("echo", 2)
    async with Client(url, token=grant.public_access_token) as browser:
        assert (await browser.get_run(run.id)).id == run.id
        assert (await read(browser, run.id))[-1].event == "complete"
        with pytest.raises(RunNotFoundError):
            await browser.get_run(other.id)
        with pytest.raises(ForbiddenError):
            await browser.trigger("echo", 1)
        assert (await browser.health()).status == "ok"


@pytest.mark.parametrize("who", [{}, {"api_key": "wrong"}, {"jwt": "x.y.z"}, {"token": "pat_x"}])
async def test_bad_credentials_are_raised_and_not_tried_again(url, who) -> None:
    network = Breaking()
    async with Client(url, **who, transport=network) as stranger:
        for call in (stranger.get_run(NO_RUN), stranger.trigger("echo"), read(stranger, NO_RUN)):
            with pytest.raises(UnauthorizedError):
                await call
    assert len(network.requests) == 3


async def test_no_text_of_a_client_shows_its_credential(url, caplog) -> None:
    caplog.set_level("DEBUG", logger="stepflow")
    async with Client(url, token=KEY) as client:
        with pytest.raises(UnauthorizedError) as refused:
            await client.get_run(NO_RUN)
    assert KEY not in repr(client)
    assert KEY not in str(refused.value)
    assert KEY not in caplog.text


async def test_two_credentials_are_one_too_many(url) -> None:
    with pytest.raises(ConfigurationError):
        Client(url, KEY, jwt="x")


# ---------------------------------------------------------------- answers that are lost


async def test_a_lost_answer_is_asked_for_again_and_starts_one_run(url) -> None:
    network = Breaking(lose=2)
    async with Client(url, KEY, transport=network) as client:
        run = await client.trigger("echo", 1)
        assert [each.id async for each in client.iter_runs()] == [run.id]
    keys = {request.headers["idempotency-key"] for request in network.requests[:3]}
    assert len(keys) == 1
    assert len(network.requests) == 4


async def test_each_trigger_has_a_key_of_its_own_unless_given_one(client) -> None:
    ids = {(await client.trigger("echo", 1)).id for _ in range(3)}
    assert len(ids) == 3
    ids = {(await client.trigger("echo", 1, idempotency_key="mine")).id for _ in range(3)}
    assert len(ids) == 1
    with pytest.raises(ConflictError):
        await client.trigger("echo", 2, idempotency_key="mine")


async def test_an_event_whose_answer_was_lost_is_not_sent_twice(url, client) -> None:
    run = await client.trigger("rounds", {"id": "x", "rounds": 2})
    async with Client(url, KEY, transport=Breaking(lose=1)) as unlucky:
        with pytest.raises(OutcomeUnknownError, match="no answer came"):
            await unlucky.notify("round-x", 10)
        await unlucky.notify("round-x", 1)
    assert await client.result(run.id) == 13, "10 arrived once"


async def test_a_read_whose_answer_was_lost_is_read_again(url, client) -> None:
    run = await client.trigger("echo", 1)
    async with Client(url, KEY, transport=Breaking(lose=3)) as unlucky:
        assert (await unlucky.get_run(run.id)).id == run.id


async def test_a_server_that_is_away_is_told_from_one_that_refuses(service: Service) -> None:
    service.stop()
    async with Client(service.url, KEY, tries=2) as client:
        for call in (client.get_run(NO_RUN), client.notify("e"), read(client, NO_RUN)):
            with pytest.raises(UnavailableError, match="no connection"):
                await call
        with pytest.raises(UnavailableError):
            await client.health()


async def test_a_server_that_comes_back_in_time_is_waited_for(service: Service) -> None:
    service.stop()
    async with Client(service.url, KEY, tries=50) as client:
        started = asyncio.ensure_future(client.trigger("echo", "waited"))
        await asyncio.to_thread(service.start)
        assert await client.result((await started).id) == "waited"


async def test_an_unknown_event_and_an_unknown_run_are_told_at_once(client) -> None:
    with pytest.raises(EventNotFoundError):
        await client.notify("nobody")
    with pytest.raises(RunNotFoundError):
        await read(client, NO_RUN)


# ---------------------------------------------------------------- streams


async def test_a_stream_survives_restarts_without_a_gap_or_a_repeat(service: Service) -> None:
    rounds = 6
    async with Client(service.url, KEY, tries=50) as client:
        run = await client.trigger("rounds", {"id": "x", "rounds": rounds})
        watchers = [asyncio.ensure_future(read(client, run.id)) for _ in range(3)]
        for number in range(rounds):
            await client.notify("round-x", 1)
            if number % 2:
                await asyncio.to_thread(service.restart)
        assert await client.result(run.id) == 2 * rounds
        whole = rows(await read(client, run.id))
        for watcher in watchers:
            assert rows(await watcher) == whole
    ids = [event_id for event_id, _, _ in whole]
    assert ids == sorted(set(ids))
    assert [row for row in whole if row[1] == "step"][-1][2]["result"] == 2 * rounds


async def test_the_stream_of_all_survives_restarts_without_a_gap_or_a_repeat(
    service: Service,
) -> None:
    rounds = 6
    async with Client(service.url, KEY, tries=50) as client:
        before = (await client.list_runs()).stream_cursor
        runs = [await client.trigger("rounds", {"id": f"x{n}", "rounds": rounds}) for n in range(3)]

        async def watched(after: str | None) -> list[AllEvent]:
            events: list[AllEvent] = []
            ended = 0
            async with aclosing(client.stream_all(workflow_id="rounds", after=after)) as stream:
                async for event in stream:
                    events.append(event)
                    ended += event.event == "complete"
                    if ended == len(runs):
                        return events
            raise AssertionError("it ended by itself")

        watchers = [asyncio.ensure_future(watched(before)) for _ in range(3)]
        for number in range(rounds):
            for n in range(3):
                await client.notify(f"round-x{n}", 1)
            if number % 2:
                await asyncio.to_thread(service.restart)
        whole = await watched(before)
        for watcher in watchers:
            assert await watcher == whole
        assert {event.run_id for event in whole} == {run.id for run in runs}
        assert {event.workflow_id for event in whole} == {"rounds"}
        for run in runs:
            own = rows(await read(client, run.id))
            told = [(e.event, e.json()) for e in whole if e.run_id == run.id]
            assert [(name, data) for _, name, data in own] == [
                (name, {k: v for k, v in data.items() if k not in {"runId", "workflowId", "at"}})
                for name, data in told
            ]
        numbers = [int(event.cursor.rpartition("-")[2]) for event in whole]
        assert numbers == sorted(set(numbers))


async def test_the_stream_of_all_is_filtered_and_says_when_its_past_is_gone(client) -> None:
    run = await client.trigger("echo", 1)
    await client.result(run.id)
    async with aclosing(client.stream_all(after="elsewhere-1", run_ids=[run.id])) as stream:
        first = await anext(stream)
    assert (first.event, first.run_id, first.workflow_id) == ("resync", "", "")
    assert first.cursor == first.json()["streamCursor"]
    begin = f"{first.cursor.rpartition('-')[0]}-0"
    other = await client.trigger("echo", 2)
    await client.result(other.id)
    wanted = client.stream_all(after=begin, status=["completed"], run_ids=[other.id])
    async with aclosing(wanted) as stream:
        end = await anext(stream)
    assert (end.run_id, end.event, end.json()["result"]) == (other.id, "complete", 2)


async def test_a_token_for_many_runs_reads_them_and_their_stream(client, url) -> None:
    run, other = await client.trigger("echo", 1), await client.trigger("echo", 2)
    grant = await client.token_for(run_ids=[run.id], ttl="1h")
    async with Client(url, token=grant.public_access_token) as reader:
        assert (await reader.get_run(run.id)).id == run.id
        with pytest.raises(RunNotFoundError):
            await reader.get_run(other.id)
        begin = (await client.list_runs()).stream_cursor.rpartition("-")[0]
        async with aclosing(reader.stream_all(after=f"{begin}-0")) as stream:
            assert (await anext(stream)).run_id == run.id
    assert (await client.token_for(tag="red")).public_access_token.startswith("pat_")


async def test_the_service_is_read_at_a_glance(client) -> None:
    view = await client.system()
    assert view.state == "ready"
    assert view.streams.of_all == 0
    assert {pace.workflow_id for pace in view.workflows} >= {"echo", "rounds"}


async def test_waiting_for_a_result_survives_a_restart(service: Service) -> None:
    async with Client(service.url, KEY, tries=50) as client:
        run = await client.trigger("rounds", {"id": "x", "rounds": 1})
        waiting = asyncio.ensure_future(client.result(run.id))
        await asyncio.to_thread(service.restart)
        await client.notify("round-x", 41)
        assert await waiting == 42


async def test_a_stream_cut_at_any_byte_loses_nothing(client, url) -> None:
    run = await client.trigger("rounds", {"id": "x", "rounds": 3})
    for _ in range(3):
        await client.notify("round-x", 1)
    await client.result(run.id)
    whole = rows(await read(client, run.id))
    # Long enough for one event, short enough to be cut at other places each time.
    for nbytes in range(200, 260, 3):
        network = Breaking(stream_bytes=nbytes)
        async with Client(url, KEY, transport=network) as unlucky:
            assert rows(await read(unlucky, run.id)) == whole, f"cut after {nbytes} bytes"
        assert len(network.requests) > 3


async def test_a_stream_goes_on_after_any_event_and_ends_with_the_last(client) -> None:
    run = await client.trigger("fails")
    whole = rows(await read(client, run.id))
    for place, (event_id, _, _) in enumerate(whole):
        assert rows(await read(client, run.id, event_id)) == whole[place + 1 :]


async def test_a_stream_that_makes_no_progress_ends_when_it_is_asked_to(service: Service) -> None:
    async with Client(service.url, KEY) as client:
        run = await client.trigger("rounds", {"id": "x", "rounds": 1})
        seen: list[str] = []

        async def watch() -> None:
            async for event in client.stream(run.id, tries_max=3):
                seen.append(event.event)
                if event.json().get("kind") == "event":
                    await asyncio.to_thread(service.stop)

        with pytest.raises(UnavailableError):
            await watch()
    assert seen == ["status", "status"]


async def test_a_run_purged_under_its_stream_is_not_found(service: Service) -> None:
    async with Client(service.url, KEY) as client:
        run = await client.trigger("echo", 1)
        await client.result(run.id)
        await client.purge(run.id)
        with pytest.raises(RunNotFoundError):
            await read(client, run.id, 1)


# ---------------------------------------------------------------- in this process


async def test_a_client_may_talk_to_an_application_in_this_process() -> None:
    flow = Stepflow(MEMORY)
    register(flow)
    app: Any = flow.asgi(auth=allow_all)
    transport = httpx.ASGITransport(app)
    async with flow, Client("http://app.test/api", transport=transport) as client:
        with pytest.raises(NotFoundError):
            await client.health()
    async with flow, Client("http://app.test", transport=httpx.ASGITransport(app)) as client:
        run = await client.trigger("echo", {"in": "process"})
        assert await client.result(run.id) == {"in": "process"}
        assert (await read(client, run.id))[-1].event == "complete"
        with pytest.raises(InvalidInputError):
            await client.trigger("typed", "wrong")


async def test_schedules_are_read_paused_triggered_and_backfilled(client) -> None:
    (view,) = await client.schedules()
    assert (view.id, view.spec, view.state) == ("report", "0 2 29 2 * UTC", "active")
    assert len((await client.schedule("report", times=3)).next) == 3
    assert (await client.pause_schedule("report")).state == "paused"
    assert (await client.resume_schedule("report")).state == "active"
    run = await client.trigger_schedule("report")
    assert await client.result(run.id) == "full"
    begin, end = datetime(2016, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    dry = await client.backfill_schedule("report", begin, end, dry_run=True)
    assert [row.scheduled_at[:10] for row in dry.runs] == ["2016-02-29", "2020-02-29"]
    done = await client.backfill_schedule("report", begin, end)
    for row in done.runs:
        assert await client.result(str(row.run_id)) == "full"
    assert (await client.backfill_schedule("report", begin, end)).existing == 2
    with pytest.raises(NotFoundError, match="no schedule 'other'"):
        await client.pause_schedule("other")


async def test_a_delayed_run_is_pending(client) -> None:
    run = await client.trigger("echo", 1, delay="1h30m")
    view = await client.get_run(run.id)
    assert (view.status, view.state) == ("pending", "queued")
    (other,) = await client.trigger_many("echo", [2], delay=timedelta(hours=2))
    assert (await client.get_run(other.id)).due_at > view.due_at
    with pytest.raises(InvalidInputError, match="delay"):
        await client.trigger("echo", 1, delay="soon")
