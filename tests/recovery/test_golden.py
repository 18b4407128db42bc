"""Every on-disk format that was ever released is still recovered, and its runs go on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from stepflow import Stepflow
from stepflow.clock import next_pass
from stepflow.config import Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.disk import RealDisk
from stepflow.journal.verify import verify
from stepflow.model.records import Record, decode_record
from tests import golden_control, golden_flow, golden_keys

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = Path(__file__).parent.parent.parent / "snapshots"
FORMATS = sorted(path for path in SNAPSHOTS.iterdir() if path.is_dir())


REGISTER: dict[str, Callable[[Stepflow], None]] = {
    "format-1": golden_flow.register,
    "format-1-control": golden_control.register,
    "format-1-keys": golden_keys.register,
}
CONTROL = SNAPSHOTS / "format-1-control"

YOUNGER: frozenset[str] = frozenset()
"""Types, and members as `type.member`, that the next directory will have first."""


class Golden(NamedTuple):
    """A copy of a golden directory, and what was recorded of it."""

    data: Path
    register: Callable[[Stepflow], None]
    expected: dict[str, Any]

    def flow(self) -> Stepflow:
        # The directory grows older than every age at which something of it may be forgotten.
        ages = {"idempotency_ttl_s": 1e9, "completed_age_s": 1e9, "failed_age_s": 1e9}
        flow = Stepflow(self.data, settings=Settings(**ages))
        self.register(flow)
        return flow


def copied(source: Path, target: Path) -> Golden:
    shutil.copytree(source, target)
    expected = json.loads((SNAPSHOTS / f"{source.name}.expected.json").read_text())
    return Golden(target, REGISTER[source.name], expected)


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    return copied(request.param, tmp_path / "data")


def shown(view: Any) -> Any:
    return json.loads(msgspec.json.encode(view))


@pytest.mark.asyncio
async def test_a_golden_directory_is_recovered_as_it_was(
    golden: Golden,
) -> None:
    expected = golden.expected
    async with golden.flow() as flow:
        rows = (await flow.list_runs(limit=100)).runs
        assert {row.id for row in rows} == set(expected)
        for run_id, was in expected.items():
            now = shown(await flow.get_run(run_id))
            # A later version may show more of a run, and nothing else.
            assert {name: now.get(name) for name in was} == was


@pytest.mark.asyncio
async def test_what_waited_in_the_first_golden_directory_goes_on(tmp_path: Path) -> None:
    golden = copied(SNAPSHOTS / "format-1", tmp_path / "data")
    async with golden.flow() as flow:
        assert isinstance(flow.engine, LocalEngine)
        assert await flow.notify("wake-up", "good morning") == 1
        view = await flow.engine.wait("run_waiting00000")
        assert json.loads(bytes(view.result)) == ["good morning", {"n": 1}]  # type: ignore[arg-type]
        same = await flow.trigger("waits", idempotency_key="golden")
        assert same.id == "run_waiting00000"


@pytest.mark.asyncio
async def test_a_golden_directory_is_whole(golden: Golden) -> None:
    data = golden.data
    kept = {path.name: path.read_bytes() for path in data.iterdir()}
    report = verify(RealDisk(data))
    assert report.ok
    assert {path.name: path.read_bytes() for path in data.iterdir()} == kept


@pytest.mark.asyncio
async def test_schedules_limits_and_what_operators_did_are_recovered(tmp_path: Path) -> None:
    golden = copied(CONTROL, tmp_path / "data")
    was = json.loads((SNAPSHOTS / "format-1-control.tables.json").read_text())
    async with golden.flow() as flow:
        for now, then in zip(
            shown(await flow.engine.list_schedules()), was["schedules"], strict=True
        ):
            assert {name: now.get(name) for name in then} == then
            assert then["state"] == "paused"
        assert shown((await flow.engine.audit(limit=100)).audit) == was["audit"]
        acts = {entry["action"] for entry in was["audit"]}
        assert acts >= {"pause", "resume", "retry", "fork", "cancel", "purge"}


@pytest.mark.asyncio
async def test_who_made_and_revoked_keys_is_recovered(tmp_path: Path) -> None:
    golden = copied(SNAPSHOTS / "format-1-keys", tmp_path / "data")
    was = json.loads((SNAPSHOTS / "format-1-keys.tables.json").read_text())
    async with golden.flow() as flow:
        audit = shown((await flow.engine.audit(limit=100)).audit)
    assert audit == was["audit"]
    assert [(entry["action"], entry["keyName"], entry["by"]) for entry in audit] == [
        ("key-revoke", "billing", "user:ada"),
        ("key-make", "reports", "key:ops"),
        ("key-make", "billing", "key:ops"),
    ]


@pytest.mark.asyncio
async def test_what_operators_held_in_a_golden_directory_goes_on(tmp_path: Path) -> None:
    golden = copied(CONTROL, tmp_path / "data")
    async with golden.flow() as flow:

        async def result(run_id: str) -> Any:
            view = await flow.engine.wait(run_id)
            assert view.status == "completed", view
            return json.loads(bytes(view.result))  # type: ignore[arg-type]

        # Paused: it takes the event, and goes on when it is resumed.
        assert await flow.notify("chained", "late") == 1
        await flow.resume("run_paused000000")
        assert await result("run_paused000000") == [2, "late", 3]
        # Restarted: with the event that was kept for it before.
        assert await flow.notify("again", "twice") == 1
        assert await result("run_restarts0000") == [2, "twice", {"kept": 1}]
        # Results that a change of the code has moved stay where they were moved to.
        assert await flow.notify("moved", True) == 1
        assert await result("run_moves0000000") == [2, 1, True]
        assert await flow.notify("patience", 1) == 1
        assert await result("run_patient00000") == ["event", 1]
        # The most urgent first, and the one that is paused not before it is resumed.
        await flow.resume("run_urgent000001")
        for urgency in (5, 9, 3, 1):
            engine = flow.engine
            assert isinstance(engine, LocalEngine)
            while not engine.sup.waiters.count(f"next-{urgency}"):
                await next_pass()
            assert await flow.notify(f"next-{urgency}") == 1
            assert await result(f"run_urgent00000{urgency}") == urgency


def test_every_type_and_member_of_records_is_in_the_golden_directories() -> None:
    """A new one needs a new directory: `snapshots/README.md`."""
    seen: set[str] = set()
    decoder = json.JSONDecoder()
    for path in (path for source in FORMATS for path in source.iterdir()):
        text = path.read_bytes().decode("utf-8", "replace")
        for found in re.finditer(r'\{"t":"', text):
            with contextlib.suppress(ValueError):  # a segment's last bytes
                record, _ = decoder.raw_decode(text, found.start())
                seen |= {record["t"], *(f"{record['t']}.{name}" for name in record)}
    known: set[str] = set()
    for cls in Record.__subclasses__():
        tag = str(cls.__struct_config__.tag)
        members = [field.encode_name for field in msgspec.structs.fields(cls)]
        # No type has had a second version yet.
        known |= {tag, *(f"{tag}.{name}" for name in members if name != "v")}
    assert sorted(known - seen - YOUNGER) == []
    assert sorted(YOUNGER & seen) == []


def test_nothing_beside_or_in_a_golden_directory_was_ever_changed() -> None:
    """`SHA256SUMS` has every file, as `sha256sum -c` reads it."""
    lines = [line.split("  ") for line in (SNAPSHOTS / "SHA256SUMS").read_text().splitlines()]
    files = [path for path in SNAPSHOTS.rglob("*") if path.is_file()]
    names = {path.relative_to(SNAPSHOTS).as_posix() for path in files}
    assert {name for _, name in lines} == names - {"README.md", "SHA256SUMS"}
    for sha256, name in lines:
        assert hashlib.sha256((SNAPSHOTS / name).read_bytes()).hexdigest() == sha256, name


def test_no_golden_directory_says_where_it_was_made() -> None:
    for path in (path for path in SNAPSHOTS.rglob("*") if path.is_file()):
        data = path.read_bytes()
        files = set(re.findall(rb'File \\+"([^"\\]+)', data))
        assert all(name.startswith(b"/srv/stepflow/") for name in files), (path, files)


def test_a_record_of_the_future_that_may_be_skipped_is_none() -> None:
    assert decode_record(b'{"t":"from.the.future","lsn":1,"r":"","rs":0,"ts":0}') is None
