"""Every byte of a whole small directory is damaged in turn, and recovery asked what it makes of it.

A `Subject` is a directory in memory with two snapshots and three segments, of which each answer of
recovery can be checked: what it hands over must be what was written, and all of it, unless it said
that it dropped the very last frame. The generators yield damaged images of the directory; `judge`
raises `AssertionError` for a wrong answer and counts the right ones by their code.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import TYPE_CHECKING, Final

from stepflow.errors import DiskFailedError, JournalCorruptError
from stepflow.journal.frame import SECTOR, encode_frame
from stepflow.journal.recovery import Recovery
from stepflow.journal.segment import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    segment_lsn,
    segment_name,
)
from stepflow.journal.snapshot import read_snapshot, snapshot_lsn
from stepflow.journal.store import read_store, refuse_newer_files
from stepflow.journal.system import system_record
from stepflow.journal.verify import dump
from tests.damage.damage_kit import NOW_MS, Files, disk_of, files_of, snapshot_of
from tests.damage.snapshot_text import rows_of, snapshot
from tests.journal_kit import handmade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.journal.disk import Disk
    from stepflow.journal.memory import MemoryDisk

BITS: Final = 8
ENDS: Final = ("crash", "stop")


@dataclass
class Subject:
    """A directory, all that it says, and how often each answer was given."""

    files: Files
    records: dict[int, bytes]
    lines: dict[str, list[tuple[int, bytes]]]
    frames: list[tuple[int, int, int]]
    """Begin, end and last LSN of the last segment's frames."""
    disk: MemoryDisk
    """It, as it was."""
    answers: Counter[str] = field(default_factory=Counter[str])

    @property
    def last(self) -> str:
        """The name of the last segment."""
        return max(name for name in self.files if segment_lsn(name) is not None)

    @property
    def lsn(self) -> int:
        return self.frames[-1][2]


def subject(end: str = "crash", seed: int = 7) -> Subject:
    """Make the directory; `stop` ends it with the record of a clean stop."""
    dice = random.Random(seed)
    made = handmade(size=4096)

    def rows(count: int) -> None:
        for number in range(count):
            made.add(*("d" * dice.randrange(90) for _ in range(1 + number % 3)))

    for _ in range(2):
        rows(3)
        base = made.rotate()
        lines = [(base - n, b'{"row":"%s"}' % (b"s" * dice.randrange(60))) for n in (1, 3, 2)]
        snapshot_of(made, base, lines)
    rows(4)
    made.rotate()
    # The last frame lies in several sectors.
    rows(3)
    made.add("e" * 700, "f" * 500)
    if end == "stop":
        made.add_records([system_record("close", made.next_lsn, NOW_MS)])
    files = files_of(made.disk)
    last = max(name for name in files if segment_lsn(name) is not None)
    begin, frames = SEGMENT_HEADER_BYTES, list[tuple[int, int, int]]()
    for name, stop, lsn in made.frames:
        if name == last:
            frames.append((begin, stop, lsn))
            begin = stop
    found: dict[str, list[tuple[int, bytes]]] = {}
    for name in files:
        if snapshot_lsn(name) is not None:
            found[name] = _lines_of(made.disk, name)
    return Subject(files, dict(dump(made.disk)), found, frames, disk_of(files))


def _lines_of(disk: Disk, name: str) -> list[tuple[int, bytes]]:
    lines: list[tuple[int, bytes]] = []
    read_snapshot(disk, name, lambda lsn, value: lines.append((lsn, value)))
    return lines


@dataclass
class Image:
    """The directory after some damage."""

    what: str
    changes: dict[str, bytes | None]
    floor: int | None = None
    """What is behind this LSN may be dropped, if that is said: it looks like a torn write's."""


