"""Who waits for which event, and who declared it. Pure bookkeeping: it calls nobody."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Waiters"]


class Waiters:
    """Event ids to the runs that wait for them or declared them. Rows of ended runs are removed.

    Most events concern one run, which waits for it once: such a row is the run's id and no more.
    """

    __slots__ = ("_count", "_declared", "_waiting")

    def __init__(self) -> None:
        # dicts, not sets: runs are woken in the order in which they began to wait.
        self._waiting: dict[str, str | dict[str, int]] = {}
        self._count = 0
        """Of the runs of all rows of `_waiting`."""
        self._declared: dict[str, str | dict[str, int]] = {}

    def wait(self, event: str, run_id: str) -> None:
        """One more wait of the run for the event."""
        self._count += _add(self._waiting, event, run_id)

    def unwait(self, event: str, run_id: str) -> None:
        """One wait less."""
        self._count -= _take(self._waiting, event, run_id)

    def declare(self, events: Iterable[str], run_id: str) -> None:
        """The run, while it lives, keeps these events until it waits for them."""
        for event in events:
            if run_id not in _runs(self._declared.get(event, {})):
                _add(self._declared, event, run_id)

    def undeclare(self, events: Iterable[str], run_id: str) -> None:
        """The run has ended."""
        for event in events:
            _take(self._declared, event, run_id)

    def takers(self, event: str) -> list[str]:
        """Return the runs that wait for the event, then those that declared it, each once."""
        waiting = _runs(self._waiting.get(event, {}))
        declared = _runs(self._declared.get(event, {}))
        return [*waiting, *(run for run in declared if run not in waiting)]

    def events(self) -> list[str]:
        """Return the events that somebody waits for: a copy, some milliseconds a million."""
        return list(self._waiting)

    def waiting_for(self, event: str, most: int) -> tuple[int, tuple[str, ...]]:
        """Return how many runs wait for the event, and the first of them, at most so many."""
        row = self._waiting.get(event, {})
        return 1 if isinstance(row, str) else len(row), tuple(islice(_runs(row), most))

    def __len__(self) -> int:
        return self._count

    def takes(self, event: str, run_id: str) -> bool:
        """Whether the run waits for the event, or declared it."""
        rows = self._waiting.get(event, {}), self._declared.get(event, {})
        return any(run_id in _runs(row) for row in rows)

    def count(self, event: str) -> int:
        """Return how many runs wait for the event or declared it, at most."""
        rows = self._waiting.get(event, {}), self._declared.get(event, {})
        return sum(1 if isinstance(row, str) else len(row) for row in rows)


def _runs(row: str | dict[str, int]) -> dict[str, int]:
    return {row: 1} if isinstance(row, str) else row


def _add(rows: dict[str, str | dict[str, int]], event: str, run_id: str) -> bool:
    """Count one more; say whether the run is new in the row."""
    row = rows.get(event)
    if row is None:
        rows[event] = run_id
        return True
    if isinstance(row, str):
        row = rows[event] = {row: 1}
    count = row.get(run_id, 0)
    row[run_id] = count + 1
    return not count


def _take(rows: dict[str, str | dict[str, int]], event: str, run_id: str) -> bool:
    """Count one less; say whether the run has left the row."""
    row = rows.get(event)
    if row is None or (isinstance(row, str) and row != run_id):
        return False
    if isinstance(row, str):
        del rows[event]
        return True
    if run_id not in row:
        return False
    row[run_id] -= 1
    if row[run_id]:
        return False
    del row[run_id]
    if not row:
        del rows[event]
    return True
