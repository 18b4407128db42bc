"""A run that is paused, failed, retried and forked, cut after every record of its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RetryPolicy
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from stepflow.model.run import RunState
from tests.harness import World, result_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow import Context

pytestmark = pytest.mark.asyncio

BROKEN = [True]


def body(world: World) -> Any:
    async def step(n: int) -> int:
        world.ran(n)
        return n

    async def fails() -> int:
        world.ran()
        if BROKEN:
            raise ValueError("not yet")
        return 3

    async def w(ctx: Context) -> list[Any]:
        a = await ctx.step("a", step, 1)
        got = await ctx.wait_for_event("go", timeout=None)
        return [a, got, await ctx.step("b", step, 2), await ctx.step("c", fails)]

    return w


def counted(groups: list[list[bytes]], run_id: str) -> dict[str, int]:
    """Return how often each step of the run has its result."""
    found: dict[str, int] = {}
    for data in (data for group in groups for data in group):
        record = decode_record(data)
        if isinstance(record, rec.StepCompleted) and record.r == run_id:
            found[record.key] = found.get(record.key, 0) + 1
    return found


async def lived(world: World) -> str:
    """Live one whole life; return the id of its run."""
    engine = world.engine
    world.redeploy(body(world), retry=RetryPolicy(max_attempts=1))
    run_id = await world.trigger("w")
    await world.until(lambda: len(engine.sup.waiters))
    await engine.pause(run_id, by="key:a", reason="look")
    await engine.notify("go", b"7")
    await engine.resume(run_id, by="key:b")
    assert (await world.finished(run_id)).status == "failed"
    await engine.fork(run_id, "b", results={"c": b"9"}, by="key:c")
    BROKEN.clear()
    await engine.retry(run_id, by="key:d")
    assert result_of(await world.finished(run_id)) == [1, 7, 2, 3]
    await world.until(lambda: not engine.sup.live)
    await world.saved()
    return run_id


async def check_cut(world: World, groups: list[list[bytes]], run_id: str) -> None:
    """Start on what a cut has left, and let everything end."""
    engine = world.engine
    if run_id not in engine.sup.runs:
        assert not groups
        return
    acts = [e.action for e in await engine.run_audit(run_id)]
    assert acts == ["pause", "resume", "retry"][: len(acts)]
    view = await engine.get_run(run_id)
    assert (view.state == "paused") == (acts == ["pause"])
    recorded = counted(groups, run_id)
    if view.state == "paused":
        await engine.resume(run_id)
    waiters = engine.sup.waiters
    for other in list(engine.sup.runs):
        actor = world.actor(other)
        await world.until(lambda actor=actor: actor.finished or len(waiters))
    if len(engine.sup.waiters):
        await engine.notify("go", b"7")
    view = await engine.wait(run_id)
    if view.status == "failed":
        await engine.retry(run_id)
        view = await engine.wait(run_id)
    assert result_of(view) == [1, 7, 2, 3]
    for other in list(engine.sup.runs):
        if other != run_id:
            assert result_of(await engine.wait(other)) == [1, 7, 2, 9]
            stream = await engine.stream(other)
            ids = [event.id for event in stream.read_events(1000)]
            stream.close()
            assert ids[0] == 1
            assert ids == sorted(set(ids))
    again = {ran.key for ran in world.life.ran if ran.idempotency_key.startswith(run_id)}
    assert not again & set(recorded), "a recorded step ran again"


async def whole(plant: Callable[[], None] = lambda: None) -> None:
    """Live once, then start on every cut of that; `plant` breaks a rule in between."""
    world = World()
    with world.clock.driving():
        async with world:
            BROKEN[:] = [True]
            run_id = await lived(world)
        groups = list(world.before)
        plant()
        for cut in range(len(groups) + 1):
            BROKEN.clear()
            world.cut(groups[:cut])
            async with world:
                await check_cut(world, groups[:cut], run_id)


async def test_no_cut_loses_a_pause_an_act_or_a_result() -> None:
    await whole()


@pytest.mark.parametrize("bug", ["a retry reruns a step", "a pause is forgotten"])
async def test_the_check_finds_planted_bugs(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    handlers = RunState._handlers
    retried = handlers[rec.RunRetried]

    def reruns(self: RunState, record: Any, body: Any) -> None:
        retried(self, record, body)
        self._forget("a#1")

    def forgets(self: RunState, record: Any, body: Any) -> None:
        del body
        self.acts.append(record)

    def plant() -> None:
        if bug == "a retry reruns a step":
            monkeypatch.setitem(handlers, rec.RunRetried, reruns)
        else:
            monkeypatch.setitem(handlers, rec.RunPaused, forgets)

    with pytest.raises(AssertionError):
        await whole(plant)
