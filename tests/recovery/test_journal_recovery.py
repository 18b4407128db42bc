"""Every row of recovery's table: what is found, what is done, its SFW code, its exit code."""

from __future__ import annotations

import errno
import os

import pytest

from stepflow.errors import DiskFailedError, JournalCorruptError
from stepflow.journal.disk import RealDisk
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import BROKEN, Recovery
from stepflow.journal.segment import SegmentHeader, segment_lsn, segment_name
from stepflow.journal.snapshot import SnapshotFile, snapshot_lsn, snapshot_name
from stepflow.journal.store import FORMAT_FILE, Store, create_store, read_store, write_store
from stepflow.journal.system import system_record
from tests.journal_kit import KIB, flip, handmade, opened, recover, write_file

pytestmark = pytest.mark.asyncio


def codes(messages):
    return [message[:6] for message in messages if message.startswith("SFW")]


def refused(disk, code, exit_code=65):
    before = {name: disk.read(name) for name in disk.listdir()}
    with pytest.raises(JournalCorruptError) as caught:
        recover(disk)
    assert caught.value.code == code
    assert caught.value.exit_code == exit_code
    assert {name: disk.read(name) for name in disk.listdir()} == before
    return str(caught.value)


def snapshot_of(made, base, lines):
    file = SnapshotFile(made.disk, base, 0, made.store.store_id)
    file.write(lines)
    file.seal()
    file.publish()
    return file.name


def cut_tail(disk, name, start):
    """Make everything from `start` on unwritten."""
    data = disk.read(name)
    write_file(disk, name, data[:start].ljust(len(data), b"\0"))


def clean_stop(made):
    made.add_records([system_record("close", made.next_lsn, 0)])


def rows(made, count=3):
    for number in range(count):
        made.add(f"row {number}")
    return made


# ---------------------------------------------------------------- it starts


async def test_an_empty_store_starts_clean():
    made = handmade()
    found, seen = recover(made.disk)
    assert (found.lsn, found.clean, seen) == (0, True, {})
    assert found.messages == ["recovered clean lsn=0"]


async def test_frames_then_zeros_after_a_clean_stop_start_clean():
    made = rows(handmade())
    clean_stop(made)
    found, seen = recover(made.disk)
    assert (found.lsn, found.clean, list(seen)) == (4, True, [1, 2, 3])
    assert found.messages == ["recovered clean lsn=4"]


async def test_frames_then_zeros_without_a_stop_start_after_a_crash():
    found, seen = recover(rows(handmade()).disk)
    assert (found.lsn, found.clean, list(seen)) == (3, False, [1, 2, 3])
    assert found.messages == ["recovered after crash lsn=3"]


async def test_a_torn_tail_is_copied_aside_cut_and_said():
    made = rows(handmade())
    name, end, _ = made.frames[-2]
    whole = made.frames[-1][1]
    cut_tail(made.disk, name, whole - 40)
    torn = made.disk.read(name).rstrip(b"\0")
    found, seen = recover(made.disk)
    assert list(seen) == [1, 2]
    assert codes(found.messages) == ["SFW101"]
    assert (
        f"dropped {len(torn) - end} unacknowledged bytes at {name}@{end} after lsn 2"
        in (found.messages[1])
    )
    (copy,) = made.disk.listdir(BROKEN)
    assert made.disk.read(f"{BROKEN}/{copy}") == torn

    again = await opened(made.disk)
    assert made.disk.size(name) == end
    assert again.report.lsn == 2
    assert again.journal.next_lsn == 4
    await again.journal.close()
    last = await opened(made.disk)
    assert codes(last.report.messages) == []
    assert list(last.records) == [1, 2]
    await last.journal.close()


async def test_a_torn_tail_without_room_for_a_copy_is_left_as_it_is():
    made = rows(handmade())
    name, end, _ = made.frames[-2]
    cut_tail(made.disk, name, made.frames[-1][1] - 40)
    made.disk.capacity = 8 * KIB + 200
    found, _ = recover(made.disk)
    assert codes(found.messages) == ["SFW101", "SFW101"]
    assert found.trims == []
    made.disk.capacity = None
    after = await opened(made.disk)
    await after.journal.close()
    assert made.disk.size(name) == end


async def test_a_segment_whose_first_frame_is_torn_is_replaced_by_the_next():
    made = handmade()
    made.add("lost")
    name, end, _ = made.frames[0]
    cut_tail(made.disk, name, end - 33)
    session = await opened(made.disk)
    assert codes(session.report.messages) == ["SFW101"]
    assert session.journal.next_lsn == 2
    await session.journal.close()
    assert [n for n in made.disk.listdir() if segment_lsn(n)] == [name]
    assert len(made.disk.listdir(BROKEN)) == 1
    last = await opened(made.disk)
    assert last.report.clean
    await last.journal.close()


