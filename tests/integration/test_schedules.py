"""Schedules of the real engine, on virtual time: each time once, over crashes and clock jumps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import ConflictError, Context, Schedule
from stepflow.errors import NotFoundError
from stepflow.model import records as rec
from stepflow.testing.clock import VirtualClock
from tests.engine_kit import Service, service
from tests.harness import result_of

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.asyncio

HOUR = 3600
DAY = 86_400


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


def nightly(world: Service, *schedules: str | Schedule, lasts: float = 0) -> list[Any]:
    """Register `report` under these schedules; return what its runs saw."""
    seen: list[Any] = []

    @world.flow.workflow("report", schedule=list(schedules))
    async def report(ctx: Context, given: Any) -> Any:
        seen.append(ctx.scheduled_at)
        if lasts:
            await ctx.sleep("work", lasts)
        return given

    return seen


def fired(world: Service) -> list[int]:
    """The times that runs were started for, in order of their starts, over all lives."""
    actors = [actor.peek() for actor in world.engine.sup.runs.values()]
    starts = [state.started for state in actors if state.started and state.started.schedule]
    return [start.scheduled for start in sorted(starts, key=lambda start: start.lsn)]


def hours(times: Sequence[int]) -> list[float]:
    return [(time - at(2024, 1, 1)) / 3_600_000 for time in times]


async def test_each_time_gets_one_run_that_knows_it() -> None:
    async with service() as world:
        seen = nightly(world, Schedule("0 2 * * *", input={"kind": "full"}))
        world.engine.registered()
        await world.clock.advance(3 * DAY)
        assert hours(fired(world)) == [2, 26, 50]
        assert seen == [datetime(2024, 1, day, 2, tzinfo=UTC) for day in (1, 2, 3)]
        run_id = next(iter(world.engine.sup.runs))
        view = await world.engine.get_run(run_id)
        assert (view.schedule_id, view.scheduled_at) == ("report", "2024-01-01T02:00:00.000Z")
        assert result_of(view) == {"kind": "full"}
        other = await world.trigger("echo", 1)
        assert (await world.finished(other)).scheduled_at is (await world.get(other)).schedule_id


async def test_an_interval_is_not_shifted_by_a_restart() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h"))
        await world.restart()
        await world.clock.advance(2.5 * HOUR)
        await world.restart()
        await world.clock.advance(1 * HOUR)
        assert hours(fired(world)) == [1, 2, 3]


@pytest.mark.parametrize("snapshot", [False, True])
async def test_a_time_is_decided_once_over_crashes_and_snapshots(snapshot: bool) -> None:  # noqa: FBT001
    async with service() as world:
        nightly(world, Schedule(every="10m"))
        await world.restart()
        for _ in range(12):
            await world.clock.advance(299)
            if snapshot:
                await world.engine.snapshot()
            await world.crash()
            await world.clock.advance(1)
            await world.start()
        times = fired(world)
        assert hours(times) == [n / 6 for n in range(1, 1 + len(times))]
        assert len(times) in {5, 6}
        records = {(r.schedule, r.at) for r in world.records(rec.ScheduleFired)}
        assert len(records) == len(world.records(rec.ScheduleFired))


async def test_a_crash_between_decision_and_disk_shows_the_time_and_its_run_or_neither() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h"))
        world.engine.registered()
        await world.durable()
        world.hold()
        await world.clock.advance(HOUR + 1)
        assert hours(fired(world)) == [1]
        image = world.image()
        world.release()
        await world.crash()
        world.disk = image
        await world.start()
        await world.clock.advance(1)
        assert hours(fired(world)) == [1]
        group = next(g for g in world.life.groups if any(b"schedule.fired" in r for r in g))
        assert [b"run.started" in r for r in group] == [True, False]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"catch_up": "skip"}, [1, 7]),
        ({"catch_up": "one"}, [1, 6, 7]),
        ({"catch_up": "all"}, [1, 2, 3, 4, 5, 6, 7]),
        ({"catch_up": "all", "catch_up_max": 3}, [1, 4, 5, 6, 7]),
    ],
)
async def test_what_was_missed_is_caught_up_with_as_the_policy_says(
    policy: dict[str, Any], expected: list[float]
) -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h", overlap="allow", **policy))
        world.engine.registered()
        await world.clock.advance(1.5 * HOUR)
        await world.crash()
        await world.clock.advance(5 * HOUR)
        await world.start()
        await world.clock.advance(HOUR)
        assert hours(fired(world)) == expected
        (view,) = await world.engine.list_schedules()
        assert view.fired + view.skipped == 7


async def test_a_restart_of_some_seconds_misses_nothing_even_with_skip() -> None:
    async with service() as world:
        nightly(world, Schedule("0 2 * * *", catch_up="skip"))
        world.engine.registered()
        await world.clock.advance(2 * HOUR - 5)
        await world.crash()
        await world.clock.advance(20)
        await world.start()
        await world.clock.advance(1)
        assert hours(fired(world)) == [2]


@pytest.mark.parametrize(
    ("overlap", "started"),
    [("allow", [1, 2, 3, 4]), ("skip", [1, 3]), ("queue", [1, 2, 3, 4]), ("cancel", [1, 2, 3, 4])],
)
async def test_a_run_that_is_still_under_way(overlap: Any, started: list[float]) -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h", overlap=overlap), lasts=1.5 * HOUR)
        world.engine.registered()
        await world.clock.advance(4.25 * HOUR)
        assert hours(fired(world)) == started
        await world.restart()
        views = (await world.page()).runs[::-1]
        states = [view.status for view in views]
        if overlap == "allow":
            assert states == ["completed", "completed", "running", "running"]
        elif overlap == "queue":
            assert states == ["completed", "completed", "running", "pending"]
        elif overlap == "cancel":
            assert states == ["cancelled"] * 3 + ["running"]
        (shown,) = await world.engine.list_schedules()
        assert shown.skipped == (2 if overlap == "skip" else 0)


async def test_the_autumn_hour_fires_once_and_the_spring_gap_once() -> None:
    for start, begin, expected in [
        (at(2026, 10, 24, 12), "autumn", [at(2026, 10, 25, 0, 30), at(2026, 10, 26, 1, 30)]),
        (at(2026, 3, 28, 12), "spring", [at(2026, 3, 29, 1, 0), at(2026, 3, 30, 0, 30)]),
    ]:
        clock = VirtualClock(start)
        async with service(clock=clock) as world:
            nightly(world, Schedule("30 2 * * *", tz="Europe/Berlin"))
            world.engine.registered()
            for _ in range(8):
                # In the hour that comes twice, too.
                await world.clock.advance(5 * HOUR + 600)
                await world.restart()
            assert fired(world) == expected, begin


async def test_a_clock_set_back_fires_nothing_twice_and_one_set_forward_catches_up() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h", catch_up="all", overlap="allow"))
        world.engine.registered()
        await world.clock.advance(2.5 * HOUR)
        world.clock.jump_wall(-2 * HOUR * 1000)
        await world.clock.advance(1 * HOUR)
        await world.restart()
        await world.clock.advance(1 * HOUR)
        assert hours(fired(world)) == [1, 2, 3, 4]
        world.clock.jump_wall(4 * HOUR * 1000)
        await world.clock.advance(1 * HOUR)
        times = hours(fired(world))
        assert times == [float(n) for n in range(1, len(times) + 1)]
        assert len(times) >= 6


async def test_a_paused_schedule_fires_nothing_and_goes_on_from_its_resume() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h", catch_up="all"))
        world.engine.registered()
        await world.clock.advance(1.5 * HOUR)
        paused = await world.engine.pause_schedule("report", by="key:ops")
        assert (paused.state, paused.next_at) == ("paused", type(paused).__struct_defaults__[0])
        await world.engine.pause_schedule("report", by="key:ops")
        (record,) = world.records(rec.SchedulePaused)
        assert record.by == "key:ops"
        await world.clock.advance(2 * HOUR)
        await world.engine.snapshot()
        await world.restart()
        await world.clock.advance(2 * HOUR)
        assert hours(fired(world)) == [1]
        resumed = await world.engine.resume_schedule("report")
        assert resumed.state == "active"
        await world.clock.advance(1 * HOUR)
        assert hours(fired(world)) == [1, 6]


async def test_a_changed_schedule_begins_at_its_deploy_and_a_removed_one_is_quiet() -> None:
    async with service() as world:
        nightly(world, Schedule("0 9 * * *"))
        await world.restart()
        await world.clock.advance(12 * HOUR)
        await world.crash()
        world.flow.registry.__init__()  # type: ignore[misc]
        nightly(world, Schedule("0 11 * * *"))
        await world.start()
        await world.clock.advance(1)
        assert hours(fired(world)) == [9], "nothing of before the deploy"
        await world.clock.advance(DAY)
        assert hours(fired(world)) == [9, 35]
        await world.crash()
        world.flow.registry.__init__()  # type: ignore[misc]
        await world.start()
        await world.clock.advance(3 * DAY)
        await world.crash()
        nightly(world, Schedule("0 11 * * *", catch_up="all"))
        await world.start()
        await world.clock.advance(1)
        assert hours(fired(world)) == [9, 35], "what passed while it was gone is not caught up"
        with pytest.raises(NotFoundError):
            await world.engine.pause_schedule("other")


async def test_trigger_now_obeys_the_overlap_policy_and_shifts_no_time() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h"), lasts=600)
        world.engine.registered()
        run_id = await world.engine.trigger_schedule("report", by="key:ops")
        with pytest.raises(ConflictError, match=run_id):
            await world.engine.trigger_schedule("report")
        await world.finished(run_id)
        await world.clock.advance(HOUR)
        assert hours(fired(world)) == [0, 1]


async def test_a_backfill_starts_each_time_of_the_range_that_has_no_run() -> None:
    async with service() as world:
        nightly(world, Schedule("0 2 * * *", overlap="queue"), lasts=60)
        world.engine.registered()
        await world.clock.advance(1 * DAY)
        begin, end = at(2023, 12, 30, 2), at(2024, 1, 1, 2)
        dry = await world.engine.backfill_schedule("report", begin, end, dry_run=True)
        assert [run.scheduled_at for run in dry.runs] == [
            "2023-12-30T02:00:00.000Z",
            "2023-12-31T02:00:00.000Z",
        ]
        assert (dry.existing, dry.dry_run) == (1, True)
        assert hours(fired(world)) == [2]
        done = await world.engine.backfill_schedule("report", begin, end)
        assert [world.actor(str(run.run_id)).status for run in done.runs] == ["running", "pending"]
        again = await world.engine.backfill_schedule("report", begin, end)
        assert (again.runs, again.existing) == ([], 3)
        for run in done.runs:
            await world.finished(str(run.run_id))


async def test_a_full_disk_delays_a_time_and_loses_none() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h", catch_up="all", overlap="allow"))
        world.engine.registered()
        await world.durable()
        journal = world.engine.sup.journal
        has_room = journal.has_room
        journal.has_room = lambda *_, **__: False  # type: ignore[method-assign]
        await world.clock.advance(2.5 * HOUR)
        assert fired(world) == []
        journal.has_room = has_room  # type: ignore[method-assign]
        await world.clock.advance(2)
        assert hours(fired(world)) == [1, 2]


async def test_several_schedules_of_one_workflow() -> None:
    async with service() as world:
        nightly(
            world,
            Schedule("0 2 * * *"),
            Schedule("0 3 * * *", id="late", input={"late": True}),
        )
        world.engine.registered()
        await world.clock.advance(DAY)
        inputs = [result_of(await world.get(run.id)) for run in (await world.page()).runs[::-1]]
        assert inputs == [None, {"late": True}]
        assert [view.id for view in await world.engine.list_schedules()] == ["report", "late"]


async def test_the_times_to_come_are_told() -> None:
    async with service() as world:
        nightly(world, Schedule("0 2 * * *", tz="Europe/Berlin"))
        world.engine.registered()
        view = await world.engine.get_schedule("report", times=3)
        assert view.next == [f"2024-01-0{day}T01:00:00.000Z" for day in (1, 2, 3)]
        assert view.next_at == view.next[0]
        assert view.spec == "0 2 * * * Europe/Berlin"


async def test_tidying_the_timers_keeps_those_of_schedules_and_rates() -> None:
    async with service() as world:
        nightly(world, Schedule(every="1h"))

        @world.flow.workflow("rated", rate_limit="1/h")
        async def rated(ctx: Context) -> None: ...

        world.engine.registered()
        ids = [await world.trigger("rated") for _ in range(2)]
        sup = world.engine.sup
        await sup.timers.tidy(sup._counts)
        await world.clock.advance(HOUR + 1)
        assert hours(fired(world)) == [1]
        assert world.actor(ids[1]).status == "completed"
