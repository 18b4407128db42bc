"""Two readers of one format, the service's and one written from its description, agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.engine_kit import service
from tests.recovery.order_lives import record_lives
from tests.recovery.power_cuts import DiskModel
from tests.recovery.recovered import recover
from tests.recovery.reference_replayer import differences, replay, replay_directory

if TYPE_CHECKING:
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
