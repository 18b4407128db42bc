"""Runs whose code may have killed the process: counted before they are woken, set aside at three.

A run is suspected only if its code held the loop, or a step of it ran, when the process died. Its
count goes up when its code has made no progress since it was last suspected: what happened to the
run meanwhile (an event, a timer, a child's end) and a step that merely began again are no progress.
At three it is set aside, and stays so, whatever happens to it, until it is released or ends.
`suspects.json` holds the counts: format 1, with a checksum, replaced atomically.
"""

from __future__ import annotations

import errno
import logging
import os
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.errors import DiskFailedError
from stepflow.journal.disk import is_full
from stepflow.journal.marker import Marker, NoMarker, read_marker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from stepflow.model.run import RunState

__all__ = ["SUSPICIONS_MAX", "Suspects", "progress_of"]

_log = logging.getLogger("stepflow.suspects")

SUSPICIONS_MAX: Final = 3
_MARKER: Final = "marker"
_FILE: Final = "suspects.json"
_TAG: Final = b'{"t":"'
_NO_PROGRESS: Final = frozenset(
    {
        b"run.released",
        b"run.cancelling",
        b"step.started",
        b"sleep.ended",
        b"wait.resolved",
        b"wait.timed-out",
        b"child.ended",
        b"event.kept",
    }
)
"""What happens to a run without its code: the kinds of records that say so."""


class _Row(msgspec.Struct):
    count: int
    progress: int


class _File(msgspec.Struct):
    format: int
    crc: int
    runs: msgspec.Raw


def progress_of(state: RunState) -> int:
    """Return how many records of the run its own code has made."""
    at = len(_TAG)
    # Those that a restart of the run has forgotten came of its code, too.
    return state.forgotten + sum(
        data[at : data.find(b'"', at)] not in _NO_PROGRESS for data in state.records
    )


class Suspects:
    """Finds and counts suspects at a start. `data_dir=None` keeps nothing and suspects nobody."""

    __slots__ = ("_dir", "_rows", "_suspected")

    def __init__(self, data_dir: Path | None, *, clean: bool) -> None:
        self._dir = data_dir
        self._rows: dict[str, _Row] = {}
        self._suspected: set[str] = set()
        if data_dir is not None:
            self._rows = _read(data_dir / _FILE)
            if not clean:
                self._suspected = set(read_marker(data_dir / _MARKER))

    def marker(self, call_soon: Callable[[Callable[[], None]], Any]) -> NoMarker:
        """Return a fresh marker for this process; `call_soon` is the loop's."""
        if self._dir is None:
            return NoMarker()
        try:
            return Marker(self._dir / _MARKER, call_soon)
        except OSError as error:
            # A hint, not a record: without it a crash suspects nobody.
            _log.warning("%s cannot be made, so nothing is marked: %s", _MARKER, error)
            return NoMarker()

    def knows(self, run_id: str) -> bool:
        """Whether the run is a suspect, or was one: no other needs to be counted."""
        return run_id in self._suspected or run_id in self._rows

    def count(self, states: Iterable[RunState]) -> set[str]:
        """Count the suspects among these live runs, durably; return those to set aside."""
        rows: dict[str, _Row] = {}
        for state in states:
            before = self._rows.get(state.id)
            if before is None and state.id not in self._suspected:
                continue
            progress = progress_of(state)
            aside = before is not None and before.count >= SUSPICIONS_MAX
            if before is not None and before.progress != progress and not aside:
                before = None
            if state.id in self._suspected and not aside:
                rows[state.id] = _Row(before.count + 1 if before else 1, progress)
            elif before is not None:
                # No progress and no new suspicion, or set aside: what was counted stays.
                rows[state.id] = before
        if self._dir is not None and rows != self._rows:
            _write(self._dir / _FILE, rows)
        self._rows = rows
        return {run_id for run_id, row in rows.items() if row.count >= SUSPICIONS_MAX}

    def release(self, run_id: str) -> None:
        """Forget what was counted of the run; durable when it returns. Blocks."""
        rows = {name: row for name, row in self._rows.items() if name != run_id}
        if self._dir is not None and rows != self._rows:
            _replace(self._dir / _FILE, rows)
        self._rows = rows


def _read(path: Path) -> dict[str, _Row]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        if zlib.crc32(bytes(found.runs)) == found.crc:
            return msgspec.json.decode(bytes(found.runs), type=dict[str, _Row])
        _log.warning("%s fails its checksum and is made anew", path.name)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        # A hint, not a record: without it everybody starts from nothing again.
        _log.warning("%s cannot be read and is made anew: %s", path.name, error)
    return {}


def _write(path: Path, rows: dict[str, _Row]) -> None:
    try:
        _replace(path, rows)
    except OSError as error:
        if not is_full(error):
            raise DiskFailedError(
                f"SFW209 writing {path} failed: {error}; check the disk, or take {path.name} away"
            ) from error
        # The start is read-only then: no step of a suspect runs.
        _log.warning("no room to count suspects in %s: %s", path.name, error)


def _replace(path: Path, rows: dict[str, _Row]) -> None:
    runs = msgspec.json.encode(rows)
    data = msgspec.json.encode(_File(1, zlib.crc32(runs), msgspec.Raw(runs)))
    draft = path.with_suffix(".tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, "No space left on device", os.fspath(draft))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
