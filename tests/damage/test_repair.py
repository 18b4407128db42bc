"""`repair` copies before it cuts, may be stopped anywhere, and leaves newer directories alone."""

from __future__ import annotations

import errno
import random
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING

import pytest

from stepflow.errors import (
    DataDirLockedError,
    DiskFailedError,
    JournalCorruptError,
)
from stepflow.journal.lock import LOCK
from stepflow.journal.recovery import Recovery
from stepflow.journal.repair import repair
from stepflow.journal.segment import SegmentHeader, segment_lsn, segment_name
from stepflow.journal.snapshot import snapshot_lsn, snapshot_name
from stepflow.journal.store import FORMAT_FILE, read_store
from stepflow.journal.verify import dump, verify
from tests.damage.damage_kit import (
    NOW_MS,
    Files,
    disk_of,
    every_stop,
    files_of,
    long_journal,
)
from tests.damage.mending import kept, mend_image
from tests.damage.snapshot_text import rows_of, snapshot, with_head
from tests.damage.sweep import ENDS, confused_files, cuts, flips, subject
from tests.journal_kit import flip, recover, write_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.journal.memory import MemoryDisk


def middle_of_the_last_segment(disk: MemoryDisk) -> None:
    flip(disk, segment_name(10), 560)


def middle_of_a_needed_segment(disk: MemoryDisk) -> None:
    flip(disk, segment_name(7), 560)


def header_of_a_needed_segment(disk: MemoryDisk) -> None:
    flip(disk, segment_name(7), 30)


def a_missing_segment(disk: MemoryDisk) -> None:
    disk.unlink(segment_name(7))


def no_snapshot_and_no_beginning(disk: MemoryDisk) -> None:
    flip(disk, snapshot_name(4), 100)
    flip(disk, snapshot_name(7), 100)
    disk.unlink(segment_name(1))


def no_journal_at_all(disk: MemoryDisk) -> None:
    for name in disk.listdir():
        if segment_lsn(name) is not None:
            disk.unlink(name)


def a_missing_segment_behind_a_fuzzy_snapshot(disk: MemoryDisk) -> None:
    """The newest snapshot's lines include records from behind its base."""
    text = disk.read(snapshot_name(7))
    rows = [*rows_of(text), (8, b'"as of lsn 8"'), (7, b'"as of lsn 7"')]
    write_file(disk, snapshot_name(7), snapshot(text.partition(b"\n")[0] + b"\n", rows))
    disk.unlink(segment_name(7))


def a_missing_format(disk: MemoryDisk) -> None:
    disk.unlink(FORMAT_FILE)


def a_damaged_format(disk: MemoryDisk) -> None:
    write_file(disk, FORMAT_FILE, b"{")


def a_lost_end(disk: MemoryDisk) -> None:
    write_file(disk, segment_name(10), disk.read(segment_name(10))[:700])


def a_segment_of_another_store(disk: MemoryDisk) -> None:
    data = disk.read(segment_name(10))
    header = SegmentHeader.decode(data)
    assert header is not None
    foreign = SegmentHeader(99, header.first_lsn, header.chain, header.size)
    write_file(disk, segment_name(10), foreign.encode() + data[512:])


DAMAGES = [
    middle_of_the_last_segment,
    middle_of_a_needed_segment,
    header_of_a_needed_segment,
    a_missing_segment,
    no_snapshot_and_no_beginning,
    no_journal_at_all,
    a_missing_segment_behind_a_fuzzy_snapshot,
    a_missing_format,
    a_damaged_format,
    a_lost_end,
    a_segment_of_another_store,
]
MENDABLE = [damage for damage in DAMAGES if damage is not no_snapshot_and_no_beginning]


def damaged(damage: Callable[[MemoryDisk], None]) -> Files:
    disk = disk_of(files_of(long_journal().disk))
    damage(disk)
    return files_of(disk)