def judge(subject: Subject, image: Image) -> str:
    """Recover the image and hold the answer to the rules; return its code, or `whole`."""
    disk = subject.disk.damaged(image.changes)
    lines: list[tuple[int, bytes]] = []
    records: dict[int, bytes] = {}

    def on_record(lsn: int, data: bytes) -> None:
        assert lsn not in records, image.what
        records[lsn] = data

    try:
        refuse_newer_files(disk)
        store = read_store(disk)
        assert store is not None, f"{image.what}: taken for a new directory"
        found = Recovery(
            disk, store, NOW_MS, lambda lsn, v: lines.append((lsn, v)), on_record, read_only=True
        ).run()
    except (JournalCorruptError, DiskFailedError) as error:
        return _count(subject, str(error)[:6])
    said = [message[:6] for message in found.messages if message.startswith("SFW")]
    name = found.snapshots[-1].name if found.snapshots else ""
    assert lines == subject.lines.get(name, []), f"{image.what}: other lines"
    _check_records(subject, image, records, found.base_lsn)
    if found.lsn != subject.lsn:
        _check_loss(subject, image, found.lsn, said)
    return _count(subject, max(said, default="whole"))


def _count(subject: Subject, answer: str) -> str:
    subject.answers[answer] += 1
    return answer


def _check_records(subject: Subject, image: Image, seen: dict[int, bytes], base: int) -> None:
    """What was handed over is what was written, from the base on and without a gap."""
    assert list(seen) == list(range(base, base + len(seen))), f"{image.what}: a gap"
    for lsn, data in seen.items():
        assert data == subject.records[lsn], f"{image.what}: other bytes at lsn {lsn}"


def _check_loss(subject: Subject, image: Image, lsn: int, said: list[str]) -> None:
    """Only what looks like a torn write may be gone, and it must be said."""
    lost = f"{image.what}: lsn {lsn + 1} to {subject.lsn} lost"
    assert image.floor is not None, lost
    assert lsn >= image.floor, lost
    assert "SFW101" in said, f"{image.what}: not said"


# ---------------------------------------------------------------- images


def damaged_names(subject: Subject) -> list[str]:
    """Return the names of the files that hold the journal."""
    return sorted(
        name
        for name in subject.files
        if segment_lsn(name) is not None or snapshot_lsn(name) is not None
    )


def flips(subject: Subject, *, every_bit: bool) -> Iterator[Image]:
    """Flip each bit, or one in each byte, of each file as far as it is used."""
    for name in [*damaged_names(subject), "FORMAT"]:
        data = subject.files[name]
        used = subject.frames[-1][1] if name == subject.last else len(data)
        for at in range(used):
            for bit in range(BITS) if every_bit else [at % BITS]:
                image = bytearray(data)
                image[at] ^= 1 << bit
                yield Image(f"{name}@{at} bit {bit}", {name: bytes(image)})


def cuts(subject: Subject, *, step: int = 1) -> Iterator[Image]:
    """Cut each file at each byte; of the last segment leave zeros behind the cut, too."""
    for name in damaged_names(subject):
        data = subject.files[name]
        for at in range(0, len(data), step):
            yield Image(f"{name} cut at {at}", {name: data[:at]})
    data, (begin, end, _) = subject.files[subject.last], subject.frames[-1]
    floor = subject.frames[-2][2]
    for at in range(begin + 1, end, step):
        image = data[:at].ljust(len(data), b"\0")
        yield Image(f"{subject.last} unwritten from {at}", {subject.last: image}, floor)


