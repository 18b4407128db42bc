"""Damage done at random to journals of random records: never a wrong prefix, never a silent loss.

A `Sweep` writes a journal of some segments and snapshots with its own mix of records (tiny, of
sectors' sizes, large, with text that looks like a frame), then tries variants of its files:

- the last segment's tail was never written: exactly the whole frames before the cut are read;
- a bit is flipped, a sector is zeroed, filled, swapped or copied: the journal is refused, or all of
  it is read; what is read is a prefix of what was written, and a second reader of the format finds
  the same. Fewer records than were written are read only where a sector of the very last frame is
  all zeros, or what is left ends inside a frame: that is how a torn write looks, and it is said;
- the newest snapshot is damaged: the one before and its journal give the same rows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepflow.errors import JournalCorruptError
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import Recovery
from stepflow.journal.snapshot import SnapshotFile
from stepflow.journal.store import read_store
from tests.journal_kit import Handmade, handmade
from tests.recovery.reference_replayer import replay
from tests.recovery.traced_disk import disk_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Sweep"]

SECTOR: Final = 512
KIB: Final = 1024
_LOOKS_LIKE_A_FRAME: Final = "SFB1" * 8


@dataclass
class Sweep:
    """One journal, and what is tried on it."""

    seed: int
    cases: int = 0
    torn: int = 0
    refused: int = 0
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    rows: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """What was written, by LSN."""
    frames: list[tuple[str, int, int]] = field(default_factory=list["tuple[str, int, int]"])
    """Segment, end offset and last LSN of each frame."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        made = handmade(size=8 * KIB)
        mix = self.dice.choice([self._tiny, self._sectors, self._large, self._mixed])
        for number in range(self.dice.randint(8, 40)):
            made.add(*mix())
            if number % 9 == 8:
                self._snapshot(made)
        disk = made.disk
        assert isinstance(disk, MemoryDisk)
        names = [name for name in disk.listdir() if not name.endswith(".tmp")]
        self.files = {name: disk.read(name) for name in names}
        self.frames = made.frames
        self.last_lsn = made.next_lsn - 1
        self.last = max(name for name in names if name.startswith("wal-"))
        self.used = max([e for s, e, _ in self.frames if s == self.last], default=SECTOR)
        lsn, self.rows, _ = self._read(self.files)
        assert lsn == self.last_lsn

    # ------------------------------------------------------------ mixes

    def _text(self, least: int, most: int) -> str:
        text = "".join(self.dice.choices('ab"\\é\n☃0', k=self.dice.randint(least, most)))
        return text + _LOOKS_LIKE_A_FRAME if self.dice.random() < 0.1 else text

    def _tiny(self) -> list[str]:
        return [self._text(0, 8) for _ in range(self.dice.randint(1, 12))]

    def _sectors(self) -> list[str]:
        """Frames that end at, just before or just behind a sector's end."""
        return ["x" * (self.dice.choice([1, 2, 3]) * SECTOR + self.dice.randint(-140, 40))]

    def _large(self) -> list[str]:
        return [self._text(500, 2500)]

    def _mixed(self) -> list[str]:
        return self.dice.choice([self._tiny, self._sectors, self._large])()

    def _snapshot(self, made: Handmade) -> None:
        """Write one whose rows are the records so far."""
        base = made.rotate()
        _, rows, _ = self._read_disk(made.disk)
        file = SnapshotFile(made.disk, base, 0, made.store.store_id)
        file.write([(lsn, row) for lsn, row in sorted(rows.items())])
        file.seal()
        file.publish()

    # ------------------------------------------------------------ reading

    def _read(self, files: dict[str, bytes]) -> tuple[int | None, dict[int, bytes], list[str]]:
        return self._read_disk(disk_of(tuple(sorted(files.items()))))

    def _read_disk(self, disk: object) -> tuple[int | None, dict[int, bytes], list[str]]:
        """Return the last LSN, None when refused, all rows, and the codes that were said."""
        assert isinstance(disk, MemoryDisk)
        rows: dict[int, bytes] = {}
        store = read_store(disk)
        assert store is not None
        take: Callable[[int, bytes], None] = rows.__setitem__
        try:
            found = Recovery(disk, store, 0, take, take, read_only=True).run()
        except JournalCorruptError as error:
            return None, {}, [error.code]
        said = [line[:6] for line in found.messages if line.startswith("SFW")]
        return found.lsn, rows, said

    # ------------------------------------------------------------ trying

    def step(self) -> None:
        """Try one variant of each kind. Raises `AssertionError` with the seed and the case."""
        for kind in (self._cut, self._flip, self._sector, self._move, self._bad_snapshot):
            self.cases += 1
            kind()

    def _cut(self) -> None:
        """The tail of the last segment was never written."""
        data = self.files[self.last]
        at = self.dice.randint(SECTOR, len(data))
        lsn, _, said = self._try(self.last, data[:at] + bytes(len(data) - at))
        first = int(self.last[4:24]) - 1
        whole = max([n for s, e, n in self.frames if s == self.last and e <= at], default=first)
        assert lsn == whole, f"seed {self.seed}: cut at {at} gives lsn {lsn}, not {whole}: {said}"

    def _place(self) -> tuple[str, int]:
        """Return a segment and an offset in it: mostly where it matters."""
        segments = [name for name in self.files if name.startswith("wal-")]
        name = self.last if self.dice.random() < 0.5 else self.dice.choice(segments)
        used = max([e for s, e, _ in self.frames if s == name], default=SECTOR)
        end = used if self.dice.random() < 0.8 else len(self.files[name])
        return name, self.dice.randrange(end)

    def _flip(self) -> None:
        (name, at), bit = self._place(), self.dice.randrange(8)
        data = bytearray(self.files[name])
        data[at] ^= 1 << bit
        self._judge(name, bytes(data), f"bit {bit} of {name}@{at}")

    def _sector(self) -> None:
        """A sector of a segment is lost, or holds something else."""
        name, at = self._place()
        at -= at % SECTOR
        data = bytearray(self.files[name])
        fill = self.dice.choice([bytes(SECTOR), self.dice.randbytes(SECTOR), b"\n" * SECTOR])
        data[at : at + SECTOR] = fill
        self._judge(name, bytes(data), f"sector {name}@{at} filled with {fill[:4]!r}")

    def _move(self) -> None:
        """A sector was written to another one's place, of the same file or of another."""
        (source, of), (name, at) = self._place(), self._place()
        of, at = of - of % SECTOR, at - at % SECTOR
        data = bytearray(self.files[name])
        data[at : at + SECTOR] = self.files[source][of : of + SECTOR]
        self._judge(name, bytes(data), f"sector {source}@{of} at {name}@{at}")

    def _bad_snapshot(self) -> None:
        snapshots = sorted(name for name in self.files if name.startswith("snap-"))
        if not snapshots:
            return
        data = bytearray(self.files[snapshots[-1]])
        at = self.dice.randrange(len(data))
        if self.dice.random() < 0.5:
            data[at] ^= 1 << self.dice.randrange(8)
        else:
            del data[at:]
        lsn, rows, said = self._read(self.files | {snapshots[-1]: bytes(data)})
        what = f"seed {self.seed}: {snapshots[-1]}@{at}: {said}"
        assert lsn == self.last_lsn, what
        assert rows == self.rows, what
        assert "SFW103" in said, what

    def _try(self, name: str, data: bytes) -> tuple[int | None, dict[int, bytes], list[str]]:
        """Read a variant; what is read is a prefix, and the second reader's too."""
        files = self.files | {name: data}
        lsn, rows, said = self._read(files)
        if lsn is None:
            self.refused += 1
            return lsn, rows, said
        assert rows == {n: row for n, row in self.rows.items() if n <= lsn}, f"seed {self.seed}"
        assert replay(files).lsn == lsn, f"seed {self.seed}: the readers differ"
        self.torn += "SFW101" in said
        return lsn, rows, said

    def _judge(self, name: str, data: bytes, what: str) -> None:
        lsn, _, said = self._try(name, data)
        if lsn is None or lsn == self.last_lsn:
            return
        what = f"seed {self.seed}: {what} gives lsn {lsn} of {self.last_lsn}: {said}"
        assert name == self.last, what
        ends = [(end, last) for segment, end, last in self.frames if segment == name]
        begin = max([end for end, last in ends if last <= lsn], default=SECTOR)
        assert "SFW101" in said or not any(data[begin:]), what
        assert self._lacks_its_end(data, ends, lsn) or self._lacks_a_sector(data, ends, begin), what

    def _lacks_its_end(self, data: bytes, ends: list[tuple[int, int]], lsn: int) -> bool:
        """Whether the first frame that is not read was not written to its end, as it seems."""
        end = min(end for end, last in ends if last > lsn)
        return not data[end - 1] and not any(data[end:])

    def _lacks_a_sector(self, data: bytes, ends: list[tuple[int, int]], begin: int) -> bool:
        """Whether a sector that the very last frame has a share in is all zeros from `begin` on."""
        last = max([end for end, _ in ends if end < self.used], default=SECTOR)
        sectors = range(last - last % SECTOR, self.used, SECTOR)
        return any(not any(data[max(at, begin) : min(at + SECTOR, self.used)]) for at in sectors)
