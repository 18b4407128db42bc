"""Which disks a power cut may leave, worked out from a trace alone.

A model of its own: it knows nothing of `MemoryDisk`. What POSIX promises is kept, nothing else:

- a write may be on disk by sectors, in any order, until its file is synced; so may a truncation.
  Neighbouring sectors of a write that are all zeros count as one piece;
- a name made, changed or removed may be on disk or not, in any order, until its folder is synced;
  a rename inside a folder is one change, one between folders are two;
- a folder that is made is itself a name in the folder above.

`images` gives every combination, with two bounds that are counted: files that nothing was done to
for a while (an old segment's cut end that nobody synced) vary all together (`grouped`); and where
there would still be more than `cap`, it takes the extremes, each piece alone, each piece missing,
and a seeded sample (`capped`).
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepflow.journal.disk import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.recovery.traced_disk import Image, Op

__all__ = ["DiskModel"]

_ACTIVE: Final = 12


@dataclass(slots=True)
class _File:
    synced: bytes = b""
    pieces: list[tuple[int, bytes | None]] = field(default_factory=list["tuple[int, bytes | None]"])
    """Unsynced: an offset and what is written there; None cuts the file at that offset."""
    touched: int = 0

    def write(self, offset: int, data: bytes) -> None:
        self.pieces.extend(_pieces(offset, data))

    def sync(self) -> None:
        self.synced = self.after(range(len(self.pieces)))
        self.pieces = []

    def after(self, kept: Sequence[int]) -> bytes:
        """Return the contents when these pieces have reached the disk."""
        image = bytearray(self.synced)
        for index in kept:
            offset, data = self.pieces[index]
            if data is None:
                del image[offset:]
                image.extend(bytes(offset - len(image)))
                continue
            if offset > len(image):
                image.extend(bytes(offset - len(image)))
            image[offset : offset + len(data)] = data
        return bytes(image)


def _pieces(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    start, zeros = 0, False
    at = 0
    while at < len(data):
        stop = at + SECTOR - (offset + at) % SECTOR
        is_zero = not any(data[at:stop])
        if at and not (is_zero and zeros):
            yield offset + start, data[start:at]
            start = at
        zeros = is_zero
        at = stop
    if data:
        yield offset + start, data[start:]


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a folder that is not synced."""

    folder: str
    names: tuple[tuple[str, int | None], ...]


