"""A full disk is met before anything is decided; when there is room all goes on by itself."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import Context, Stepflow
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.engine.protocol import RunFilter
from stepflow.errors import OutcomeUnknownError, RunNotFoundError, UnavailableError
from tests.engine_kit import Service, reborn, service
from tests.harness import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

pytestmark = pytest.mark.asyncio


async def fill(world: Service) -> int:
    """Leave the disk no free byte and write until triggers are refused; return how many fitted."""
    spare = [await world.trigger("echo", 0, delay_ms=86_400_000) for _ in range(3)]
    world.disk.capacity = 0
    sizes = [500, 0]
    written = 0
    while sizes:
        try:
            await world.trigger("echo", "x" * sizes[0])
            written += 1
        except UnavailableError:
            sizes.pop(0)
    await world.durable()
    while world.engine.state == "ready":
        # A last record would just fit: a cancel takes its place.
        await world.engine.cancel(spare.pop())
    return written


def make_room(world: Service) -> None:
    world.disk.capacity = None


async def test_with_a_full_disk_new_work_is_refused_and_nothing_of_it_is_recorded() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        assert await fill(world) > 10
        await world.durable()
        assert world.engine.state == "read-only"
        last = world.engine.sup.journal.last_lsn
        for ask in (
            world.trigger("echo", 1),
            world.trigger("echo", 1, delay_ms=1000),
            world.engine.trigger_many("echo", [b"1"] * 3),
            world.engine.notify("ev", b"1"),
        ):
            with pytest.raises(UnavailableError) as caught:
                await ask
            assert caught.value.retry_after_s
        assert world.engine.sup.journal.last_lsn == last
        assert world.engine.readiness()["status"] == "read-only"
        assert world.engine.metrics()["stepflow_journal_read_only"] == 1


async def test_with_a_full_disk_reads_and_streams_go_on() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        await fill(world)
        assert (await world.get(run_id)).state == "waiting"
        assert (await world.page(limit=5)).runs
        assert b"stepName" in await world.stream_bytes(run_id)
        assert [row.event_id for row in await world.engine.waiting_events()] == ["ev"]


async def test_step_ends_timers_and_waits_go_on_by_themselves_when_there_is_room() -> None:
    async with service() as world:
        step = await world.trigger("gated")
        nap = await world.trigger("sleeps", 30)
        delayed = await world.trigger("echo", 7, delay_ms=20_000)
        await world.waiting(nap)
        await world.until(lambda: world.life.ran)
        await fill(world)
        await world.durable()
        last = world.engine.sup.journal.last_lsn
        world.gate.set()
        await world.clock.advance(60)
        assert world.engine.sup.journal.last_lsn == last
        assert [world.actor(r).finished for r in (step, nap, delayed)] == [False] * 3
        assert world.actor(delayed).peek().status == "pending"
        make_room(world)
        for run_id in (step, nap, delayed):
            assert (await world.finished(run_id)).status == "completed"
        assert world.engine.state == "ready"
        assert world.ran_keys() == ["gate#1"]
        await world.trigger("echo", 1)


async def test_a_cancel_may_use_the_reserve_even_behind_a_step_end_that_has_no_room() -> None:
    async with service() as world:
        step = await world.trigger("gated")
        wait = await world.trigger("waits", "ev")
        await world.waiting(wait)
        await world.until(lambda: world.life.ran)
        await fill(world)
        world.gate.set()
        await world.settle()
        assert (await world.engine.cancel(step)).state in {"cancelling", "cancelled"}
        assert (await world.engine.cancel(wait)).state in {"cancelling", "cancelled"}
        async with reborn(world) as other:
            make_room(other)
            for run_id in (step, wait):
                assert (await other.finished(run_id)).status == "cancelled"
        make_room(world)
        for run_id in (step, wait):
            assert (await world.finished(run_id)).status == "cancelled"


async def test_a_cancel_that_not_even_the_reserve_can_hold_is_refused() -> None:
    async with service() as world:
        waits = [await world.trigger("waits", f"ev-{n}") for n in range(200)]
        for run_id in waits:
            await world.waiting(run_id)
        await fill(world)
        cancelled = []
        for run_id in waits:
            try:
                await world.engine.cancel(run_id, reason="r" * 400)
            except UnavailableError:
                break
            cancelled.append(run_id)
        assert 0 < len(cancelled) < len(waits)
        async with reborn(world) as other:
            make_room(other)
            for run_id in cancelled:
                assert (await other.finished(run_id)).status == "cancelled"
            assert (await other.get(waits[-1])).state == "waiting"


async def test_a_start_on_a_full_disk_is_read_only_until_there_is_room() -> None:
    async with service() as world:
        run_id = await world.trigger("sleeps", 5)
        await world.waiting(run_id)
        await fill(world)
        await world.crash(keep_unsynced=True)
        world.disk.capacity = 0
        await world.start()
        assert world.engine.state == "read-only"
        assert (await world.get(run_id)).state == "sleeping"
        with pytest.raises(UnavailableError):
            await world.trigger("echo", 1)
        await world.clock.advance(60)
        assert (await world.get(run_id)).status == "running"
        make_room(world)
        assert (await world.finished(run_id)).status == "completed"


async def test_a_start_on_a_full_disk_lists_what_is_on_it_at_once() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        await fill(world)
        await world.crash(keep_unsynced=True)
        world.disk.capacity = 0
        await world.start()
        assert world.engine.state == "read-only"
        # The record of the start waits for room; no answer rests on it.
        page = asyncio.create_task(world.engine.list_runs(RunFilter(), limit=200, cursor=None))
        gone = asyncio.create_task(world.engine.require_run("run_AAAAAAAAAAAAAAAAAAAAAA"))
        events = asyncio.create_task(world.engine.waiting_events())
        await world.settle()
        assert page.done()
        assert run_id in {run.id for run in page.result().runs}
        assert isinstance(gone.exception(), RunNotFoundError)
        assert [row.event_id for row in events.result()] == ["ev"]
        make_room(world)


async def test_room_that_comes_and_goes_loses_nothing() -> None:
    async with service() as world:
        told: dict[str, Any] = {}

        async def client(number: int) -> None:
            for turn in range(20):
                try:
                    run_id = await world.trigger("doubles", number)
                except UnavailableError:
                    await asyncio.sleep(1)
                    continue
                told[run_id] = None
                if turn % 3:
                    told[run_id] = bytes((await world.finished(run_id)).result)

        async def weather() -> None:
            for _ in range(10):
                world.disk.capacity = 0
                await asyncio.sleep(2)
                make_room(world)
                await asyncio.sleep(1)

        await asyncio.gather(weather(), *(client(n) for n in range(20)))
        make_room(world)
        for run_id in told:
            assert (await world.finished(run_id)).status == "completed"
        async with reborn(world) as other:
            for run_id, result in told.items():
                view = await other.get(run_id)
                assert view.status == "completed"
                assert result is None or bytes(view.result) == result


# ---------------------------------------------------------------- a real file system


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root: a small tmpfs cannot be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def eventually(condition: Callable[[], Any]) -> None:
    clock = SystemClock()
    while not condition():
        passed = asyncio.Event()
        clock.call_later(0.02, passed.set)
        await passed.wait()


@pytest.mark.root
async def test_a_small_file_system_fills_up_and_empties_under_a_running_engine(
    small_disk: Path,
) -> None:
    settings = Settings(
        segment_bytes_first=64 * KIB,
        segment_bytes_max=128 * KIB,
        room_reserve_bytes=16 * KIB,
        reserve_file_bytes=64 * KIB,
        free_bytes_min=32 * KIB,
    )
    flow = Stepflow(small_disk / "data", settings=settings)
    go = asyncio.Event()

    async def wait_for_go() -> str:
        await go.wait()
        return "gone"

    @flow.workflow("stores")
    async def stores(ctx: Context, text: str) -> int:
        return len(text)

    @flow.workflow("steps")
    async def steps(ctx: Context) -> str:
        return await ctx.step("go", wait_for_go)

    filler = small_disk / "filler"
    told: list[str] = []
    async with flow:
        running = await flow.trigger("steps")
        filler.write_bytes(bytes(800 * KIB))
        for size in (2000, 0):
            # Whose record meets the full disk before the space was looked at is held, not refused.
            with pytest.raises((UnavailableError, OutcomeUnknownError)):
                while True:
                    told += [(await flow.trigger("stores", "x" * size)).id]
        assert flow.engine.state == "read-only"
        go.set()
        filler.unlink()
        assert await running.result() == "gone"
        await eventually(lambda: flow.engine.state == "ready")
        told.append((await flow.trigger("stores", "again")).id)
        views = [await flow.get_run(run_id) for run_id in told]
    again = Stepflow(small_disk / "data", settings=settings)
    again.workflow("stores")(stores)
    async with again:
        for view in views:
            if view.status == "completed":
                assert msgspec.json.encode(await again.get_run(view.id)) == msgspec.json.encode(
                    view
                )
            else:
                assert (await again.engine.wait(view.id)).status == "completed"


def fill_up(file: Path) -> None:
    """Write until the file system has not one byte left."""
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4 * KIB))
        except OSError:
            return


@pytest.mark.root
async def test_a_start_on_a_file_system_without_one_byte_left_reads_and_goes_on_with_room(
    small_disk: Path,
) -> None:
    settings = Settings(
        segment_bytes_first=64 * KIB,
        segment_bytes_max=128 * KIB,
        room_reserve_bytes=16 * KIB,
        reserve_file_bytes=64 * KIB,
        free_bytes_min=32 * KIB,
    )

    async def add(n: int) -> int:
        return n + 1

    def made() -> Stepflow:
        flow = Stepflow(small_disk / "data", settings=settings)

        @flow.workflow("many")
        async def many(ctx: Context, n: int) -> int:
            await ctx.wait_for_event("go", f"go-{n}", timeout=None)
            return sum(await ctx.map("add", add, list(range(n))))

        return flow

    async with made() as flow:
        run_id = (await flow.trigger("many", 80)).id
    for name in ("marker", "suspects.json"):
        (small_disk / "data" / name).unlink(missing_ok=True)
    filler = small_disk / "filler"
    states = []
    for _ in range(3):
        # The first start still has the reserve file to give up.
        fill_up(filler)
        async with made() as flow:
            states.append(flow.engine.state)
            assert (await flow.get_run(run_id)).status == "running"
            if states[-1] == "read-only":
                with pytest.raises(UnavailableError):
                    await flow.notify("go-80")
                filler.unlink()
                await eventually(lambda: flow.engine.state == "ready")
                assert await flow.notify("go-80") == 1
                assert (await flow.engine.wait(run_id)).status == "completed"
                break
    assert states[-1] == "read-only"
