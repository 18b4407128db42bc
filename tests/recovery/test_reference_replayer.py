"""Two readers of one format, the service's and one written from its description, agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import RetryPolicy, RunCancelledError, RunFailedError
from stepflow.model import records as rec
from tests.engine_kit import ALL, service
from tests.harness import World, result_of
from tests.recovery.order_lives import record_lives
from tests.recovery.power_cuts import DiskModel
from tests.recovery.recovered import recover
from tests.recovery.reference_replayer import Replayed, differences, replay, replay_directory

if TYPE_CHECKING:
    from stepflow import Context
    from stepflow.journal.memory import MemoryDisk

GOLDEN = Path(__file__).parents[2] / "snapshots"


def files_of(disk: MemoryDisk) -> dict[str, bytes]:
    return {name: disk.read(name) for name in disk.listdir()}


@pytest.mark.asyncio
async def test_what_the_api_says_of_every_run_is_what_its_records_say() -> None:
    async with service() as world:
        await world.run("doubles", 4)
        await world.run("fails")
        await world.run("sleeps", 2.0)
        waiting = await world.trigger("waits", "e")
        kept = await world.trigger("declares", {"id": "x", "count": 2})
        await world.engine.notify("kept-x", b'{"a":1}')
        await world.engine.notify("go-x", b"1")
        child = await world.trigger("parent", "never")
        await world.trigger("gated")
        cancelled = await world.trigger("waits", "f")
        await world.engine.cancel(cancelled)
        await world.finished(cancelled)
        await world.engine.notify("e", b'"came"')
        await world.finished(waiting)
        await world.waiting(child)
        await world.waiting(kept)
        await world.durable()
        done = replay(files_of(world.disk))
        assert len(done.runs) == len(await world.views()) == 9
        for view in await world.views():
            shown: dict[str, Any] = msgspec.json.decode(view)
            assert differences(done, shown["id"], shown) == []
        assert done.runs[waiting].result == "came"
        assert done.runs[kept].open


async def check_every_run(world: World) -> Replayed:
    """Compare the two readers on every run; of the journal alone, and of a snapshot."""
    await world.saved()
    for _ in range(2):
        disk = world.disk.power_cut()
        done = replay(files_of(disk))
        page = await world.engine.list_runs(ALL, limit=1000, cursor=None)
        assert set(done.runs) == {run.id for run in page.runs}
        for run in page.runs:
            shown = msgspec.json.decode(msgspec.json.encode(await world.engine.get_run(run.id)))
            assert differences(done, run.id, shown) == []
        assert await world.engine.snapshot()
    assert done.base > 1
    return done


@pytest.mark.asyncio
async def test_a_call_of_a_child_that_failed_has_no_result_and_is_not_open() -> None:
    world = World()

    async def child(ctx: Context, what: str) -> str:
        if what == "fails":
            raise ValueError(what)
        await ctx.wait_for_event("never", timeout=None)
        return what

    async def parent(ctx: Context) -> list[str]:
        seen: list[str] = []
        for what in ("fails", "waits"):
            try:
                await ctx.call("child", what)
            except (RunFailedError, RunCancelledError) as error:
                seen.append(type(error).__name__)
        return seen

    with world.clock.driving():
        world.redeploy(child, parent, retry=RetryPolicy(max_attempts=1))
        async with world:
            run_id = await world.trigger("parent")
            await world.until(lambda: len(world.engine.sup.waiters))
            second = world.records(rec.ChildStarted)[-1].child
            await world.engine.cancel(second)
            assert (await world.finished(run_id)).status == "completed"
            assert all(record.error for record in world.records(rec.ChildEnded))
            done = await check_every_run(world)
            run = done.runs[run_id]
            assert (run.steps, run.open) == ({}, [])
            assert run.result == ["RunFailedError", "RunCancelledError"]


@pytest.mark.asyncio
async def test_both_readers_agree_on_a_run_that_was_paused_retried_restarted_and_forked() -> None:
    world = World()
    broken = [True]

    async def fails(n: int) -> int:
        if broken:
            raise ValueError("not yet")
        return n

    async def kind(n: int) -> int:
        return n

    async def w(ctx: Context, n: int) -> list[Any]:
        first = await ctx.step("a", kind, n)
        got = await ctx.wait_for_event("go", timeout=None)
        if n == 0:
            await ctx.restart(7)
        return [first, got, await ctx.step("b", fails, n)]

    with world.clock.driving():
        world.redeploy(w, retry=RetryPolicy(max_attempts=1))
        async with world:
            run_id = await world.trigger("w", 0)
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.pause(run_id)
            await check_every_run(world)
            await world.engine.notify("go", b"1")
            await world.engine.resume(run_id)
            await world.until(lambda: world.records(rec.RunRestarted))
            await world.until(lambda: len(world.engine.sup.waiters))
            done = await check_every_run(world)
            assert done.runs[run_id].input == 7
            assert done.runs[run_id].steps == {"a#1": 7}
            await world.engine.notify("go", b"2")
            assert (await world.finished(run_id)).status == "failed"
            await check_every_run(world)
            fork_id = await world.engine.fork(run_id, "b", results={"b": b"9"})
            assert result_of(await world.finished(fork_id)) == [7, 2, 9]
            done = await check_every_run(world)
            assert done.runs[fork_id].steps == {"a#1": 7, "go#1": 2, "b#1": 9}
            broken.clear()
            await world.engine.retry(run_id)
            assert result_of(await world.finished(run_id)) == [7, 2, 7]
            done = await check_every_run(world)
            assert done.runs[run_id].status == "completed"
            kinds = {type(record) for record in world.records()}
            assert kinds >= {rec.RunPaused, rec.RunResumed, rec.RunRetried, rec.RunRestarted}


@pytest.mark.asyncio
async def test_both_readers_agree_on_results_that_changed_places() -> None:
    world = World()

    async def kind(n: int) -> int:
        return n

    def body(*order: int) -> Any:
        async def w(ctx: Context) -> list[int]:
            got = [await ctx.step("s", kind, n) for n in order]
            await ctx.wait_for_event("go", timeout=None)
            return got

        return w

    with world.clock.driving():
        world.redeploy(body(1, 2))
        async with world:
            run_id = await world.trigger("w")
            await world.until(lambda: len(world.engine.sup.waiters))
        for order in ((2,), (2, 1)):
            world.redeploy(body(*order))
            async with world:
                world.actor(run_id).activate()
                await world.until(lambda: world.records(rec.CallAdopted))
                done = await check_every_run(world)
        assert done.runs[run_id].steps == {"s#1": 2, "s#2": 1}


def test_both_readers_find_the_same_lsn_after_every_operation() -> None:
    model = DiskModel(cap=8)
    compared = 0
    for op in record_lives(5):
        model.do(op)
        for image in (model.nothing_more(), model.everything()):
            found = recover(image)
            if found.lsn:
                assert replay(dict(image)).lsn == found.lsn
                compared += 1
    assert compared > 400


def test_the_second_reader_reads_every_golden_directory() -> None:
    for expected in GOLDEN.glob("*.expected.json"):
        told = json.loads(expected.read_text())
        done = replay_directory(GOLDEN / expected.name.removesuffix(".expected.json"))
        assert set(done.runs) == set(told)
        for run_id, shown in told.items():
            assert differences(done, run_id, shown) == []


def test_a_difference_is_seen() -> None:
    image = dict(_last_image())
    done = replay(image)
    run_id = next(iter(done.runs))
    run = done.runs[run_id]
    shown: dict[str, Any] = {
        "workflowId": run.workflow,
        "status": run.status,
        "input": run.input,
        "result": run.result,
        "steps": [{"key": k, "status": "completed", "result": r} for k, r in run.steps.items()],
    }
    assert differences(done, run_id, shown) == []
    for name in ("status", "input", "result", "workflowId"):
        assert differences(done, run_id, shown | {name: "other"})
    assert differences(done, run_id, shown | {"steps": [*shown["steps"], _STEP]})


def test_a_frame_that_was_changed_is_not_read() -> None:
    image = dict(_last_image())
    last = max(name for name in image if name.startswith("wal-"))
    whole = replay(image)
    for at in range(512, 640, 8):
        data = bytearray(image[last])
        data[at] ^= 1
        assert replay(image | {last: bytes(data)}).lsn < whole.lsn


_STEP = {"key": "more#1", "status": "completed", "result": 1}


def _last_image() -> tuple[tuple[str, bytes], ...]:
    model = DiskModel()
    for op in record_lives(5):
        model.do(op)
    return model.everything()
