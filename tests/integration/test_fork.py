"""Fork: a new run that keeps what another had recorded before a step was first asked for."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RetryPolicy, RunFailedError, StepFailedError
from stepflow.clock import next_pass
from stepflow.errors import (
    ConflictError,
    InvalidInputError,
    PayloadTooLargeError,
    RunNotFoundError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.model import records as rec
from stepflow.runtime import forking
from tests.harness import World, decoded, error_of, result_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepflow import Context

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_attempts=1)
BOTH = pytest.mark.parametrize("crash", [False, True])


def stepper(
    world: World, name: str, broken: set[str] | None = None
) -> Callable[..., Awaitable[Any]]:
    async def step(value: Any = None) -> Any:
        world.ran(value)
        if broken and name in broken:
            raise ValueError(name)
        return value

    step.__qualname__ = name
    return step


def chain(world: World, broken: set[str] | None = None) -> Any:
    """Return a body of three steps that add to its input."""

    async def w(ctx: Context, n: int) -> list[Any]:
        a = await ctx.step("a", stepper(world, "a", broken), n + 1)
        b = await ctx.step("b", stepper(world, "b", broken), a + 1)
        return [a, b, await ctx.step("c", stepper(world, "c", broken), b + 1)]

    return w


async def ended(world: World, body: Any, value: Any = 0, **options: Any) -> str:
    world.redeploy(body, retry=ONCE, **options)
    run_id = await world.trigger(body.__name__, value)
    await world.finished(run_id)
    world.life.ran.clear()
    return run_id


async def told(world: World, run_id: str) -> list[Any]:
    stream = await world.engine.stream(run_id)
    try:
        return [(e.id, e.event, msgspec.json.decode(e.data)) for e in stream.read_events(1000)]
    finally:
        stream.close()


@BOTH
async def test_a_fork_keeps_what_was_before_the_step_and_runs_the_rest(*, crash: bool) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await ended(world, chain(world))
            if crash:
                assert await world.engine.snapshot()
                await world.restart()
            fork_id = await world.engine.fork(run_id, "b", by="key:ops", reason="look again")
            assert fork_id != run_id
            if crash:
                await world.restart()
            view = await world.finished(fork_id)
            assert result_of(view) == [1, 2, 3]
            view = await world.engine.get_run(fork_id)
            assert msgspec.to_builtins(view.lineage) == {
                "runId": run_id,
                "fromStep": "b",
                "reason": "look again",
            }
            assert [s.key for s in view.steps or ()] == ["a#1", "b#1", "c#1"]
            ran = [r for r in world.life.ran if r.key != "a#1"]
            assert len(ran) == len(world.life.ran)
            assert {r.idempotency_key for r in ran} <= {f"{fork_id}/b#1", f"{fork_id}/c#1"}
            # The source is as it was.
            assert result_of(await world.engine.get_run(run_id)) == [1, 2, 3]


async def test_its_stream_begins_anew_and_that_of_the_source_is_left_alone() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await ended(world, chain(world))
            before = await told(world, run_id)
            fork_id = await world.engine.fork(run_id, "c")
            await world.finished(fork_id)
            events = await told(world, fork_id)
            ids = [row[0] for row in events]
            assert ids == sorted(set(ids))
            assert ids[0] == 1
            assert events[0][1:] == ("status", {"status": "running"})
            assert [row[2]["key"] for row in events if row[1] == "step"] == ["a#1", "b#1", "c#1"]
            assert events[-1][1] == "complete"
            assert await told(world, run_id) == before


async def test_it_needs_nothing_of_its_source() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await ended(world, chain(world))
            fork_id = await world.engine.fork(run_id, "b")
            await world.engine.purge(run_id)
            await world.finished(fork_id)
            await world.engine.snapshot()
            await world.restart()
            assert result_of(await world.engine.get_run(fork_id)) == [1, 2, 3]


async def test_another_input_and_kept_results_whatever_their_steps_are_asked_with() -> None:
    world = World(strict=True)
    with world.clock.driving():
        async with world:
            run_id = await ended(world, chain(world))
            fork_id = await world.engine.fork(run_id, "b", body=b"100")
            view = await world.finished(fork_id)
            assert msgspec.json.decode(bytes(view.input)) == 100
            assert result_of(view) == [1, 2, 3]
            assert world.ran_keys() == ["b#1", "c#1"]
            # Its own replay takes them, too.
            world.life.ran.clear()
            await world.restart()
            assert result_of(await world.engine.get_run(fork_id)) == [1, 2, 3]


async def test_a_kept_result_is_for_its_own_call_alone_when_the_input_is_another() -> None:
    """Fan-out over other data: a result must not go to an item that it was not made for."""
    world = World()

    async def w(ctx: Context, items: list[str]) -> Any:
        tasks = [ctx.step("get", stepper(world, "get"), i, key=i) for i in items]
        got = await asyncio.gather(*tasks)
        return [got, await ctx.step("sum", stepper(world, "sum"), len(got))]

    with world.clock.driving():
        async with world:
            run_id = await ended(world, w, ["a", "b"])
            fork_id = await world.engine.fork(run_id, "sum", body=b'["b","z"]')
            assert result_of(await world.finished(fork_id)) == [["b", "z"], 2]
            assert world.ran_keys() == ["get[z]", "sum#1"]


@BOTH
async def test_a_pinned_result_stands_in_for_what_its_step_would_come_to(*, crash: bool) -> None:
    world = World(strict=True)
    broken = {"b"}
    with world.clock.driving():
        async with world:
            run_id = await ended(world, chain(world, broken))
            fork_id = await world.engine.fork(run_id, "b", results={"b": b"50", "a#1": b"40"})
            if crash:
                await world.restart()
            assert result_of(await world.finished(fork_id)) == [40, 50, 51]
            assert set(world.ran_keys()) <= {"c#1"}


async def test_every_kind_of_call_is_kept_and_can_be_pinned() -> None:
    world = World()

    async def child(ctx: Context, n: int) -> int:
        del ctx
        if n < 0:
            raise ValueError("negative")
        return n

    async def w(ctx: Context) -> Any:
        rolled = [ctx.random(), str(ctx.uuid()), ctx.version("way", 2)]
        await ctx.emit("said", rolled)
        ctx.progress(1, 2)
        await ctx.sleep("nap", "10s")
        event = await ctx.wait_for_event("go", timeout=None)
        late = await ctx.wait_for_event("late", timeout="1s", default="none")
        sent = await ctx.notify("nobody", 1)
        called = await ctx.call("child", 5)
        left = await ctx.start("child", 6)
        bad = "fine"
        try:
            await ctx.call("child", -1, name="bad")
        except RunFailedError as error:
            bad = str(error)
        try:
            await ctx.step("fails", stepper(world, "fails", {"fails"}))
        except StepFailedError as error:
            bad += str(error)
        return [rolled, event, late, sent, called, left, bad, await ctx.step("end", end)]

    async def end() -> int:
        world.ran()
        return 7

    with world.clock.driving():
        async with world:
            world.redeploy(w, child, retry=ONCE)
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters), passes=50_000)
            assert await world.engine.notify("go", b'{"n":1}') == 1
            whole = result_of(await world.finished(run_id))
            world.life.ran.clear()
            fork_id = await world.engine.fork(run_id, "end")
            assert result_of(await world.finished(fork_id)) == whole
            assert world.ran_keys() == ["end#1"]
            kinds = [row[1] for row in await told(world, fork_id)]
            assert kinds.count("emit") == kinds.count("progress") == 1
            assert not [c for c in world.records(rec.RunStarted) if c.workflow == "child"][3:]
            pins = {"go": b"2", "late": b"3", "notify": b"4", "child": b"5", "bad": b"1"}
            fork_id = await world.engine.fork(run_id, "go", results=pins)
            got = result_of(await world.finished(fork_id))
            assert got[0] == whole[0]
            assert got[1:5] == [2, 3, 4, 5]
            assert "negative" not in got[6]
            await world.restart()
            assert result_of(await world.engine.get_run(fork_id)) == got


async def test_another_input_declares_and_waits_for_other_events() -> None:
    world = World(strict=True)

    async def w(ctx: Context, value: dict[str, str]) -> Any:
        got = await ctx.wait_for_event("paid", f"paid-{value['id']}", timeout=None)
        return [got, await ctx.step("end", stepper(world, "end"), value["id"])]

    with world.clock.driving():
        async with world:
            world.redeploy(w, events=["paid-{id}"])
            run_id = await world.trigger("w", {"id": "1"})
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("paid-1", b"10")
            await world.finished(run_id)
            kept = await world.engine.fork(run_id, "end", body=b'{"id":"2"}')
            assert result_of(await world.finished(kept)) == [10, "2"]
            anew = await world.engine.fork(run_id, "paid", body=b'{"id":"3"}')
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("paid-3", b"30")
            assert result_of(await world.finished(anew)) == [30, "3"]


async def test_events_that_the_source_keeps_are_not_kept_by_the_fork() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        await ctx.wait_for_event("one", timeout=None)
        return await ctx.wait_for_event("two", timeout=None)

    with world.clock.driving():
        async with world:
            world.redeploy(w, events=["one", "two"])
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("two", b"2")
            fork_id = await world.engine.fork(run_id, "one")
            await world.until(lambda: len(world.engine.sup.waiters) == 2)
            await world.engine.notify("one", b"1")
            assert result_of(await world.finished(run_id)) == 2
            await asyncio.sleep(60)
            assert (await world.engine.get_run(fork_id)).status == "running"
            assert not world.actor(fork_id).peek().kept_count
            await world.engine.notify("two", b"3", run_id=fork_id)
            assert result_of(await world.finished(fork_id)) == 3


async def test_a_live_run_is_forked_and_both_go_on() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        a = await ctx.step("a", stepper(world, "a"), 1)
        return [a, await ctx.wait_for_event("go", timeout=None)]

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
            fork_id = await world.engine.fork(run_id, "go")
            await world.until(lambda: len(world.engine.sup.waiters) == 2)
            assert await world.engine.notify("go", b"5") == 2
            for each in (run_id, fork_id):
                assert result_of(await world.finished(each)) == [1, 5]
            assert world.ran_keys() == ["a#1"]


async def test_parallel_steps_that_ended_later_are_not_kept() -> None:
    world = World()
    gate = asyncio.Event()

    async def slow() -> str:
        world.ran()
        await gate.wait()
        return "slow"

    async def other(ctx: Context) -> Any:
        quick = await ctx.step("quick", stepper(world, "quick"), 1)
        return await ctx.step("next", stepper(world, "next"), quick)

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(ctx.step("slow", slow), other(ctx))

    with world.clock.driving():
        async with world:
            world.redeploy(w)
            run_id = await world.trigger("w")
            await world.until(lambda: any(r.name == "next" for r in world.life.ran))
            gate.set()
            await world.finished(run_id)
            world.life.ran.clear()
            next_key = next(c for c in world.actor(run_id).peek().calls if "next" in c)
            fork_id = await world.engine.fork(run_id, next_key)
            assert result_of(await world.finished(fork_id)) == ["slow", 1]
            assert sorted(r.name for r in world.life.ran) == ["next", "slow"]


async def test_a_fork_of_a_failed_run_can_be_retried_and_is_compensated_by_itself() -> None:
    world = World()
    broken = {"c"}

    async def w(ctx: Context) -> Any:
        await ctx.step("a", stepper(world, "a"), 1, compensate=stepper(world, "undo"))
        return await ctx.step("c", stepper(world, "c", broken), 2)

    with world.clock.driving():
        async with world:
            run_id = await ended(world, w, None)
            fork_id = await world.engine.fork(run_id, "c")
            assert (await world.finished(fork_id)).status == "failed"
            assert [r.name for r in world.life.ran] == ["c", "undo:a"]
            broken.clear()
            await world.engine.retry(fork_id)
            assert result_of(await world.finished(fork_id)) == 2
            assert [r.key for r in world.life.ran[2:]] == ["a#1", "c#1"]


async def test_what_cannot_be_forked_is_refused_and_records_nothing() -> None:
    world = World()

    async def typed(ctx: Context, n: int) -> int:
        return await ctx.step("a", stepper(world, "a"), n)

    with world.clock.driving():
        async with world:
            run_id = await ended(world, typed, 1)
            before = world.engine.sup.journal.last_lsn
            with pytest.raises(InvalidInputError, match="run has no step 'x'; it has: a#1"):
                await world.engine.fork(run_id, "x")
            with pytest.raises(InvalidInputError, match="results: the run has no step 'y'"):
                await world.engine.fork(run_id, "a", results={"y": b"1"})
            with pytest.raises(InvalidInputError, match="expected int"):
                await world.engine.fork(run_id, "a", body=b'"text"')
            with pytest.raises(InvalidInputError):
                await world.engine.fork(run_id, "a", results={"a": b"{"})
            with pytest.raises(PayloadTooLargeError, match=r"results\.a"):
                await world.engine.fork(run_id, "a", results={"a": b'"%b"' % (b"x" * 2_000_000)})
            with pytest.raises(RunNotFoundError):
                await world.engine.fork("run_nobodyknows", "a")
            world.redeploy()
            with pytest.raises(WorkflowNotFoundError):
                await world.engine.fork(run_id, "a")
            assert world.engine.sup.journal.last_lsn == before
            world.engine.begin_shutdown()
            with pytest.raises(UnavailableError):
                await world.engine.fork(run_id, "a")


async def test_a_fork_may_not_hold_more_than_a_run() -> None:
    world = World(run_bytes_max=8000, result_bytes_max=6000)

    async def w(ctx: Context, n: int) -> Any:
        await ctx.step("a", stepper(world, "a"), n)
        return await ctx.step("b", stepper(world, "b"), n)

    with world.clock.driving():
        async with world:
            run_id = await ended(world, w, 1)
            pins = {"a": b'"%b"' % (b"x" * 5000), "b": b'"%b"' % (b"x" * 5000)}
            with pytest.raises(PayloadTooLargeError, match="8000"):
                await world.engine.fork(run_id, "b", results=pins)


async def test_a_pinned_result_that_does_not_fit_parks_the_fork_and_says_so() -> None:
    world = World()

    async def number() -> int:
        return 1

    async def w(ctx: Context) -> Any:
        return await ctx.step("a", number)

    with world.clock.driving():
        async with world:
            run_id = await ended(world, w, None)
            fork_id = await world.engine.fork(run_id, "a", results={"a": b'"text"'})
            assert await world.ended_or_parked(fork_id) == "parked"
            view = await world.engine.get_run(fork_id)
            assert "no longer fits its annotation" in str(view.reason)
            await world.engine.cancel(fork_id)
            assert error_of(await world.finished(fork_id))["type"] == "RunCancelledError"


async def test_a_run_whose_records_do_not_fit_cannot_be_forked() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await ended(world, chain(world))
            world.actor(run_id).state.failure = "SFW401 for a test"
            with pytest.raises(ConflictError, match="cannot be forked"):
                await world.engine.fork(run_id, "a")
            with pytest.raises(ConflictError):
                await world.engine.retry(run_id)


# ---------------------------------------------------------------- thousands of steps


def long_chain(world: World, count: int) -> Any:
    """Return a body of so many steps, a value and an emit beside each, then a wait."""

    async def w(ctx: Context, n: int) -> int:
        for number in range(count):
            n = await ctx.step("add", stepper(world, "add"), n + 1)
            await ctx.emit("added", {"number": number, "at": ctx.random()})
        await ctx.wait_for_event("go", timeout=None)
        return await ctx.step("last", stepper(world, "last"), n)

    return w


async def test_a_long_history_is_prepared_some_at_a_time_and_written_in_one_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forking, "_AT_ONCE", 7)
    read: list[int] = [0]
    decode, rows_of = forking.decode_record, forking._rows_of

    def counted(work: Any) -> Any:
        def one(*args: Any) -> Any:
            read[-1] += 1
            return work(*args)

        return one

    monkeypatch.setattr(forking, "decode_record", counted(decode))
    monkeypatch.setattr(forking, "_rows_of", counted(rows_of))
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(long_chain(world, 40))
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
            asked = asyncio.ensure_future(world.engine.fork(run_id, "add#31"))
            while not asked.done():
                read.append(0)
                await next_pass()
            fork_id = await asked
            assert max(read) == 7
            assert sum(read) > 80
            frames = [
                [record for record in decoded(group) if record.r == fork_id]
                for group in world.life.groups
            ]
            (first, *_) = [frame for frame in frames if frame]
            assert isinstance(first[0], rec.RunStarted)
            assert sum(isinstance(record, rec.StepCompleted) for record in first) == 30
            assert sum(isinstance(record, rec.Emitted) for record in first) == 30
            await world.until(lambda: len(world.engine.sup.waiters) == 2)
            ran = [row.key for row in world.life.ran if row.idempotency_key.startswith(fork_id)]
            assert ran == [f"add#{number}" for number in range(31, 41)]
            await world.engine.notify("go", b"1")
            assert result_of(await world.finished(fork_id)) == 40


@pytest.mark.parametrize("what", ["goes on", "is purged", "loses its workflow", "stops"])
async def test_what_happens_while_a_fork_is_prepared(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The fork is of the source as it was when asked for; all else is as it is at the end."""
    monkeypatch.setattr(forking, "_AT_ONCE", 5)
    world = World()
    with world.clock.driving():
        async with world:
            world.redeploy(long_chain(world, 20))
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.waiters) == 1)
            asked = asyncio.ensure_future(world.engine.fork(run_id, "go"))
            await next_pass()
            before = world.engine.sup.journal.last_lsn
            match what:
                case "goes on":
                    assert await world.engine.notify("go", b"1") == 1
                    assert result_of(await world.finished(run_id)) == 20
                case "is purged":
                    await world.engine.cancel(run_id, force=True)
                    await world.engine.purge(run_id)
                case "loses its workflow":
                    world.engine.registry._by_id.clear()
                case _:
                    world.engine._state = "draining"
            if what in {"goes on", "is purged"}:
                fork_id = await asked
                await world.until(lambda: len(world.engine.sup.waiters) == 1)
                await world.engine.notify("go", b"1")
                assert result_of(await world.finished(fork_id)) == 20
                assert world.life.ran[-1].key == "last#1"
                return
            with pytest.raises(
                WorkflowNotFoundError if what == "loses its workflow" else UnavailableError
            ):
                await asked
            assert world.engine.sup.journal.last_lsn == before
            world.engine._state = "ready"


