"""Whose code was running when the process died: a small file, never synced.

The kernel keeps what was written to a file when the process is killed, so after an unclean stop the
file says which run held the loop and which runs had a step running. It is a hint, not a record: a
power cut may lose it, and then nobody is suspected.

File `marker`: 256 slots of 80 bytes. A slot is empty (first byte 0) or holds a run id. Slot 0 is
the run whose code holds the loop; the others are running steps.

Written with `pwrite`, not through a mapping: a mapped file of a disk that is full or gone kills the
process with SIGBUS, where a write fails, is said once, and marks nothing. Before a run's code gets
the loop its name is on file; everything else (a step begins in a later pass of the loop, a step has
ended, the loop was given back) waits for the next pass, so that it costs one write a pass.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Marker", "NoMarker", "read_marker"]

_log = logging.getLogger("stepflow.suspects")

SLOT_BYTES: Final = 80
SLOTS: Final = 256
_BYTES: Final = SLOT_BYTES * SLOTS
_EMPTY: Final = b"\0"


class NoMarker:
    """Marks nothing: in memory, or where the file cannot be made."""

    __slots__ = ()

    def enter(self, run_id: bytes) -> None:
        """The run's code gets the loop; it is on file when this returns."""

    def begin(self, run_id: bytes) -> int:
        """A step of the run begins in a later pass; return its slot for `end`, 0 if none is free.

        Who starts it in this turn, in a thread, calls `flush` first.
        """
        del run_id
        return 0

    def end(self, slot: int) -> None:
        """The step has ended."""

    def flush(self) -> None:
        """Put on file what waits for the next pass of the loop."""

    def pause(self, *, paused: bool) -> None:
        """Write nothing while the disk hangs: the loop would hang with it."""

    def close(self) -> None:
        """Stop marking; a clean stop suspects nobody."""


class Marker(NoMarker):
    """Marks in the file at `path`, which is made anew. `call_soon` is the loop's."""

    __slots__ = (
        "_call_soon",
        "_due",
        "_fd",
        "_first",
        "_free",
        "_holder",
        "_image",
        "_last",
        "_paused",
        "_said",
    )

    def __init__(self, path: Path, call_soon: Callable[[Callable[[], None]], Any]) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _clear(self._fd, path)
        except BaseException:
            os.close(self._fd)
            raise
        self._call_soon = call_soon
        self._image = bytearray(_BYTES)
        self._free = list(range(SLOTS - 1, 0, -1))
        self._holder = b""
        self._due = False
        # Slots that the file does not have yet; none: the first is behind the last.
        self._first, self._last = SLOTS, 0
        self._said = False
        self._paused = False

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._fd

    def enter(self, run_id: bytes) -> None:
        if run_id == self._holder:
            return
        self._holder = run_id
        self._write(run_id + _EMPTY, 0)
        if not self._due:
            self._due = True
            self._call_soon(self.flush)

    def begin(self, run_id: bytes) -> int:
        if not self._free:
            return 0
        slot = self._free.pop()
        start = slot * SLOT_BYTES
        self._image[start : start + len(run_id) + 1] = run_id + _EMPTY
        self._changed(slot)
        return slot

    def end(self, slot: int) -> None:
        if slot:
            self._image[slot * SLOT_BYTES] = 0
            self._free.append(slot)
            self._changed(slot)

    def _changed(self, slot: int) -> None:
        self._first = min(self._first, slot)
        self._last = max(self._last, slot)
        if not self._due:
            self._due = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        self._due = False
        if self._holder:
            self._holder = b""
            self._first = 0
        first, last = self._first, self._last
        self._first, self._last = SLOTS, 0
        if first <= last:
            start = first * SLOT_BYTES
            self._write(self._image[start : (last + 1) * SLOT_BYTES], start)

    def pause(self, *, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        self._first, self._last = 0, SLOTS - 1
        if not paused:
            self.flush()

    def _write(self, data: bytes | bytearray, offset: int) -> None:
        if self._paused:
            return
        try:
            os.pwrite(self._fd, data, offset)
        except OSError as error:
            # All of it again with the next one: nobody must stay marked.
            self._first, self._last = 0, SLOTS - 1
            if not self._said:
                self._said = True
                _log.warning("the marker cannot be written, nobody is suspected: %s", error)

    def close(self) -> None:
        if self._fd < 0:
            return
        self._write(bytes(_BYTES), 0)
        # What ends after this is not marked any more.
        self._paused = True
        os.close(self._fd)
        self._fd = -1


def _clear(fd: int, path: Path) -> None:
    # Real zeros, over the old ones, so that a disk that fills up has room for the marks.
    if os.pwrite(fd, bytes(_BYTES), 0) < _BYTES:
        raise OSError(errno.ENOSPC, "No space left on device", os.fspath(path))
    os.ftruncate(fd, _BYTES)


def read_marker(path: Path) -> list[str]:
    """Return the runs that the file names, each once; none where there is no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        _log.warning("%s cannot be read, so nobody is suspected: %s", path.name, error)
        return []
    found: dict[str, None] = {}
    for start in range(0, len(data), SLOT_BYTES):
        name = data[start : start + SLOT_BYTES].partition(_EMPTY)[0]
        if name:
            found[name.decode("ascii", "replace")] = None
    return list(found)
