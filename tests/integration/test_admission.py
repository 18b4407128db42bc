"""Limits of concurrency: who waits, who goes first, and that no crash shows one more."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET

from stepflow import Concurrency, Context, RateLimitedError
from stepflow.engine import listing
from stepflow.engine import why as whys
from stepflow.model import records as rec
from stepflow.runtime import admission
from tests.engine_kit import Service, service
from tests.harness import error_of, result_of

if TYPE_CHECKING:
    from stepflow.model.views import RunView

pytestmark = pytest.mark.asyncio


class Meter:
    """Counts who is inside, by key."""

    def __init__(self) -> None:
        self.inside: dict[str, set[str]] = {}
        self.most: dict[str, int] = {}
        self.order: list[Any] = []

    def enters(self, key: str, run_id: str) -> None:
        inside = self.inside.setdefault(key, set())
        inside.add(run_id)
        self.most[key] = max(self.most.get(key, 0), len(inside))

    def leaves(self, key: str, run_id: str) -> None:
        self.inside[key].discard(run_id)


def limited(world: Service, **options: Any) -> Meter:
    """Register `held`, which waits in a step for the world's gate, under these limits."""
    meter = Meter()

    async def hold(key: str, run_id: str, value: Any) -> None:
        meter.enters(key, run_id)
        meter.order.append(value)
        try:
            await world.gate.wait()
        finally:
            meter.leaves(key, run_id)

    @world.flow.workflow("held", **options)
    async def held(ctx: Context, given: Any) -> Any:
        key = given.get("tenant", "-") if isinstance(given, dict) else "-"
        await ctx.step("hold", hold, key, ctx.run_id, given)
        return given

    return meter


def states(world: Service, ids: list[str]) -> list[str]:
    return [world.actor(run_id).status for run_id in ids]


async def view(world: Service, run_id: str) -> RunView:
    return await world.engine.get_run(run_id)


async def queue(world: Service, run_id: str) -> tuple[int, int]:
    shown = await view(world, run_id)
    assert shown.state == "queued"
    return shown.queue.position, shown.queue.ahead  # type: ignore[union-attr]


async def test_no_more_begin_than_the_limit_and_all_end() -> None:
    async with service() as world:
        meter = limited(world, concurrency=2)
        ids = [await world.trigger("held", n) for n in range(7)]
        await world.settle()
        assert states(world, ids) == ["running"] * 2 + ["pending"] * 5
        world.gate.set()
        for run_id in ids:
            assert (await world.finished(run_id)).status == "completed"
        assert meter.most == {"-": 2}
        assert meter.order == list(range(7))


async def test_the_place_in_the_queue_is_shown() -> None:
    async with service() as world:
        limited(world, concurrency=Concurrency(1, key="input.tenant"))
        first = await world.trigger("held", {"tenant": "a"})
        waiting = [await world.trigger("held", {"tenant": "a"}) for _ in range(3)]
        other = await world.trigger("held", {"tenant": "b"})
        assert world.actor(other).status == "running"
        assert [await queue(world, run_id) for run_id in waiting] == [(1, 0), (2, 1), (3, 2)]
        shown = (await view(world, waiting[1])).queue
        assert shown.limit == "held input.tenant: at most 1 at once for each input.tenant"  # type: ignore[union-attr]
        assert bytes(shown.key) == b'"a"'  # type: ignore[union-attr, arg-type]
        assert shown.held_by == (first,)  # type: ignore[union-attr]
        await world.engine.cancel(waiting[0])
        assert await queue(world, waiting[1]) == (1, 0)
        assert (await view(world, first)).queue is (await view(world, other)).queue


async def test_rows_of_a_list_show_the_place_in_the_queue_as_the_run_does() -> None:
    async with service() as world:
        limited(world, concurrency=[Concurrency(1), Concurrency(1, key="input.tenant")])
        for n in range(9):
            await world.trigger("held", {"tenant": n % 3})
        delayed = await world.trigger("held", {"tenant": 1}, delay_ms=60_000)
        page = await world.page(100)
        for row in page.runs:
            assert row.queue == (await view(world, row.id)).queue
        places = [row.queue.position for row in page.runs if row.queue]
        assert sorted(places) == list(range(1, 9))
        assert next(row for row in page.runs if row.id == delayed).queue is UNSET


