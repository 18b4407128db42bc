"""A backup is whole or does not start, whatever happens while it is taken."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stepflow import Stepflow
from stepflow.engine.local import LocalEngine
from stepflow.engine.protocol import RunFilter
from stepflow.errors import ConfigurationError, DiskFailedError, JournalCorruptError
from stepflow.journal.backup import backup
from stepflow.journal.disk import RealDisk
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.segment import segment_name
from stepflow.journal.snapshot import snapshot_name
from stepflow.journal.store import FORMAT_FILE
from stepflow.journal.verify import dump, verify
from tests.damage import directories as on
from tests.damage.app import SETTINGS, register
from tests.damage.damage_kit import disk_of, files_of, long_journal, stop_at
from tests.damage.test_table import APP
from tests.faults.processes import ROOT, Served
from tests.journal_kit import handmade, recover, write_file
from tests.served import doomed, end_group

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 120.0


def source_disk(*, with_snapshots: bool = True) -> MemoryDisk:
    disk = disk_of(files_of(long_journal().disk))
    write_file(disk, "keys.json", b"{}")
    write_file(disk, "token.key", b"secret")
    if not with_snapshots:
        for base in (4, 7):
            disk.unlink(snapshot_name(base))
    return disk


def starts_as(disk: MemoryDisk) -> object:
    """Return what a start finds: its records, or the code of its refusal, or nothing at all."""
    if not disk.listdir():
        return "empty"
    try:
        _, seen = recover(disk, read_only=True)
    except JournalCorruptError as error:
        return error.code
    return seen


@pytest.mark.parametrize("which", ["with snapshots", "the journal alone"])
@pytest.mark.parametrize("whose", ["source", "target"])
def test_a_backup_stopped_at_any_operation_is_whole_or_does_not_start(
    whose: str, which: str
) -> None:
    with_snapshots = which == "with snapshots"
    whole = starts_as(source_disk(with_snapshots=with_snapshots))
    dice = random.Random(whose)
    outcomes: list[object] = []
    for number in range(1, 10_000):
        source, target = source_disk(with_snapshots=with_snapshots), MemoryDisk()
        before = files_of(source)
        stop_at(source if whose == "source" else target, number)
        stopped = False
        try:
            backup(source, target)
        except DiskFailedError as error:
            assert "SFW209" in str(error)
            assert "not to be used" in str(error) or target.listdir() == []
            stopped = True
        except JournalCorruptError as error:
            # The copy is whole, and reading it again failed.
            assert "SFW212" in str(error)
            stopped = True
        source.before = target.before = None
        assert files_of(source) == before
        for left in (target.process_kill(), target.power_cut(lambda: dice.random() < 0.5)):
            found = starts_as(left)
            assert found in ("empty", "SFW211", whole), number
            outcomes.append(found)
        if not stopped:
            break
    assert outcomes[-1] == whole
    assert len(outcomes) > 20
    assert "SFW211" in outcomes or whose == "source"


def test_a_backup_of_a_newer_versions_directory_is_refused_and_nothing_is_made() -> None:
    source, target = source_disk(), MemoryDisk()
    data = source.read(FORMAT_FILE).replace(b'"min_reader": 1', b'"min_reader": 2')
    write_file(source, FORMAT_FILE, data)
    with pytest.raises(JournalCorruptError, match="SFW301"):
        backup(source, target)
    assert target.listdir() == []


def test_a_backup_goes_into_a_new_directory_only() -> None:
    target = MemoryDisk()
    write_file(target, "letter.txt", b"mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        backup(source_disk(), target)
    assert files_of(target) == {"letter.txt": b"mine"}


def test_a_backup_of_a_damaged_directory_says_so() -> None:
    source, target = source_disk(), MemoryDisk()
    data = bytearray(source.read(segment_name(7)))
    data[560] ^= 1
    write_file(source, segment_name(7), bytes(data))
    with pytest.raises(JournalCorruptError, match=r"SFW212 the copy is not whole: SFW204"):
        backup(source, target)


def test_a_backup_takes_no_part_of_a_frame_that_is_being_written() -> None:
    made = handmade()
    made.add("whole")
    name, end, _ = made.frames[-1]
    image = made.disk.read(name)
    made.add("half", "half")
    later = made.disk.read(name)
    for cut in range(end, made.frames[-1][1]):
        write_file(made.disk, name, later[:cut] + image[cut:])
        target = MemoryDisk()
        backup(made.disk, target)
        assert list(dict(dump(target))) == [1], cut


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_backups_under_load_have_all_that_was_acknowledged_before_and_serve(
    tmp_path: Path,
) -> None:
    """Triggers, snapshots, rotations and compactions go on while copy after copy is taken."""
    acknowledged: list[str] = []
    ended = asyncio.Event()
    copies: list[tuple[Path, int]] = []
    flow = register(Stepflow(tmp_path / "data", settings=SETTINGS))

    async def load(hand: int) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            run = await flow.trigger("adds", number, run_id=f"run_{hand:04}x{number:07}")
            acknowledged.append(run.id)

    async def snapshots(engine: LocalEngine) -> None:
        while not ended.is_set():
            assert await engine.snapshot()
            await asyncio.sleep(0.01)

    async with flow:
        engine = flow.engine
        assert isinstance(engine, LocalEngine)
        tasks = [asyncio.ensure_future(load(hand)) for hand in range(4)]
        tasks.append(asyncio.ensure_future(snapshots(engine)))
        for number in range(6):
            goal = len(acknowledged) + 30
            while len(acknowledged) < goal:
                await asyncio.sleep(0.01)
            before = len(acknowledged)
            copy = tmp_path / f"copy-{number}"
            report = await asyncio.to_thread(backup, RealDisk(tmp_path / "data"), RealDisk(copy))
            assert report.ok
            copies.append((copy, before))
        ended.set()
        await asyncio.gather(*tasks)
    for copy, before in copies:
        async with register(Stepflow(copy, settings=SETTINGS)) as restored:
            page = await restored.engine.list_runs(RunFilter(), limit=100_000, cursor=None)
            known = {run.id for run in page.runs}
            assert set(acknowledged[:before]) <= known
            for run_id in acknowledged[:before]:
                view = await restored.engine.wait(run_id)
                assert view.status == "completed"
                assert bytes(view.result) == b"%d" % (int(run_id[-7:]) + 2)  # type: ignore[arg-type]
        assert verify(RealDisk(copy)).ok


@pytest.mark.timeout(300)
def test_the_command_copies_a_served_directory_and_the_copy_is_served(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with Served(data, tmp_path, app=APP) as server:
        server.ready()
        runs = [server.trigger("adds", n) for n in range(20)]
        words = ["-m", "stepflow.cli.main", "backup", str(data), str(copy)]
        command = subprocess.Popen(
            doomed([sys.executable, *words]),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = command.communicate(timeout=PATIENCE_S)
            assert command.returncode == 0, said
            assert "ok" in said
        finally:
            end_group(command)
        later = server.trigger("adds", 99)
        with Served(copy, tmp_path, app=APP) as restored:
            restored.ready()
            assert [restored.result(run_id) for run_id in runs] == [n + 2 for n in range(20)]
            assert restored.status(f"/runs/{later}") == 404
        assert on.segments(copy)


def test_who_is_logged_in_is_in_no_backup() -> None:
    source, target = source_disk(), MemoryDisk()
    write_file(source, "sessions.json", b"{}")
    assert backup(source, target).ok
    assert "keys.json" in target.listdir()
    assert "sessions.json" not in target.listdir()
