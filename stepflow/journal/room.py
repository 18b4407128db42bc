"""PURE. Is there room for a record? Asked before it is decided, so that a full disk is met early.

A record may be decided when space that is ours already has room for it (the open segment, or the
prepared one), or when the disk was seen to have more than its minimum left. The last `keep` bytes
are for records that free space or end work: cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Room"]

_FRAMING: Final = 256
"""Header and pad of the record's frame, and its length prefix, generously."""


@dataclass(slots=True)
class Room:
    """What is known of the space, all in bytes."""

    keep: int
    free_min: int
    left: int = 0
    """In the open segment."""
    ready: int = 0
    """In the prepared segment, 0 when there is none."""
    spare: int = 0
    """What the disk has beyond its minimum, when last looked at."""
    stuck: bool = False
    """Whether a batch waits for the disk to have room: nothing more is decided meanwhile."""
    refused: int | None = None
    """The smallest record refused since there was room for all."""

    @property
    def most(self) -> int:
        """How many bytes may be queued for a record that takes none of the reserve; below 0: none.

        What `fits` says, as one number, for those who ask before each record.
        """
        if self.stuck:
            return -1
        return max(self.left, self.ready, self.spare) - _FRAMING - self.keep

    @property
    def read_only(self) -> bool:
        """Whether somebody was refused and has not been told yet that there is room again."""
        return self.stuck or self.refused is not None

    def fits(self, size: int, queued: int, *, reserve: bool) -> bool:
        """Say whether a record of `size` bytes has room behind `queued` others."""
        if self.stuck:
            return False
        need = size + queued + _FRAMING + (0 if reserve else self.keep)
        return need <= self.left or need <= self.ready or need <= self.spare

    def refuse(self, size: int) -> None:
        """Remember that a record was refused: whoever sent it waits for `came_back`."""
        self.refused = size if self.refused is None else min(size, self.refused)

    def came_back(self, queued: int) -> bool:
        """Say, once, that there is room again for the smallest record that was refused."""
        if self.refused is None or not self.fits(self.refused, queued, reserve=False):
            return False
        self.refused = None
        return True

    def look(self, free_bytes: int) -> None:
        """Take note of the disk's free bytes."""
        self.spare = max(0, free_bytes - self.free_min)
