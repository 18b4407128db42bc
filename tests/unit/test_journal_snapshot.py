"""A snapshot is whole or worthless."""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.journal.disk import RealDisk
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.segment import RESERVE
from stepflow.journal.snapshot import (
    BadSnapshotError,
    SnapshotFile,
    read_snapshot,
    snapshot_lsn,
    snapshot_name,
    verify_snapshot,
)
from tests.journal_kit import KIB, write_file

CHUNKS = 6
LINES = st.lists(
    st.tuples(
        st.integers(1, 10**9),
        st.text(max_size=50).map(lambda t: b'"%s"' % t.encode().hex().encode()),
    )
)


def written(disk, lines, base=5):
    file = SnapshotFile(disk, base, 1_700_000_000_000, 7)
    file.write(lines)
    file.seal()
    file.publish()
    return file.name


@given(LINES)
def test_what_was_written_is_read_back(lines):
    disk = MemoryDisk()
    name = written(disk, lines)
    seen = []
    info = read_snapshot(disk, name, lambda lsn, line: seen.append((lsn, line)))
    assert seen == lines
    assert (info.base_lsn, info.lines, info.store_id) == (5, len(lines), 7)
    assert info.end_lsn == max((lsn for lsn, _ in lines), default=0)
    assert info.size == disk.size(name)


@pytest.mark.parametrize("size", [10, 300 * KIB, 3 * 1024 * KIB])
def test_lines_of_any_size_come_back_from_a_real_file(tmp_path, size):
    disk = RealDisk(tmp_path)
    lines = [(n, b'{"d":"%s"}' % (b"x" * size)) for n in range(1, 8)]
    name = written(disk, lines)
    seen = []
    read_snapshot(disk, name, lambda lsn, line: seen.append((lsn, line)))
    assert seen == lines


def test_a_large_snapshot_has_running_checksums():
    disk = MemoryDisk()
    name = written(disk, [(n, b'"%s"' % (b"x" * 60_000)) for n in range(1, 60)])
    assert disk.read(name).count(b'{"k":"sum"') >= 4
    assert verify_snapshot(disk, name).lines == 59


def test_a_name_holds_the_base():
    assert snapshot_lsn(snapshot_name(42)) == 42
    assert snapshot_lsn("snap-42.jsonl") is None
    assert snapshot_lsn(snapshot_name(42) + ".tmp") is None


@pytest.fixture(scope="module")
def subject():
    disk = MemoryDisk()
    dice = random.Random(3)
    lines = [
        (n + 5, b'{"id":"run_%08d","d":"%s"}' % (n, b"s" * dice.randrange(60))) for n in range(24)
    ]
    name = written(disk, lines)
    return disk, name, disk.read(name)


def refuses(disk, name, image):
    disk._names[name].live[:] = image
    try:
        verify_snapshot(disk, name)
    except BadSnapshotError:
        return True
    return False


@pytest.mark.parametrize("number", range(CHUNKS))
def test_a_snapshot_cut_at_any_byte_is_refused(subject, number):
    disk, name, data = subject
    for cut in range(number, len(data), CHUNKS):
        assert refuses(disk, name, data[:cut]), cut
        assert refuses(disk, name, data[:cut] + bytes(len(data) - cut)), cut


@pytest.mark.parametrize("number", range(CHUNKS))
def test_a_snapshot_with_any_bit_flipped_is_refused(subject, number):
    disk, name, data = subject
    image = bytearray(data)
    for bit in range(number, len(data) * 8, CHUNKS):
        image[bit // 8] ^= 1 << bit % 8
        assert refuses(disk, name, image), bit
        image[bit // 8] ^= 1 << bit % 8


def test_lines_doubled_swapped_or_missing_are_refused(subject):
    disk, name, data = subject
    lines = data.splitlines(keepends=True)
    for at in range(len(lines)):
        assert refuses(disk, name, b"".join([*lines[:at], *lines[at + 1 :]]))
        assert refuses(disk, name, b"".join([*lines[: at + 1], *lines[at:]]))
        if at:
            swapped = [*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]]
            assert refuses(disk, name, b"".join(swapped))
    assert refuses(disk, name, data + b"\n")
    assert not refuses(disk, name, data)


def test_a_snapshot_under_another_name_is_refused():
    disk = MemoryDisk()
    name = written(disk, [(5, b"1")])
    write_file(disk, snapshot_name(6), disk.read(name))
    with pytest.raises(BadSnapshotError, match="first line"):
        verify_snapshot(disk, snapshot_name(6))


@pytest.mark.parametrize("head", [b"", b"[]", b"null", b'{"k":"head"}', b"\xff\xfe", b'{"k":1'])
def test_a_first_line_of_any_kind_is_refused_in_words(head):
    disk = MemoryDisk()
    write_file(disk, snapshot_name(5), head + b"\n")
    with pytest.raises(BadSnapshotError):
        verify_snapshot(disk, snapshot_name(5))


def test_a_snapshot_may_use_the_space_that_was_put_aside():
    disk = MemoryDisk(capacity=40 * KIB)
    disk.allocate(RESERVE, 32 * KIB)
    name = written(disk, [(n, b'"%s"' % (b"x" * 1000)) for n in range(1, 21)])
    assert verify_snapshot(disk, name).lines == 20
    assert RESERVE not in disk.listdir()


def test_a_snapshot_without_room_leaves_nothing_behind():
    disk = MemoryDisk(capacity=8 * KIB)
    file = SnapshotFile(disk, 5, 0, 7)
    with pytest.raises(OSError, match="No space") as caught:
        file.write([(n, b'"%s"' % (b"x" * 1000)) for n in range(1, 21)])
    assert caught.value.errno == errno.ENOSPC
    file.abandon()
    assert disk.listdir() == []


def test_a_snapshot_that_is_not_what_was_written_is_noticed_at_once():
    disk = MemoryDisk()
    file = SnapshotFile(disk, 5, 0, 7)
    file.write([(6, b'"row"')] * 100)
    file.seal()
    file.publish()
    whole = disk.read(file.name)
    assert file.read_back() == verify_snapshot(disk, file.name)
    for image in (whole[:-1], whole + b"x", whole[:500] + b"?" + whole[501:], b""):
        write_file(disk, file.name, image)
        with pytest.raises(BadSnapshotError, match="not what was written"):
            file.read_back()
