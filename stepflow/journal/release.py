"""Who waits for which LSN. Released in LSN order, each isolated from the others.

Those who wait for an answer lose patience after a while: one timer serves them all.
"""

from __future__ import annotations

import logging
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, TypeVar

from stepflow.errors import OutcomeUnknownError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from stepflow.clock import Clock, TimerHandle

__all__ = ["Patience", "Releases", "call_isolated"]

_T = TypeVar("_T")

_log: Final = logging.getLogger("stepflow.journal")


class Releases:
    """Callbacks by LSN; those of one LSN in the order they came.

    Most come in the order of their LSNs: they stand in line. Only the others need a heap.
    """

    __slots__ = ("_count", "_late", "_line")

    def __init__(self) -> None:
        self._line: deque[tuple[int, Callable[[BaseException | None], None]]] = deque()
        """In the order of LSN and of coming."""
        self._late: list[tuple[int, int, Callable[[BaseException | None], None]]] = []
        """A heap of (LSN, number in the order of coming, callback)."""
        self._count = 0

    def add(self, lsn: int, callback: Callable[[BaseException | None], None]) -> None:
        """Call `callback` when `lsn` is released."""
        line = self._line
        if not line or lsn >= line[-1][0]:
            line.append((lsn, callback))
        else:
            self._count += 1
            heappush(self._late, (lsn, self._count, callback))

    def release(self, lsn: int) -> None:
        """Call, in order, all that wait for `lsn` or less."""
        line, late = self._line, self._late
        while True:
            # Of one LSN, whoever stands in line came first: later on he would have been late.
            if late and late[0][0] <= lsn and not (line and line[0][0] <= late[0][0]):
                callback = heappop(late)[2]
            elif line and line[0][0] <= lsn:
                callback = line.popleft()[1]
            else:
                return
            try:
                callback(None)
            except Exception:  # noqa: BLE001  a border: user code behind it must not stop the others
                _say(callback)

    def fail(self, error: BaseException) -> None:
        """Tell all who wait that what they wait for will not come."""
        line, late = self._line, self._late
        while line or late:
            comes_late = not line or (late and late[0][0] < line[0][0])
            callback = heappop(late)[2] if comes_late else line.popleft()[1]
            call_isolated(callback, error)


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