async def test_a_place_among_many_keys_is_counted_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service() as world:
        limited(world, concurrency=[Concurrency(1), Concurrency(1, key="input.tenant")])
        ids = [await world.trigger("held", {"tenant": n % 7}) for n in range(30)]
        whole = [world.engine.sup.admission.place(run_id) for run_id in ids]
        monkeypatch.setattr(admission, "_LANES_SLICE", 2)
        counted: list[int] = []
        real = admission._ahead

        def ahead(others: Any, *rest: Any) -> int:
            counted.append(len(others))
            return real(others, *rest)

        monkeypatch.setattr(admission, "_ahead", ahead)
        for run_id, place in zip(ids[1:], whole[1:], strict=True):
            assert await queue(world, run_id) == (place.position, place.ahead)  # type: ignore[union-attr]
            why = await world.engine.why(run_id)
            assert why.waiting_for[0].position == place.position  # type: ignore[union-attr]
        assert max(counted) == 2
        # One that begins while its place is counted has none.
        looking = asyncio.ensure_future(view(world, ids[1]))
        await asyncio.sleep(0)
        await world.engine.cancel(ids[1], force=True)
        assert (await looking).queue is UNSET


async def test_why_of_many_queued_children_looks_at_so_many_keys_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service() as world:
        limited(world, concurrency=[Concurrency(1), Concurrency(1, key="input.tenant")])

        @world.flow.workflow("crawl")
        async def crawl(ctx: Context) -> None:
            await asyncio.gather(
                *(ctx.call("held", {"tenant": n}, name=f"page-{n}") for n in range(4))
            )

        parent = await world.trigger("crawl")
        await world.settle()
        told = (await world.engine.why(parent)).waiting_for
        assert ["its turn, 0 ahead of it" in row.says for row in told] == [
            False,
            True,
            False,
            False,
        ]
        monkeypatch.setattr(whys, "_LANES_MAX", 11)
        told = (await world.engine.why(parent)).waiting_for
        assert ["its turn: held" in row.says for row in told] == [False, True, True, True]
        assert not any("ahead of it" in row.says for row in told)


async def test_what_a_page_spends_on_places_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service() as world:
        limited(world, concurrency=[Concurrency(1), Concurrency(1, key="input.tenant")])
        for n in range(9):
            await world.trigger("held", {"tenant": n})
        # Eight wait under a key each: one place costs eight.
        monkeypatch.setattr(listing, "_LANES_MAX", 30)
        page = await world.page(100)
        shown = [bool(row.queue) for row in page.runs]
        assert shown == [True] * 3 + [False] * 6
        assert (await view(world, page.runs[4].id)).queue
        # Nothing is spent on what waits for nothing.
        monkeypatch.setattr(listing, "_LANES_MAX", 0)
        assert not any(row.queue for row in (await world.page(100)).runs)


async def test_a_tenant_with_ten_thousand_queued_does_not_delay_another() -> None:
    async with service() as world:
        meter = limited(world, concurrency=[Concurrency(2), Concurrency(2, key="input.tenant")])
        flood = [b'{"tenant":"loud"}'] * 1000
        for _ in range(10):
            await world.engine.trigger_many("held", flood)
        quiet = [await world.trigger("held", {"tenant": "quiet", "n": n}) for n in range(3)]
        assert [await queue(world, run_id) for run_id in quiet] == [(2, 1), (4, 3), (6, 5)]
        world.gate.set()
        for run_id in quiet:
            await world.finished(run_id)
        loud = sum(value["tenant"] == "loud" for value in meter.order)
        assert loud <= 2 + 3 + 2, "they took turns"
        assert meter.most["loud"] <= 2


async def test_keys_take_turns() -> None:
    async with service() as world:
        meter = limited(world, concurrency=[Concurrency(1), Concurrency(9, key="input.tenant")])
        ids = [
            await world.trigger("held", {"tenant": tenant, "n": n})
            for tenant in "abc"
            for n in range(3)
        ]
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        # The first began at once; from then on the tenant whose turn was longest ago.
        assert "".join(f"{v['tenant']}{v['n']}" for v in meter.order) == "a0a1b0c0a2b1c1b2c2"
        assert max(meter.most.values()) == 1


