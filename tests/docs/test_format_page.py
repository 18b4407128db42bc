"""`docs/format.md` is what the code does: its example bytes, its tables, the reader it shows."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec.structs import fields

from stepflow.journal.disk import RealDisk
from stepflow.journal.frame import encode_frame, frame_records
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.reader import SegmentReader
from stepflow.journal.segment import SegmentHeader
from stepflow.journal.snapshot import SnapshotFile, read_snapshot, verify_snapshot
from stepflow.journal.store import Store, read_store, write_store
from stepflow.journal.system import system_record
from stepflow.journal.verify import dump
from stepflow.model.records import Record
from tests.damage import directories as on
from tests.damage.damage_kit import long_journal

if TYPE_CHECKING:
    from types import ModuleType

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "format.md").read_text()
STORE: Final = 0x0123456789ABCDEF


def example(name: str) -> str:
    """Return the block that stands under `<!-- bytes: name -->`."""
    _, found, rest = PAGE.partition(f"<!-- bytes: {name} -->\n\n")
    assert found, name
    lines: list[str] = []
    for line in rest.splitlines():
        if not line.startswith("    "):
            break
        lines.append(line.strip())
    return "\n".join(lines)


def test_the_segment_header_is_the_codes() -> None:
    header = SegmentHeader(STORE, 1, 0, 65_536).encode()
    shown, _, end = example("segment header").partition("\n…\n")
    begin = bytes.fromhex(shown.replace("\n", " "))
    assert begin + bytes(508 - len(begin)) + bytes.fromhex(end) == header


def test_the_frames_are_the_codes() -> None:
    data = bytes.fromhex(example("two frames").replace("\n", " "))
    first, crc = encode_frame([b'{"a":1}', b'{"b":2}'], 1, 0)
    second, _ = encode_frame([b'{"c":3}'], 3, crc)
    assert data == first + second
    header = SegmentHeader(STORE, 1, 0, 65_536)
    segment = header.encode() + data
    read = [frame_records(segment, frame) for frame in SegmentReader(segment, header)]
    assert read == [[b'{"a":1}', b'{"b":2}'], [b'{"c":3}']]


def test_the_snapshot_is_the_codes() -> None:
    disk = MemoryDisk()
    file = SnapshotFile(disk, 42, 0, STORE)
    rows = [
        (41, b'{"k":"run","id":"run_aaaaaaaa","lsn":41,"records":[]}'),
        (57, b'{"k":"gone","id":"run_bbbbbbbb","lsn":57}'),
    ]
    file.write(rows)
    file.seal()
    file.publish()
    assert disk.read(file.name).decode() == example("snapshot") + "\n"


def test_the_format_file_is_the_codes() -> None:
    disk = MemoryDisk()
    write_store(disk, Store(STORE, 1, 1, "0.1.0"))
    assert f"    {disk.read('FORMAT').decode()}" in PAGE
    assert read_store(disk) == Store(STORE, 1, 1, "0.1.0")


def test_the_record_of_a_clean_stop_is_as_long_as_said() -> None:
    assert "filled with spaces to 512 bytes" in PAGE
    assert len(system_record("close", 1, 0)) == 512
    assert system_record("close", 1, 0).rstrip(b" ").endswith(b"}")


def test_every_file_that_a_server_makes_is_named(tmp_path: Path) -> None:
    made = on.make(tmp_path)
    for path in (*made.stopped.iterdir(), *made.killed.iterdir()):
        shown = re.sub(r"\d{20}", "", path.name)
        name = {"wal-.log": "wal-<first LSN>.log", "snap-.jsonl": "snap-<base LSN>.jsonl"}
        assert f"`{name.get(shown, shown)}`" in PAGE, path.name


def test_every_type_of_record_and_its_members_are_named() -> None:
    told = {
        kind: (re.findall(r"`(\w+)`(?!\?)", members), re.findall(r"`(\w+)`\?", members))
        for kind, members in re.findall(r"^\| `([a-z.-]+)` \| ([^|]*) \| ", PAGE, re.MULTILINE)
    }
    common = {field.name for field in fields(Record)}
    for cls in Record.__subclasses__():
        own = [field for field in fields(cls) if field.name not in common]
        needed = [field.encode_name for field in own if field.required]
        others = [field.encode_name for field in own if not field.required]
        assert told[str(cls.__struct_config__.tag)] == (needed, others), cls


def test_every_verdict_of_the_table_is_a_code_of_the_operations_page() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    codes = set(re.findall(r"SFW\d{3}", PAGE))
    assert len(codes) > 7
    assert [code for code in sorted(codes) if f"`{code}`" not in operations] == []


# ---------------------------------------------------------------- the reader of the page


@pytest.fixture
def stranger(tmp_path: Path) -> ModuleType:
    """The reader, as the page shows it."""
    (code,) = re.findall(r"```python\n(# stranger\.py\n.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "stranger.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("stranger", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_alike(stranger: Any, data: Path) -> int:
    """Compare what the stranger and the code read; return the number of records."""
    disk = RealDisk(data)
    records = list(dump(disk))
    assert list(stranger.journal(data)) == records
    for path in on.snapshots(data):
        base, rows = stranger.snapshot(path)
        info = verify_snapshot(disk, path.name)
        lines: list[tuple[int, bytes]] = []
        read_snapshot(disk, path.name, lambda lsn, value, to=lines: to.append((lsn, value)))
        assert base == info.base_lsn
        assert [(row["lsn"], row["v"]) for row in rows] == [
            (lsn, stranger.json.loads(value)) for lsn, value in lines
        ]
    return len(records)


@pytest.mark.parametrize("name", ["format-1", "format-1-control", "format-1-keys"])
def test_the_reader_of_the_page_reads_the_golden_directories(
    stranger: ModuleType, name: str
) -> None:
    assert read_alike(stranger, ROOT / "snapshots" / name) > 40


def test_the_reader_of_the_page_reads_what_a_kill_and_a_stop_leave(
    stranger: ModuleType, tmp_path: Path
) -> None:
    made = on.make(tmp_path / "made")
    for data in (made.young, made.killed, made.stopped):
        assert read_alike(stranger, data) > 20


def test_the_reader_of_the_page_reads_no_further_than_the_follower_says(
    stranger: ModuleType, tmp_path: Path
) -> None:
    """An earlier start dropped a torn frame; the rest of its segment was never cut."""
    disk = long_journal().disk
    for name in disk.listdir():
        (tmp_path / name).write_bytes(disk.read(name))
    first = on.segments(tmp_path)[0]
    ends = on.ends_of(first)
    stale, _ = encode_frame([b'{"t":"x"}'], ends.lsn + 1, ends.chain)
    first.write_bytes(first.read_bytes()[: ends.end] + stale)
    assert read_alike(stranger, tmp_path) == 12
    shutil.rmtree(tmp_path)
