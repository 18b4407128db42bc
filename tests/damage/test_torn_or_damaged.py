"""A frame is called torn only where nothing proves that it was on disk once.

The last frames of a segment are spoiled in all sorts of ways; whenever anything written later is
left, the start is refused, because what is broken had been acknowledged.
"""

from __future__ import annotations

import random

import pytest

from stepflow.errors import JournalCorruptError
from stepflow.journal.frame import SECTOR, Verdict, encode_frame, judge
from tests.journal_kit import Handmade, handmade, recover, write_file


def journal(*sizes: int) -> Handmade:
    made = handmade(size=16 * 1024)
    for size in sizes:
        made.add("d" * size)
    return made


def spoil(made: Handmade, *ranges: tuple[int, int]) -> None:
    """Make these ranges of the segment unwritten."""
    name = made.frames[0][0]
    image = bytearray(made.disk.read(name))
    for begin, end in ranges:
        image[begin:end] = bytes(end - begin)
    write_file(made.disk, name, bytes(image))


def refusal(made: Handmade) -> JournalCorruptError:
    with pytest.raises(JournalCorruptError) as caught:
        recover(made.disk)
    return caught.value


def test_damage_over_two_frames_of_which_the_last_lost_its_header_is_no_torn_write() -> None:
    made = journal(40, 1500, 1500)
    (_, first, _), (_, second, _), _ = made.frames
    # A zero sector in the second frame, and the third frame's header gone with its sector.
    hole = -(-(first + 32) // SECTOR) * SECTOR
    header = second - second % SECTOR
    spoil(made, (hole, hole + SECTOR), (second, header + SECTOR))
    error = refusal(made)
    assert error.code == "SFW203"
    assert f"after lsn 1, other data after it from @{second}" in str(error)


def test_one_byte_behind_a_bad_frame_with_a_good_header_proves_that_it_was_on_disk() -> None:
    torn, _ = encode_frame([b'{"d":"%s"}' % (b"y" * 900)], 1, 0)
    data = bytearray(torn[:-400] + bytes(400 + 4 * SECTOR))
    assert judge(bytes(data), 0).verdict is Verdict.TORN
    for at in range(len(torn), len(data)):
        data[at] = 1
        bad = judge(bytes(data), 0)
        assert (bad.verdict, bad.later, bad.later_lsn) == (Verdict.MIDDLE, len(torn), None)
        data[at] = 0


def test_a_header_of_zeros_in_a_sector_that_has_other_bytes_is_no_torn_write() -> None:
    frame, _ = encode_frame([b'{"d":"%s"}' % (b"y" * 900)], 1, 0)
    data = bytes(32) + frame[32:] + bytes(SECTOR)
    assert judge(data, 0).verdict is Verdict.ROT
    assert judge(bytes(SECTOR) + frame[SECTOR:] + bytes(SECTOR), 0).verdict is Verdict.TORN


def test_a_frame_of_another_lsn_in_the_place_of_the_next_is_no_torn_write() -> None:
    made = journal(40, 1500, 1500)
    name = made.frames[0][0]
    image = bytearray(made.disk.read(name))
    (_, first, _), (_, second, _), (_, end, _) = made.frames
    image[first:second] = image[second:end]
    image[second:] = bytes(len(image) - second)
    # The moved frame lacks its end besides.
    image[second - 100 : second] = bytes(100)
    write_file(made.disk, name, bytes(image))
    error = refusal(made)
    assert error.code == "SFW202"
    assert "the frame of lsn 3 lies in its place" in str(error)


@pytest.mark.parametrize("seed", range(40))
def test_two_frames_spoiled_at_once_are_never_both_forgiven(seed: int) -> None:
    """Random sectors of the last two frames are lost; only what is left decides."""
    dice = random.Random(seed)
    made = journal(*(dice.randrange(20, 3000) for _ in range(5)))
    name = made.frames[0][0]
    begin, middle, end = made.frames[2][1], made.frames[3][1], made.frames[4][1]
    data = made.disk.read(name)
    sectors = range(begin // SECTOR, (end - 1) // SECTOR + 1)
    for _ in range(25):
        lost = [s for s in sectors if dice.random() < dice.choice((0.2, 0.5, 0.8))]
        image = bytearray(data)
        for sector in lost:
            start, stop = max(sector * SECTOR, begin), (sector + 1) * SECTOR
            image[start:stop] = bytes(len(image[start:stop]))
        write_file(made.disk, name, bytes(image))
        try:
            found, _ = recover(made.disk, read_only=True)
        except JournalCorruptError:
            continue
        header_left = any(image[begin : begin + 32])
        if found.lsn == 3 and header_left:
            # The fourth frame was dropped: then nothing of the fifth may be left.
            assert not any(image[middle:end]), (seed, lost)