async def test_runs_whose_input_lacks_the_key_share_one_place() -> None:
    async with service() as world:
        limited(world, concurrency=Concurrency(1, key="input.a.b"))
        odd: list[Any] = [None, 7, {"a": None}, {"a": {"b": None}}, {"a": 1}]
        ids = [await world.trigger("held", value) for value in odd]
        ids += [await world.trigger("held", {"a": {"b": value}}) for value in ("null", [1], 1, "1")]
        await world.settle()
        assert states(world, ids) == ["running"] + ["pending"] * 4 + ["running"] * 4
        assert bytes((await view(world, ids[1])).queue.key) == b"null"  # type: ignore[union-attr, arg-type]


async def test_a_slot_is_held_while_the_run_sleeps_or_waits() -> None:
    async with service() as world:

        @world.flow.workflow("naps", concurrency=1)
        async def naps(ctx: Context) -> None:
            await ctx.sleep("nap", "1h")
            await ctx.wait_for_event("go", timeout=None)

        first = await world.trigger("naps")
        second = await world.trigger("naps")
        await world.waiting(first)
        await world.clock.advance(1800)
        assert world.actor(second).status == "pending"
        await world.clock.advance(1900)
        assert (await view(world, first)).state == "waiting"
        assert not world.actor(first).is_open or world.actor(first).session is None
        assert world.actor(second).status == "pending"
        await world.engine.notify("go", b"1")
        await world.finished(first)
        await world.waiting(second)
        assert world.actor(second).status == "running"


@pytest.mark.parametrize("end", ["completes", "fails", "is cancelled", "times out"])
async def test_however_a_run_ends_its_slot_is_free(end: str) -> None:
    async with service() as world:

        @world.flow.workflow("ends", concurrency=1, timeout="5m")
        async def ends(ctx: Context, how: str) -> None:
            if how == "fails":
                raise ValueError("no")
            if how in {"is cancelled", "times out"}:
                await ctx.wait_for_event("never", timeout=None)

        first = await world.trigger("ends", end)
        second = await world.trigger("ends", "completes")
        if end == "is cancelled":
            await world.engine.cancel(first)
        assert (await world.finished(second)).status == "completed"
        assert world.actor(first).finished
        assert not world.engine.sup.admission.seats


async def test_a_slot_is_free_only_when_the_end_is_durable() -> None:
    async with service() as world:
        limited(world, concurrency=1)
        first = await world.trigger("held", 1)
        second = await world.trigger("held", 2)
        await world.settle()
        world.hold()
        world.gate.set()
        await world.until(lambda: world.actor(first).state.calls["hold#1"].status == "completed")
        await world.settle()
        assert world.actor(first).finished
        assert world.actor(second).status == "pending"
        image = world.image()
        world.release()
        await world.finished(second)
        await world.crash()
        world.disk = image
        await world.start()
        assert states(world, [first, second]) == ["running", "pending"]


async def test_a_body_begins_only_when_its_admission_is_durable() -> None:
    async with service() as world:
        begun: list[int] = []

        @world.flow.workflow("eager", concurrency=1)
        async def eager(ctx: Context, n: int) -> None:
            begun.append(n)

        world.hold()
        triggered = asyncio.ensure_future(world.trigger("eager", 1))
        await world.settle()
        assert begun == []
        world.release()
        await world.finished(await triggered)
        assert begun == [1]


async def test_queue_and_slots_survive_crash_snapshot_and_compaction() -> None:
    async with service() as world:
        meter = limited(world, concurrency=[Concurrency(2), Concurrency(1, key="input.tenant")])
        ids = [
            await world.trigger("held", {"tenant": tenant, "n": n})
            for n in range(4)
            for tenant in "ab"
        ]
        await world.settle()
        before = [await queue(world, run_id) for run_id in ids[2:]]
        for _ in range(2):
            assert await world.engine.snapshot()
            await world.crash()
            await world.start()
            await world.settle()
            assert states(world, ids) == ["running"] * 2 + ["pending"] * 6
            assert [await queue(world, run_id) for run_id in ids[2:]] == before
        meter.order.clear()
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        for tenant in "ab":
            ns = [v["n"] for v in meter.order if v["tenant"] == tenant]
            assert ns == sorted(ns)
        assert set(meter.most.values()) == {1}


@pytest.mark.parametrize(("before", "after", "running"), [(3, 1, 3), (1, 3, 3)])
async def test_a_deploy_that_changes_the_limit_counts_what_is_there(
    before: int, after: int, running: int
) -> None:
    async with service() as world:
        limited(world, concurrency=before)
        ids = [await world.trigger("held", n) for n in range(5)]
        await world.settle()
        await world.crash()
        world.flow.registry.__init__()  # type: ignore[misc]
        limited(world, concurrency=after)
        await world.start()
        await world.settle()
        assert states(world, ids).count("running") == running
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)