@pytest.mark.parametrize("damage", MENDABLE, ids=lambda d: d.__name__)
def test_a_repaired_directory_starts_with_a_prefix_and_keeps_what_was_cut(
    damage: Callable[[MemoryDisk], None],
) -> None:
    whole = dict(dump(long_journal().disk))
    before = damaged(damage)
    disk = disk_of(before)
    assert not verify(disk).ok
    done = repair(disk, NOW_MS)
    assert done
    assert kept(before, files_of(disk)) == []
    _, seen = recover(disk)
    assert seen.items() <= whole.items()
    report = verify(disk)
    # The restore point before may be incomplete now: that is said, and no start needs it.
    assert report.ok or all(m.startswith(("recovered", "SFW107")) for m in report.messages)
    assert repair(disk, NOW_MS) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_a_repair_stopped_at_any_operation_has_lost_nothing_and_can_go_on(
    damage: Callable[[MemoryDisk], None],
) -> None:
    assert stop_everywhere(damage, random.Random(damage.__name__)) > 10


def stop_everywhere(damage: Callable[[MemoryDisk], None], dice: random.Random) -> int:
    """Stop a repair of the damage at each operation, and repair again; return how often."""
    before = damaged(damage)
    through = disk_of(before)
    with suppress(JournalCorruptError):
        repair(through, NOW_MS)
    expected = outcome(through)
    stops = 0
    for number, kind, disk in every_stop(before, _quietly, lambda: dice.random() < 0.5):
        place = (damage.__name__, number, kind)
        assert kept(before, files_of(disk)) == [], place
        with suppress(JournalCorruptError):
            repair(disk, NOW_MS + number)
        assert kept(before, files_of(disk)) == [], place
        assert outcome(disk) == expected, place
        stops += 1
    return stops


def _quietly(disk: MemoryDisk) -> None:
    try:
        repair(disk, NOW_MS)
    except DiskFailedError as error:
        assert "SFW209" in str(error)
        raise OSError(errno.EIO, "stopped") from error
    except JournalCorruptError:
        return


def outcome(disk: MemoryDisk) -> object:
    lines: list[tuple[int, bytes]] = []
    seen: dict[int, bytes] = {}
    try:
        store = read_store(disk)
        assert store is not None, "it would be taken for a new one"
        found = Recovery(
            disk,
            store,
            NOW_MS,
            lambda lsn, line: lines.append((lsn, line)),
            seen.__setitem__,
            read_only=True,
        ).run()
    except JournalCorruptError as error:
        return error.code
    return found.lsn, lines, seen


@pytest.mark.parametrize(
    ("damage", "lsn", "lines"),
    [
        (no_journal_at_all, 6, [(6, b'"all up to here"')]),
        (a_missing_segment, 6, [(6, b'"all up to here"')]),
        (
            a_missing_segment_behind_a_fuzzy_snapshot,
            8,
            [(6, b'"all up to here"'), (8, b'"as of lsn 8"'), (7, b'"as of lsn 7"')],
        ),
    ],
)
def test_a_whole_snapshot_is_enough_to_start_from_when_its_journal_is_missing(
    damage: Callable[[MemoryDisk], None], lsn: int, lines: list[tuple[int, bytes]]
) -> None:
    disk = disk_of(damaged(damage))
    repair(disk, NOW_MS)
    assert outcome(disk) == (lsn, lines, {})


def test_what_no_repair_can_mend_is_not_touched() -> None:
    before = damaged(no_snapshot_and_no_beginning)
    disk = disk_of(before)
    with pytest.raises(
        JournalCorruptError, match=r"SFW208.*Restore a backup; nothing in"
    ) as caught:
        repair(disk, NOW_MS)
    assert "stepflow repair" not in str(caught.value)
    after = files_of(disk)
    after.pop(LOCK)
    assert after == before


