"""What a restart finds is what was: the same views and streams, whatever it restarts from."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.errors import RunNotFoundError
from stepflow.journal.snapshot import snapshot_lsn
from tests.engine_kit import Service, reborn, service

if TYPE_CHECKING:
    from stepflow.journal.memory import MemoryDisk

pytestmark = pytest.mark.asyncio


async def populate(world: Service, *, mark: str = "") -> dict[str, str]:
    """Make runs of every kind; return them by what they are, when nothing moves any more."""
    engine = world.engine
    runs: dict[str, str] = {}

    async def add(name: str, workflow: str, value: Any = None, **options: Any) -> str:
        runs[name] = await world.trigger(workflow, value, **options)
        return runs[name]

    for name, workflow, value in (
        ("echo", "echo", {"é": [1, None, "\u2028"]}),
        ("doubles", "doubles", 4),
        ("failed", "fails", None),
    ):
        await world.finished(await add(name, workflow, value))
    await add("tagged", "echo", 1, tags=["blue"], idempotency_key=f"key{mark}")
    await add("delayed", "echo", 2, delay_ms=86_400_000)
    await add("sleeping", "sleeps", 86_400)
    await add("retrying", "retries")
    await add("waiting", "waits", f"never{mark}")
    await add("kept", "declares", {"id": f"k{mark}", "count": 3})
    await add("parent", "parent", f"child{mark}")
    await add("both", "both", f"both{mark}")
    await add("gated", "gated")
    await world.settle()
    for number in range(2):
        await engine.notify(f"kept-k{mark}", b'{"n":%d}' % number)
    await engine.notify("told", b'"addressed"', run_id=runs["waiting"])
    await engine.notify(f"both{mark}", b'"twice"')
    await world.finished(runs["both"])
    cancelled = await add("cancelled", "waits", "other")
    await world.settle()
    await engine.cancel(cancelled, reason="not wanted")
    await world.finished(cancelled)
    await engine.cancel(await add("cancelled-early", "echo", 1, delay_ms=60_000))
    purged = await world.trigger("echo", "purged")
    await world.finished(purged)
    await engine.purge(purged)
    await world.settle()
    await world.durable()
    return runs


async def state_of(world: Service) -> tuple[list[bytes], dict[str, bytes]]:
    return await world.views(), await world.streams()


async def snapshot_bases(disk: MemoryDisk) -> list[int]:
    return sorted(lsn for name in disk.listdir() if (lsn := snapshot_lsn(name)) is not None)


async def go_on(world: Service, runs: dict[str, str], mark: str = "") -> dict[str, Any]:
    """Let every run end; return how."""
    world.gate.set()
    engine = world.engine
    await engine.notify(f"go-k{mark}", b"0")
    await engine.notify(f"kept-k{mark}", b'{"n":2}')
    await engine.notify(f"child{mark}", b'"for the child"')
    await engine.notify(f"never{mark}", b'"at last"')
    ends = {}
    for name, run_id in runs.items():
        view = await world.finished(run_id)
        ends[name] = (view.status, bytes(view.result or b"") if view.status == "completed" else b"")
    return ends


ENDS = {
    "echo": ("completed", '{"é":[1,null,"\u2028"]}'.encode()),
    "doubles": ("completed", b"16"),
    "failed": ("failed", b""),
    "tagged": ("completed", b"1"),
    "delayed": ("completed", b"2"),
    "sleeping": ("completed", b'"awake"'),
    "retrying": ("failed", b""),
    "waiting": ("completed", b'"at last"'),
    "kept": ("completed", b'[{"n":0},{"n":1},{"n":2}]'),
    "parent": ("completed", b'"for the child"'),
    "both": ("completed", b'["twice","twice"]'),
    "gated": ("completed", b'"through"'),
    "cancelled": ("cancelled", b""),
    "cancelled-early": ("cancelled", b""),
}


@pytest.mark.parametrize("how", ["stop", "kill", "power cut"])
async def test_a_restart_finds_the_same_views_and_streams_and_all_runs_go_on(how: str) -> None:
    async with service() as world:
        runs = await populate(world)
        before = await state_of(world)
        if how == "stop":
            await world.stop()
            await world.start()
        else:
            await world.crash(keep_unsynced=how == "kill")
            await world.start()
        assert await state_of(world) == before
        await world.stop()
        await world.start()
        assert await state_of(world) == before
        assert await go_on(world, runs) == ENDS


async def test_recovering_the_same_disk_twice_gives_the_same() -> None:
    async with service() as world:
        await populate(world)
        image = world.image()
        async with reborn(world, image.power_cut()) as one, reborn(world, image.power_cut()) as two:
            assert await state_of(one) == await state_of(two)


async def test_what_sleeps_packed_reads_as_what_is_open() -> None:
    async with service() as world:
        runs = await populate(world)
        before = await state_of(world)
        await world.clock.advance(600)
        assert not world.actor(runs["waiting"]).is_open
        assert not world.actor(runs["echo"]).is_open
        after = await state_of(world)
        assert after == before
        assert await go_on(world, runs) == ENDS


async def test_a_restart_from_a_snapshot_finds_what_the_whole_journal_gives() -> None:
    async with service() as world:
        whole: list[MemoryDisk] = []
        runs = await populate(world)
        world.disk.before = lambda operation, name: (
            whole.append(world.disk.power_cut()) if operation == "unlink" else None
        )
        assert await world.engine.snapshot()
        more = await populate(world, mark="2")
        assert await world.engine.snapshot()
        last = await populate(world, mark="3")
        world.disk.before = None
        before = await state_of(world)
        assert len(await snapshot_bases(world.disk)) == 2
        async with reborn(world) as other:
            assert other.engine.recovery is not None
            assert other.engine.recovery.lines
            assert await state_of(other) == before
            for found, mark in ((runs, ""), (more, "2"), (last, "3")):
                other.gate.clear()
                assert await go_on(other, found, mark) == ENDS


async def test_a_snapshot_at_any_moment_of_a_busy_service_changes_nothing() -> None:
    async with service(snapshot_slice_runs=1) as world:
        snapshots = [asyncio.ensure_future(world.engine.snapshot())]
        told: dict[str, bytes] = {}

        async def client(number: int) -> None:
            for turn in range(4):
                run_id = await world.trigger("doubles", number * 10 + turn)
                told[run_id] = bytes((await world.finished(run_id)).result)
                if turn == 1:
                    del told[run_id]
                    await world.engine.purge(run_id)

        async def keeper() -> None:
            for _ in range(6):
                await snapshots[-1]
                snapshots.append(asyncio.ensure_future(world.engine.snapshot()))

        await asyncio.gather(keeper(), *(client(n) for n in range(8)))
        await asyncio.gather(*snapshots)
        before = await state_of(world)
        async with reborn(world) as other:
            assert await state_of(other) == before
            assert {r: bytes((await other.get(r)).result) for r in told} == told


async def test_a_run_purged_while_a_snapshot_is_written_stays_purged() -> None:
    async with service(snapshot_slice_runs=1) as world:
        ids = [await world.trigger("echo", n) for n in range(6)]
        for run_id in ids:
            await world.finished(run_id)
        writing = asyncio.ensure_future(world.engine.snapshot())
        await world.until(lambda: world.engine.sup.gone is not None)
        for _ in range(4):
            await asyncio.sleep(0)
        for run_id in (ids[0], ids[5]):
            await world.engine.purge(run_id)
        assert not writing.done()
        assert await writing
        async with reborn(world) as other:
            assert sorted(other.engine.sup.runs) == sorted(ids[1:5])
            with pytest.raises(RunNotFoundError):
                await other.get(ids[0])


async def test_a_purged_id_can_be_used_again_across_snapshots_and_restarts() -> None:
    async with service(snapshot_slice_runs=1) as world:
        writing = None
        for value in range(5):
            await world.trigger("echo", value, run_id="run_again000")
            await world.finished("run_again000")
            if value < 4:
                writing = asyncio.ensure_future(world.engine.snapshot())
                await asyncio.sleep(0)
                await world.engine.purge("run_again000")
        assert writing is not None
        await writing
        async with reborn(world) as other:
            assert bytes((await other.get("run_again000")).result) == b"4"


async def test_with_the_newest_snapshot_damaged_the_one_before_and_the_journal_give_the_same() -> (
    None
):
    async with service() as world:
        runs = await populate(world)
        assert await world.engine.snapshot()
        await world.trigger("echo", "between")
        assert await world.engine.snapshot()
        await world.trigger("echo", "after")
        await world.settle()
        before = await state_of(world)
        disk = world.image()
        newest = max(n for n in disk.listdir() if snapshot_lsn(n) is not None)
        damaged = bytearray(disk.read(newest))
        damaged[len(damaged) // 2] ^= 1
        file = disk.open(newest, create=True)
        file.pwrite(bytes(damaged), 0)
        file.fsync()
        async with reborn(world, disk) as other:
            assert other.engine.recovery is not None
            assert any("SFW103" in line for line in other.engine.recovery.messages)
            assert await state_of(other) == before
            assert await go_on(other, runs) == ENDS


@pytest.mark.parametrize("operation", ["open", "pwrite", "fsync", "rename", "pread"])
async def test_a_snapshot_that_fails_leaves_the_journal_and_is_tried_again_later(
    operation: str,
) -> None:
    async with service() as world:
        await populate(world)

        def fail(doing: str, name: str) -> None:
            if doing == operation and name.startswith("snap"):
                raise OSError(errno.EIO, "Input/output error")

        world.disk.before = fail
        assert not await world.engine.snapshot()
        world.disk.before = None
        assert world.engine.state == "ready"
        degraded: Any = world.engine.readiness()["degraded"]
        assert degraded["snapshotFailures"] == 1
        before = await state_of(world)
        async with reborn(world) as other:
            assert await state_of(other) == before
        assert await world.engine.snapshot()
        degraded = world.engine.readiness()["degraded"]
        assert degraded["snapshotFailures"] == 0


async def test_a_failing_snapshot_is_not_tried_at_every_turn() -> None:
    async with service(snapshot_wal_bytes=1024, snapshot_interval_s=10.0) as world:
        tries: list[str] = []

        def fail(doing: str, name: str) -> None:
            if doing == "open" and name.startswith("snap") and name.endswith(".tmp"):
                tries.append(name)
                raise OSError(errno.EIO, "Input/output error")

        world.disk.before = fail
        for _ in range(600):
            await world.trigger("echo", "x" * 200)
            await world.clock.advance(1)
        assert 2 <= len(tries) <= 6
        world.disk.before = None
        for _ in range(3600):
            await world.trigger("echo", 1)
            await world.clock.advance(1)
            if await snapshot_bases(world.disk):
                break
        assert await snapshot_bases(world.disk)


async def test_snapshots_come_by_themselves_by_size_and_by_age() -> None:
    async with service(snapshot_wal_bytes=32 * 1024, snapshot_interval_s=900.0) as world:
        for _ in range(200):
            await world.trigger("echo", "x" * 500)
        await world.clock.advance(3)
        assert await snapshot_bases(world.disk)
        count = len(world.records())
        first = (await snapshot_bases(world.disk))[-1]
        await world.trigger("echo", 1)
        await world.clock.advance(100)
        assert (await snapshot_bases(world.disk))[-1] == first
        for _ in range(1000):
            await world.clock.advance(1)
        assert (await snapshot_bases(world.disk))[-1] > first
        assert len(world.records()) == count + 2
        assert len(await snapshot_bases(world.disk)) <= 2


async def test_a_stop_in_the_middle_of_a_snapshot_is_clean() -> None:
    async with service(snapshot_slice_runs=1) as world:
        runs = await populate(world)
        before = await state_of(world)
        writing = asyncio.ensure_future(world.engine.snapshot())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not writing.done()
        await world.stop()
        await asyncio.gather(writing, return_exceptions=True)
        await world.start()
        assert world.engine.recovery is not None
        assert world.engine.recovery.clean
        assert await state_of(world) == before
        assert await go_on(world, runs) == ENDS


async def test_the_hybrid_clock_does_not_run_backwards_over_a_restart() -> None:
    async with service() as world:
        first = await world.trigger("echo", 1)
        await world.finished(first)
        await world.stop()
        world.clock.jump_wall(-86_400_000)
        await world.start()
        second = await world.trigger("echo", 2)
        one, two = await world.get(first), await world.get(second)
        assert one.created_at <= two.created_at
        assert msgspec.json.encode(await world.get(first)) == msgspec.json.encode(one)