async def test_runs_whose_limit_a_deploy_took_away_begin() -> None:
    async with service() as world:
        limited(world, concurrency=1)
        ids = [await world.trigger("held", n) for n in range(5)]
        await world.crash()
        world.flow.registry.__init__()  # type: ignore[misc]
        limited(world)
        await world.start()
        await world.until(lambda: states(world, ids) == ["running"] * 5)


async def test_runs_of_before_a_limit_count_against_it() -> None:
    async with service() as world:
        limited(world)
        first = await world.trigger("held", 1)
        await world.settle()
        await world.crash()
        world.flow.registry.__init__()  # type: ignore[misc]
        limited(world, concurrency=1)
        await world.start()
        second = await world.trigger("held", 2)
        await world.settle()
        assert states(world, [first, second]) == ["running", "pending"]
        world.gate.set()
        await world.finished(second)


async def test_a_queued_run_whose_workflow_is_missing_waits_and_says_so() -> None:
    async with service() as world:
        limited(world, concurrency=1)
        ids = [await world.trigger("held", n) for n in range(3)]
        await world.crash()
        world.flow.registry.__init__()  # type: ignore[misc]
        await world.start()
        await world.settle()
        assert {(await view(world, run_id)).state for run_id in ids[1:]} == {"missing-workflow"}
        limited(world, concurrency=1)
        await world.settle()
        assert states(world, ids) == ["running", "pending", "pending"]
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)


async def test_a_queued_run_can_be_cancelled_and_never_begins() -> None:
    async with service() as world:
        meter = limited(world, concurrency=1)
        ids = [await world.trigger("held", n) for n in range(3)]
        cancelled = await world.engine.cancel(ids[1])
        assert cancelled.status == "cancelled"
        world.gate.set()
        await world.finished(ids[2])
        assert meter.order == [0, 2]


async def test_the_queue_under_one_key_is_bounded_and_others_go_on() -> None:
    async with service(queue_runs_max=3) as world:
        limited(world, concurrency=Concurrency(1, key="input.tenant"))
        for _ in range(4):
            await world.trigger("held", {"tenant": "a"})
        with pytest.raises(RateLimitedError, match="3 runs of 'held' wait") as caught:
            await world.trigger("held", {"tenant": "a"})
        assert caught.value.retry_after_s
        live = world.engine.sup.live
        with pytest.raises(RateLimitedError):
            await world.engine.trigger_many("held", [b'{"tenant":"b"}', b'{"tenant":"a"}'])
        assert world.engine.sup.live == live, "all of a batch or none"
        await world.trigger("held", {"tenant": "b"})


async def test_a_batch_of_a_thousand_under_a_limit() -> None:
    async with service() as world:

        @world.flow.workflow("quick", concurrency=10)
        async def quick(ctx: Context, n: int) -> int:
            return n

        ids = await world.engine.trigger_many("quick", [b"%d" % n for n in range(1000)])
        views = [await world.finished(str(run_id)) for run_id in ids]
        assert [result_of(v) for v in views] == list(range(1000))
        group = next(g for g in world.life.groups if len(g) > 1)
        assert len(group) == 1000, "one durable write"


async def test_the_highest_priority_of_a_key_goes_first() -> None:
    async with service() as world:
        meter = limited(world, concurrency=1, priority="input.urgency")
        given = [{"n": 0}, {"n": 1}, {"n": 2, "urgency": 5}, {"n": 3, "urgency": -1}, {"n": 4}]
        ids = [await world.trigger("held", value) for value in given]
        await world.crash()
        await world.start()
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        assert meter.order[0]["n"] == 0
        assert [v["n"] for v in meter.order][-4:] == [2, 1, 4, 3]


async def test_workflows_that_name_a_limit_share_it() -> None:
    async with service() as world:
        gpu = Concurrency(1, name="gpu")
        limited(world, concurrency=gpu)

        @world.flow.workflow("renders", concurrency=gpu)
        async def renders(ctx: Context) -> str:
            return "rendered"

        first = await world.trigger("held", 1)
        second = await world.trigger("renders")
        await world.settle()
        assert states(world, [first, second]) == ["running", "pending"]
        world.gate.set()
        assert result_of(await world.finished(second)) == "rendered"


# ---------------------------------------------------------------- children


