"""`stepflow migrate` as it is typed: what it says, and the status it leaves with."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from stepflow.cli.main import main
from stepflow.clock import SystemClock
from stepflow.engine.postgres.moving.source import Source
from stepflow.engine.postgres.moving.target import Target
from tests.cluster.moving_kit import App, local, some_runs, until, waited_for

if TYPE_CHECKING:
    from pathlib import Path


def migrate(*words: str) -> Result:
    return CliRunner().invoke(main, ["migrate", *words])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_LOCK_WAIT_S", "0")


async def waits(data: Path) -> None:
    async with local(data, App()) as flow:
        await flow.trigger("waiting", "told")
        await until(lambda: waited_for(flow, "told"))


def test_it_says_what_moves_and_what_to_do_next(data, url):
    asyncio.run(some_runs(data, 3))
    asyncio.run(waits(data))
    dry = migrate(str(data), url, "--dry-run")
    assert dry.exit_code == 0
    assert "4 runs (3 completed, 1 running), " in dry.output
    assert "nothing was changed: they would go to postgresql://127.0.0.1:" in dry.output
    done = migrate(str(data), url)
    assert done.exit_code == 0, done.output
    assert "the same on both sides: sha256 " in done.output
    assert "ok: they go on at postgresql://127.0.0.1:" in done.output
    assert "next: stepflow serve APP --database URL" in done.output
    # Quick as it was, it says nothing of how far it is.
    assert " of 4" not in done.output
    again = migrate(str(data), url)
    assert again.exit_code == 0
    assert "already" in again.output
    back = migrate(str(data), url, "--abort")
    assert back.exit_code == 64
    assert "go on at" in back.output


def test_what_takes_longer_than_a_second_says_how_far_it_is(data, url, monkeypatch):
    asyncio.run(some_runs(data, 2))
    ticks = itertools.count(step=2)
    monkeypatch.setattr(SystemClock, "monotonic_s", lambda _self: float(next(ticks)))
    done = migrate(str(data), url)
    assert done.exit_code == 0
    assert "copying runs: 2 of 2" in done.output
    assert "verifying runs: 2 of 2" in done.output
    assert "reading the journal: " in done.output


def test_a_database_that_is_lost_meanwhile_is_gone_on_with(data, url, monkeypatch):
    asyncio.run(some_runs(data, 2))

    async def lost(self: Target, *_: Any) -> None:
        await self.conn.execute(b"select pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patch:
        patch.setattr(Target, "copy", lost)
        cut = migrate(str(data), url)
    assert cut.exit_code == 3
    assert "the database was lost" in cut.output
    assert "next:  run the same command again: it goes on where it was" in cut.output
    assert migrate(str(data), url).exit_code == 0


def test_taken_back_it_says_so(data, url, monkeypatch):
    asyncio.run(some_runs(data, 2))

    async def lost(self: Target, *_: Any) -> None:
        raise psycopg.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Target, "switch", lost)
        assert migrate(str(data), url).exit_code == 3
    back = migrate(str(data), url, "--abort")
    assert back.exit_code == 0
    assert "taken back: nothing is left at postgresql://127.0.0.1:" in back.output
    resumed = migrate(str(data), url)
    assert "had been copied before" not in resumed.output
    assert resumed.exit_code == 0


def test_what_had_been_copied_before_is_said(data, url, monkeypatch):
    asyncio.run(some_runs(data, 2))

    async def lost(self: Target, *_: Any) -> None:
        raise psycopg.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Target, "switch", lost)
        migrate(str(data), url)
    assert "2 runs had been copied before" in migrate(str(data), url).output


def test_a_directory_in_use_names_the_next_move(data, url):
    async def used() -> Result:
        async with local(data, App()):
            return await asyncio.to_thread(migrate, str(data), url)

    refused = asyncio.run(used())
    assert refused.exit_code == 75
    assert "SFW501" in refused.output
    assert "next:  stop the server on it, then run the same command again" in refused.output


def test_what_is_left_out_is_said(data, url, monkeypatch):
    asyncio.run(some_runs(data, 1))
    whole = Source._read

    def damaged(self: Source) -> Any:
        restorer, found = whole(self)
        run = next(restorer.runs())
        run.state.set_aside(run.state.lsn, "for the test")
        return restorer, found

    monkeypatch.setattr(Source, "_read", damaged)
    refused = migrate(str(data), url)
    assert refused.exit_code == 64
    assert "set-aside: 1 (runs whose records" in refused.output
    assert "leave it behind with --leave-out set-aside" in refused.output
    assert "and must be told --leave-out set-aside" in migrate(str(data), url, "--dry-run").output
    done = migrate(str(data), url, "--leave-out", "set-aside")
    assert done.exit_code == 0
    assert "left out: 1 of set-aside" in done.output


def test_wrong_usage_is_refused(data, url):
    assert migrate(str(data), url).exit_code == 2
    data.mkdir()
    assert migrate(str(data), url, "--abort", "--dry-run").exit_code == 2
    assert migrate(str(data), url, "--leave-out", "much").exit_code == 2
    wrong = migrate(str(data), "mysql://me:secret@db/shop")
    assert wrong.exit_code == 64
    assert "postgresql://user@host/name" in wrong.output
    assert "secret" not in wrong.output
