"""The parts around the journal: disks, room, compaction, verify, dump, repair, backup."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.clock import SystemClock
from stepflow.errors import (
    ConfigurationError,
    DataDirLockedError,
    DiskFailedError,
    JournalCorruptError,
)
from stepflow.journal.backup import backup
from stepflow.journal.compaction import no_longer_needed
from stepflow.journal.disk import RealDisk, is_full, replace_file, write_all
from stepflow.journal.lock import LOCK
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import BROKEN
from stepflow.journal.repair import repair
from stepflow.journal.room import Room
from stepflow.journal.segment import (
    RESERVE,
    SegmentHeader,
    SegmentStock,
    segment_lsn,
    segment_name,
)
from stepflow.journal.snapshot import SnapshotFile, snapshot_lsn, snapshot_name
from stepflow.journal.store import FORMAT_FILE
from stepflow.journal.system import is_system, system_record
from stepflow.journal.verify import dump, dump_snapshot, verify
from stepflow.journal.writer import Batch, JournalWriter
from tests.journal_kit import KIB, StillClock, flip, handmade, opened, recover, write_file


@pytest.fixture(params=["memory", "real"])
def disk(request, tmp_path):
    return MemoryDisk() if request.param == "memory" else RealDisk(tmp_path)


# ---------------------------------------------------------------- disks


def test_both_disks_do_the_same(disk):
    disk.make_root()
    file = disk.open("a", create=True)
    write_all(file, b"hello", 3)
    file.fdatasync()
    file.fsync()
    assert file.pread(10, 0) == b"\0\0\0hello"
    assert file.pread(10, 8) == b""
    file.truncate(4)
    file.truncate(6)
    file.close()
    disk.sync("a")
    disk.forget("a")
    assert disk.read("a") == b"\0\0\0h\0\0"
    assert disk.size("a") == 6
    disk.mkdir("sub")
    disk.mkdir("sub")
    disk.rename("a", "sub/a")
    disk.sync_dir("sub")
    assert disk.listdir("sub") == ["a"]
    assert disk.is_folder("sub")
    assert not disk.is_folder("sub/a")
    assert disk.listdir("nowhere") == []
    disk.open("sub/a", create=True).close()
    assert disk.read("sub/a") == b""
    disk.unlink("sub/a")
    for missing in (disk.unlink, disk.size, disk.read, disk.open, disk.sync):
        with pytest.raises(FileNotFoundError):
            missing("sub/a")
    disk.allocate("space", 10_000)
    assert disk.size("space") == 10_000
    assert disk.free_bytes() > 0


def test_both_disks_lock_once(disk):
    lock = disk.try_lock(LOCK)
    assert lock is not None
    assert disk.try_lock(LOCK) is None
    lock.describe(b"longer text")
    lock.describe(b"mine")
    assert disk.read(LOCK) == b"mine"
    lock.release()
    lock.release()
    again = disk.try_lock(LOCK)
    assert again is not None
    again.release()


def test_a_file_is_replaced_all_or_nothing():
    disk = MemoryDisk()
    replace_file(disk, "f", b"old")
    assert disk.power_cut().read("f") == b"old"
    images = []
    disk.before = lambda *_: images.append((disk.power_cut(), disk.power_cut(lambda: True)))
    replace_file(disk, "f", b"new, and longer")
    for image in (image for pair in images for image in pair):
        assert image.read("f") in {b"old", b"new, and longer"}
    assert disk.power_cut().read("f") == b"new, and longer"


def test_short_writes_are_gone_on_with_and_a_write_of_nothing_is_an_error():
    written = bytearray(10)

    class Short:
        def pwrite(self, data, offset):
            written[offset] = data[0]
            return 1

    class Stuck:
        def pwrite(self, data, offset):
            return 0

    write_all(Short(), b"0123456789", 0)
    assert bytes(written) == b"0123456789"
    with pytest.raises(OSError, match="wrote nothing"):
        write_all(Stuck(), b"x", 0)


def test_full_is_told_from_broken():
    assert all(is_full(OSError(code, "")) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert not any(is_full(OSError(code, "")) for code in (errno.EIO, errno.EROFS, errno.EBADF))


def test_a_memory_disk_has_an_end_and_counts_what_is_put_aside():
    disk = MemoryDisk(capacity=100)
    file = disk.open("a", create=True)
    file.pwrite(bytes(60), 0)
    with pytest.raises(OSError, match="No space"):
        file.pwrite(bytes(41), 60)
    file.pwrite(bytes(60), 0)
    with pytest.raises(OSError, match="No space"):
        disk.allocate("r", 41)
    disk.allocate("r", 40)
    assert disk.free_bytes() == 0
    disk.unlink("r")
    assert disk.free_bytes() == 40


def test_a_power_cut_keeps_what_was_synced_and_chosen_sectors():
    disk = MemoryDisk()
    file = disk.open("a", create=True)
    file.pwrite(b"a" * 1024, 0)
    file.fsync()
    disk.sync_dir()
    file.pwrite(b"b" * 1024, 256)
    choices = iter([False, True, False])
    cut = disk.power_cut(lambda: next(choices))
    assert cut.read("a") == b"a" * 512 + b"b" * 512
    assert disk.power_cut().read("a") == b"a" * 1024
    assert disk.power_cut(lambda: True).read("a") == b"a" * 256 + b"b" * 1024
    file.truncate(10)
    assert disk.power_cut().read("a") == b"a" * 1024
    assert disk.power_cut(lambda: True).read("a") == b"a" * 10


def test_a_power_cut_takes_names_that_were_not_synced():
    disk = MemoryDisk()
    file = disk.open("a", create=True)
    file.pwrite(b"x", 0)
    file.fsync()
    assert disk.power_cut().listdir() == []
    disk.sync_dir()
    disk.rename("a", "b")
    assert disk.power_cut().listdir() == ["a"]
    assert disk.power_cut(lambda: True).listdir() == ["b"]
    disk.unlink("b")
    assert disk.process_kill().listdir() == []
    assert disk.process_kill().power_cut().listdir() == ["a"]


def test_after_a_kill_the_dead_process_writes_nowhere():
    disk = MemoryDisk()
    file = disk.open("a", create=True)
    file.pwrite(b"seen", 0)
    after = disk.process_kill()
    file.pwrite(b"late", 0)
    assert after.read("a") == b"seen"


# ---------------------------------------------------------------- segments, writer


def test_a_segment_header_is_read_back_and_every_bit_of_it_counts():
    header = SegmentHeader(2**64 - 1, 42, 0xFFFFFFFF, 65536)
    data = header.encode()
    assert len(data) == 512
    assert SegmentHeader.decode(data) == header
    for bit in range(512 * 8):
        image = bytearray(data)
        image[bit // 8] ^= 1 << bit % 8
        assert SegmentHeader.decode(bytes(image)) is None


@given(st.integers(1, 10**19))
def test_a_segments_name_holds_its_lsn_and_sorts_by_it(lsn):
    assert segment_lsn(segment_name(lsn)) == lsn
    assert segment_name(lsn) < segment_name(lsn + 1)


@pytest.mark.parametrize("name", ["wal-1.log", "wal-next.tmp", "snap-x", segment_name(1) + ".tmp"])
def test_other_names_are_no_segments(name):
    assert segment_lsn(name) is None


def test_a_prepared_segment_that_is_too_small_is_made_anew():
    disk = MemoryDisk()
    stock = SegmentStock(disk)
    stock.prepare(4096)
    stock.prepare(8192)
    assert stock.ready_bytes == 4096
    segment = stock.name_next(SegmentHeader(1, 1, 0, 10_000))
    assert segment.size == disk.size(segment.name) == 12_288
    assert stock.ready_bytes == 0
    stock.discard()


def test_a_large_segment_is_made_with_many_small_syncs():
    disk = MemoryDisk()
    syncs = []
    disk.after = lambda operation, _name: syncs.append(operation) if "sync" in operation else None
    SegmentStock(disk).prepare(20 * 1024 * KIB)
    assert syncs == ["fdatasync", "fdatasync", "fsync"]
    assert disk.read("wal-next.tmp") == bytes(20 * 1024 * KIB)


def test_the_reserve_is_given_up_for_a_segment_and_a_failed_one_leaves_nothing():
    disk = MemoryDisk(capacity=20 * KIB)
    disk.allocate(RESERVE, 16 * KIB)
    stock = SegmentStock(disk)
    stock.prepare(16 * KIB)
    assert RESERVE not in disk.listdir()
    stock.discard()
    with pytest.raises(OSError, match="No space"):
        stock.prepare(24 * KIB)
    assert disk.listdir() == []


def test_a_writer_refuses_a_batch_out_of_turn_and_is_then_over():
    made = handmade()
    made.add("one")
    with pytest.raises(DiskFailedError, match="lsn 7"):
        made.writer.commit(Batch(7, 1, 2, [[b"{}"]]))
    with pytest.raises(DiskFailedError):
        made.writer.commit(Batch(2, 1, 2, [[b"{}"]]))
    with pytest.raises(DiskFailedError):
        made.writer.rotate()
    made.writer.close()


def test_a_segment_is_cut_to_what_it_holds_when_the_next_begins():
    made = handmade()
    made.add("x")
    made.rotate()
    assert made.disk.size(segment_name(1)) == made.frames[0][1]
    assert recover(made.disk)[0].lsn == 1


def test_a_real_directory_written_by_the_plain_writer_recovers(tmp_path):
    made = handmade(RealDisk(tmp_path))
    for number in range(40):
        made.add("x" * 300 * (number % 3))
    found, seen = recover(made.disk)
    assert found.lsn == len(seen) == 40
    assert len({name for name, _, _ in made.frames}) > 1


def test_system_records_are_known():
    record = system_record("open", 5, 17, version="1.0")
    assert record == b'{"t":"sys.open","lsn":5,"ts":17,"version":"1.0"}'
    assert is_system(record)
    assert not is_system(b'{"t":"RunStarted"}')


def test_a_writer_starts_where_it_is_told():
    disk = MemoryDisk()
    writer = JournalWriter(
        SegmentStock(disk),
        StillClock(),
        store_id=1,
        next_lsn=100,
        chain=5,
        first_size=4096,
        max_size=8192,
    )
    assert writer.rotate().base_lsn == 100
    assert writer.commit(Batch(100, 2, 4, [[b"{}"], [b"{}"]])).durable_lsn == 101
    header = SegmentHeader.decode(disk.read(segment_name(100)))
    assert header is not None
    assert (header.chain, header.first_lsn) == (5, 100)


# ---------------------------------------------------------------- room, compaction


def test_room_counts_what_is_queued_and_keeps_the_last():
    room = Room(keep=1000, free_min=0, left=3000)
    assert room.fits(1500, 0, reserve=False)
    assert not room.fits(1500, 500, reserve=False)
    assert room.fits(1500, 500, reserve=True)
    assert not room.fits(2800, 0, reserve=True)
    room.ready = 10_000
    assert room.fits(2800, 0, reserve=False)


def test_room_on_the_disk_counts_beyond_its_minimum():
    room = Room(keep=0, free_min=5000)
    room.look(4000)
    assert not room.fits(1, 0, reserve=True)
    room.look(6000)
    assert room.fits(500, 0, reserve=True)
    room.stuck = True
    assert not room.fits(500, 0, reserve=True)


def test_room_that_came_back_is_told_once_and_for_the_smallest_that_was_refused():
    room = Room(keep=0, free_min=0)
    assert not room.came_back(0)
    room.refuse(5000)
    room.refuse(1000)
    room.refuse(9000)
    assert room.read_only
    assert not room.came_back(0)
    room.left = 2000
    assert room.came_back(0)
    assert not room.came_back(0)
    assert not room.read_only


def names_of(segments, snapshots):
    return [*map(segment_name, segments), *map(snapshot_name, snapshots)]


@pytest.mark.parametrize(
    ("segments", "snapshots", "dropped_segments", "dropped_snapshots"),
    [
        ([1, 50], [], [], []),
        ([1, 50, 80], [50], [], []),
        ([1, 50, 80, 90], [50, 80], [1], []),
        ([50, 70, 80, 90, 95], [50, 80, 90], [50, 70], [50]),
        ([80, 90], [80, 90], [], []),
        ([90], [80, 90], [], []),
    ],
)
def test_only_what_no_restore_point_needs_is_dropped(
    segments, snapshots, dropped_segments, dropped_snapshots
):
    names = [*names_of(segments, snapshots), "FORMAT", "keys.json", "wal-next.tmp"]
    assert sorted(no_longer_needed(names)) == sorted(names_of(dropped_segments, dropped_snapshots))


# ---------------------------------------------------------------- verify, dump


def history(disk=None):
    """Three segments, two snapshots."""
    made = handmade(disk)
    for _ in range(2):
        made.add("a", "b")
        made.add("c")
        base = made.rotate()
        file = SnapshotFile(made.disk, base, 0, made.store.store_id)
        file.write([(base - 1, b'{"base":%d}' % base)])
        file.seal()
        file.publish()
    made.add("last")
    return made


def image_of(disk):
    return {name: disk.read(name) for name in disk.listdir()}


def test_verify_reads_everything_and_touches_nothing():
    made = history()
    write_file(made.disk, "wal-next.tmp", b"x")
    before = image_of(made.disk)
    report = verify(made.disk)
    assert (report.ok, report.exit_code) == (True, 0)
    assert (report.lsn, report.segments, report.snapshots) == (7, 3, 2)
    assert image_of(made.disk) == before


def test_verify_of_an_empty_directory_is_well():
    assert verify(MemoryDisk()).ok


@pytest.mark.parametrize(
    ("name", "offset", "code", "starts"),
    [
        (segment_name(1), 600, "SFW107", True),
        (segment_name(1), 3, "SFW107", True),
        (snapshot_name(4), 90, "SFW103", True),
        (snapshot_name(7), 90, "SFW103", True),
        (segment_name(7), 560, "SFW202", False),
        (FORMAT_FILE, 0, "SFW211", False),
    ],
)
def test_verify_finds_what_a_start_would_not_read_too(name, offset, code, starts):
    made = history()
    flip(made.disk, name, offset)
    report = verify(made.disk)
    assert (report.ok, report.exit_code) == (False, 65)
    assert any(message.startswith(code) for message in report.messages)
    if starts:
        assert recover(made.disk)[0].lsn == 7


def test_verify_of_a_disk_that_cannot_be_read_says_so():
    made = history()

    def fail(operation, name):
        if operation == "read" and name in {FORMAT_FILE, segment_name(7)}:
            raise OSError(errno.EIO, "injected")

    made.disk.before = fail
    report = verify(made.disk)
    assert (report.ok, report.exit_code) == (False, 74)


@pytest.mark.asyncio
async def test_verify_and_dump_of_a_running_journal():
    disk = MemoryDisk()
    session = await opened(disk)
    await session.journal.durable(session.append("live"))
    assert verify(disk).ok
    assert [lsn for lsn, _ in dump(disk)] == [1, 2]
    await session.journal.close()


def test_dump_gives_every_record_in_order():
    made = history()
    assert [lsn for lsn, _ in dump(made.disk)] == list(range(1, 8))
    assert [lsn for lsn, _ in dump(made.disk, 5)] == [5, 6, 7]
    lines = []
    assert dump_snapshot(made.disk, lambda *line: lines.append(line)) == snapshot_name(7)
    assert lines == [(6, b'{"base":7}')]
    flip(made.disk, snapshot_name(7), 90)
    assert dump_snapshot(made.disk, lambda *_: None) == snapshot_name(4)
    flip(made.disk, snapshot_name(4), 90)
    assert dump_snapshot(made.disk, lambda *_: None) is None


def test_dump_ends_where_the_journal_is_damaged():
    made = history()
    flip(made.disk, segment_name(4), made.frames[2][1] - 40)
    got = []
    with pytest.raises(JournalCorruptError) as caught:
        got.extend(lsn for lsn, _ in dump(made.disk))
    assert caught.value.code == "SFW204"
    flip(made.disk, segment_name(4), 1)
    with pytest.raises(JournalCorruptError) as caught:
        list(dump(made.disk))
    assert caught.value.code == "SFW205"


# ---------------------------------------------------------------- repair


def repaired(made):
    done = repair(made.disk, 99)
    report = verify(made.disk)
    assert report.ok, report.messages
    return done, report


def test_repair_of_a_whole_directory_does_nothing():
    made = history()
    before = image_of(made.disk)
    assert repair(made.disk, 99) == []
    assert {n: d for n, d in image_of(made.disk).items() if n != LOCK} == before


def test_repair_cuts_damage_at_the_end_and_keeps_a_copy():
    made = history()
    flip(made.disk, segment_name(7), 560)
    damaged = made.disk.read(segment_name(7))
    done, report = repaired(made)
    assert report.lsn == 6
    assert len(done) == 1
    (copy,) = made.disk.listdir(BROKEN)
    assert made.disk.read(f"{BROKEN}/{copy}") == damaged


def test_repair_cuts_damage_in_the_middle_and_moves_what_follows_aside():
    made = handmade()
    for _ in range(3):
        made.add("a")
        made.add("b")
        made.rotate()
    made.add("c")
    flip(made.disk, segment_name(3), made.frames[3][1] - 40)
    done, report = repaired(made)
    assert report.lsn == 3
    assert [n for n in made.disk.listdir() if segment_lsn(n)] == [segment_name(1), segment_name(3)]
    assert len(done) == 3
    assert list(recover(made.disk)[1]) == [1, 2, 3]


def test_repair_moves_a_snapshot_aside_that_knows_more_than_the_journal():
    made = history()
    file = SnapshotFile(made.disk, 7, 0, 7)
    file.write([(7, b"1"), (9, b"2")])
    file.seal()
    file.publish()
    _, report = repaired(made)
    assert report.lsn == 7
    assert [n for n in made.disk.listdir() if snapshot_lsn(n)] == [snapshot_name(4)]


def test_repair_begins_the_journal_anew_behind_a_snapshot_whose_segment_is_gone():
    made = history()
    flip(made.disk, segment_name(7), 1)
    _, report = repaired(made)
    assert report.lsn == 6
    snapshots = [n for n in made.disk.listdir() if snapshot_lsn(n)]
    assert snapshots == [snapshot_name(4), snapshot_name(7)]
    assert recover(made.disk)[1] == {}


@pytest.mark.parametrize("cut", [10, 600, 900])
def test_repair_of_a_segment_that_lost_its_end(cut):
    made = handmade()
    for _ in range(10):
        made.add("row")
    name = segment_name(1)
    write_file(made.disk, name, made.disk.read(name)[:cut])
    _, report = repaired(made)
    assert report.lsn == max((lsn for _, end, lsn in made.frames if end <= cut), default=0)


@pytest.mark.parametrize("gone", [True, False])
def test_repair_writes_the_format_file_from_the_headers(gone):
    made = history()
    flip(made.disk, segment_name(1), 1)
    if gone:
        made.disk.unlink(FORMAT_FILE)
    else:
        write_file(made.disk, FORMAT_FILE, b"rot")
    repair(made.disk, 99)
    assert recover(made.disk)[0].lsn == 7


def test_repair_gives_up_when_nothing_is_left_to_go_by():
    made = history()
    flip(made.disk, snapshot_name(4), 90)
    flip(made.disk, snapshot_name(7), 90)
    made.disk.unlink(segment_name(1))
    with pytest.raises(JournalCorruptError) as caught:
        repair(made.disk, 99)
    assert caught.value.code == "SFW208"
    made.disk.unlink(FORMAT_FILE)
    for name in made.disk.listdir():
        if segment_lsn(name):
            flip(made.disk, name, 1)
    with pytest.raises(JournalCorruptError) as caught:
        repair(made.disk, 99)
    assert caught.value.code == "SFW211"


def test_repair_is_refused_while_a_server_has_the_directory():
    made = history()
    lock = made.disk.try_lock(LOCK)
    assert lock is not None
    lock.describe(b'{"pid": 17, "started": "now"}')
    with pytest.raises(DataDirLockedError) as caught:
        repair(made.disk, 99)
    assert caught.value.pid == 17


@pytest.mark.asyncio
async def test_a_repaired_directory_is_written_on():
    made = history()
    flip(made.disk, segment_name(7), 560)
    assert len(repair(made.disk, 99)) == 1
    session = await opened(made.disk)
    assert session.report.lsn == 6
    await session.journal.durable(session.append())
    await session.journal.close()
    again = await opened(made.disk)
    assert again.report.clean
    await again.journal.close()


# ---------------------------------------------------------------- backup


@pytest.mark.asyncio
async def test_a_backup_of_a_running_journal_starts_as_it_was(tmp_path):
    source, target = RealDisk(tmp_path / "data"), RealDisk(tmp_path / "copy")
    session = await opened(source, threads=True, clock=SystemClock())
    for number in range(50):
        session.append("x" * number * 20)
        if number % 20 == 10:
            base = await session.journal.rotate()
            writer = session.journal.open_snapshot(base, 0)
            await writer.write([(base - 1, b"{}")])
            await writer.finish()
    await session.journal.durable(session.journal.last_lsn)
    (tmp_path / "data" / "keys.json").write_text("{}")
    (tmp_path / "data" / BROKEN).mkdir()
    report = backup(source, target)
    assert report.lsn == session.journal.durable_lsn
    assert LOCK not in target.listdir()
    assert RESERVE not in target.listdir()
    assert "keys.json" in target.listdir()
    assert BROKEN not in target.listdir()
    copy = await opened(target, threads=True, clock=SystemClock())
    assert copy.report.lsn == report.lsn
    assert copy.journal.store_id == session.journal.store_id
    assert len(copy.lines) == 1
    await copy.journal.close()
    await session.journal.close()


def test_a_backup_leaves_out_what_is_being_written():
    made = history()
    name, end, _ = made.frames[-1]
    data = made.disk.read(name)
    write_file(made.disk, name, data[:end] + b"SFB1 half a header".ljust(len(data) - end, b"\0"))
    target = MemoryDisk()
    assert backup(made.disk, target).lsn == 7
    assert target.size(name) == end


def test_a_backup_is_begun_again_when_compaction_takes_a_file_away():
    made = history()
    gone = []

    def before(operation, name, *, always=False):
        if operation == "read" and name == segment_name(1) and (always or not gone):
            gone.append(name)
            raise FileNotFoundError(errno.ENOENT, "gone", name)

    made.disk.before = before
    assert backup(made.disk, MemoryDisk()).lsn == 7
    made.disk.before = lambda operation, name: before(operation, name, always=True)
    with pytest.raises(DiskFailedError, match=r"SFW209.*back up into a new directory"):
        backup(made.disk, MemoryDisk())


def test_a_backup_goes_into_a_new_directory_and_is_verified():
    made = history()
    with pytest.raises(ConfigurationError, match="not empty"):
        backup(made.disk, made.disk)
    flip(made.disk, segment_name(7), 3)
    with pytest.raises(JournalCorruptError) as caught:
        backup(made.disk, MemoryDisk())
    assert caught.value.code == "SFW212"