async def test_what_an_earlier_recovery_dropped_is_not_read_again():
    """The power may fail after the new segment exists and before the old one is cut."""
    made = rows(handmade())
    name, _, _ = made.frames[-1]
    torn_at = made.frames[-1][1] - 40
    whole = made.disk.read(name)
    cut_tail(made.disk, name, torn_at)
    torn = made.disk.read(name)
    session = await opened(made.disk)
    await session.journal.close()
    for leftover in (torn, whole):
        write_file(made.disk, name, leftover)
        found, seen = recover(made.disk.process_kill())
        assert list(seen) == [1, 2]
        assert found.lsn == 4
        assert codes(found.messages) == []


async def test_half_made_files_are_removed():
    made = rows(handmade())
    for name in ("wal-next.tmp", snapshot_name(9) + ".tmp", "FORMAT.tmp"):
        write_file(made.disk, name, b"half")
    found, _ = recover(made.disk)
    assert codes(found.messages) == ["SFW102"] * 3
    assert not [name for name in made.disk.listdir() if name.endswith(".tmp")]


async def test_files_that_others_may_read_are_closed_to_them(tmp_path):
    disk = RealDisk(tmp_path)
    made = rows(handmade(disk))
    name = made.frames[0][0]
    (tmp_path / name).chmod(0o644)
    found, _ = recover(disk)
    assert codes(found.messages) == ["SFW105"]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


async def test_directories_and_files_are_made_for_their_owner_alone(tmp_path):
    os.umask(0o022)
    disk = RealDisk(tmp_path / "a" / "data")
    session = await opened(disk, threads=True)
    await session.journal.close()
    assert (tmp_path / "a" / "data").stat().st_mode & 0o777 == 0o700
    for name in disk.listdir():
        assert (tmp_path / "a" / "data" / name).stat().st_mode & 0o777 == 0o600, name


# ---------------------------------------------------------------- snapshots


def with_two_snapshots():
    made = rows(handmade())
    base = made.rotate()
    snapshot_of(made, base, [(3, b'"first"')])
    rows(made)
    base = made.rotate()
    snapshot_of(made, base, [(6, b'"second"')])
    rows(made)
    return made


async def test_the_newest_whole_snapshot_and_the_records_from_its_base_are_handed_over():
    made = with_two_snapshots()
    lines = []
    seen = {}
    found = Recovery(
        made.disk, made.store, 0, lambda lsn, line: lines.append((lsn, line)), seen.__setitem__
    ).run()
    assert lines == [(6, b'"second"')]
    assert list(seen) == [7, 8, 9]
    assert (found.base_lsn, found.lsn, found.lines) == (7, 9, 1)


async def test_a_bad_snapshot_gives_way_to_the_one_before_and_lies_aside():
    made = with_two_snapshots()
    flip(made.disk, snapshot_name(7), 100)
    found, seen = recover(made.disk)
    assert list(seen) == [4, 5, 6, 7, 8, 9]
    assert codes(found.messages) == ["SFW103", "SFW103"]
    session = await opened(made.disk)
    assert [line for _, line in session.lines] == [b'"first"']
    assert [n for n in made.disk.listdir() if snapshot_lsn(n)] == [snapshot_name(4)]
    assert made.disk.listdir(BROKEN)[0].startswith(snapshot_name(7))
    await session.journal.close()


async def test_without_a_whole_snapshot_the_journal_from_lsn_1_will_do():
    made = with_two_snapshots()
    flip(made.disk, snapshot_name(7), 100)
    flip(made.disk, snapshot_name(4), 100)
    found, seen = recover(made.disk)
    assert list(seen) == list(range(1, 10))
    assert codes(found.messages) == ["SFW103", "SFW103", "SFW104"]


async def test_without_a_whole_snapshot_and_without_lsn_1_the_start_is_refused():
    made = with_two_snapshots()
    flip(made.disk, snapshot_name(7), 100)
    flip(made.disk, snapshot_name(4), 100)
    made.disk.unlink(segment_name(1))
    assert "begins with lsn 4" in refused(made.disk, "SFW208")
    for name in made.disk.listdir():
        if segment_lsn(name):
            made.disk.unlink(name)
    assert "is not there" in refused(made.disk, "SFW208")


