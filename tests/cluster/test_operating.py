"""The command line and the client do on PostgreSQL what they do on one machine, unchanged."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner

from stepflow import Context, Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.cli.main import main
from stepflow.client import SyncClient
from stepflow.engine.postgres import PostgresEngine
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


def a_flow(url: str, *, worker: bool = True) -> Stepflow:
    flow = Stepflow(engine=PostgresEngine(url, worker=worker, poll_s=0.1))

    async def same(value: Any) -> Any:
        return value

    @flow.workflow("gated")
    async def gated(ctx: Context, name: str) -> Any:
        await ctx.step("before", same, name)
        return await ctx.wait_for_event("gate", f"gate-{name}", timeout=None)

    return flow


@pytest.fixture
def node(url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of an API node that runs nothing; a worker beside it does."""
    worker, api = a_flow(url), a_flow(url, worker=False)
    with (
        served(worker, auth=allow_all, endpoints="internal"),
        served(api, auth=allow_all) as at,
    ):
        yield at


def until(what: Callable[[], Any]) -> Any:
    """Return what it returns once that is true."""
    while not (found := what()):
        pass
    return found


class Operator:
    """`stepflow …` on that server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, words, env={"STEPFLOW_URL": self.url})
        assert done.exit_code == code, done.output
        return done.output

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def state(self, run_id: str) -> str:
        return str(self.json("runs", "show", run_id)["state"])


def test_the_command_line_forks_acts_on_many_and_tells_who_did_what(node: str) -> None:
    cli = Operator(node)
    runs = [cli("trigger", "gated", f'"{n}"').strip() for n in range(3)]
    for run_id in runs:
        until(lambda run_id=run_id: cli.state(run_id) == "waiting")
    fork = cli("runs", "fork", runs[0], "--from", "gate", "--pin", 'gate="pinned"').strip()
    until(lambda: cli.state(fork) == "completed")
    assert cli.json("runs", "show", fork)["result"] == "pinned"
    cli("runs", "fork", runs[0], "--from", "nothing", code=2)

    def bulk(*words: str) -> list[str]:
        return cli("runs", "bulk", *words).splitlines()

    newest = runs[::-1]
    which = ("--workflow", "gated", "--status", "running", "--reason", "deploy")
    assert bulk("pause", *which, "--dry-run") == [f"{run}  would pause" for run in newest]
    assert bulk("pause", *which) == [f"{run}  pause" for run in newest]
    assert {cli.state(run) for run in runs} == {"paused"}
    assert bulk("cancel", "--id", runs[1], "--id", fork) == [f"{runs[1]}  cancel"]
    until(lambda: cli.state(runs[1]) == "cancelled")
    cli("runs", "purge", runs[1], "--reason", "asked for")
    told = [re.split(r"\s{2,}", line)[1:] for line in cli("runs", "audit", runs[1]).splitlines()]
    assert [row[0] for row in told] == ["pause", "cancel", "purge"]
    assert (told[0][-1], told[-1][-1]) == ("deploy", "asked for")


def test_the_client_shows_the_service_as_a_whole(node: str) -> None:
    with SyncClient(node) as client:
        run = client.trigger("gated", "x")
        until(lambda: client.get_run(run.id).state == "waiting")
        view = client.system()
        assert (view.state, view.runs.live, view.event_waiters) == ("ready", 1, 1)
        assert {one.role for one in _processes(view)} == {"all", "api"}
        page = client.list_runs(limit=1)
        assert page.counts.running == 1  # type: ignore[union-attr]
        acts = client.audit_log()
        assert acts.audit == []


def _processes(view: Any) -> Sequence[Any]:
    assert view.processes
    return list(view.processes)


def test_what_the_dashboard_draws_of_a_process_is_there(url: str) -> None:
    with served(a_flow(url), auth=allow_all) as at, httpx.Client(base_url=at) as http:
        run_id = http.post("/trigger/gated", json="x").json()["runId"]
        until(lambda: '"state":"waiting"' in http.get(f"/runs/{run_id}").text)
        text = http.get("/metrics").text
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        assert float(figures["stepflow_runs_started_total"]) == 1
        assert float(figures["stepflow_journal_bytes_written"]) > 0
        commits = float(figures['stepflow_journal_commit_seconds_bucket{le="+Inf"}'])
        assert commits == float(figures["stepflow_commits_total"]) > 0
        assert float(figures["stepflow_journal_read_only"]) == 0
        shown = http.get("/system").json()
        # All that its page reads, and its page of a workflow.
        assert shown["memory"]["rssBytes"] > 0
        assert shown["streams"]["ofRuns"] + shown["streams"]["ofAll"] == 0
        assert http.get("/workflows/gated").json()["pace"]["live"] == 1
