"""What no disk does by itself, and what a writer with a defect, or a race, would leave."""

from __future__ import annotations

import errno
from zlib import crc32

import pytest

from stepflow.errors import DiskFailedError, JournalCorruptError
from stepflow.journal.frame import HEADER_BYTES, Verdict, encode_frame, judge
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.repair import repair
from stepflow.journal.segment import segment_lsn, segment_name
from stepflow.journal.snapshot import snapshot_name
from stepflow.journal.store import FORMAT_FILE, refuse_newer_files
from tests.damage.damage_kit import NOW_MS, disk_of, files_of, long_journal
from tests.damage.snapshot_text import with_head
from tests.journal_kit import flip, handmade, recover, write_file


def lying_frame() -> bytes:
    """A frame whose checksums are right and whose records' lengths do not add up."""
    frame, _ = encode_frame([b'{"a":1}', b'{"b":2}'], 1, 0)
    image = bytearray(frame)
    image[HEADER_BYTES] = 5
    crc = crc32(image[HEADER_BYTES:], crc32(image[:28], 0))
    image[28:32] = crc.to_bytes(4, "little")
    return bytes(image)


def test_a_frame_whose_lengths_do_not_add_up_is_refused_and_can_be_cut() -> None:
    made = handmade()
    made.add("x")
    name = segment_name(1)
    data = made.disk.read(name)
    write_file(made.disk, name, data[:512] + lying_frame() + bytes(len(data) - 576))
    with pytest.raises(JournalCorruptError, match=r"SFW202 .*lengths that do not add up"):
        recover(made.disk)
    assert len(repair(made.disk, NOW_MS)) == 1
    assert recover(made.disk)[0].lsn == 0


def test_a_file_that_ends_inside_a_header_is_a_cut() -> None:
    frame, _ = encode_frame([b"{}"], 1, 0)
    assert judge(frame[: HEADER_BYTES - 1], 0).verdict is Verdict.CUT


def test_an_error_at_the_copy_of_a_torn_tail_ends_the_start() -> None:
    made = handmade()
    for _ in range(2):
        made.add("d" * 600)
    begin, (name, end, _) = made.frames[0][1], made.frames[1]
    data = made.disk.read(name)
    write_file(made.disk, name, data[: begin + 64].ljust(len(data), b"\0"))
    assert end > begin + 64

    def before(operation: str, name: str) -> None:
        if operation == "open" and name.startswith("broken/"):
            raise OSError(errno.EIO, "Input/output error")

    made.disk.before = before  # type: ignore[attr-defined]
    with pytest.raises(DiskFailedError, match="SFW209"):
        recover(made.disk)


def test_a_repair_that_gets_nowhere_ends_with_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = disk_of(files_of(long_journal().disk))
    flip(disk, segment_name(10), 560)

    def nothing(_repair: object, _error: JournalCorruptError) -> None:
        """Mend nothing."""

    monkeypatch.setattr("stepflow.journal.repair._Repair._mend", nothing)
    with pytest.raises(JournalCorruptError, match="SFW203"):
        repair(disk, NOW_MS)


def test_an_empty_directory_needs_no_repair() -> None:
    assert repair(MemoryDisk(), NOW_MS) == []


def test_a_segment_that_compaction_takes_away_is_no_newer_version() -> None:
    disk = disk_of(files_of(long_journal().disk))
    gone: list[str] = []

    def before(operation: str, name: str) -> None:
        if operation == "open" and segment_lsn(name) is not None and not gone:
            gone.append(name)
            raise FileNotFoundError(errno.ENOENT, "gone", name)

    disk.before = before
    refuse_newer_files(disk)
    assert gone


def test_the_format_is_not_written_anew_from_a_newer_versions_snapshot() -> None:
    """No segment says which version it is of; the only whole snapshot does."""
    disk = disk_of(files_of(long_journal().disk))
    for name in disk.listdir():
        if segment_lsn(name) is not None:
            disk.unlink(name)
    disk.unlink(snapshot_name(4))
    disk.unlink(FORMAT_FILE)
    newer = with_head(disk.read(snapshot_name(7)), b'"min_reader":1', b'"min_reader":2')
    write_file(disk, snapshot_name(7), newer)
    before = files_of(disk)
    with pytest.raises(JournalCorruptError, match="SFW301"):
        repair(disk, NOW_MS)
    after = files_of(disk)
    after.pop("LOCK")
    assert after == before


def test_a_bad_snapshot_says_nothing_of_the_store() -> None:
    disk = disk_of(files_of(long_journal().disk))
    for name in disk.listdir():
        if segment_lsn(name) is not None:
            disk.unlink(name)
    flip(disk, snapshot_name(4), 100)
    disk.unlink(FORMAT_FILE)
    assert repair(disk, NOW_MS)
    assert recover(disk)[0].lsn == 6
    for name in (FORMAT_FILE, snapshot_name(7), segment_name(7)):
        disk.unlink(name)
    with pytest.raises(JournalCorruptError, match="SFW211"):
        repair(disk, NOW_MS)
