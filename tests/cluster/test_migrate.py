"""`stepflow migrate`: a directory's runs go on in a database, and nothing of them is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from stepflow import Context, Stepflow
from stepflow.cli.main import main
from stepflow.engine.postgres import PostgresEngine
from stepflow.errors import ConfigurationError, DataDirLockedError

RAN: list[str] = []


def note(what: str) -> str:
    RAN.append(what)
    return what


def register(flow: Stepflow) -> None:
    @flow.workflow("shop", events=["kept-{id}"])
    async def shop(ctx: Context, order: dict[str, Any]) -> list[Any]:
        first = await ctx.step("first", note, f"first-{order['id']}")
        paid = await ctx.wait_for_event("paid", f"paid-{order['id']}", timeout=None)
        kept = await ctx.wait_for_event("kept", f"kept-{order['id']}", timeout=None)
        return [first, paid, kept, await ctx.step("last", note, f"last-{order['id']}")]

    @flow.workflow("quick")
    async def quick(ctx: Context, n: int) -> int:
        del ctx
        return n

    @flow.workflow("nap")
    async def nap(ctx: Context) -> str:
        await ctx.sleep("nap", "300ms")
        return "awake"


def call(*args: str) -> Any:
    return CliRunner().invoke(main, ["migrate", *args])


async def until_waiting(flow: Stepflow, run_id: str) -> None:
    async for event in flow.stream(run_id):
        if event.json().get("kind") == "event":
            return


@pytest.mark.asyncio
async def test_live_runs_go_on_in_the_database_and_no_step_of_them_again(
    database: str, tmp_path: Any
) -> None:
    RAN.clear()
    directory = str(tmp_path / "data")
    local = Stepflow(directory)
    register(local)
    async with local:
        run = await local.trigger("shop", {"id": "a"}, idempotency_key="order-a")
        done = await local.trigger("quick", 7)
        assert await done.result() == 7
        await until_waiting(local, run.id)
        await local.notify("kept-a", "early")
        # A server may be running while it is copied, and goes on.
        copied = await in_thread(call, directory, database)
        assert copied.exit_code == 0, copied.output
        assert "copied 2 of 2 runs (1 live" in copied.output
        sleeper = await local.trigger("nap")
        refused = await in_thread(call, directory, database, "--switch")
        assert refused.exit_code == DataDirLockedError.exit_code
    with psycopg.connect(database) as conn:
        # Nothing runs there, and nobody waits.
        count = conn.execute("select count(*) from stepflow.waits").fetchone()
        assert count == (0,)
    switched = await in_thread(call, directory, database, "--switch")
    assert switched.exit_code == 0, switched.output
    again = await in_thread(call, directory, database, "--switch")
    assert again.exit_code == 0, again.output
    undone = await in_thread(call, directory, database, "--undo")
    assert undone.exit_code == ConfigurationError.exit_code
    with pytest.raises(ConfigurationError, match="go on in a database"):
        async with local:
            pass
    flow = Stepflow(engine=PostgresEngine(database, claim_timeout_s=5))
    register(flow)
    async with flow:
        assert (await flow.get_run(done.id)).status == "completed"
        same = await flow.trigger("shop", {"id": "a"}, idempotency_key="order-a")
        assert same.id == run.id
        assert await flow.notify("paid-a", "cash") == 1
        assert (await flow.engine.wait(run.id)).status == "completed"
        assert await same.result() == ["first-a", "cash", "early", "last-a"]
        assert (await flow.engine.wait(sleeper.id)).status == "completed"
    assert RAN == ["first-a", "last-a"]


@pytest.mark.asyncio
async def test_the_copies_can_be_forgotten_before_the_switch(database: str, tmp_path: Any) -> None:
    directory = str(tmp_path / "data")
    local = Stepflow(directory)
    register(local)
    async with local:
        run = await local.trigger("shop", {"id": "b"})
        await until_waiting(local, run.id)
    assert (await in_thread(call, directory, database)).exit_code == 0
    undone = await in_thread(call, directory, database, "--undo")
    assert undone.output == "forgotten: 1 copied runs\n"
    with psycopg.connect(database) as conn:
        rows = conn.execute("select 1 from stepflow.runs where run_id = %s", (run.id,)).fetchall()
        assert rows == []
    async with local:
        # The directory is what it was.
        assert (await local.get_run(run.id)).status == "running"


async def in_thread(function: Any, *args: str) -> Any:
    return await asyncio.to_thread(function, *args)
