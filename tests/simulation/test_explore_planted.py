"""`explore` tries right workflows on a broken runtime, and has to find what is broken in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Context, Stepflow, StepInterruptedError
from stepflow.testing import ExploreError, explore
from tests.sim.bugs import BUGS
from tests.sim.worlds import WORLDS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from stepflow.testing import Outcome

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

flow = Stepflow()


async def _do(value: str) -> str:
    return value


@flow.workflow("order")
async def order(ctx: Context, _: None) -> list[str]:
    first = await ctx.step("first", _do, "first")
    await ctx.sleep("nap", 1)
    await ctx.wait_for_event("paid", "paid", timeout="1h", default=None)
    return [first, await ctx.call("leaf", None, "child")]


@flow.workflow("leaf")
async def leaf(ctx: Context, _: None) -> str:
    return await ctx.step("work", _do, "work")


@flow.workflow("charge")
async def charge(ctx: Context, _: None) -> str:
    try:
        return await ctx.step("charge", _do, "charged", at_most_once=True)
    except StepInterruptedError:
        return "unknown"


def at_most_once(outcome: Outcome) -> bool:
    return len(outcome.calls("charge")) <= 1


async def explored(workflow: str) -> None:
    more: dict[str, Any] = {"events": {"paid": 1}} if workflow == "order" else {}
    if workflow == "charge":
        more = {"invariant": at_most_once, "same_result": False}
    await explore(workflow, None, flow=flow, depth=2, limit=60, **more)


def _planted(bug: str) -> AbstractContextManager[Any]:
    return BUGS[bug].enter() if bug in BUGS else WORLDS["compose"].bugs[bug]()


@pytest.mark.parametrize("workflow", ["order", "charge"])
async def test_a_right_workflow_on_a_right_runtime_passes(workflow: str) -> None:
    await explored(workflow)


@pytest.mark.parametrize(
    ("bug", "workflow"),
    [
        ("recorded-step-runs-again", "order"),
        ("parent-not-told", "order"),
        ("an-interrupted-step-runs-again", "charge"),
    ],
)
async def test_exploring_finds_a_planted_bug(bug: str, workflow: str) -> None:
    with _planted(bug), pytest.raises(ExploreError):
        await explored(workflow)
