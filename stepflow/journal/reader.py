"""Read a segment: its frames in order, and what comes after the last good one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepflow.journal.frame import BadFrame, Frame, judge, read_frame
from stepflow.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SegmentReader"]


@dataclass(slots=True)
class SegmentReader:
    """Walks over one segment's bytes. Iterate once, then look at where it ended.

    `data` is the whole file. `last_lsn` bounds the walk for a segment whose successor is known:
    whatever lies behind that record was dropped by an earlier recovery.
    """

    data: bytes
    header: SegmentHeader
    last_lsn: int | None = None
    lsn: int = 0
    """LSN of the last record read; the one before the segment's first when there is none."""
    chain: int = 0
    """crc of the last frame read."""
    offset: int = SEGMENT_HEADER_BYTES
    """Where the next frame would begin."""

    def __post_init__(self) -> None:
        self.lsn = self.header.first_lsn - 1
        self.chain = self.header.chain

    def __iter__(self) -> Iterator[Frame]:
        while self.last_lsn is None or self.lsn < self.last_lsn:
            frame = read_frame(self.data, self.offset, self.lsn + 1, self.chain)
            if frame is None:
                return
            self.lsn = frame.last_lsn
            self.chain = frame.crc
            self.offset = frame.end
            yield frame

    def ending(self) -> BadFrame:
        """Return what the bytes after the last good frame are."""
        return judge(self.data, self.offset, self.lsn + 1)
