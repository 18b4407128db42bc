"""Which finished runs are kept, on the real engine and over restarts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import Context, Retention
from stepflow.errors import ConflictError, RunNotFoundError
from stepflow.model import records as rec
from stepflow.model.run import RunState
from tests.engine_kit import Service, reborn, service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.asyncio

DAY_S = 86_400


async def ended(world: Service, workflow: str, value: object = None, count: int = 1) -> list[str]:
    ids = [await world.trigger(workflow, value) for _ in range(count)]
    for run_id in ids:
        await world.finished(run_id)
    return ids


async def known(world: Service) -> list[str]:
    """Return the runs that there are, oldest first, after some turns of housekeeping."""
    for _ in range(3):
        await world.clock.advance(1)
    await world.durable()
    return list(world.engine.sup.runs)


async def test_the_oldest_finished_runs_beyond_the_bytes_are_purged() -> None:
    async with service(finished_bytes_max=20_000) as world:
        live = [await world.trigger("sleeps", DAY_S), await world.trigger("waits", "ev")]
        ids = await ended(world, "echo", "x" * 1000, 40)
        kept = await known(world)
        finished = [run_id for run_id in kept if run_id not in live]
        assert set(live) <= set(kept)
        assert 5 < len(finished) < 20
        assert finished == ids[-len(finished) :]
        assert world.engine.sup.retention.bytes <= 20_000
        assert world.engine.sup.retention.bytes == sum(
            world.actor(run_id).peek().nbytes for run_id in finished
        )
        await world.restart()
        assert await known(world) == kept
        with pytest.raises(RunNotFoundError):
            await world.get(ids[0])


async def test_what_ended_first_goes_first_also_after_a_restart() -> None:
    async with service(finished_bytes_max=1_000_000) as world:
        late = await world.trigger("waits", "ev")
        early = await ended(world, "echo", "x" * 1000, 3)
        await world.engine.notify("ev", b'"' + b"x" * 1000 + b'"')
        await world.finished(late)
        assert (await known(world))[0] == late
        async with reborn(world) as other:
            other.engine.sup.settings = replace(world.settings, finished_bytes_max=5000)
            await other.clock.advance(3)
            assert late in other.engine.sup.runs
            assert early[0] not in other.engine.sup.runs


async def test_completed_runs_go_after_seven_days_failed_and_cancelled_after_thirty() -> None:
    async with service() as world:
        (done,) = await ended(world, "echo")
        (failed,) = await ended(world, "fails")
        cancelled = await world.trigger("waits", "ev")
        await world.engine.cancel(cancelled)
        await world.finished(cancelled)
        live = await world.trigger("sleeps", 100 * DAY_S)
        await world.waiting(live)
        await world.clock.advance(7 * DAY_S - 60)
        assert set(await known(world)) == {done, failed, cancelled, live}
        await world.restart()
        await world.clock.advance(120)
        assert set(await known(world)) == {failed, cancelled, live}
        await world.clock.advance(23 * DAY_S - 300)
        assert set(await known(world)) == {failed, cancelled, live}
        await world.clock.advance(600)
        assert await known(world) == [live]
        await world.restart()
        assert await known(world) == [live]


async def test_a_failed_run_that_is_kept_longer_holds_up_no_completed_one() -> None:
    async with service(completed_age_s=100, failed_age_s=10_000) as world:
        failed = await ended(world, "fails", None, 3)
        await ended(world, "echo", 1, 3)
        await world.clock.advance(200)
        assert await known(world) == failed


async def test_more_than_a_slice_is_purged_at_once_when_it_is_due() -> None:
    async with service(completed_age_s=10, live_runs_max=10_000) as world:
        ids = await world.engine.trigger_many("echo", [b"1"] * 1500)
        await world.until(lambda: world.engine.sup.live == 0)
        assert len(await known(world)) == len(ids)
        await world.clock.advance(20)
        assert await known(world) == []
        assert world.engine.metrics()["stepflow_runs_purged_total"] == 1500
        assert world.engine.sup.retention.bytes == 0
        await world.restart()
        assert await known(world) == []


async def test_a_purge_is_a_record_and_takes_key_events_and_id_along() -> None:
    async with service() as world:
        run_id = await world.trigger("echo", 1, run_id="run_mine0000", idempotency_key="k")
        await world.finished(run_id)
        await world.engine.purge(run_id, by="ann")
        purged = world.records(rec.RunPurged)
        assert [(record.r, record.by, record.rs) for record in purged] == [(run_id, "ann", 3)]
        for _ in range(2):
            for ask in (world.get(run_id), world.engine.stream(run_id), world.engine.wait(run_id)):
                with pytest.raises(RunNotFoundError):
                    await ask
            assert (await world.page()).runs == []
            await world.restart()
        assert await world.trigger("echo", 2, run_id="run_mine0000", idempotency_key="k") == run_id


@pytest.mark.parametrize("workflow", ["waits", "sleeps", "gated", "retries", "parent"])
async def test_a_live_run_is_never_purged(workflow: str) -> None:
    none = {"finished_bytes_max": 0, "finished_runs_max": 0}
    async with service(**none, completed_age_s=0, failed_age_s=0) as world:
        run_id = await world.trigger(workflow, 1e6 if workflow == "sleeps" else "ev")
        await world.settle()
        await world.durable()
        with pytest.raises(ConflictError):
            await world.engine.purge(run_id)
        assert run_id in await known(world)


async def test_a_quarantined_run_is_never_purged_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service(finished_bytes_max=0, completed_age_s=0, failed_age_s=0) as world:
        bad = await world.trigger("waits", "bad")
        good = await world.trigger("waits", "good")
        await world.waiting(good)
        apply = RunState.apply

        def broken(state: RunState, *args: Any) -> None:
            if state.id == bad and isinstance(args[0], rec.WaitResolved):
                raise RuntimeError("a defect")
            apply(state, *args)

        monkeypatch.setattr(RunState, "apply", broken)
        for _ in range(4):
            await world.engine.notify("bad", b"1", run_id=bad)
            await world.settle()
        await world.until(lambda: world.state(bad) == "quarantined")
        view = await world.get(bad)
        assert (view.status, view.state) == ("running", "quarantined")
        assert "SFW401" in str(view.reason)
        with pytest.raises(ConflictError):
            await world.engine.purge(bad)
        assert world.engine.readiness()["degraded"]["quarantinedRuns"] == 1  # type: ignore[index]
        await world.engine.notify("good", b"1")
        await world.until(lambda: good not in world.engine.sup.runs or world.actor(good).finished)
        assert bad in await known(world)


async def test_the_hours_that_the_cap_gives_are_told() -> None:
    async with service(finished_bytes_max=1 << 20) as world:
        assert world.engine.metrics()["stepflow_retention_hours"] == 0
        for _ in range(10):
            await ended(world, "echo", "x" * 900)
            await world.clock.advance(360)
        # Ten runs an hour of some two kilobytes each fill a mebibyte in some fifty hours.
        assert 40 < world.engine.metrics()["stepflow_retention_hours"] < 60


async def test_the_hours_are_those_of_the_limit_that_is_met_first() -> None:
    async with service(finished_bytes_max=1 << 20, finished_runs_max=20) as world:
        for _ in range(10):
            await ended(world, "echo", "x" * 900)
            await world.clock.advance(360)
        # Ten runs an hour: twenty in two hours.
        assert 1.8 < world.engine.metrics()["stepflow_retention_hours"] < 2.1
        assert world.engine.metrics()["stepflow_runs_finished"] == 10


async def test_of_all_workflows_together_the_last_runs_stay() -> None:
    async with service(finished_runs_max=5) as world:
        live = await world.trigger("waits", "ev")
        ids = [*await ended(world, "echo", 1, 4), *await ended(world, "fails", None, 4)]
        assert await known(world) == [live, *ids[-5:]]
        await world.restart()
        assert await known(world) == [live, *ids[-5:]]


# ---------------------------------------------------------------- a workflow's own limits


class Shop(Service):
    """Two workflows; `kept` says what the first keeps, from each start on."""

    def __init__(self, kept: Any, **options: Any) -> None:
        super().__init__(**options)

        @self.flow.workflow("checkout", retention=kept)
        async def checkout(ctx: Context, value: Any) -> Any:
            if value == "fail":
                raise ValueError(value)
            if value == "wait":
                await ctx.wait_for_event("wait", "go")
            return value

        @self.flow.workflow("other")
        async def other(ctx: Context, value: Any) -> Any:
            return value


@asynccontextmanager
async def shop(kept: Any, **options: Any) -> AsyncGenerator[Shop]:
    world = Shop(kept, **options)
    with world.clock.driving():
        await world.start()
        yield world
        await world.stop()


async def test_a_workflow_keeps_what_it_says_and_the_others_what_the_settings_say() -> None:
    kept = Retention(age="1h", failed_age="2h", count=3)
    async with shop(kept, completed_age_s=3 * 3600) as world:
        live = await world.trigger("checkout", "wait")
        others = [await world.trigger("other", n) for n in range(5)]
        ids = [await world.trigger("checkout", value) for value in ("fail", 1, 2, 3, "fail")]
        await world.until(lambda: world.engine.sup.live == 1)
        assert set(await known(world)) == {live, *others, *ids[2:]}
        await world.clock.advance(3600)
        assert set(await known(world)) == {live, *others, ids[4]}
        await world.restart()
        await world.clock.advance(3600)
        assert set(await known(world)) == {live, *others}
        await world.clock.advance(3600)
        assert await known(world) == [live]
        purges = world.records(rec.RunPurged)
        assert [(record.by, record.reason) for record in purges] == [("retention", "")] * 6


async def test_a_deploy_that_keeps_less_takes_effect_on_what_has_ended_before() -> None:
    async with shop("30d") as world:
        ids = [await world.trigger("checkout", n) for n in range(6)]
        for run_id in ids:
            await world.finished(run_id)
        await world.clock.advance(10 * DAY_S)
        # The settings would have kept them for seven days.
        assert await known(world) == ids
        await world.stop()
        deploy = Shop(Retention(count=2), disk=world.disk, clock=world.clock)
        deploy.settings = replace(deploy.settings, completed_age_s=20 * DAY_S)
        async with deploy:
            assert await known(deploy) == ids[-2:]
        await world.start()


async def test_a_run_that_is_retried_lives_and_is_not_counted() -> None:
    async with shop(Retention(count=1)) as world:
        first = await world.trigger("checkout", "fail")
        await world.finished(first)
        await world.engine.retry(first)
        await world.finished(first)
        second = await world.trigger("checkout", 1)
        await world.finished(second)
        assert await known(world) == [second]
        assert len(world.engine.sup.retention) == 1