def torn_sectors(subject: Subject) -> Iterator[Image]:
    """Leave each subset of the last frame's sectors unwritten, but for none and all."""
    data, (begin, end, _) = subject.files[subject.last], subject.frames[-1]
    sectors = range(begin // SECTOR, (end - 1) // SECTOR + 1)
    floor = subject.frames[-2][2]
    for choice in range(1, (1 << len(sectors)) - 1):
        image = bytearray(data)
        for bit, sector in enumerate(sectors):
            if choice >> bit & 1:
                start, stop = max(begin, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                image[start:stop] = bytes(stop - start)
        yield Image(f"{subject.last} sectors {choice:b}", {subject.last: bytes(image)}, floor)


def spoiled_sectors(subject: Subject, seed: int) -> Iterator[Image]:
    """Put zeros, ones, noise, or each other sector of any file in the place of each sector."""
    dice = random.Random(seed)
    names = damaged_names(subject)
    others = {
        (name, at): subject.files[name][at : at + SECTOR]
        for name in names
        for at in range(0, len(subject.files[name]), SECTOR)
    }
    for (name, at), own in others.items():
        data = subject.files[name]
        size = len(own)
        spoilers = [bytes(size), b"\xff" * size, dice.randbytes(size)]
        spoilers += [other[:size].ljust(size, b"\0") for other in others.values()]
        floor = _floor(subject, at) if name == subject.last else None
        for number, spoiler in enumerate(spoilers):
            if spoiler == own:
                continue
            image = data[:at] + spoiler + data[at + size :]
            yield Image(f"{name}@{at} spoiled by {number}", {name: image}, floor)


def _floor(subject: Subject, at: int) -> int | None:
    """Return the last LSN of the frames before the sector, where nothing begins behind it."""
    if subject.frames[-1][0] >= at + SECTOR:
        return None
    return max((lsn for _, end, lsn in subject.frames if end <= at), default=0)


def confused_files(subject: Subject) -> Iterator[Image]:
    """Lose each file, empty it, swap any two, double it under each other's name."""
    names = [*damaged_names(subject), "FORMAT"]
    for name in names:
        yield Image(f"{name} lost", {name: None})
        yield Image(f"{name} empty", {name: b""})
        yield Image(f"{name} zeros", {name: bytes(len(subject.files[name]))})
    for one, other in permutations(names, 2):
        yield Image(f"{other} is {one}", {other: subject.files[one]})
        yield Image(f"{other} is {one}, which is gone", {other: subject.files[one], one: None})
        swapped: dict[str, bytes | None] = {
            one: subject.files[other],
            other: subject.files[one],
        }
        yield Image(f"{one} and {other} swapped", swapped)
    for lsn in (1, 2, subject.lsn, subject.lsn + 1, subject.lsn + 2):
        for name in names:
            if segment_name(lsn) not in subject.files:
                yield Image(f"{name} as lsn {lsn}", {segment_name(lsn): subject.files[name]})


def forged(subject: Subject) -> Iterator[Image]:
    """Give files other contents with right checksums: of another history, store, place or time."""
    for name in damaged_names(subject):
        data = subject.files[name]
        header = SegmentHeader.decode(data)
        if header is None:
            rows = rows_of(data)
            late = [*rows, (subject.lsn + 1, b'{"k":"gone","id":"run_gone00000000"}')]
            first = data.partition(b"\n")[0] + b"\n"
            yield Image(f"{name} includes lsn {subject.lsn + 1}", {name: snapshot(first, late)})
            continue
        for change in (
            {"chain": header.chain ^ 1},
            {"store_id": header.store_id ^ 1},
            {"first_lsn": header.first_lsn + 1},
            {"min_reader": 2},
        ):
            other = replace(header, **change)
            image = other.encode() + data[SEGMENT_HEADER_BYTES:]
            yield Image(f"{name} with {change}", {name: image})
    data, (_, end, lsn) = subject.files[subject.last], subject.frames[-1]
    behind, _ = encode_frame([b'{"t":"x","d":"%s"}' % (b"t" * 900)], lsn + 1, 0)
    torn = data[:end] + behind[:600] + bytes(len(data) - end - 600)
    yield Image(f"{subject.last} with a torn frame behind its end", {subject.last: torn})


def noise(subject: Subject, seed: int, count: int) -> Iterator[Image]:
    """Write noise of any length anywhere, several times, in any files."""
    dice = random.Random(seed)
    names = damaged_names(subject)
    for number in range(count):
        changes: dict[str, bytes | None] = {}
        for _ in range(dice.randrange(1, 4)):
            name = dice.choice(names)
            image = bytearray(changes.get(name) or subject.files[name])
            for _ in range(dice.randrange(1, 4)):
                at = dice.randrange(len(image))
                size = min(dice.randrange(1, 300), len(image) - at)
                image[at : at + size] = dice.randbytes(size)
            changes[name] = bytes(image)
        yield Image(f"noise {number} of seed {seed}", changes)