def test_a_start_between_two_halves_of_a_repair_is_refused() -> None:
    """Else the frames before the damage would be served as if nothing stood behind them."""
    before = damaged(middle_of_a_needed_segment)
    refused = started = 0
    for _, _, disk in every_stop(before, _quietly, lambda: True):
        if isinstance(outcome(disk), str):
            refused += 1
            assert not started
        else:
            started += 1
    assert refused > started


@pytest.mark.parametrize("also", [None, *DAMAGES], ids=lambda d: d.__name__ if d else "whole")
@pytest.mark.parametrize("newer", ["format", "segment", "both"])
def test_a_directory_of_a_newer_version_is_not_touched(
    newer: str, also: Callable[[MemoryDisk], None] | None
) -> None:
    disk = disk_of(files_of(long_journal().disk))
    if also is no_journal_at_all:
        newer = "format"
    if newer in {"format", "both"} and also not in {a_missing_format, a_damaged_format}:
        data = disk.read(FORMAT_FILE).replace(b'"min_reader": 1', b'"min_reader": 2')
        assert data != disk.read(FORMAT_FILE)
        write_file(disk, FORMAT_FILE, data)
    if newer in {"segment", "both"} or also in {a_missing_format, a_damaged_format}:
        name = segment_name(4)
        data = disk.read(name)
        header = SegmentHeader.decode(data)
        assert header is not None
        later = SegmentHeader(header.store_id, 4, header.chain, header.size, 2, 2)
        write_file(disk, name, later.encode() + data[512:])
    if also is not None:
        also(disk)
    write_file(disk, "wal-next.tmp", b"theirs")
    before = files_of(disk)
    with pytest.raises(JournalCorruptError) as caught:
        repair(disk, NOW_MS)
    assert caught.value.code == "SFW301"
    assert files_of(disk) == before


def test_a_whole_snapshot_of_a_newer_version_is_not_touched() -> None:
    made = long_journal()
    disk = made.disk
    name = snapshot_name(7)
    text = disk.read(name)
    write_file(disk, name, with_head(text, b'"min_reader":1', b'"min_reader":2'))
    before = files_of(disk)
    for _ in range(2):
        with pytest.raises(JournalCorruptError) as caught:
            repair(disk, NOW_MS)
        assert caught.value.code == "SFW301"
    after = files_of(disk)
    after.pop(LOCK)
    assert after == before


@pytest.mark.parametrize("end", ENDS)
def test_whatever_a_sweep_refuses_can_be_repaired_without_a_byte_lost(end: str) -> None:
    made = subject(end)
    sources = (flips(made, every_bit=False), cuts(made, step=3), confused_files(made))
    for image in islice(chain(*sources), 0, None, 41):
        mend_image(made, image)


def test_a_directory_that_a_server_has_is_not_repaired() -> None:
    disk = disk_of(damaged(middle_of_the_last_segment))
    lock = disk.try_lock(LOCK)
    assert lock is not None
    before = files_of(disk)
    with pytest.raises(DataDirLockedError, match="SFW501"):
        repair(disk, NOW_MS)
    assert files_of(disk) == before


def test_a_whole_directory_is_left_as_it_is() -> None:
    disk = long_journal().disk
    before = files_of(disk)
    assert repair(disk, NOW_MS) == []
    after = files_of(disk)
    after.pop(LOCK)
    assert after == before


def test_nothing_that_leaves_the_directory_takes_the_name_of_what_lies_in_broken() -> None:
    disk = disk_of(damaged(header_of_a_needed_segment))
    write_file(disk, f"broken/{segment_name(7)}.{NOW_MS}", b"of an earlier repair")
    disk.sync_dir("broken")
    before = files_of(disk)
    repair(disk, NOW_MS)
    assert kept(before, files_of(disk)) == []
    names = [n for n in disk.listdir() if segment_lsn(n) or snapshot_lsn(n)]
    assert {segment_name(7), segment_name(10)} & set(names) == {segment_name(7)}
    assert disk.read(segment_name(7)) != before[segment_name(7)]
