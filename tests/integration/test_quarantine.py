"""A run that cannot go on is set aside and shown; all others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.errors import ConflictError
from stepflow.journal.suspects import Suspects
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from stepflow.runtime import actor as actors
from stepflow.runtime import messages as msg
from stepflow.runtime.actor import RunActor
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


async def f() -> int:
    return 1


async def w(ctx: Context) -> Any:
    await ctx.step("s", f)
    await ctx.wait_for_event("go", timeout=None)
    return "end"


async def two_runs(world: World) -> list[str]:
    world.redeploy(w)
    async with world:
        runs = [await world.trigger("w") for _ in range(2)]
        await world.until(lambda: len(world.engine.sup.waiters) == 2)
        await world.saved()
    return runs


async def test_a_run_whose_records_do_not_fit_is_set_aside_and_the_others_go_on() -> None:
    world = World()
    with world.clock.driving():
        broken, sound = await two_runs(world)
        groups: list[list[bytes]] = []
        for group in world.before:
            rows = []
            for row in group:
                record = decode_record(row)
                if isinstance(record, rec.StepCompleted) and record.r == broken:
                    told = msgspec.json.decode(row)
                    told["key"] = "nobody#1"
                    row = msgspec.json.encode(told)  # noqa: PLW2901  the damaged one
                rows.append(row)
            groups.append(rows)
        world.cut(groups)
        async with world:
            view = await world.engine.get_run(broken)
            assert view.state == "quarantined"
            assert "nobody#1" in str(view.reason)
            assert world.engine.readiness()["degraded"]["quarantinedRuns"] == 1  # type: ignore[index]
            assert await world.engine.notify("go", b"null") == 1
            assert result_of(await world.finished(sound)) == "end"
            with pytest.raises(ConflictError, match="cannot be applied"):
                await world.engine.resume(broken)
            await world.engine.cancel(broken)
            assert world.engine.metrics()["stepflow_runs_quarantined"] == 0
            assert (await world.finished(broken)).status == "cancelled"


async def test_an_actor_whose_own_code_failed_once_starts_again_from_its_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with world.clock.driving():
        one, other = await two_runs(world)
        async with world:
            failing = [one]
            activate = RunActor.activate

            def fails_once(self: RunActor) -> None:
                if self.id in failing:
                    failing.remove(self.id)
                    raise RuntimeError("a defect")
                activate(self)

            monkeypatch.setattr(RunActor, "activate", fails_once)
            assert await world.engine.notify("go", b"null") == 2
            assert result_of(await world.finished(other)) == "end"
            assert result_of(await world.finished(one)) == "end"


async def test_an_actor_that_fails_again_and_again_is_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with world.clock.driving():
        one, other = await two_runs(world)
        async with world:
            activate = RunActor.activate

            def fails(self: RunActor) -> None:
                if self.id == one:
                    raise RuntimeError("a defect")
                activate(self)

            monkeypatch.setattr(RunActor, "activate", fails)
            assert await world.engine.notify("go", b"null") == 2
            assert result_of(await world.finished(other)) == "end"
            await world.until(lambda: world.state(one) == "quarantined")
            view = await world.engine.get_run(one)
            assert "a defect" in str(view.reason)
        monkeypatch.undo()
        async with world:
            assert result_of(await world.finished(one)) == "end"


async def test_a_run_whose_actor_failed_goes_on_when_it_is_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with world.clock.driving():
        one, other = await two_runs(world)
        async with world:
            with pytest.raises(ConflictError, match="was not set aside"):
                await world.engine.resume(one)

            def fails(self: RunActor) -> None:
                raise RuntimeError("a defect")

            monkeypatch.setattr(RunActor, "activate", fails)
            await world.engine.notify("go", b"null")
            await world.until(lambda: world.engine.metrics()["stepflow_runs_quarantined"] == 2)
            monkeypatch.undo()
            view = await world.engine.resume(one)
            assert (view.status, view.state) != ("running", "quarantined")
            assert result_of(await world.finished(one)) == "end"
            assert world.state(other) == "quarantined"
            with pytest.raises(ConflictError):
                await world.engine.resume(one)


async def test_what_happens_to_a_run_that_is_set_aside_waits_for_its_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with world.clock.driving():
        one, other = await two_runs(world)

        def suspect(self: Suspects, states: object) -> set[str]:
            return {one}

        monkeypatch.setattr(Suspects, "count", suspect)
        async with world:
            assert world.state(one) == "quarantined"
            assert world.engine.readiness()["degraded"]["quarantinedRuns"] == 1  # type: ignore[index]
            # It is reached like any other, but its code gets no turn.
            assert await world.engine.notify("go", b"null") == 2
            assert result_of(await world.finished(other)) == "end"
            await world.settle()
            assert world.state(one) == "quarantined"
            await world.engine.resume(one)
            assert result_of(await world.finished(one)) == "end"


def failing_on(
    monkeypatch: pytest.MonkeyPatch, kind: type[Any], run_id: str, times: int
) -> list[Any]:
    """Let the run's actor fail on the first messages of a kind; return the list of those."""
    decide: dict[type[Any], Any] = dict(actors._DECIDE)
    failed: list[Any] = []

    def fails(actor: RunActor, message: Any) -> None:
        if actor.id == run_id and len(failed) < times:
            failed.append(message)
            raise RuntimeError("a defect")
        decide[kind](actor, message)

    monkeypatch.setitem(actors._DECIDE, kind, fails)
    return failed


async def takes(ctx: Context) -> list[Any]:
    return [await ctx.wait_for_event("go", timeout=None) for _ in range(3)]


async def test_the_message_on_which_an_actor_failed_is_tried_once_more_and_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(takes)
        async with world:
            run_id = await world.trigger("takes")
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
            failed = failing_on(monkeypatch, msg.EventArrived, run_id, 1)
            # The second comes while the actor starts again: it must not get in first.
            for word in (b"1", b"2", b"3"):
                assert await world.engine.notify("go", word, run_id=run_id) == 1
            assert len(failed) == 1
            assert result_of(await world.finished(run_id)) == [1, 2, 3]


async def test_an_actor_that_fails_twice_on_a_message_is_set_aside_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(takes)
        async with world:
            run_id = await world.trigger("takes")
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
            failed = failing_on(monkeypatch, msg.EventArrived, run_id, 2)
            assert await world.engine.notify("go", b"1", run_id=run_id) == 1
            await world.until(lambda: world.state(run_id) == "quarantined")
            assert len(failed) == 2
            assert failed[0] is failed[1]
            # Released, it decides what it owes.
            await world.engine.resume(run_id)
            for word in (b"2", b"3"):
                assert await world.engine.notify("go", word, run_id=run_id) == 1
            assert result_of(await world.finished(run_id)) == [1, 2, 3]


async def test_a_timer_and_a_cancel_on_which_an_actor_failed_are_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def sleeps(ctx: Context) -> str:
        await ctx.sleep("nap", "1h")
        return "awake"

    for kind, end in ((msg.TimerFired, "completed"), (msg.CancelAsked, "cancelled")):
        world = World()
        with world.clock.driving():
            world.redeploy(sleeps)
            async with world:
                run_id = await world.trigger("sleeps")
                await world.until(lambda: len(world.engine.sup.timers))  # noqa: B023  used here
                failed = failing_on(monkeypatch, kind, run_id, 1)
                if kind is msg.CancelAsked:
                    await world.engine.cancel(run_id)
                assert (await world.finished(run_id)).status == end
                assert len(failed) == 1
        monkeypatch.undo()
