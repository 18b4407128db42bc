"""What concerns very many runs is done some at a time: the loop goes round in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.clock import next_pass
from stepflow.errors import InvalidInputError, OutcomeUnknownError, RateLimitedError
from stepflow.model import records as rec
from stepflow.runtime import supervisor
from tests.engine_kit import Service, reborn, service
from tests.harness import result_of
from tests.integration.test_engine_notify import typed

if TYPE_CHECKING:
    from collections.abc import Coroutine

pytestmark = pytest.mark.asyncio

SLICE = 10


async def most_in_a_pass(world: Service, work: Coroutine[Any, Any, Any]) -> tuple[Any, int]:
    """Return what the work gives, and how many records one pass of the loop decided at most."""
    journal = world.engine.sup.journal
    task = asyncio.ensure_future(work)
    most, before = 0, journal.next_lsn
    while not task.done():
        await next_pass()
        most, before = max(most, journal.next_lsn - before), journal.next_lsn
    return await task, most


async def asleep(world: Service, count: int, event: str = "ev") -> list[str]:
    runs = [await world.trigger("waits", event) for _ in range(count)]
    await world.waiting(runs[-1])
    await world.clock.advance(60)
    assert not world.engine.sup.active
    return runs


async def test_no_pass_decides_more_than_a_slice_of_a_great_many_waiters() -> None:
    async with service(notify_frame_waiters=SLICE) as world:
        runs = await asleep(world, 20 * SLICE)
        count, most = await most_in_a_pass(world, world.engine.notify("ev", b'"all"'))
        assert count == len(runs)
        # The event, a slice of waiters, and the ends of the runs that the slice before has woken.
        assert most <= 1 + 3 * SLICE
        for run_id in runs:
            assert result_of(await world.finished(run_id)) == "all"


async def test_of_two_events_of_one_id_the_second_waits_for_the_first() -> None:
    async with service(notify_frame_waiters=SLICE) as world:

        @world.flow.workflow("two")
        async def two(ctx: Any) -> list[Any]:
            return [await ctx.wait_for_event("wait", "ev", timeout=None) for _ in range(2)]

        runs = [await world.trigger("two", None) for _ in range(5 * SLICE)]
        await world.waiting(runs[-1])
        both = await asyncio.gather(*(world.engine.notify("ev", b"%d" % n) for n in range(2)))
        assert both == [len(runs)] * 2
        for run_id in runs:
            assert result_of(await world.finished(run_id)) == [0, 1]


async def test_who_takes_another_event_meanwhile_is_passed_over() -> None:
    async with service(notify_frame_waiters=SLICE) as world:
        runs = await asleep(world, 5 * SLICE)
        notified = asyncio.ensure_future(world.engine.notify("ev", b'"all"'))
        while not world.engine.sup.delivery.count("ev", None) < len(runs):
            await next_pass()
        assert await world.engine.notify("ev", b'"mine"', run_id=runs[-1]) == 1
        assert await notified == len(runs) - 1
        assert result_of(await world.finished(runs[-1])) == "mine"
        assert result_of(await world.finished(runs[-2])) == "all"


async def test_a_refusal_of_one_among_many_leaves_nothing() -> None:
    async with service(notify_frame_waiters=SLICE, kept_events_max=1) as world:
        await asleep(world, 3 * SLICE, "kept-1")
        keeper = await world.trigger("declares", {"id": 1, "count": 1})
        await world.waiting(keeper)
        await world.engine.notify("kept-1", b"1", run_id=keeper)
        last = world.engine.sup.journal.last_lsn
        with pytest.raises(RateLimitedError):
            await world.engine.notify("kept-1", b"2")
        assert world.engine.sup.journal.last_lsn == last


async def test_a_payload_that_the_type_of_all_refuses_leaves_nothing() -> None:
    async with service(notify_frame_waiters=SLICE) as world:
        typed(world)
        runs = [await world.trigger("typed", "paid") for _ in range(2 * SLICE + 1)]
        await world.waiting(runs[-1])
        last = world.engine.sup.journal.last_lsn
        with pytest.raises(InvalidInputError, match="amount"):
            await world.engine.notify("paid", b'{"amount":"much"}')
        assert world.engine.sup.journal.last_lsn == last
        loose = await world.trigger("waits", "paid")
        await world.waiting(loose)
        assert await world.engine.notify("paid", b'{"amount":"much"}') == 1
        assert await world.engine.notify("paid", b'{"amount":5}') == len(runs)


async def test_an_event_of_many_waiters_starts_its_workflows_too() -> None:
    async with service(notify_frame_waiters=SLICE) as world:
        typed(world)
        runs = await asleep(world, 2 * SLICE + 1, "order.made")
        assert await world.engine.notify("order.made", b'{"amount":5}') == len(runs) + 2


async def test_an_end_in_the_middle_is_told_and_the_same_event_reaches_those_that_are_left() -> (
    None
):
    async with service(notify_frame_waiters=SLICE) as world:
        runs = await asleep(world, 5 * SLICE)
        notified = asyncio.ensure_future(world.engine.notify("ev", b'"all"'))
        waiters = world.engine.sup.waiters
        while waiters.count("ev") == len(runs):
            await next_pass()
        world.engine.sup.stopping = True
        with pytest.raises(OutcomeUnknownError):
            await notified
        left = waiters.count("ev")
        assert 0 < left < len(runs)
        await world.durable()
        async with reborn(world) as other:
            assert await other.engine.notify("ev", b'"all"') == left
            for run_id in runs:
                assert result_of(await other.finished(run_id)) == "all"


async def test_a_batch_is_one_write_and_its_bodies_begin_some_at_a_time() -> None:
    async with service() as world:
        count = 6 * supervisor._ACTIVATED_AT_ONCE
        begun: list[int] = []

        @world.flow.workflow("begins")
        async def begins(ctx: Any, n: int) -> int:
            begun.append(n)
            return n

        batch = asyncio.ensure_future(
            world.engine.trigger_many("begins", [b"%d" % n for n in range(count)])
        )
        most = seen = 0
        while len(begun) < count:
            await next_pass()
            most, seen = max(most, len(begun) - seen), len(begun)
        ids = await batch
        assert most <= supervisor._ACTIVATED_AT_ONCE
        starts = [
            g for g in world.life.groups if isinstance(rec.decode_record(g[0]), rec.RunStarted)
        ]
        assert [len(group) for group in starts] == [count]
        for n, run_id in enumerate(ids):
            assert result_of(await world.finished(str(run_id))) == n


async def test_active_runs_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LOOKED_AT", 3)
    async with service() as world:
        for _ in range(10):
            await world.trigger("waits", "ev")
        looked: list[int] = []
        may = world.engine.sup.may_passivate

        def counted(*args: Any) -> bool:
            looked[-1] += 1
            return may(*args)

        world.engine.sup.may_passivate = counted  # type: ignore[method-assign]
        task = asyncio.ensure_future(world.engine.sup.passivate_idle())
        while not task.done():
            looked.append(0)
            await next_pass()
        assert sum(looked) == 10
        assert max(looked) <= 3


async def test_a_look_at_the_active_runs_that_is_not_over_is_not_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "_LOOKED_AT", 3)
    async with service() as world:
        for _ in range(10):
            await world.trigger("waits", "ev")
        sup = world.engine.sup
        looked: list[Any] = []

        def counted(actor: Any, *_: Any) -> bool:
            looked.append(actor)
            return False

        sup.may_passivate = counted  # type: ignore[method-assign]
        await asyncio.gather(*(sup.passivate_idle() for _ in range(3)))
        assert len(looked) == len(set(looked)) == 10
        await sup.passivate_idle()
        assert len(looked) == 20