async def test_a_snapshot_without_its_segment_is_refused():
    made = with_two_snapshots()
    made.disk.unlink(segment_name(7))
    assert "lsn 7" in refused(made.disk, "SFW206")


async def test_damage_that_the_snapshot_makes_needless_is_said_and_passed():
    made = with_two_snapshots()
    flip(made.disk, segment_name(1), 600)
    assert codes(recover(made.disk)[0].messages) == []
    flip(made.disk, segment_name(1), 3)
    found, seen = recover(made.disk)
    assert codes(found.messages) == ["SFW107"]
    assert list(seen) == [7, 8, 9]


async def test_a_journal_that_ends_before_a_line_of_the_snapshot_is_refused():
    made = rows(handmade())
    base = made.rotate()
    rows(made)
    snapshot_of(made, base, [(3, b"1"), (6, b"2"), (4, b"3")])
    assert recover(made.disk)[0].lsn == 6
    cut_tail(made.disk, segment_name(4), made.frames[-2][1])
    text = refused(made.disk, "SFW201")
    assert "ends at lsn 5" in text
    assert "includes lsn 6" in text


# ---------------------------------------------------------------- it is refused


async def test_a_torn_frame_behind_a_clean_stop_is_refused():
    made = rows(handmade())
    clean_stop(made)
    made.add("cannot be")
    name, end, _ = made.frames[-1]
    cut_tail(made.disk, name, end - 40)
    assert "closed at lsn 4" in refused(made.disk, "SFW201")


async def test_a_segment_that_lost_its_end_is_refused():
    made = rows(handmade())
    name, end, _ = made.frames[-1]
    data = made.disk.read(name)
    for cut in (end, end - 1, end - 100, 512):
        write_file(made.disk, name, data[:cut])
        assert f"has {cut}: it was cut" in refused(made.disk, "SFW210")


async def test_a_segment_that_lost_only_zeros_or_ends_with_a_clean_stop_starts():
    made = rows(handmade())
    clean_stop(made)
    name, end, _ = made.frames[-1]
    data = made.disk.read(name)
    for cut in (end, end + 1, len(data) - 1):
        write_file(made.disk, name, data[:cut])
        assert recover(made.disk)[0].lsn == 4


async def test_a_segment_filled_to_its_last_byte_starts():
    made = handmade(size=4096)
    while not made.frames or made.frames[-1][1] < 4096:
        left = 4096 - (made.frames[-1][1] if made.frames else 512)
        # 32 header, 4 length, 30 JSON around the text, 1 pad at least
        made.add("x" * (min(left, 1024) - 32 - 4 - len('{"t": "x", "lsn": 1, "d": ""}') - 1))
    assert made.frames[-1][1] == made.disk.size(segment_name(1)) == 4096
    found, seen = recover(made.disk)
    assert list(seen) == list(range(1, made.next_lsn))
    assert codes(found.messages) == []


async def test_rot_in_the_last_frame_is_refused():
    made = rows(handmade())
    name, end, _ = made.frames[-1]
    flip(made.disk, name, end - 40)
    assert f"{name}@{made.frames[-2][1]} after lsn 2" in refused(made.disk, "SFW202")


async def test_a_bad_frame_with_good_data_behind_it_is_refused():
    made = rows(handmade())
    name, end, _ = made.frames[0]
    flip(made.disk, name, end - 40)
    text = refused(made.disk, "SFW203")
    assert f"{name}@512 after lsn 0" in text
    assert "(lsn 2)" in text


async def test_damage_in_an_older_segment_is_refused():
    made = rows(handmade())
    made.rotate()
    rows(made)
    flip(made.disk, segment_name(1), made.frames[1][1] + 40)
    assert "after lsn 2; good data goes on with lsn 4" in refused(made.disk, "SFW204")


@pytest.mark.parametrize("image", ["flipped", "empty", "short", "zeros"])
async def test_a_damaged_segment_header_is_refused(image):
    made = rows(handmade())
    name = segment_name(1)
    data = made.disk.read(name)
    damaged = {
        "flipped": bytes([data[0] ^ 1]) + data[1:],
        "empty": b"",
        "short": data[:511],
        "zeros": bytes(len(data)),
    }[image]
    write_file(made.disk, name, damaged)
    refused(made.disk, "SFW205")


async def test_a_missing_segment_is_refused_and_named():
    made = handmade()
    for _ in range(3):
        rows(made)
        made.rotate()
    rows(made)
    made.disk.unlink(segment_name(4))
    text = refused(made.disk, "SFW206")
    assert "lsn 4 to 6 is missing" in text


