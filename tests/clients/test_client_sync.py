"""`SyncClient` is `Client` without a loop: the same methods, the same answers."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from stepflow.client import Client, SyncClient
from stepflow.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    RunCancelledError,
    RunNotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from tests.clients.service import KEY, Service, rows

NO_RUN = "run_0000000000000000000000"


@pytest.fixture
def client(url):
    with SyncClient(url, KEY) as client:
        yield client


class Losing(httpx.HTTPTransport):
    """A network that loses the first answers."""

    def __init__(self, lose: int) -> None:
        super().__init__()
        self.lose = lose

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if self.lose:
            self.lose -= 1
            response.read()
            raise httpx.ReadError("the cable was pulled", request=request)
        return response


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name.removeprefix("a") if name == "aclose" else name: list(
                inspect.signature(member).parameters
            )
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(Client) == methods(SyncClient)


def test_a_run_from_trigger_to_result(client) -> None:
    run = client.trigger("rounds", {"id": "x", "rounds": 1})
    client.notify("round-x", 41)
    assert client.result(run.id) == 42
    assert client.wait(run.id).status == "completed"
    assert [event.event for event in client.stream(run.id)][-1] == "complete"


def test_every_other_method_answers(client) -> None:
    first, second = client.trigger_many("typed", [{"a": 1}, "wrong"])
    assert isinstance(second, InvalidInputError)
    assert client.result(first.id) == 1
    assert [run.id for run in client.iter_runs()] == [first.id]
    assert client.list_runs(limit=1).runs[0].id == first.id
    assert client.token(first.id, "2h").public_access_token.startswith("pat_")
    assert {view.id for view in client.workflows()} >= {"echo", "typed"}
    assert client.workflow("typed").id == "typed"
    assert client.events() == []
    assert client.health().status == "ok"
    assert client.ready()["status"] == "ready"
    assert "stepflow_runs_live" in client.metrics()
    assert client.openapi().startswith("openapi:")
    client.purge(first.id)
    with pytest.raises(RunNotFoundError):
        client.get_run(first.id)


def test_a_cancelled_run_raises(client) -> None:
    run = client.trigger("rounds", {"id": "x", "rounds": 1})
    client.cancel(run.id)
    with pytest.raises(RunCancelledError):
        client.result(run.id)
    with pytest.raises(ConflictError):
        client.cancel(run.id)
    with pytest.raises(ConflictError, match="was not set aside"):
        client.resume(run.id)


def test_iter_runs_goes_through_all_pages(client) -> None:
    client.trigger_many("echo", list(range(120)))
    assert len(list(client.iter_runs())) == 120


def test_bad_credentials_are_raised(url) -> None:
    with SyncClient(url, "wrong") as stranger:
        with pytest.raises(UnauthorizedError):
            stranger.get_run(NO_RUN)
        with pytest.raises(UnauthorizedError):
            list(stranger.stream(NO_RUN))


def test_a_lost_answer_is_asked_for_again_unless_that_could_do_harm(url) -> None:
    with SyncClient(url, KEY, transport=Losing(2)) as client:
        run = client.trigger("rounds", {"id": "x", "rounds": 1})
        assert [each.id for each in client.iter_runs()] == [run.id]
    with SyncClient(url, KEY, transport=Losing(1)) as client:
        with pytest.raises(OutcomeUnknownError):
            client.notify("round-x", 1)
        assert client.result(run.id) == 2


def test_a_stream_survives_restarts_without_a_gap_or_a_repeat(service: Service) -> None:
    with SyncClient(service.url, KEY, tries=50) as client, ThreadPoolExecutor(2) as threads:
        run = client.trigger("rounds", {"id": "x", "rounds": 4})
        watching = threads.submit(lambda: rows(list(client.stream(run.id))))
        for _ in range(4):
            client.notify("round-x", 1)
            service.restart()
        assert client.result(run.id) == 8
        whole = rows(list(client.stream(run.id)))
        assert watching.result(60) == whole
    ids = [event_id for event_id, _, _ in whole]
    assert ids == sorted(set(ids))


def test_a_server_that_is_away_is_unavailable(service: Service) -> None:
    service.stop()
    with SyncClient(service.url, KEY, tries=2) as client:
        with pytest.raises(UnavailableError, match="no connection"):
            client.trigger("echo", 1)
        with pytest.raises(UnavailableError, match="no connection"):
            list(client.stream(NO_RUN))


def test_one_client_serves_many_threads(client) -> None:
    results: list[int] = []

    def work(n: int) -> None:
        results.append(client.result(client.trigger("echo", n).id))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(16))


def test_schedules_are_read_paused_triggered_and_backfilled(client) -> None:
    (view,) = client.schedules()
    assert (view.id, view.spec, view.state) == ("report", "0 2 29 2 * UTC", "active")
    assert len((client.schedule("report", times=3)).next) == 3
    assert (client.pause_schedule("report")).state == "paused"
    assert (client.resume_schedule("report")).state == "active"
    run = client.trigger_schedule("report")
    assert client.result(run.id) == "full"
    begin, end = datetime(2016, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    dry = client.backfill_schedule("report", begin, end, dry_run=True)
    assert [row.scheduled_at[:10] for row in dry.runs] == ["2016-02-29", "2020-02-29"]
    done = client.backfill_schedule("report", begin, end)
    for row in done.runs:
        assert client.result(str(row.run_id)) == "full"
    assert (client.backfill_schedule("report", begin, end)).existing == 2
    with pytest.raises(NotFoundError, match="no schedule 'other'"):
        client.pause_schedule("other")


def test_a_delayed_run_is_pending(client) -> None:
    run = client.trigger("echo", 1, delay="1h30m")
    view = client.get_run(run.id)
    assert (view.status, view.state) == ("pending", "queued")
    (other,) = client.trigger_many("echo", [2], delay=timedelta(hours=2))
    assert (client.get_run(other.id)).due_at > view.due_at
    with pytest.raises(InvalidInputError, match="delay"):
        client.trigger("echo", 1, delay="soon")


def test_the_stream_of_all_runs_is_followed(client) -> None:
    before = client.list_runs().stream_cursor
    run = client.trigger("echo", 7)
    for event in client.stream_all(after=before, run_ids=[run.id]):
        if event.event == "complete":
            break
    assert (event.run_id, event.workflow_id, event.json()["result"]) == (run.id, "echo", 7)
    assert client.system().state == "ready"
    assert client.token_for(run_ids=[run.id]).public_access_token.startswith("pat_")