@dataclass(slots=True)
class DiskModel:
    """What is on a disk for certain, and what may be."""

    cap: int = 64
    active: int = _ACTIVE
    """Files that nothing was done to in so many operations vary all together, not one by one."""
    names: dict[str, int] = field(default_factory=dict[str, int])
    """A folder's name stands for itself, with the number 0."""
    changes: list[_Change] = field(default_factory=list[_Change])
    files: dict[int, _File] = field(default_factory=dict[int, _File])
    grouped: int = 0
    capped: int = 0
    """At how many moments a combination was left out."""
    clock: int = 0

    def load(self, image: Image, first: int = 1) -> None:
        """Begin with what is on a disk, all of it synced; its files count from `first`."""
        folders = {name.rpartition("/")[0] for name, _ in image} - {""}
        numbers = {name: number for number, (name, _) in enumerate(image, first)}
        self.names = numbers | dict.fromkeys(folders, 0)
        self.changes = []
        self.files = {numbers[name]: _File(data) for name, data in image}

    def copy(self) -> DiskModel:
        """Return one that goes its own way."""
        files = {n: _File(f.synced, list(f.pieces), f.touched) for n, f in self.files.items()}
        return DiskModel(
            self.cap, self.active, dict(self.names), list(self.changes), files, clock=self.clock
        )

    def live_names(self) -> dict[str, int]:
        """Return which file each name means to a process."""
        names = dict(self.names)
        for change in self.changes:
            _apply(names, change)
        return names

    def do(self, op: Op) -> None:
        """Follow one operation."""
        self.clock += 1
        match op.kind:
            case "create":
                self._file(op.inode)
                self._change((op.name, op.inode))
            case "write":
                self._file(op.inode).write(op.offset, op.data)
            case "truncate":
                self._file(op.inode).pieces.append((op.offset, None))
            case "sync":
                self._file(op.inode).sync()
            case "rename":
                self._change((op.name, None), (op.to, op.inode))
            case "unlink":
                self._change((op.name, None))
            case "mkdir":
                self._change((op.name, 0))
            case "sync_dir":
                self._sync_dir(op.name)
            case "reboot":
                self.load(op.image, op.inode)
            case _:
                raise AssertionError(op.kind)

    def _file(self, inode: int) -> _File:
        file = self.files.setdefault(inode, _File())
        file.touched = self.clock
        return file

    def _change(self, *names: tuple[str, int | None]) -> None:
        folders = list(dict.fromkeys(name.rpartition("/")[0] for name, _ in names))
        for folder in folders:
            inside = tuple(pair for pair in names if pair[0].rpartition("/")[0] == folder)
            self.changes.append(_Change(folder, inside))

    def _sync_dir(self, folder: str) -> None:
        for change in self.changes:
            if change.folder == folder:
                _apply(self.names, change)
        self.changes = [change for change in self.changes if change.folder != folder]

    # ------------------------------------------------------------ what a cut may leave

    def nothing_more(self) -> Image:
        """Return the disk with nothing but what is there for certain."""
        return _image(self.names, {n: file.synced for n, file in self.files.items()})

    def everything(self) -> Image:
        """Return the disk with all that was done to it."""
        names = self.live_names()
        whole = {n: file.after(range(len(file.pieces))) for n, file in self.files.items()}
        return _image(names, whole)

    def images(self) -> Iterator[Image]:
        """Give every disk that a power cut may leave now; some may come twice."""
        quiet, active = self._sort_files()
        self.grouped += len(quiet) > 1
        before = self.capped
        namings = self._namings()
        settled = [self._contents(quiet, synced=True), self._contents(quiet, synced=False)]
        contents = [self._variants(self.files[number]) for number in active]
        sizes = [len(namings), len(settled) if quiet else 1, *map(len, contents)]
        fixed = {number: file.synced for number, file in self.files.items() if not file.pieces}
        for naming, old, *row in self._choose(sizes):
            chosen = {n: column[i] for n, column, i in zip(active, contents, row, strict=True)}
            yield _image(namings[naming], fixed | settled[old] | chosen)
        # Once for each moment, however many of its parts were cut short.
        self.capped = min(self.capped, before + 1)

    def _sort_files(self) -> tuple[list[int], list[int]]:
        """Return the files with unsynced pieces: the quiet ones, and the active ones."""
        quiet: list[int] = []
        active: list[int] = []
        for number, file in self.files.items():
            if file.pieces:
                busy = self.clock - file.touched < self.active
                (active if busy else quiet).append(number)
        return quiet, active

    def _contents(self, numbers: Sequence[int], *, synced: bool) -> dict[int, bytes]:
        files = {number: self.files[number] for number in numbers}
        if synced:
            return {number: file.synced for number, file in files.items()}
        return {number: file.after(range(len(file.pieces))) for number, file in files.items()}

    def _namings(self) -> list[dict[str, int]]:
        """Return each different state of the folders."""
        found: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
        for row in self._choose([2] * len(self.changes)):
            names = dict(self.names)
            for kept, change in zip(row, self.changes, strict=True):
                if kept:
                    _apply(names, change)
            found.setdefault(tuple(sorted(names.items())), names)
        return list(found.values())

    def _variants(self, file: _File) -> list[bytes]:
        """Return each different content of the file."""
        rows = self._choose([2] * len(file.pieces))
        kept = ([i for i, yes in enumerate(row) if yes] for row in rows)
        return list(dict.fromkeys(map(file.after, kept)))

    def _choose(self, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Give every row of indexes below `sizes`, or at most about `cap` of them."""
        if math.prod(sizes) <= self.cap:
            yield from itertools.product(*map(range, sizes))
            return
        self.capped += 1
        first, last = [0] * len(sizes), [size - 1 for size in sizes]
        rows = {tuple(first): None, tuple(last): None}
        for at, size in enumerate(sizes):
            for index in range(size):
                for base in (first, last):
                    rows[*base[:at], index, *base[at + 1 :]] = None
        dice = random.Random(len(sizes))
        for _ in range(self.cap):
            rows[tuple(dice.randrange(size) for size in sizes)] = None
        yield from itertools.islice(rows, self.cap)


def _apply(names: dict[str, int], change: _Change) -> None:
    for name, inode in change.names:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _image(names: dict[str, int], contents: dict[int, bytes]) -> Image:
    """Return what is found; a file whose folder is not there is not found."""
    return tuple(
        (name, contents[inode])
        for name, inode in sorted(names.items())
        if inode and (not (folder := name.rpartition("/")[0]) or folder in names)
    )
