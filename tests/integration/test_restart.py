"""`ctx.restart`: a fresh history under the same id; what belongs to the run itself survives."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import AuthoringError, current_step
from stepflow.errors import ConflictError, InvalidInputError
from stepflow.model import records as rec
from stepflow.model.run import RunState
from tests.engine_kit import held_back
from tests.harness import World, decoded, error_of, result_of
from tests.recovery.reference_replayer import differences, replay

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio


def files_of(world: World) -> dict[str, bytes]:
    disk = world.disk.power_cut()
    return {name: bytes(disk.read(name)) for name in disk.listdir()}


def counting(world: World, until: int) -> Any:
    """Return a workflow that restarts until its input has grown so far."""

    async def step(n: int) -> int:
        world.ran(n)
        return n + 1

    async def w(ctx: Context, n: int) -> int:
        world.note(n)
        n = await ctx.step("add", step, n)
        await ctx.sleep("nap", "1m")
        if n < until:
            await ctx.restart(n)
        return n

    return w


async def test_a_run_goes_on_with_its_new_input_under_the_same_id() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 5))
        async with world:
            run_id = await world.trigger("w", 0, tags=["t"])
            view = await world.finished(run_id)
            assert result_of(view) == 5
            view = await world.engine.get_run(run_id)
            assert (view.id, view.tags, view.restarts) == (run_id, ("t",), 4)
            assert msgspec.json.decode(bytes(view.input)) == 4
            assert [step.name for step in view.steps] == ["add", "nap"]  # type: ignore[union-attr]
            assert list(dict.fromkeys(world.life.trace)) == [(n,) for n in range(5)]
            keys = [ran.idempotency_key for ran in world.life.ran]
            assert len(set(keys)) == 5, "each history has idempotency keys of its own"


async def test_a_crash_after_any_record_restarts_once_and_loses_nothing() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 3))
        async with world:
            view = await world.run("w", 0)
            first = world.life
        for cut in range(1, len(first.groups)):
            world.cut(first.groups[:cut])
            done = [r for g in first.groups[:cut] for r in decoded(g)]
            restarts = sum(isinstance(r, rec.RunRestarted) for r in done)
            async with world:
                again = await world.finished(view.id)
                assert result_of(again) == 3
                assert world.life.trace[:1] in ([(restarts,)], [])
                recorded = restarts + sum(isinstance(r, rec.RunRestarted) for r in world.records())
                assert recorded == 2
                used = [ran.idempotency_key for ran in first.ran[:restarts]]
                assert not set(used) & {ran.idempotency_key for ran in world.life.ran}


async def test_the_stream_goes_on_with_rising_ids_and_the_end_of_the_old_history() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 3))
        async with world:
            run_id = await world.trigger("w", 0)
            events = []
            stream = await world.engine.stream(run_id)
            while not stream.ended:
                events += stream.read_events(3)
                await stream.changed()
            events += stream.read_events(100)
            stream.close()
            ids = [event.id for event in events]
            assert ids == sorted(set(ids))
            assert len(ids) == ids[-1], "nothing is missed by who listens all the time"
            said = [event.json() for event in events if event.event == "status"]
            assert [s["restarts"] for s in said if "restarts" in s] == [1, 2]
            assert sum(event.event == "step" for event in events) == 6
            # Who comes later gets the present history alone, and no id twice.
            late = await world.engine.stream(run_id)
            found = [event.id for event in late.read_events(100)]
            assert found == ids[-len(found) :]
            assert late.ended
            late.close()
            # Who was cut off before the restart gets the present run, then what follows.
            old = await world.engine.stream(run_id, 2)
            (resync,) = old.read_events(100)
            assert (resync.event, resync.id) == ("resync", 0)
            assert resync.json()["restarts"] == 2
            old.close()


async def test_a_subscriber_that_is_two_histories_behind_gets_the_present_run() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 6))
        async with world:
            run_id = await world.trigger("w", 0)
            slow = await world.engine.stream(run_id)
            assert slow.read_events(1)[0].id == 1
            await world.finished(run_id)
            await world.saved()
            rows = slow.read_events(100)
            assert [row.event for row in rows] == ["resync"]
            assert rows[0].json()["status"] == "completed"
            assert slow.ended
            slow.close()


async def test_a_resync_waits_until_what_it_shows_is_durable() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 6))
        async with world:
            run_id = await world.trigger("w", 0)
            slow = await world.engine.stream(run_id)
            await world.until(lambda: world.actor(run_id).state.restarts == 3, passes=400_000)
            feed: Any = world.actor(run_id).feed
            feed._hub = type("Late", (), {"durable_lsn": 0})()
            assert feed.lost(0)
            assert slow.read_events(10) == []
            slow.close()
            await world.finished(run_id)


async def test_kept_events_survive_snapshot_and_restart() -> None:
    world = World()

    async def w(ctx: Context, n: int) -> Any:
        if n == 0:
            await ctx.wait_for_event("go", timeout=None)
            await ctx.restart(1)
        await ctx.wait_for_event("again", timeout=None)
        return [await ctx.wait_for_event("kept", timeout=None) for _ in range(2)]

    world.flow.workflow("w", events=["kept"])(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w", 0)
        await world.until(lambda: len(world.engine.sup.waiters))
        for payload in (b'"one"', b'"two"'):
            await world.engine.notify("kept", payload)
        await world.engine.notify("go", b"null")
        await world.until(lambda: world.actor(run_id).peek().restarts)
        assert await world.engine.snapshot()
        await world.saved()
        line = world.actor(run_id).line()
        assert RunState.unpack(line).pack() == line
        await world.restart()
        await world.until(lambda: len(world.engine.sup.waiters))
        await world.engine.notify("again", b"null")
        assert result_of(await world.finished(run_id)) == ["one", "two"]
        await world.stop()


async def test_the_events_it_declares_are_those_of_its_new_input() -> None:
    world = World()

    async def w(ctx: Context, order: dict[str, str]) -> Any:
        if order["id"] == "a":
            await ctx.restart({"id": "b"})
        await ctx.sleep("nap", "1h")
        return await ctx.wait_for_event("paid", f"paid-{order['id']}", timeout=None)

    world.flow.workflow("w", events=["paid-{id}"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", {"id": "a"})
            await world.until(lambda: world.actor(run_id).peek().restarts)
            waiters = world.engine.sup.waiters
            assert (waiters.takers("paid-a"), waiters.takers("paid-b")) == ([], [run_id])
            await world.engine.notify("paid-b", b"3")
            assert result_of(await world.finished(run_id)) == 3
            assert waiters.takers("paid-b") == []


def restarted(world: World, times: int) -> bool:
    return any(actor.peek().restarts == times for actor in world.engine.sup.runs.values())


async def test_a_parent_waits_for_a_child_over_its_restarts_and_their_crashes() -> None:
    world = World()
    with world.clock.driving():
        child = counting(world, 3)

        async def parent(ctx: Context) -> Any:
            return await ctx.call("w", 0)

        world.redeploy(child, parent)
        await world.start()
        run_id = await world.trigger("parent")
        for restarts in (1, 2):
            await world.until(partial(restarted, world, restarts), passes=200_000)
            await world.saved()
            await world.restart()
        assert result_of(await world.finished(run_id)) == 3
        await world.stop()


async def test_an_idempotency_key_still_gives_the_run_by_its_first_input() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 3))
        await world.start()
        run_id = await world.trigger("w", 0, idempotency_key="k")
        await world.until(lambda: world.actor(run_id).peek().restarts, passes=200_000)
        assert await world.engine.snapshot()
        await world.saved()
        await world.restart()
        assert await world.trigger("w", 0, idempotency_key="k") == run_id
        with pytest.raises(ConflictError):
            await world.trigger("w", 1, idempotency_key="k")
        await world.finished(run_id)
        await world.stop()


async def test_what_is_under_way_is_given_up() -> None:
    world = World()

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def child(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=None)

    async def w(ctx: Context, n: int) -> Any:
        if n:
            # Of the same key as a child of before, whose end must not count.
            return await ctx.call("child", name="c")
        for call in (
            ctx.step("hangs", hangs),
            ctx.call("child", name="c"),
            ctx.wait_for_event("e", timeout=None),
        ):
            world.note(asyncio.create_task(call))
        await ctx.sleep("nap", "1m")
        return await ctx.restart(1)

    world.redeploy(w, child)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: world.actor(run_id).peek().restarts, passes=200_000)
            await world.settle(200)
            sup = world.engine.sup
            (first, second) = (r for r in sup.runs if r != run_id)
            assert (await world.finished(first)).status == "cancelled"
            assert world.actor(run_id).status == "running"
            assert sup.waiters.events() == ["never"]
            assert not sup.steps.running
            await world.engine.cancel(second)
            assert error_of(await world.finished(run_id))["type"] == "RunCancelledError"


async def test_a_restart_ends_code_that_catches_everything() -> None:
    world = World()

    async def w(ctx: Context, n: int) -> int:
        if n == 2:
            return n
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(ctx.restart(n + 1))
            except BaseException:  # noqa: BLE001  swallows what it can
                pass

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            assert await world.result("w", 0) == 2


async def test_a_run_that_is_cancelled_ends_instead_of_restarting() -> None:
    world = World()

    async def w(ctx: Context, n: int) -> None:
        try:
            await ctx.sleep("nap", "1h")
        except asyncio.CancelledError:
            await ctx.restart(n + 1)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.timers))
            await world.engine.cancel(run_id)
            view = await world.finished(run_id)
            assert (view.status, view.restarts) == ("cancelled", msgspec.UNSET)


async def test_what_it_cannot_take_is_the_bodys_error() -> None:
    world = World(input_bytes_max=100)

    async def step() -> None:
        with pytest.raises(AuthoringError):
            current_step()
            await captured[0].restart(1)

    captured: list[Any] = []

    async def w(ctx: Context, n: int | str) -> str:
        captured.append(ctx)
        with pytest.raises(InvalidInputError):
            await ctx.restart([1])
        with pytest.raises(AuthoringError, match="bytes"):
            await ctx.restart("x" * 100)
        await ctx.step("s", step)
        return "here"

    world.redeploy(w)
    async with world:
        assert await world.result("w", 0) == "here"


async def test_a_restart_that_finds_no_room_waits_for_it() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 2))
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.timers))
            sup = world.engine.sup
            actor = world.actor(run_id)
            full = True
            real = sup.journal.has_room
            sup.journal.has_room = lambda *a, **k: not full and real(*a, **k)  # type: ignore[method-assign]
            await world.clock.advance(120)
            assert not actor.state.restarts
            full = False
            sup._room()
            assert result_of(await world.finished(run_id)) == 2


async def test_a_run_that_restarts_for_ever_stays_small_in_memory_and_on_disk() -> None:
    world = World(snapshot_wal_bytes=20_000, segment_bytes_first=8192, segment_bytes_max=8192)

    async def poll(n: int) -> str:
        return "x" * 200

    async def w(ctx: Context, n: int) -> None:
        await ctx.step("poll", poll, n)
        await ctx.first(stop=ctx.wait_for_event("stop", timeout="9d"), nap=ctx.sleep("nap", "1m"))
        await ctx.restart(n + 1)

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            sizes: list[tuple[int, int, int, int]] = []
            for _ in range(8):
                await world.clock.advance(60 * 60)
                await world.settle(200)
                actor, sup = world.actor(run_id), world.engine.sup
                disk = sum(map(len, files_of(world).values()))
                sizes.append((len(actor.line()), disk, len(sup.timers), actor.peek().restarts))
            lines, disks, timers, restarts = zip(*sizes, strict=True)
            assert restarts[-1] > 400
            assert max(lines) < 2500
            assert max(disks[2:]) < 2 * max(disks[:2])
            assert max(timers) < 2200, "timers of waits that were given up are tidied"


async def test_another_reader_of_the_format_sees_the_same() -> None:
    world = World()
    with world.clock.driving():
        world.redeploy(counting(world, 3))
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: world.actor(run_id).peek().restarts, passes=200_000)
            await world.engine.snapshot()
            await world.finished(run_id)
            view = await world.engine.get_run(run_id)
            shown = msgspec.json.decode(msgspec.json.encode(view))
        done = replay(files_of(world))
        assert done.runs[run_id].input == 2
        assert not differences(done, run_id, shown)


async def test_the_timeout_of_a_run_goes_on_over_its_restarts() -> None:
    world = World()

    async def w(ctx: Context, n: int) -> None:
        await ctx.sleep("nap", "40s")
        await ctx.restart(n + 1)

    world.flow.workflow("w", timeout="1m")(w)
    with world.clock.driving():
        await world.start()
        run_id = await world.trigger("w", 0)
        await world.until(lambda: len(world.engine.sup.timers))
        await world.clock.advance(45)
        assert world.actor(run_id).peek().restarts == 1
        await world.saved()
        await world.engine.snapshot()
        await world.restart()
        view = await world.finished(run_id)
        assert (view.status, view.restarts) == ("failed", 1)
        await world.stop()


async def test_a_paused_run_restarts_when_it_is_resumed() -> None:
    world = World()

    async def w(ctx: Context, n: int) -> int:
        if n == 0:
            await ctx.wait_for_event("go", timeout=None)
            for _ in range(40):
                await asyncio.sleep(0)
            await ctx.restart(1)
        return n

    world.redeploy(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("go", b"1")
            await world.engine.pause(run_id)
            await world.settle(300)
            assert not world.actor(run_id).peek().restarts
            await world.engine.resume(run_id)
            assert result_of(await world.finished(run_id)) == 1


async def test_events_kept_over_a_restart_are_kept_again_by_a_retry() -> None:
    world = World()
    broken = [True]

    async def w(ctx: Context, n: int) -> Any:
        if n == 0:
            await ctx.wait_for_event("go", timeout=None)
            await ctx.restart(1)
        if broken:
            raise ValueError("not yet")
        return await ctx.wait_for_event("kept", timeout=None)

    world.flow.workflow("w", events=["kept"])(w)
    with world.clock.driving():
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.notify("kept", b"5")
            await world.engine.notify("go", b"1")
            assert (await world.finished(run_id)).status == "failed"
            broken.clear()
            await world.engine.retry(run_id)
            assert result_of(await world.finished(run_id)) == 5


async def test_nothing_of_the_new_history_begins_before_the_restart_is_durable() -> None:
    from tests.engine_kit import service

    async with service() as world:

        async def touch(n: int) -> int:
            world.ran(n)
            return n

        async def w(ctx: Context, n: int) -> int:
            if n == 0:
                await ctx.wait_for_event("go", timeout=None)
                await ctx.restart(1)
            return await ctx.step("touch", touch, n)

        world.flow.workflow("anew")(w)
        run_id = await world.trigger("anew", 0)
        await world.waiting(run_id)
        world.hold()
        notified = await held_back(world.engine.notify("go", b"null"))
        await world.settle(200)
        assert not world.life.ran
        world.release()
        await notified
        assert result_of(await world.finished(run_id)) == 1
