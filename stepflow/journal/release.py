"""Who waits for which LSN. Released in LSN order, each isolated from the others."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Releases", "call_isolated"]

_T = TypeVar("_T")

_log: Final = logging.getLogger("stepflow.journal")


class Releases:
    """Callbacks by LSN; those of one LSN in the order they came."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[[BaseException | None], None]]] = deque()

    def add(self, lsn: int, callback: Callable[[BaseException | None], None]) -> None:
        """Call `callback` when `lsn` is released."""
        waiting = self._waiting
        if not waiting or waiting[-1][0] <= lsn:
            waiting.append((lsn, callback))
        else:
            waiting.insert(bisect_right(waiting, lsn, key=_lsn_of), (lsn, callback))

    def release(self, lsn: int) -> None:
        """Call, in order, all that wait for `lsn` or less."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= lsn:
            call_isolated(waiting.popleft()[1], None)

    def fail(self, error: BaseException) -> None:
        """Tell all who wait that what they wait for will not come."""
        waiting = self._waiting
        while waiting:
            call_isolated(waiting.popleft()[1], error)


def _lsn_of(item: tuple[int, Callable[[BaseException | None], None]]) -> int:
    return item[0]


def call_isolated(callback: Callable[[_T], None], value: _T) -> None:
    """Call it; an exception in it is logged and concerns nobody else."""
    try:
        callback(value)
    except Exception:  # noqa: BLE001  a border: user code behind it must not stop the others
        _log.exception("a callback of the journal failed: %r", callback)