async def test_what_is_kept_is_one_frame_and_costs_few_calls_a_step_in_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(run_bytes_max=1 << 26)
    calls = 0

    def count(_frame: Any, what: str, _arg: Any) -> None:
        nonlocal calls
        calls += what in {"call", "c_call"}

    write = forking.ForkPlan.write

    def counted(plan: forking.ForkPlan, actor: Any) -> None:
        sys.setprofile(count)
        try:
            write(plan, actor)
        finally:
            sys.setprofile(None)

    async def do(n: int) -> int:
        return n

    async def w(ctx: Context, n: int) -> Any:
        await ctx.map("m", do, range(n))
        return await ctx.step("last", do, 0)

    monkeypatch.setattr(forking.ForkPlan, "write", counted)
    with world.clock.driving():
        async with world:
            for steps in (500, 2000):
                source = await ended(world, w, steps)
                calls = 0
                fork = await world.engine.fork(source, "last")
                # Records are made in slices before: what is left is to place, encode, apply them.
                assert calls < 25 * steps
                assert result_of(await world.finished(fork)) == 0
                kept = [g for g in world.life.groups if len(g) > steps]
                kinds = [type(r).__name__ for r in decoded(kept[-1])]
                assert kinds.count("StepCompleted") == steps
                assert kinds[0] == "RunStarted"
