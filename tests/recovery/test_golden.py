"""Every on-disk format that was ever released is still recovered, and its runs go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from golden_flow import register

from stepflow import Stepflow
from stepflow.config import Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.disk import RealDisk
from stepflow.journal.verify import verify
from stepflow.model.records import decode_record

SNAPSHOTS = Path(__file__).parent.parent.parent / "snapshots"
FORMATS = sorted(path for path in SNAPSHOTS.iterdir() if path.is_dir())


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    source: Path = request.param
    target = tmp_path / "data"
    shutil.copytree(source, target)
    expected = json.loads((source.parent / f"{source.name}.expected.json").read_text())
    return target, expected


def flow_of(data: Path) -> Stepflow:
    # The directory grows older than every age at which something of it may be forgotten.
    ages = {"idempotency_ttl_s": 1e9, "completed_age_s": 1e9, "failed_age_s": 1e9}
    flow = Stepflow(data, settings=Settings(**ages))
    register(flow)
    return flow


def shown(view: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(view))
    return found


@pytest.mark.asyncio
async def test_a_golden_directory_is_recovered_as_it_was(
    golden: tuple[Path, dict[str, Any]],
) -> None:
    data, expected = golden
    async with flow_of(data) as flow:
        rows = (await flow.list_runs(limit=100)).runs
        assert {row.id for row in rows} == set(expected)
        for run_id, was in expected.items():
            now = shown(await flow.get_run(run_id))
            # A later version may show more of a run, and nothing else.
            assert {name: now.get(name) for name in was} == was


@pytest.mark.asyncio
async def test_what_waited_in_a_golden_directory_goes_on(
    golden: tuple[Path, dict[str, Any]],
) -> None:
    data, _ = golden
    async with flow_of(data) as flow:
        assert isinstance(flow.engine, LocalEngine)
        assert await flow.notify("wake-up", "good morning") == 1
        view = await flow.engine.wait("run_waiting00000")
        assert json.loads(bytes(view.result)) == ["good morning", {"n": 1}]  # type: ignore[arg-type]
        same = await flow.trigger("waits", idempotency_key="golden")
        assert same.id == "run_waiting00000"


@pytest.mark.asyncio
async def test_a_golden_directory_is_whole(golden: tuple[Path, dict[str, Any]]) -> None:
    data, _ = golden
    kept = {path.name: path.read_bytes() for path in data.iterdir()}
    report = verify(RealDisk(data))
    assert report.ok
    assert {path.name: path.read_bytes() for path in data.iterdir()} == kept


def test_every_type_of_record_is_in_the_golden_directories() -> None:
    seen: set[str] = set()
    for source in FORMATS:
        for path in source.iterdir():
            data = path.read_bytes()
            for part in data.split(b'{"t":"')[1:]:
                seen.add(part.partition(b'"')[0].decode())
    unused = {"call.adopted", "version"}
    from stepflow.model.records import Record

    # Younger than the directories.
    unused |= {"schedule.set", "schedule.fired", "schedule.paused", "audit.bulk"}
    unused |= {"run.paused", "run.resumed", "run.retried", "run.restarted"}
    tags = {str(cls.__struct_config__.tag) for cls in Record.__subclasses__()}
    assert tags - unused <= seen
    assert decode_record(b'{"t":"from.the.future","lsn":1,"r":"","rs":0,"ts":0}') is None
