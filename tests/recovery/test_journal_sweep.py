"""A segment of 24 frames cut at every byte, with every bit flipped, with every sector spoiled:
never a wrong prefix, never a silent loss.

`make torture` runs the same through whole openings; here the plain recovery is called.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import pytest

from stepflow.errors import JournalCorruptError
from stepflow.journal.memory import MemoryDisk
from tests.journal_kit import Handmade, handmade, recover, write_file

CHUNKS = 8
FRAMES = 24
SECTOR = 512


@dataclass
class Subject:
    """The segment, what it says, and one disk to try its variants on."""

    made: Handmade
    name: str
    data: bytes
    used: int
    records: dict[int, bytes]

    def prefix(self, end: int) -> int:
        """Last LSN of the frames that lie wholly before `end`."""
        return max((lsn for _, stop, lsn in self.made.frames if stop <= end), default=0)

    def try_out(self, image: bytes) -> tuple[int | None, list[str]]:
        """Recover `image`; return the last LSN, None when refused, and the SFW codes.

        Whatever is recovered must be a prefix of what was written.
        """
        disk = self.made.disk
        assert isinstance(disk, MemoryDisk)
        inode = disk._names[self.name]
        inode.live[:] = image
        try:
            found, seen = recover(disk, read_only=True)
        except JournalCorruptError as error:
            return None, [error.code]
        assert list(seen) == list(range(1, found.lsn + 1))
        assert all(self.records[lsn] == data for lsn, data in seen.items())
        return found.lsn, [message[:6] for message in found.messages if message[:3] == "SFW"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    dice = random.Random(24)
    made = handmade(size=8 * 1024)
    for number in range(FRAMES):
        made.add(*("d" * dice.randrange(180) for _ in range(1 + number % 3)))
    name, used, _ = made.frames[-1]
    assert len({segment for segment, _, _ in made.frames}) == 1
    _, seen = recover(made.disk)
    assert len(seen) == made.next_lsn - 1
    return Subject(made, name, made.disk.read(name), used, seen)


def chunk(total: int, number: int) -> range:
    return range(number, total, CHUNKS)


@pytest.mark.parametrize("number", range(CHUNKS))
def test_a_segment_whose_tail_was_never_written_gives_its_whole_frames(subject, number):
    """Cut at every byte, zeros behind: what a power cut leaves of a preallocated file."""
    for cut in chunk(len(subject.data) + 1, number):
        if cut < SECTOR:
            continue  # the header is on disk before the file has a name: see the flips
        image = subject.data[:cut] + bytes(len(subject.data) - cut)
        lsn, codes = subject.try_out(image)
        ends = {SECTOR, *(end for _, end, _ in subject.made.frames)}
        torn = cut < subject.used and cut not in ends
        assert (lsn, codes) == (subject.prefix(cut), ["SFW101"] if torn else []), cut


@pytest.mark.parametrize("number", range(CHUNKS))
def test_a_segment_that_lost_its_end_is_refused(subject, number):
    """Cut at every byte, bare: no power cut shortens a file that was synced with its length."""
    for cut in chunk(len(subject.data), number):
        lsn, codes = subject.try_out(subject.data[:cut])
        if cut > subject.used:
            assert lsn == subject.made.next_lsn - 1, cut
            assert codes == []
        else:
            assert lsn is None, cut
            assert codes == [{True: "SFW205", False: "SFW210"}[cut < SECTOR]], cut


@pytest.mark.parametrize("number", range(CHUNKS))
def test_no_flipped_bit_of_what_was_written_is_believed_or_forgiven(subject, number):
    image = bytearray(subject.data)
    allowed = {"SFW202", "SFW203", "SFW205"}
    for bit in chunk(subject.used * 8, number):
        image[bit // 8] ^= 1 << bit % 8
        lsn, codes = subject.try_out(bytes(image))
        image[bit // 8] ^= 1 << bit % 8
        assert lsn is None, bit
        assert set(codes) <= allowed, bit


@pytest.mark.parametrize("number", range(CHUNKS))
def test_a_flipped_bit_of_unused_space_loses_nothing(subject, number):
    image = bytearray(subject.data)
    last = subject.made.next_lsn - 1
    for bit in chunk((len(image) - subject.used) * 8, number):
        at = subject.used + bit // 8
        image[at] ^= 1 << bit % 8
        lsn, codes = subject.try_out(bytes(image))
        image[at] ^= 1 << bit % 8
        # Either refused, or started with everything, and said.
        assert (lsn, codes) in [(last, ["SFW101"]), (None, ["SFW202"])], at


def test_a_spoiled_sector_is_never_believed(subject):
    dice = random.Random(5)
    data = subject.data
    last_sectors = range(subject.made.frames[-2][1] // SECTOR, len(data) // SECTOR)
    for sector in range(subject.used // SECTOR + 1):
        at = sector * SECTOR
        others = [n for n in range(len(data) // SECTOR) if n != sector]
        for spoiled in (
            bytes(SECTOR),
            b"\xff" * SECTOR,
            dice.randbytes(SECTOR),
            *(data[n * SECTOR : (n + 1) * SECTOR] for n in others),
        ):
            image = data[:at] + spoiled + data[at + SECTOR :]
            if image == data:
                continue
            lsn, codes = subject.try_out(image)
            if lsn is None:
                continue
            # A zero sector of the last frame cannot be told from a torn write: said, not silent.
            assert sector in last_sectors, sector
            assert codes == ["SFW101"]
            assert lsn >= subject.prefix(at)


def test_doubled_swapped_and_missing_frames_are_refused(subject):
    ends = [SECTOR, *(end for _, end, _ in subject.made.frames)]
    data = subject.data
    frames = [data[a:b] for a, b in pairwise(ends)]

    def image(order: list[bytes]) -> bytes:
        return (data[:SECTOR] + b"".join(order)).ljust(len(data), b"\0")[: len(data)]

    for at in range(FRAMES - 1):
        swapped = [*frames[:at], frames[at + 1], frames[at], *frames[at + 2 :]]
        doubled = [*frames[: at + 1], *frames[at : FRAMES - 1]]
        missing = [*frames[:at], *frames[at + 1 :]]
        for order in (swapped, doubled, missing):
            lsn, codes = subject.try_out(image(order))
            assert lsn is None
            assert set(codes) <= {"SFW202", "SFW203"}


@pytest.mark.parametrize("number", range(4))
def test_random_bytes_in_place_of_a_segment_end_in_a_known_code(subject, number):
    dice = random.Random(number)
    for _ in range(300):
        image = bytearray(subject.data)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(image))
            image[at : at + dice.randrange(1, 900)] = dice.randbytes(dice.randrange(900))
        subject.try_out(bytes(image))


def test_the_sweep_leaves_the_segment_as_it_was(subject):
    write_file(subject.made.disk, subject.name, subject.data)
    found, seen = recover(subject.made.disk)
    assert found.lsn == subject.made.next_lsn - 1
    assert seen == subject.records