async def test_a_child_under_the_limit_its_parent_holds_goes_along_on_its_slot() -> None:
    async with service() as world:

        @world.flow.workflow("descends", concurrency=1)
        async def descends(ctx: Context, depth: int) -> int:
            if depth == 0:
                return 0
            return 1 + int(await ctx.call("descends", depth - 1))

        first = await world.trigger("descends", 3)
        second = await world.trigger("descends", 0)
        assert result_of(await world.finished(first)) == 3
        assert result_of(await world.finished(second)) == 0
        assert not world.engine.sup.admission.seats


async def test_parents_that_fill_the_limit_do_not_lock_their_children_out() -> None:
    async with service() as world:

        @world.flow.workflow("family", concurrency=3)
        async def family(ctx: Context, n: int) -> int:
            if n == 0:
                return 1
            return sum(await asyncio.gather(*(ctx.call("family", 0, f"c{i}") for i in range(n))))

        ids = [await world.trigger("family", 4) for _ in range(6)]
        for _ in range(2):
            await world.crash()
            await world.start()
        assert [result_of(await world.finished(run_id)) for run_id in ids] == [4] * 6


async def test_a_started_child_waits_like_any_other_run() -> None:
    async with service() as world:

        @world.flow.workflow("starts", concurrency=1)
        async def starts(ctx: Context, again: int) -> Any:
            if again:
                return await ctx.start("starts", 0)
            return None

        parent = await world.trigger("starts", 1)
        child = result_of(await world.finished(parent))
        await world.finished(child)
        released = world.records(rec.RunReleased)
        assert [record.r for record in released] == [child]


async def test_a_childs_other_limits_hold() -> None:
    async with service() as world:
        meter = limited(world, concurrency=1)

        @world.flow.workflow("calls", concurrency=5)
        async def calls(ctx: Context, n: int) -> Any:
            return await ctx.call("held", n)

        ids = [await world.trigger("calls", n) for n in range(4)]
        await world.settle()
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        assert meter.most == {"-": 1}


async def test_a_slot_stays_with_the_child_when_its_parent_was_ended_by_force() -> None:
    async with service(cancel_grace_s=1.0) as world:

        @world.flow.workflow("above", concurrency=Concurrency(1, name="one"))
        async def above_it(ctx: Context) -> None:
            await ctx.call("stubborn")

        @world.flow.workflow("stubborn", concurrency=Concurrency(1, name="one"))
        async def stubborn(ctx: Context) -> None:
            for _ in range(3):
                try:
                    await ctx.sleep("long", "1d")
                except asyncio.CancelledError:
                    continue

        above = await world.trigger("above")
        await world.until(lambda: len(world.engine.sup.runs) == 2)
        other = await world.trigger("above")
        child = next(run for run in world.engine.sup.runs if run not in {above, other})
        await world.waiting(child)
        await world.engine.cancel(above)
        await world.finished(above)
        assert not world.actor(child).finished
        await world.settle()
        assert states(world, [child, other]) == ["running", "pending"]
        await world.restart()
        await world.settle()
        assert states(world, [child, other]) == ["running", "pending"]
        await world.finished(child)
        await world.until(lambda: world.actor(other).status == "running")


# ---------------------------------------------------------------- timeout and delay


async def test_a_run_that_is_not_done_in_time_cleans_up_and_fails() -> None:
    async with service() as world:
        cleaned: list[str] = []

        async def clean() -> None:
            cleaned.append("up")

        @world.flow.workflow("slow", timeout="1h")
        async def slow(ctx: Context) -> None:
            try:
                await ctx.sleep("long", "2h")
            except asyncio.CancelledError:
                await ctx.step("clean", clean)
                raise

        run_id = await world.trigger("slow")
        await world.waiting(run_id)
        await world.clock.advance(1800)
        await world.engine.snapshot()
        await world.crash()
        await world.start()
        ended = await world.finished(run_id)
        assert ended.status == "failed"
        assert error_of(ended) == {
            "type": "RunTimeoutError",
            "message": "the run did not end within its timeout of 1h",
        }
        assert cleaned == ["up"]
        (request,) = world.records(rec.CancelRequested)
        assert request.ts == world.actor(run_id).state.created_ms + 3_600_000


