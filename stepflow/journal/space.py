"""Space on the disk: the next segment made ahead, the reserve file, and whether there is room.

While there is room nobody notices. When there is none, a second's timer tries again and again to
make the next segment and to fill the reserve, and whoever was refused is told when it worked.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from stepflow.journal.disk import is_full
from stepflow.journal.frame import FRAME_OVERHEAD
from stepflow.journal.room import Room
from stepflow.journal.segment import RESERVE, SEGMENT_HEADER_BYTES, SegmentStock

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings
    from stepflow.journal.background import Background
    from stepflow.journal.disk import Disk
    from stepflow.journal.writer import Committed

__all__ = ["RETRY_FULL_S", "Space", "fill_reserve"]

_log: Final = logging.getLogger("stepflow.journal")
RETRY_FULL_S: Final = 1.0
"""A full disk is looked at again after this long."""


class Space:
    """Used on the loop; the work itself is done in the background."""

    def __init__(
        self,
        disk: Disk,
        settings: Settings,
        clock: Clock,
        background: Background,
        *,
        free_bytes: int,
        broke: Callable[[BaseException], None],
        came_back: Callable[[], None],
    ) -> None:
        self.stock = SegmentStock(disk)
        self._disk = disk
        self._settings = settings
        self._clock = clock
        self._background = background
        self._broke = broke
        self._came_back = came_back
        self._room = Room(settings.room_reserve_bytes, settings.free_bytes_min)
        self._room.look(free_bytes)
        self._next_size = settings.segment_bytes_first
        self._timer: TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._queued = 0
        self._closed = False
        self._held = False
        self._shut = False
        self.fits = self._room.most
        """With so many bytes queued, its own included, a record has room for certain."""

    @property
    def bytes(self) -> int:
        """The most that one record could take."""
        return max(self._room.left, self._room.ready, self._room.spare)

    @property
    def stuck(self) -> bool:
        """Whether a batch waits for room."""
        return self._room.stuck

    def has_room(self, size: int, queued: int, *, reserve: bool) -> bool:
        """Say whether a record of `size` bytes fits behind `queued` others; see to it if not."""
        if self._held or self._shut:
            return False
        if self._room.fits(size, queued, reserve=reserve):
            return True
        self._room.refuse(size)
        self._queued = queued
        self.prepare()
        return False

    @property
    def read_only(self) -> bool:
        """Whether records are refused at present."""
        return self._held or self._room.read_only

    def hold(self, held: bool) -> None:  # noqa: FBT001  called back with it
        """The disk hangs: there is no room for anything until it answers."""
        self._held = held
        self._refit()
        if not held:
            self._came_back()

    def shut(self) -> None:
        """Nothing more is taken: whoever asks finds no room, and is not told of any later."""
        self._shut = True
        self._refit()

    def note(self, done: Committed, queued: int) -> None:
        """Take note of what the writer reported."""
        if self._room.stuck:
            self._room.stuck = False
            _log.warning("the disk has room again")
        self._room.left = done.segment_left
        self._room.ready = self._ready()
        self._refit()
        self._next_size = done.next_size
        if done.segment_left * 2 < done.segment_size:
            self.prepare()
        self._queued = queued
        self._tell()

    def lost(self, error: BaseException) -> None:
        """The writer met a full disk."""
        if not self._room.stuck:
            _log.error("disk full: the journal is read-only until there is room: %s", error)
        self._room.stuck = True
        self._room.spare = 0
        self._room.refuse(0)
        self._refit()

    def prepare(self) -> None:
        """Have the next segment made, unless it is there or being made."""
        if self._closed or self._timer is not None or self._task is not None:
            return
        if self._room.ready and self._room.spare:
            return
        work = self._prepare_next()
        self._task = asyncio.get_running_loop().create_task(work, name="stepflow-journal-space")

    async def make_ready(self) -> None:
        """Return when the next segment is made, or cannot be made at present."""
        self.prepare()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End; wait for a segment that is being made."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _prepare_next(self) -> None:
        try:
            free = await self._background.run(partial(self._make_next, self._next_size))
        except OSError as error:
            free = 0
            if not is_full(error):
                self._broke(error)
                return
        finally:
            self._task = None
        self._room.look(free)
        self._room.ready = self._ready()
        self._refit()
        if not self._room.spare and not self._closed:
            self._timer = self._clock.call_later(RETRY_FULL_S, self._again)
        self._tell()

    def _make_next(self, size: int) -> int:
        """Runs in the background; return what `Room.look` is to see."""
        self.stock.prepare(size)
        return fill_reserve(self._disk, self._settings)

    def _again(self) -> None:
        self._timer = None
        self.prepare()

    def _tell(self) -> None:
        if not self._shut and self._room.came_back(self._queued):
            self._came_back()

    def _refit(self) -> None:
        self.fits = -1 if self._held or self._shut else self._room.most

    def _ready(self) -> int:
        return max(0, self.stock.ready_bytes - SEGMENT_HEADER_BYTES - FRAME_OVERHEAD)


def fill_reserve(disk: Disk, settings: Settings) -> int:
    """Put space aside if it is not; return the free bytes beside it, 0 when there is no room."""
    if RESERVE not in disk.listdir():
        size = settings.reserve_file_bytes
        if disk.free_bytes() < size + settings.free_bytes_min:
            return 0
        disk.allocate(RESERVE, size)
        disk.sync_dir()
    return disk.free_bytes()
