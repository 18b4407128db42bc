"""Golden directories recover to their recorded hash; what a newer version wrote is left alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from stepflow import Stepflow
from stepflow.engine.local import LocalEngine
from stepflow.errors import JournalCorruptError
from stepflow.journal.backup import backup
from stepflow.journal.disk import RealDisk
from stepflow.journal.repair import repair
from stepflow.journal.segment import FORMAT
from stepflow.journal.verify import dump, dump_snapshot, verify
from tests.damage import directories as on
from tests.damage.app import SETTINGS, register
from tests.damage.damage_kit import NOW_MS, tree_of
from tests.golden_state import state_hash

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS: Final = Path(__file__).resolve().parents[2] / "snapshots"
GOLDEN: Final = sorted(path for path in SNAPSHOTS.iterdir() if path.is_dir())

FOR_EVER: Final = replace(SETTINGS, completed_age_s=1e9, failed_age_s=1e9)
"""The directories grow older than every age at which what has ended is purged."""


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source: Path = request.param
    target = tmp_path / source.name
    shutil.copytree(source, target)
    return target


def recorded(golden: Path) -> str:
    return (SNAPSHOTS / f"{golden.name}.sha256").read_text().strip()


def test_a_golden_directory_recovers_to_its_recorded_hash_again_and_again(golden: Path) -> None:
    before = tree_of(golden)
    assert [state_hash(golden) for _ in range(3)] == [recorded(golden)] * 3
    assert tree_of(golden) == before


def test_the_hash_tells_the_smallest_change(golden: Path) -> None:
    last = on.segments(golden)[-1]
    ends = on.ends_of(last)
    on.blank(last, ends.frames[-1][0], ends.frames[-1][1])
    assert state_hash(golden) != recorded(golden)


def test_there_is_a_golden_directory_and_a_hash_for_every_format() -> None:
    formats = {path.name.split("-")[1] for path in GOLDEN}
    assert formats == {str(n) for n in range(1, FORMAT + 1)}
    assert all((SNAPSHOTS / f"{path.name}.sha256").exists() for path in GOLDEN)


def test_its_snapshot_alone_and_its_journal_alone_give_the_same(golden: Path) -> None:
    """Without the snapshot the journal from LSN 1 has all, but for what no snapshot keeps."""
    (snapshot,) = on.snapshots(golden)
    snapshot.unlink()
    if on.segments(golden)[0].name.endswith("00001.log"):
        assert state_hash(golden) == recorded(golden)


def test_a_golden_directory_that_was_served_is_what_it_was(golden: Path) -> None:
    """A start, a snapshot, a stop: what had ended is word for word what it was."""
    ended = ("completed", "failed", "cancelled")

    async def serve() -> dict[str, bytes]:
        flow = register(Stepflow(golden, settings=FOR_EVER))
        async with flow:
            engine = flow.engine
            assert isinstance(engine, LocalEngine)
            assert await engine.snapshot()
            actors = engine.sup.runs.values()
            return {a.id: a.line() for a in actors if a.summary().status in ended}

    first = asyncio.run(serve())
    assert len(first) > 3
    assert asyncio.run(serve()) == first
    assert asyncio.run(serve()) == first


# ---------------------------------------------------------------- an older reader


def raise_format(data: Path) -> None:
    told = json.loads((data / "FORMAT").read_text()) | {"format": 2, "min_reader": 2}
    (data / "FORMAT").write_text(json.dumps(told))


def raise_segment(data: Path) -> None:
    on.set_header(on.segments(data)[-1], format=2, min_reader=2)


def embed(data: Path) -> None:
    async def start() -> None:
        async with register(Stepflow(data, settings=SETTINGS)):
            raise AssertionError("it started")

    asyncio.run(start())


READERS: Final[dict[str, Callable[[Path], object]]] = {
    "embedded": embed,
    "repair": lambda data: repair(RealDisk(data), NOW_MS),
    "backup": lambda data: backup(RealDisk(data), RealDisk(data.parent / "copy")),
    "dump": lambda data: list(dump(RealDisk(data))),
    "dump --snapshot": lambda data: dump_snapshot(RealDisk(data), lambda _lsn, _line: None),
}


@pytest.mark.parametrize("raised", [raise_format, raise_segment])
@pytest.mark.parametrize("reader", READERS)
def test_an_older_reader_refuses_a_newer_format_and_touches_no_byte(
    golden: Path, reader: str, raised: Callable[[Path], None]
) -> None:
    raised(golden)
    (golden / "wal-next.tmp").write_bytes(b"theirs")
    before = tree_of(golden), golden.stat().st_mtime_ns
    with pytest.raises(JournalCorruptError) as caught:
        READERS[reader](golden)
    assert (caught.value.code, caught.value.exit_code) == ("SFW301", 65)
    assert "Start the newer version" in str(caught.value)
    assert (tree_of(golden), golden.stat().st_mtime_ns) == before
    assert not (golden.parent / "copy").exists()


@pytest.mark.parametrize("raised", [raise_format, raise_segment])
def test_verify_of_a_newer_format_says_so_and_touches_no_byte(
    golden: Path, raised: Callable[[Path], None]
) -> None:
    raised(golden)
    before = tree_of(golden)
    report = verify(RealDisk(golden))
    assert (report.ok, report.exit_code) == (False, 65)
    assert report.messages[-1].startswith("SFW301")
    assert tree_of(golden) == before


def test_a_format_that_says_more_and_can_still_be_read_is_read(golden: Path) -> None:
    """A later version that older ones can read raises `format` alone, and may add members."""
    told = json.loads((golden / "FORMAT").read_text()) | {"format": 2, "more": [1]}
    (golden / "FORMAT").write_text(json.dumps(told))
    on.set_header(on.segments(golden)[-1], format=2)
    assert state_hash(golden) == recorded(golden)
