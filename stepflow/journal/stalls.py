"""A disk that does not answer: a sync that has not come back, noticed while it hangs.

Whoever keeps house asks once a second, so nothing is measured on the way of a record. How long the
present work of the writer has been under way decides:

=================  =================================================================
`sync_slow_s`      said, once
`sync_stalled_s`   held: nothing new is decided until it comes back; `/ready` is 503
`sync_dead_s`      over: treated like a sync that failed, since nobody can tell
=================  =================================================================

What counts is how often it was looked at: a process that was stopped, or a loop that was held up,
for an hour must not find its disk dead when it goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from stepflow.clock import Clock
    from stepflow.config import Settings

__all__ = ["Stalls"]

_log: Final = logging.getLogger("stepflow.journal")
_LOOK_S_MAX: Final = 2.0
"""No more than that counts between two looks, which are a second apart."""


class Stalls:
    """How long the writer's present work has been under way. Lives on the loop."""

    __slots__ = (
        "_clock",
        "_dead",
        "_held",
        "_hold",
        "_looked_s",
        "_seconds",
        "_settings",
        "_slow",
        "_work",
    )

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        *,
        hold: Callable[[bool], None],
        dead: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._hold = hold
        self._dead = dead
        self._work: Hashable = None
        self._looked_s = 0.0
        self._seconds = 0.0
        self._slow = False
        self._held = False

    @property
    def slow(self) -> bool:
        """Whether the present work takes longer than a slow sync."""
        return self._slow

    @property
    def held(self) -> bool:
        """Whether nothing new is decided."""
        return self._held

    def look(self, work: Hashable) -> float:
        """Take note of the work at hand, `None` for none; return for how many seconds it hangs."""
        now_s = self._clock.monotonic_s()
        gone_s, self._looked_s = now_s - self._looked_s, now_s
        if work is None or work != self._work:
            self._came_back()
            self._work = work
            self._seconds = 0.0
            return 0.0
        self._seconds += min(gone_s, _LOOK_S_MAX)
        self._say(self._seconds)
        return self._seconds

    def _say(self, seconds: float) -> None:
        settings = self._settings
        if seconds >= settings.sync_slow_s and not self._slow:
            self._slow = True
            _log.warning(
                "the disk hangs: a sync has not come back for %.1f s, and what waits for it is "
                "not acknowledged",
                seconds,
            )
        if seconds >= settings.sync_stalled_s and not self._held:
            self._held = True
            _log.error(
                "the disk hangs for %.0f s: read-only until it answers; at %.0f s the engine ends",
                seconds,
                settings.sync_dead_s,
            )
            self._hold(True)
        if seconds >= settings.sync_dead_s:
            self._dead(seconds)

    def _came_back(self) -> None:
        if self._slow:
            _log.warning("the disk answers again")
        self._slow = False
        if self._held:
            self._held = False
            self._hold(False)
