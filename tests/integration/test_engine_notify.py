"""Who gets an event, what is kept of it, and what is refused, on the real engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import Context  # noqa: TC001  read by the registry
from stepflow.errors import (
    EventNotFoundError,
    InvalidInputError,
    PayloadTooLargeError,
    RateLimitedError,
)
from stepflow.model import records as rec
from tests.engine_kit import Service, held_back, reborn, service
from tests.harness import result_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.asyncio


async def restarted(world: Service, turn: int) -> None:
    if turn % 2:
        await world.restart()
        await world.settle()


@pytest.mark.parametrize("turn", [0, 1])
async def test_every_run_that_waits_is_woken_and_no_other(turn: int) -> None:
    async with service() as world:
        waiting = [await world.trigger("waits", "ev") for _ in range(5)]
        other = await world.trigger("waits", "else")
        await world.waiting(other)
        await restarted(world, turn)
        assert await world.engine.notify("ev", b'{"a":1}') == 5
        for run_id in waiting:
            assert result_of(await world.finished(run_id)) == {"a": 1}
        assert (await world.get(other)).state == "waiting"
        with pytest.raises(EventNotFoundError):
            await world.engine.notify("ev", b"1")


@pytest.mark.parametrize("turn", [0, 1])
async def test_a_declared_event_is_kept_in_order_until_the_run_waits(turn: int) -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 7, "count": 4})
        other = await world.trigger("declares", {"id": 8, "count": 1})
        await world.waiting(other)
        for number in range(3):
            assert await world.engine.notify("kept-7", b"%d" % number) == 1
            await restarted(world, turn)
        assert await world.engine.notify("go-7", b"0") == 1
        await world.settle()
        assert await world.engine.notify("kept-7", b"3") == 1
        assert result_of(await world.finished(run_id)) == [0, 1, 2, 3]
        assert world.actor(other).peek().kept_count == 0
        with pytest.raises(EventNotFoundError):
            await world.engine.notify("kept-7", b"4")


@pytest.mark.parametrize("turn", [0, 1])
async def test_an_addressed_event_reaches_one_live_run_whether_it_waits_or_not(turn: int) -> None:
    async with service() as world:
        first, second = [await world.trigger("waits", "ev") for _ in range(2)]
        later = await world.trigger("declares", {"id": 1, "count": 1})
        await world.waiting(later)
        assert await world.engine.notify("ev", b"1", run_id=first) == 1
        assert await world.engine.notify("kept-1", b'"early"', run_id=later) == 1
        await restarted(world, turn)
        assert result_of(await world.finished(first)) == 1
        assert (await world.get(second)).state == "waiting"
        for run_id in (first, "run_nobody00", "nonsense"):
            with pytest.raises(EventNotFoundError):
                await world.engine.notify("ev", b"1", run_id=run_id)
        await world.engine.notify("go-1", b"1", run_id=later)
        assert result_of(await world.finished(later)) == ["early"]


async def test_runs_that_wait_twice_for_an_event_leave_it_to_the_others_after_a_restart() -> None:
    async with service() as world:
        runs = [
            await world.trigger(workflow, "ev")
            for workflow in ("both", "waits", "both", "waits", "waits")
        ]
        await world.settle()
        await world.durable()
        assert await world.engine.notify("ev", b'"all"') == 5
        image = world.image()
        async with reborn(world, image) as other:
            views = [await other.finished(run_id) for run_id in runs]
            assert [view.status for view in views] == ["completed"] * 5
            assert [result_of(view) for view in views] == [
                ["all", "all"], "all", ["all", "all"], "all", "all",
            ]  # fmt: skip


async def test_an_event_that_some_wait_for_and_others_keep_is_there_after_a_restart() -> None:
    async with service() as world:
        keeper = await world.trigger("declares", {"id": 1, "count": 1})
        both = await world.trigger("both", "kept-1")
        waiter = await world.trigger("waits", "kept-1")
        await world.settle()
        assert await world.engine.notify("kept-1", b'"x"') == 3
        async with reborn(world) as other:
            assert result_of(await other.finished(both)) == ["x", "x"]
            assert result_of(await other.finished(waiter)) == "x"
            await other.engine.notify("go-1", b"0")
            assert result_of(await other.finished(keeper)) == ["x"]


async def test_a_delayed_run_keeps_what_it_declared_and_what_is_addressed_to_it() -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 1, "count": 1}, delay_ms=60_000)
        await world.engine.notify("kept-1", b'"early"')
        await world.engine.notify("go-1", b"0", run_id=run_id)
        await world.restart()
        assert result_of(await world.finished(run_id)) == ["early"]


async def test_one_event_too_many_is_refused_and_nothing_of_it_is_recorded() -> None:
    async with service(kept_events_max=3) as world:
        full = await world.trigger("declares", {"id": 1, "count": 3})
        await world.waiting(full)
        for _ in range(3):
            await world.engine.notify("kept-1", b"1")
        last = world.engine.sup.journal.last_lsn
        for run_id in (None, full):
            with pytest.raises(RateLimitedError) as caught:
                await world.engine.notify("kept-1", b"1", run_id=run_id)
            assert caught.value.retry_after_s
        assert world.engine.sup.journal.last_lsn == last
        await world.restart()
        with pytest.raises(RateLimitedError):
            await world.engine.notify("kept-1", b"1")
        await world.engine.notify("go-1", b"1")
        assert result_of(await world.finished(full)) == [1, 1, 1]


async def test_a_run_keeps_a_thousand_events_and_not_one_more() -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 1, "count": 1000})
        await world.waiting(run_id)
        for number in range(1000):
            await world.engine.notify("kept-1", b"%d" % number)
        with pytest.raises(RateLimitedError):
            await world.engine.notify("kept-1", b"1")
        await world.engine.notify("go-1", b"1")
        assert result_of(await world.finished(run_id)) == list(range(1000))


async def test_a_run_keeps_one_mebibyte_of_events_and_not_one_byte_more() -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 1, "count": 2})
        await world.waiting(run_id)
        half = msgspec.json.encode("x" * ((1 << 19) - 2))
        for _ in range(2):
            await world.engine.notify("kept-1", half)
        with pytest.raises(RateLimitedError):
            await world.engine.notify("kept-1", b"1")
        await world.restart()
        with pytest.raises(RateLimitedError):
            await world.engine.notify("kept-1", b"1")
        with pytest.raises(PayloadTooLargeError):
            await world.engine.notify("kept-1", b'"' + b"x" * (1 << 20) + b'"')
        assert world.actor(run_id).peek().kept_bytes == 1 << 20


async def test_a_run_that_keeps_too_much_does_not_hold_up_those_that_wait() -> None:
    async with service(kept_events_max=1) as world:
        keeper = await world.trigger("declares", {"id": 1, "count": 1})
        await world.waiting(keeper)
        await world.engine.notify("kept-1", b"1")
        waiter = await world.trigger("waits", "kept-1")
        await world.waiting(waiter)
        with pytest.raises(RateLimitedError):
            await world.engine.notify("kept-1", b"2")
        assert (await world.get(waiter)).state == "waiting"
        assert world.actor(keeper).peek().kept_count == 1


async def test_more_waiters_than_a_frame_takes_go_into_further_frames_before_the_answer() -> None:
    async with service(notify_frame_waiters=10) as world:
        runs = [await world.trigger("waits", "ev") for _ in range(35)]
        await world.waiting(runs[-1])
        groups = len(world.life.groups)
        world.hold()
        answer = await held_back(world.engine.notify("ev", b'"all"'))
        frames = [
            group
            for group in world.life.groups[groups:]
            if isinstance(rec.decode_record(group[0]), rec.EventReceived)
        ]
        assert [len(frame) - 1 for frame in frames] == [10, 10, 10, 5]
        world.release()
        assert await answer == 35
        async with reborn(world) as other:
            for run_id in runs:
                assert result_of(await other.finished(run_id)) == "all"


@dataclass
class Paid:
    amount: int


def typed(world: Service) -> None:
    @world.flow.workflow("typed")
    async def wants(ctx: Context, event: str) -> int:
        paid = await ctx.wait_for_event("paid", event, timeout=None, type=Paid)
        return paid.amount

    @world.flow.workflow("starts", on="order.made", tags=["made"])
    async def starts(ctx: Context, order: Paid) -> int:
        return order.amount

    @world.flow.workflow("starts-too", on="order.made", events=["kept-{amount}"])
    async def starts_too(ctx: Context, order: dict[str, int]) -> Any:
        return await ctx.wait_for_event("kept", f"kept-{order['amount']}", timeout=None)


async def test_a_payload_that_every_takers_type_refuses_is_refused_and_leaves_nothing() -> None:
    async with service() as world:
        typed(world)
        run_id = await world.trigger("typed", "paid")
        await world.waiting(run_id)
        last = world.engine.sup.journal.last_lsn
        with pytest.raises(InvalidInputError, match="amount"):
            await world.engine.notify("paid", b'{"amount":"much"}')
        assert world.engine.sup.journal.last_lsn == last
        loose = await world.trigger("waits", "paid")
        await world.waiting(loose)
        assert await world.engine.notify("paid", b'{"amount":"much"}') == 1
        assert result_of(await world.finished(loose)) == {"amount": "much"}
        assert (await world.get(run_id)).state == "waiting"
        assert await world.engine.notify("paid", b'{"amount":5}') == 1
        assert result_of(await world.finished(run_id)) == 5


@pytest.mark.parametrize("how", ["passivated", "restarted"])
async def test_the_type_of_a_wait_that_sleeps_refuses_as_that_of_one_that_is_awake(
    how: str,
) -> None:
    async with service() as world:
        typed(world)
        run_id = await world.trigger("typed", "paid")
        await world.waiting(run_id)
        if how == "passivated":
            await world.clock.advance(60)
        else:
            await world.restart()
        assert world.actor(run_id).session is None
        with pytest.raises(InvalidInputError, match="amount"):
            await world.engine.notify("paid", b'{"amount":"much"}')
        assert (await world.get(run_id)).state == "waiting"
        assert await world.engine.notify("paid", b'{"amount":5}') == 1
        assert result_of(await world.finished(run_id)) == 5


async def test_an_event_starts_the_workflows_that_are_on_it_in_one_frame() -> None:
    async with service() as world:
        typed(world)
        waiter = await world.trigger("waits", "order.made")
        await world.waiting(waiter)
        groups = len(world.life.groups)
        assert await world.engine.notify("order.made", b'{"amount":3}', by="shop") == 3
        first = [type(rec.decode_record(row)) for row in world.life.groups[groups]]
        assert first.count(rec.RunStarted) == 2
        assert first.count(rec.WaitResolved) == 1
        made = (await world.page(workflow_id="starts")).runs[0]
        assert made.tags == ("made",)
        assert result_of(await world.finished(made.id)) == 3
        other = (await world.page(workflow_id="starts-too")).runs[0]
        assert await world.engine.notify("kept-3", b'"kept"') == 1
        assert result_of(await world.finished(other.id)) == "kept"
        assert result_of(await world.finished(waiter)) == {"amount": 3}


async def test_an_event_that_no_workflow_on_it_can_take_is_refused() -> None:
    async with service() as world:
        typed(world)
        last = world.engine.sup.journal.last_lsn
        with pytest.raises(InvalidInputError):
            await world.engine.notify("order.made", b'"nothing"')
        assert world.engine.sup.journal.last_lsn == last


async def test_bad_json_reaches_nobody() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        for body in (b"{", b"NaN", b"[" * 100 + b"]" * 100, b"123456789012345678901234567890"):
            with pytest.raises(InvalidInputError):
                await world.engine.notify("ev", body)
        assert (await world.get(run_id)).state == "waiting"


async def test_notify_and_cancel_at_once_leave_one_of_both() -> None:
    async with service() as world:
        acts: list[Callable[[str], Awaitable[Any]]] = [
            lambda run_id: world.engine.notify("ev", b"1", run_id=run_id),
            world.engine.cancel,
        ]
        for order in (acts, acts[::-1]):
            run_id = await world.trigger("waits", "ev")
            await world.waiting(run_id)
            await asyncio.gather(*(act(run_id) for act in order), return_exceptions=True)
            view = await world.finished(run_id)
            assert view.status == "cancelled"
            assert len(world.engine.sup.waiters) == 0


async def test_the_count_is_of_runs_not_of_waits() -> None:
    async with service() as world:
        run_id = await world.trigger("both", "ev")
        await world.waiting(run_id, 2)
        assert await world.engine.notify("ev", b"1") == 1
