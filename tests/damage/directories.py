"""Real data directories, made by a real engine on a real disk, and ways to damage them."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from stepflow import Stepflow
from stepflow.engine.local import LocalEngine
from stepflow.journal.disk import RealDisk
from stepflow.journal.frame import encode_frame
from stepflow.journal.lock import LOCK
from stepflow.journal.reader import SegmentReader
from stepflow.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader, segment_lsn
from stepflow.journal.snapshot import snapshot_lsn
from tests.damage.app import SETTINGS, register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WAITING = "run_waiting00000"
DONE = "run_done00000000"
AFTER = "run_after0000000"
LAST = "run_last00000000"


@dataclass(frozen=True)
class Directories:
    """One service's directory: young, and old as `kill -9` and as a clean stop leave it."""

    young: Path
    """One snapshot, and the journal from LSN 1."""
    killed: Path
    """Two snapshots, and three segments from the base of the older one."""
    stopped: Path


def make(root: Path) -> Directories:
    """Make the directories below `root`."""
    return asyncio.run(_make(root))


async def _make(root: Path) -> Directories:
    made = Directories(root / "young", root / "killed", root / "stopped")
    flow = register(Stepflow(made.stopped, settings=SETTINGS))
    async with flow:
        engine = flow.engine
        assert isinstance(engine, LocalEngine)
        await flow.trigger("waits", "go", run_id=WAITING)
        await flow.trigger("adds", 1, run_id=DONE)
        await engine.wait(DONE)
        for number in range(3):
            for n in range(3):
                await engine.wait((await flow.trigger("adds", n)).id)
            assert await engine.snapshot()
            if number == 0:
                _copy(made.stopped, made.young)
        # The first snapshot is gone by now, and the journal before the second one's base.
        await flow.trigger("adds", 5, run_id=AFTER)
        await engine.wait(AFTER)
        await engine.sup.journal.rotate()
        await flow.trigger("adds", 5, run_id=LAST)
        await engine.wait(LAST)
        _copy(made.stopped, made.killed)
    return made


def _copy(source: Path, target: Path) -> None:
    """Copy a directory while its process runs: what a kill would leave."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(LOCK, "*.tmp"))


# ---------------------------------------------------------------- what lies in them


def segments(data: Path) -> list[Path]:
    return sorted(path for path in data.iterdir() if segment_lsn(path.name) is not None)


def snapshots(data: Path) -> list[Path]:
    return sorted(path for path in data.iterdir() if snapshot_lsn(path.name) is not None)


@dataclass(frozen=True)
class Ends:
    """Where the frames of a segment lie, and what the next one is chained to."""

    frames: list[tuple[int, int]]
    lsn: int
    chain: int

    @property
    def end(self) -> int:
        return self.frames[-1][1] if self.frames else SEGMENT_HEADER_BYTES


def ends_of(segment: Path) -> Ends:
    """Read a whole segment."""
    data = segment.read_bytes()
    reader = SegmentReader(data, header_of(segment))
    frames = [(frame.offset, frame.end) for frame in reader]
    return Ends(frames, reader.lsn, reader.chain)


def header_of(segment: Path) -> SegmentHeader:
    header = SegmentHeader.decode(segment.read_bytes())
    assert header is not None
    return header


# ---------------------------------------------------------------- damage


def flip(path: Path, offset: int) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def blank(path: Path, begin: int, end: int) -> None:
    """Make a range unwritten."""
    data = bytearray(path.read_bytes())
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)


def set_header(segment: Path, **changes: int) -> None:
    """Give the segment another header, with a right checksum."""
    header = replace(header_of(segment), **changes)
    data = segment.read_bytes()
    segment.write_bytes(header.encode() + data[SEGMENT_HEADER_BYTES:])


def append(data: Path, records: Sequence[Mapping[str, object]]) -> int:
    """Write one more frame into the last segment; return the LSN of its first record."""
    segment = segments(data)[-1]
    ends = ends_of(segment)
    rows = [
        msgspec.json.encode({"t": record["t"], "lsn": ends.lsn + 1 + number, **record})
        for number, record in enumerate(records)
    ]
    frame, _ = encode_frame(rows, ends.lsn + 1, ends.chain)
    image = bytearray(segment.read_bytes())
    assert ends.end + len(frame) <= len(image), "there is no room"
    image[ends.end : ends.end + len(frame)] = frame
    segment.write_bytes(image)
    return ends.lsn + 1


def disk_of(data: Path) -> RealDisk:
    return RealDisk(data)
