"""`stepflow check` foretells what an edit does to runs in flight; then the edit is deployed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from stepflow import Stepflow
from stepflow.cli.main import main
from stepflow.clock import next_pass
from stepflow.engine import checking
from stepflow.engine.checking import Checked, check_directory
from stepflow.model import records as rec
from tests.harness import World, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepflow import Context

STEPS = 50
DONE = 25


async def one(n: int) -> int:
    return n


async def other(n: int) -> int:
    return n


def workflow(steps: Sequence[tuple[str, Callable[..., Any], int]]) -> Any:
    """Return fifty steps, with a wait after the first twenty-five that were there."""

    async def long(ctx: Context) -> int:
        total = 0
        for name, fn, n in steps:
            if name == "wait":
                await ctx.wait_for_event("go", timeout=None)
            else:
                total += await ctx.step(name, fn, n)
        return total

    return long


def before() -> list[tuple[str, Callable[..., Any], int]]:
    steps: list[tuple[str, Callable[..., Any], int]] = [(f"s{n}", one, n) for n in range(STEPS)]
    return [*steps[:DONE], ("wait", one, 0), *steps[DONE:]]


def added() -> list[Any]:
    return [*before()[:10], ("extra", one, 1000), *before()[10:]]


def removed() -> list[Any]:
    return [step for step in before() if step[0] != "s7"]


def renamed() -> list[Any]:
    return [("better", fn, n) if name == "s7" else (name, fn, n) for name, fn, n in before()]


def reordered() -> list[Any]:
    steps = before()
    steps[3], steps[9] = steps[9], steps[3]
    return steps


def other_arguments() -> list[Any]:
    return [(name, fn, n + 100) if name == "s7" else (name, fn, n) for name, fn, n in before()]


def other_function() -> list[Any]:
    return [(name, other if name == "s7" else fn, n) for name, fn, n in before()]


async def in_flight(world: World) -> str:
    """Run to the wait, with 25 recorded steps, and crash."""
    world.redeploy(workflow(before()))
    await world.start()
    run_id = await world.trigger("long")
    await world.until(lambda: len(world.engine.sup.waiters))
    await world.saved()
    await world.crash()
    return run_id


async def foretold(world: World) -> Checked:
    files = {name: bytes(world.disk.read(name)) for name in world.disk.listdir()}
    rows = [row async for row in check_directory(world.disk, world.flow.registry)]
    after = {name: bytes(world.disk.read(name)) for name in world.disk.listdir()}
    assert files == after, "a check writes nothing"
    (row,) = rows
    return row


SUM = sum(range(STEPS))
EDITS = {
    "unchanged": (before, "safe", [], [], SUM),
    "add": (added, "new steps", ["extra#1"], ["wait"], SUM + 1000),
    "remove": (removed, "unused results", [], ["s7#1"], SUM - 7),
    "rename": (renamed, "new steps", ["better#1"], ["s7#1"], SUM),
    "reorder": (reordered, "safe", [], [], SUM),
    "change arguments": (other_arguments, "safe", [], [], SUM),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("edit", EDITS)
async def test_an_edit_of_fifty_steps_in_flight_goes_as_it_was_foretold(edit: str) -> None:
    steps, verdict, new, unused, result = EDITS[edit]
    world = World()
    with world.clock.driving():
        run_id = await in_flight(world)
        world.redeploy(workflow(steps()))
        row = await foretold(world)
        assert (row.run_id, row.verdict, row.new) == (run_id, verdict, new)
        assert set(unused) - {"wait"} <= set(row.unused)
        if not new:
            assert row.unused == unused
        # Behind a step that has no result the check knows nothing, and does not claim to.
        assert ("unused: " in row.line()) == (bool(row.unused) and not new)
        assert ("unused, or asked for only behind them: " in row.line()) == bool(row.unused and new)
        assert bool(row.warnings) == (edit == "change arguments")
        async with world:
            # It sleeps until something happens to it: wake it.
            world.actor(run_id).activate()
            await world.settle(1000)
            begun = {r.key for r in world.records(rec.StepStarted)}
            assert begun == set(new), "what was foretold as new, and no more, begins"
            await world.engine.notify("go", b"null")
            assert result_of(await world.finished(run_id)) == result


@pytest.mark.asyncio
async def test_a_divergence_is_foretold_with_the_step_and_both_functions() -> None:
    world = World()
    with world.clock.driving():
        run_id = await in_flight(world)
        world.redeploy(workflow(other_function()))
        row = await foretold(world)
        assert (row.verdict, row.step, row.recorded, row.asked) == (
            "divergence",
            "s7#1",
            "one",
            "other",
        )
        assert "s7#1" in row.line()
        async with world:
            await world.engine.notify("go", b"null")
            assert await world.ended_or_parked(run_id) == "parked"
        # `renamed` says that it is the same; the parked run goes on with fitting code by itself.
        world.redeploy(workflow(other_function()), renamed={"one": "other"})
        row = await foretold(world)
        assert (row.verdict, row.new, row.unused) == ("safe", ["s25#1"], [])
        async with world:
            assert result_of(await world.finished(run_id)) == SUM


@pytest.mark.asyncio
async def test_a_workflow_that_is_gone_is_told_and_an_alias_finds_it() -> None:
    world = World()
    with world.clock.driving():
        await in_flight(world)
        world.redeploy()
        assert (await foretold(world)).verdict == "missing workflow"
        world.flow.workflow("short", aliases=["long"])(workflow(before()))
        assert (await foretold(world)).verdict == "safe"


@pytest.mark.asyncio
async def test_a_run_that_waits_for_something_of_its_own_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checking, "_PATIENCE_S", 0.0)
    world = World()
    with world.clock.driving():
        await in_flight(world)

        async def long(ctx: Context) -> None:
            await asyncio.Event().wait()

        world.redeploy(long)
        assert (await foretold(world)).verdict == "unknown"


APP = """
from stepflow import Context, Stepflow

flow = Stepflow()


async def {fn}() -> int:
    return 1


@flow.workflow("w")
async def w(ctx: Context) -> None:
    await ctx.step("s", {fn})
    await ctx.wait_for_event("go", timeout=None)
"""


@pytest.mark.asyncio
@pytest.mark.parametrize(("fn", "status"), [("same", 0), ("changed", 1)])
async def test_the_command_says_it_by_its_exit_status_while_a_server_runs(
    tmp_path: Path, fn: str, status: int
) -> None:
    flow = Stepflow(tmp_path / "data")

    async def same() -> int:
        return 1

    same.__qualname__ = "same"

    @flow.workflow("w")
    async def w(ctx: Context) -> None:
        await ctx.step("s", same)
        await ctx.wait_for_event("go", timeout=None)

    (tmp_path / "app.py").write_text(APP.format(fn=fn))
    async with flow:
        run = await flow.trigger("w")
        while (await run.get()).state != "waiting":
            await next_pass()
        command = ["check", str(tmp_path / "app.py"), "--data", str(tmp_path / "data"), "--json"]
        done = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert done.exit_code == status, done.output
    row = json.loads(done.stdout)
    assert (row["runId"], row["workflowId"]) == (run.id, "w")
    assert row["verdict"] == ("divergence" if status else "safe")


def test_a_directory_that_is_not_there_is_an_error_of_use(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(fn="same"))
    command = ["check", str(tmp_path / "app.py"), "--data", str(tmp_path / "none")]
    assert CliRunner().invoke(main, command).exit_code == 2