async def test_the_lost_end_of_an_older_segment_is_refused():
    made = rows(handmade())
    made.rotate()
    rows(made)
    write_file(made.disk, segment_name(1), made.disk.read(segment_name(1))[: made.frames[1][1]])
    assert "lsn 3 to 3 is missing" in refused(made.disk, "SFW206")


async def test_a_segment_that_does_not_follow_is_refused():
    made, other = rows(handmade()), rows(handmade())
    made.rotate()
    rows(made)
    other.add("differs")
    other.add("y")
    base = other.rotate()
    rows(other)
    assert base == 6
    # Same store, same LSNs, another history.
    data = other.disk.read(segment_name(6))
    header = SegmentHeader.decode(data)
    assert header is not None
    made.disk.unlink(segment_name(4))
    moved = SegmentHeader(7, 4, header.chain, header.size)
    write_file(made.disk, segment_name(4), moved.encode() + data[512:])
    refused(made.disk, "SFW206")


async def test_a_renamed_segment_is_refused():
    made = rows(handmade())
    made.rotate()
    rows(made)
    made.disk.rename(segment_name(4), segment_name(5))
    assert "it was renamed" in refused(made.disk, "SFW206")


async def test_a_file_of_another_store_is_refused():
    made, other = rows(handmade()), rows(handmade(store_id=8))
    write_file(made.disk, segment_name(1), other.disk.read(segment_name(1)))
    assert "belongs to store 0000000000000008" in refused(made.disk, "SFW207")


async def test_a_snapshot_of_another_store_is_refused():
    made, other = rows(handmade()), rows(handmade(store_id=8))
    base = made.rotate()
    other.rotate()
    snapshot_of(other, base, [(3, b"1")])
    write_file(made.disk, snapshot_name(base), other.disk.read(snapshot_name(base)))
    refused(made.disk, "SFW207")


async def test_a_directory_of_a_newer_version_is_refused_untouched():
    made = rows(handmade())
    write_store(made.disk, Store(7, 2, 2, "9.1"))
    write_file(made.disk, "wal-next.tmp", b"theirs")
    text = refused(made.disk, "SFW301")
    assert "version 9.1" in text
    assert "format 2" in text


async def test_a_segment_or_snapshot_of_a_newer_version_is_refused():
    made = rows(handmade())
    name = segment_name(1)
    data = made.disk.read(name)
    write_file(made.disk, name, SegmentHeader(7, 1, 0, len(data), 2, 2).encode() + data[512:])
    refused(made.disk, "SFW301")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"store_id": 5}', b"\xff", None])
async def test_a_damaged_or_missing_format_file_beside_data_is_refused(text):
    made = rows(handmade())
    if text is None:
        made.disk.unlink(FORMAT_FILE)
    else:
        write_file(made.disk, FORMAT_FILE, text)
    with pytest.raises(JournalCorruptError) as caught:
        read_store(made.disk)
    assert (caught.value.code, caught.value.exit_code) == ("SFW211", 65)


async def test_a_new_directory_gets_a_store_of_its_own():
    disk = MemoryDisk()
    assert read_store(disk) is None
    store = create_store(disk, os.urandom, "0.1.0")
    assert read_store(disk.power_cut()) == store
    assert len(store.hex_id) == 16


@pytest.mark.parametrize("operation", ["read", "pread", "fsync", "sync_dir", "listdir"])
async def test_an_error_of_the_disk_is_never_taken_for_the_end(operation):
    made = with_two_snapshots()
    store = made.store

    def fail(done, _name):
        if done == operation:
            raise OSError(errno.EIO, "Input/output error")

    made.disk.before = fail
    with pytest.raises(DiskFailedError, match="SFW209") as caught:
        Recovery(made.disk, store, 0, lambda *_: None, lambda *_: None).run()
    assert caught.value.exit_code == 74


async def test_an_error_names_the_next_move():
    made = rows(handmade())
    flip(made.disk, segment_name(1), made.frames[-1][1] - 40)
    text = refused(made.disk, "SFW202")
    assert "stepflow verify" in text
    assert "stepflow repair" in text
    assert "Restore a backup" in text


async def test_progress_is_told():
    made = with_two_snapshots()
    told = []
    Recovery(made.disk, made.store, 0, lambda *_: None, lambda *_: None, progress=told.append).run()
    assert {progress.phase for progress in told} == {"snapshot", "journal"}
    assert told[-1].bytes_done == told[-1].bytes_total
    assert told[-1].records == 3