async def test_the_timeout_counts_from_admission() -> None:
    async with service() as world:

        @world.flow.workflow("timed", timeout="10m", concurrency=1)
        async def timed(ctx: Context, wait: str) -> str:
            await ctx.sleep("nap", wait)
            return "done"

        first = await world.trigger("timed", "9m")
        second = await world.trigger("timed", "9m")
        assert (await world.finished(first)).status == "completed"
        assert (await world.finished(second)).status == "completed"
        late = await world.trigger("timed", "11m", delay_ms=3_600_000)
        assert (await world.finished(late)).status == "failed"


async def test_a_delayed_run_begins_at_its_time_and_then_queues() -> None:
    async with service() as world:
        meter = limited(world, concurrency=1)
        first = await world.trigger("held", 1)
        delayed = await world.trigger("held", 2, delay_ms=60_000)
        third = await world.trigger("held", 3)
        shown = await view(world, delayed)
        assert (shown.status, shown.state) == ("pending", "queued")
        assert shown.due_at
        await world.crash()
        await world.start()
        await world.clock.advance(120)
        fourth = await world.trigger("held", 4)
        assert [await queue(world, r) for r in (third, delayed, fourth)] == [
            (1, 0), (2, 1), (3, 2),
        ]  # fmt: skip
        await world.restart()
        assert [await queue(world, r) for r in (third, delayed, fourth)] == [
            (1, 0), (2, 1), (3, 2),
        ]  # fmt: skip
        world.gate.set()
        for run_id in (first, third, delayed, fourth):
            await world.finished(run_id)
        assert meter.order[-3:] == [3, 2, 4]


@pytest.mark.parametrize("moment", ["queued", "delayed", "after a restart"])
async def test_an_idempotency_key_counts_while_the_run_waits(moment: str) -> None:
    from stepflow import ConflictError

    async with service() as world:
        limited(world, concurrency=1)
        await world.trigger("held", 0)
        delay_ms = 60_000 if moment == "delayed" else 0
        run_id = await world.trigger("held", 1, idempotency_key="k", delay_ms=delay_ms)
        if moment == "after a restart":
            await world.restart()
        assert await world.trigger("held", 1, idempotency_key="k") == run_id
        assert await world.trigger("held", 1, idempotency_key="k", delay_ms=5) == run_id
        with pytest.raises(ConflictError):
            await world.trigger("held", 2, idempotency_key="k")
        assert json.loads(world.actor(run_id).peek().input) == 1


# ---------------------------------------------------------------- pause and retry


async def test_a_queued_run_that_is_paused_is_passed_over_and_has_its_place_again() -> None:
    async with service() as world:
        meter = limited(world, concurrency=1)
        ids = [await world.trigger("held", n) for n in range(4)]
        assert (await world.engine.pause(ids[1])).state == "paused"
        assert await queue(world, ids[2]) == (1, 0)
        await world.restart()
        assert await queue(world, ids[2]) == (1, 0)
        await world.engine.resume(ids[1])
        await world.clock.advance(1)
        assert await queue(world, ids[1]) == (1, 0)
        assert await queue(world, ids[2]) == (2, 1)
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        assert meter.order[-3:] == [1, 2, 3]


async def test_the_one_queued_run_may_be_paused_and_resumed() -> None:
    """The queue was empty in between: it stands there in its old place, and nowhere twice."""
    async with service() as world:
        meter = limited(world, concurrency=1)
        ids = [await world.trigger("held", n) for n in range(2)]
        for _ in range(3):
            await world.engine.pause(ids[1])
            await world.engine.resume(ids[1])
            await world.clock.advance(1)
            assert await queue(world, ids[1]) == (1, 0)
        ids.append(await world.trigger("held", 2))
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        assert meter.order == [0, 1, 2]


async def test_a_retried_run_waits_for_its_turn_and_has_its_whole_time() -> None:
    async with service() as world:
        broken = [True]

        @world.flow.workflow("mends", concurrency=1, timeout="1h")
        async def mends(ctx: Context, wait: int) -> str:
            await ctx.sleep("nap", wait)
            if broken[0]:
                raise ValueError("not yet")
            return "mended"

        first = await world.trigger("mends", 1)
        assert (await world.finished(first)).status == "failed"
        await world.clock.advance(7200)
        broken[0] = False
        second = await world.trigger("mends", 600)
        await world.waiting(second)
        retried = await world.engine.retry(first)
        assert (retried.status, retried.state) == ("pending", "queued")
        await world.restart()
        assert await queue(world, first) == (1, 0)
        assert (await world.finished(first)).status == "completed"
        assert world.actor(second).finished
