"""Whose code was running when the process died: a small shared mapping, never synced.

The kernel keeps a shared mapping when the process is killed, so after an unclean stop the file says
which run held the loop and which runs had a step running. It is a hint, not a record: a power cut
may lose it, and then nobody is suspected.

File `marker`: 256 slots of 80 bytes. A slot is empty (first byte 0) or holds a run id. Slot 0 is
the run whose code holds the loop; the others are running steps.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Marker", "NoMarker", "read_marker"]

SLOT_BYTES: Final = 80
SLOTS: Final = 256
_EMPTY: Final = b"\0"


class NoMarker:
    """Marks nothing: in memory, or where the file cannot be mapped."""

    __slots__ = ()

    def enter(self, run_id: bytes) -> None:
        """The run's code holds the loop."""

    def leave(self) -> None:
        """It gave the loop back."""

    def begin(self, run_id: bytes) -> int:
        """A step of the run begins; return its slot for `end`, or 0 where none is free."""
        del run_id
        return 0

    def end(self, slot: int) -> None:
        """The step has ended."""

    def close(self) -> None:
        """Stop marking; a clean stop suspects nobody."""


class Marker(NoMarker):
    """Marks in the file at `path`, which is made anew."""

    __slots__ = ("_free", "_map")

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Real zeros: the first write to a hole of a mapped file kills the process with SIGBUS
            # when the disk is full. Over the old ones, so that a full disk has room for them.
            if os.pwrite(descriptor, bytes(SLOT_BYTES * SLOTS), 0) < SLOT_BYTES * SLOTS:
                raise OSError(errno.ENOSPC, "No space left on device", os.fspath(path))
            os.ftruncate(descriptor, SLOT_BYTES * SLOTS)
            self._map = mmap.mmap(descriptor, SLOT_BYTES * SLOTS)
        finally:
            os.close(descriptor)
        self._free = list(range(SLOTS - 1, 0, -1))

    def enter(self, run_id: bytes) -> None:
        self._map[: len(run_id) + 1] = run_id + _EMPTY

    def leave(self) -> None:
        self._map[:1] = _EMPTY

    def begin(self, run_id: bytes) -> int:
        if not self._free:
            return 0
        slot = self._free.pop()
        start = slot * SLOT_BYTES
        self._map[start : start + len(run_id) + 1] = run_id + _EMPTY
        return slot

    def end(self, slot: int) -> None:
        if slot:
            self._map[slot * SLOT_BYTES : slot * SLOT_BYTES + 1] = _EMPTY
            self._free.append(slot)

    def close(self) -> None:
        self._map[:] = bytes(SLOT_BYTES * SLOTS)
        self._map.close()


def read_marker(path: Path) -> list[str]:
    """Return the runs that the file names, each once; none where there is no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found: dict[str, None] = {}
    for start in range(0, len(data), SLOT_BYTES):
        name = data[start : start + SLOT_BYTES].partition(_EMPTY)[0]
        if name:
            found[name.decode("ascii", "replace")] = None
    return list(found)
