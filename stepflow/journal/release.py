"""Who waits for which LSN. Released in LSN order, each isolated from the others.

Those who wait for an answer lose patience after a while: one timer serves them all.
"""

from __future__ import annotations

import logging
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from stepflow.errors import OutcomeUnknownError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from stepflow.clock import Clock, TimerHandle

__all__ = ["Patience", "Releases", "call_isolated"]

_T = TypeVar("_T")

_Waiting: TypeAlias = "tuple[int, Callable[[BaseException | None], None]]"
_LSN: Final[Callable[[_Waiting], int]] = itemgetter(0)

_log: Final = logging.getLogger("stepflow.journal")


class Releases:
    """Callbacks by LSN; those of one LSN in the order they came.

    Most come in the order of their LSNs, so sorting what came since the last release, all at once,
    takes less than a heap would, which looks for the place of each.
    """

    __slots__ = ("_fresh", "_line")

    def __init__(self) -> None:
        self._fresh: list[_Waiting] = []
        """Those that came since the last release."""
        self._line: deque[_Waiting] = deque()
        """The others, in order."""

    def add(self, lsn: int, callback: Callable[[BaseException | None], None]) -> None:
        """Call `callback` when `lsn` is released."""
        self._fresh.append((lsn, callback))

    def release(self, lsn: int) -> None:
        """Call, in order, all that wait for `lsn` or less."""
        # Once: whoever comes while they are told waits for what is not durable yet.
        if self._fresh:
            self._line_up()
        line = self._line
        while line and line[0][0] <= lsn:
            callback = line.popleft()[1]
            try:
                callback(None)
            except Exception:  # noqa: BLE001  a border: user code behind it must not stop the others
                _say(callback)

    def _line_up(self) -> None:
        fresh, line = self._fresh, self._line
        self._fresh = []
        fresh.sort(key=_LSN)
        if line and fresh[0][0] < line[-1][0]:
            # Stable: of one LSN, those in line came first.
            fresh = sorted((*line, *fresh), key=_LSN)
            line.clear()
        line.extend(fresh)

    def fail(self, error: BaseException) -> None:
        """Tell all who wait that what they wait for will not come."""
        line = self._line
        while line or self._fresh:
            if self._fresh:
                self._line_up()
            call_isolated(line.popleft()[1], error)


class Patience:
    """Ends waits that take too long: they get `OutcomeUnknownError`. One timer for all of them."""

    __slots__ = ("_clock", "_limit_s", "_timer", "_waiting")

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: TimerHandle | None = None

    def add(self, waiter: asyncio.Future[None]) -> None:
        """Give the waiter so long from now on."""
        self._waiting.append((self._clock.monotonic_s() + self._limit_s, waiter))
        if self._timer is None:
            self._timer = self._clock.call_later(self._limit_s, self._lose)

    def tidy(self) -> None:
        """Leave out who was answered; with nobody left there is no timer."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        if not waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic_s()
        waiting = self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now_s):
            waiter = waiting.popleft()[1]
            if not waiter.done():
                waiter.set_exception(OutcomeUnknownError())
        if waiting:
            self._timer = self._clock.call_later(waiting[0][0] - now_s, self._lose)


def call_isolated(callback: Callable[[_T], None], value: _T) -> None:
    """Call it; an exception in it is logged and concerns nobody else."""
    try:
        callback(value)
    except Exception:  # noqa: BLE001  a border: user code behind it must not stop the others
        _say(callback)


def _say(callback: object) -> None:
    _log.exception("a callback of the journal failed: %r", callback)
