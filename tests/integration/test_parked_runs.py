"""A run that nobody moves is bytes: they say all there is, and a run has one actor at a time."""

from __future__ import annotations

import gc
import weakref

import pytest

from benchmarks.instructions import Count
from stepflow.clock import next_pass
from stepflow.engine.protocol import RunFilter
from stepflow.model.run import RunState
from stepflow.runtime import runs as table
from stepflow.runtime import supervisor
from stepflow.runtime.parked import (
    Names,
    finished_of,
    line_of,
    lsn_of,
    park,
    press,
    start_lsn_of,
    state_of,
    status_of,
    summary_of,
)
from tests.engine_kit import Service, service
from tests.harness import result_of

pytestmark = pytest.mark.asyncio


def row(world: Service, run_id: str) -> object:
    return world.engine.sup.runs._rows[run_id]


async def parked(world: Service, event: str = "ev") -> str:
    """Return a run that waits for the event and has been put to sleep."""
    run_id = await world.trigger("waits", event)
    await world.waiting(run_id)
    await world.durable()
    await world.clock.advance(60)
    return run_id


async def test_bytes_say_what_the_open_run_says() -> None:
    async with service() as world:
        ids = [await parked(world), await world.trigger("doubles", 4)]
        await world.finished(ids[1])
        for run_id in ids:
            state = world.actor(run_id).peek()
            names = Names()
            held = park(state, 7, names)
            assert start_lsn_of(held) == 7
            assert lsn_of(held) == state.lsn
            assert finished_of(held) == state.finished
            assert status_of(held) == state.status == world.engine.sup.runs.status(run_id)
            assert summary_of(held, run_id, names) == state.summary()
            assert line_of(held, run_id) == state.pack()
            assert state_of(held, run_id).pack() == state.pack()


async def test_tags_key_and_starter_are_shown_of_a_parked_run() -> None:
    async with service() as world:
        run_id = str(
            await world.engine.trigger(
                "waits", b'"ev"', idempotency_key="k", by="key:me", tags=("blue",)
            )
        )
        await world.waiting(run_id)
        await world.durable()
        await world.clock.advance(60)
        assert isinstance(row(world, run_id), bytes)
        page = await world.engine.list_runs(RunFilter(tag="blue"), limit=5, cursor=None)
        assert [view.id for view in page.runs] == [run_id]
        summary = world.engine.sup.runs.summary(run_id)
        assert summary is not None
        assert (summary.tags, summary.idem, summary.by) == (("blue",), "k", "key:me")


async def test_a_sleeping_run_has_no_actor_and_wakes_all_the_same() -> None:
    async with service() as world:
        run_id = await parked(world)
        assert isinstance(row(world, run_id), bytes)
        assert len(row(world, run_id)) < len(world.engine.sup.runs.line(run_id)[1])  # type: ignore[arg-type, index]
        await world.engine.notify("ev", b'"hello"')
        assert (await world.finished(run_id)).status == "completed"


async def test_whoever_holds_an_actor_holds_the_only_one() -> None:
    async with service() as world:
        run_id = await parked(world)
        runs = world.engine.sup.runs
        held = runs[run_id]
        held.leave()
        assert isinstance(row(world, run_id), bytes)
        assert runs[run_id] is held
        held.leave()
        gone = weakref.ref(held)
        held.state.pack()
        assert row(world, run_id) is held
        held.pack()
        del held
        runs._visited.clear()
        gc.collect()
        assert gone() is None
        assert isinstance(row(world, run_id), bytes)


async def test_who_was_only_looked_at_is_parked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_VISITED_MAX", 2)
    async with service() as world:
        ids = [await parked(world, f"ev{n}") for n in range(4)]
        for run_id in ids:
            await world.engine.get_run(run_id)
        assert [isinstance(row(world, run_id), bytes) for run_id in ids] == [True, True] + [
            False
        ] * 2
        for n in range(4):
            await world.engine.notify(f"ev{n}", b"1")
        for run_id in ids:
            assert (await world.finished(run_id)).status == "completed"


async def test_a_waiter_of_a_parked_run_is_answered() -> None:
    async with service() as world:
        run_id = await parked(world)
        actor = world.actor(run_id)
        ended = world.engine.sup.loop.create_future()
        actor.finish_waiters.append(ended)
        actor.leave()
        assert row(world, run_id) is actor
        await world.engine.notify("ev", b"1")
        await world.finished(run_id)
        assert ended.done()


async def test_a_purged_run_is_not_entered_again_by_who_still_has_its_actor() -> None:
    async with service() as world:
        run_id = await world.trigger("doubles", 4)
        await world.finished(run_id)
        actor = world.actor(run_id)
        await world.engine.purge(run_id)
        actor.leave()
        assert isinstance(actor.state, RunState)
        actor.pack()
        assert run_id not in world.engine.sup.runs
        assert world.engine.sup.runs.finished(run_id)
        assert world.engine.sup.runs.summary(run_id) is None
        assert world.engine.sup.runs.status(run_id) is None
        assert world.engine.sup.runs.line(run_id) is None
        with pytest.raises(KeyError):
            world.engine.sup.runs[run_id]


async def test_a_start_parks_in_a_hurry_and_presses_some_at_a_time_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "_PRESSED_AT_ONCE", 2)
    async with service() as world:
        ids = [await world.trigger("waits", f"ev-{n}") for n in range(7)]
        await world.waiting(ids[-1])
        lines = {run_id: world.actor(run_id).line() for run_id in ids}
        await world.restart()
        rows = world.engine.sup.runs._rows
        sizes: list[int] = []
        for _ in range(6):
            sizes.append(sum(len(line) for line in rows.values() if isinstance(line, bytes)))
            await next_pass()
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) >= 3
        assert all(press(rows[run_id], run_id) is rows[run_id] for run_id in ids)
        assert {run_id: line_of(rows[run_id], run_id) for run_id in ids} == lines
        assert await world.engine.notify("ev-3", b"3") == 1
        assert result_of(await world.finished(ids[3])) == 3


async def test_what_has_ended_is_packed_some_at_a_time_before_the_collector_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "_LOOSE_BYTES_MAX", 0)
    monkeypatch.setattr(supervisor, "_PACK_SLICE", 5)
    async with service() as world:
        for n in range(23):
            await world.finished(await world.trigger("doubles", n))
        unpacked = world.engine.sup.unpacked
        assert len(unpacked) == 23
        looked: list[int] = []
        monkeypatch.setattr(gc, "collect", lambda *_: looked.append(len(unpacked)))
        world.engine.sup.tidy()
        sizes = [23]
        while not looked:
            await next_pass()
            if len(unpacked) < sizes[-1]:
                sizes.append(len(unpacked))
        assert sizes == [23, 18, 13, 8, 3, 0]
        assert looked == [0]


async def test_a_slice_of_a_snapshot_takes_few_instructions_a_run() -> None:
    async with service() as world:
        ids = [await parked(world, f"ev{n}") for n in range(8)]
        runs = world.engine.sup.runs
        assert all(isinstance(row(world, run_id), bytes) for run_id in ids)
        whole = list(runs.slices(len(ids), 1 << 30))
        walk = runs.slices(len(ids), 1 << 30)
        with Count() as count:
            lines = next(walk)
        assert [lines, []] == whole
        # 359 were counted: a slice of 200 runs is a millisecond or two.
        assert count.instructions.total() / len(ids) <= 400
