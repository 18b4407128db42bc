"""Who waits for which event, and who declared it. Pure bookkeeping: it calls nobody."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Waiters"]


class Waiters:
    """Event ids to the runs that wait for them or declared them. Rows of ended runs are removed.

    Most events concern one run, which waits for it once, declared it, or both: such a row is the
    run's id and no more, and which of the three it is, its table says. Any other event is in
    `_shared`. So a run that waits for an event of its own holds the event's id once.
    """

    __slots__ = ("_alone", "_count", "_declared", "_declared_alone", "_shared")

    def __init__(self) -> None:
        self._alone: dict[str, str] = {}
        """Events that one run waits for, once, and none declared."""
        self._declared: dict[str, str] = {}
        """Events that one run declared, and none waits for."""
        self._declared_alone: dict[str, str] = {}
        """Events that one run declared and waits for, once."""
        self._shared: dict[str, _Shared] = {}
        self._count = 0
        """Of the runs of all rows that wait."""

    def wait(self, event: str, run_id: str) -> None:
        """One more wait of the run for the event."""
        if self._declared.get(event) == run_id:
            del self._declared[event]
            self._declared_alone[event] = run_id
            self._count += 1
        elif self._is_free(event):
            self._alone[event] = run_id
            self._count += 1
        else:
            self._count += self._share(event).wait(run_id)

    def unwait(self, event: str, run_id: str) -> None:
        """One wait less."""
        if self._declared_alone.get(event) == run_id:
            del self._declared_alone[event]
            self._declared[event] = run_id
            self._count -= 1
        elif self._alone.get(event) == run_id:
            del self._alone[event]
            self._count -= 1
        elif (row := self._shared.get(event)) is not None:
            self._count -= row.unwait(run_id)
            if row.empty:
                del self._shared[event]

    def declare(self, events: Iterable[str], run_id: str) -> None:
        """The run, while it lives, keeps these events until it waits for them."""
        for event in events:
            if self._alone.get(event) == run_id:
                del self._alone[event]
                self._declared_alone[event] = run_id
            elif self._is_free(event):
                self._declared[event] = run_id
            elif run_id not in {self._declared.get(event), self._declared_alone.get(event)}:
                self._share(event).declared[run_id] = None

    def undeclare(self, events: Iterable[str], run_id: str) -> None:
        """The run has ended."""
        for event in events:
            if self._declared.get(event) == run_id:
                del self._declared[event]
            elif self._declared_alone.get(event) == run_id:
                del self._declared_alone[event]
                self._alone[event] = run_id
            elif (row := self._shared.get(event)) is not None:
                row.declared.pop(run_id, None)
                if row.empty:
                    del self._shared[event]

    def _is_free(self, event: str) -> bool:
        return not (
            event in self._declared
            or event in self._alone
            or event in self._declared_alone
            or event in self._shared
        )

    def _share(self, event: str) -> _Shared:
        """Return the event's row of many, which takes the place of that of one."""
        row = self._shared.get(event)
        if row is None:
            row = self._shared[event] = _Shared()
            both = self._declared_alone.pop(event, None)
            waits = self._alone.pop(event, both)
            declared = self._declared.pop(event, both)
            if waits is not None:
                row.waiting[waits] = 1
            if declared is not None:
                row.declared[declared] = None
        return row

    def _of(self, event: str) -> _Shared:
        """Return who waits for the event and who declared it, for reading."""
        row = self._shared.get(event)
        if row is not None:
            return row
        row = _Shared()
        both = self._declared_alone.get(event)
        waits, declared = self._alone.get(event, both), self._declared.get(event, both)
        if waits is not None:
            row.waiting[waits] = 1
        if declared is not None:
            row.declared[declared] = None
        return row

    def takers(self, event: str) -> list[str]:
        """Return the runs that wait for the event, then those that declared it, each once."""
        row = self._of(event)
        return [*row.waiting, *(run for run in row.declared if run not in row.waiting)]

    def events(self) -> list[str]:
        """Return the events that somebody waits for: a copy, some milliseconds a million."""
        shared = (event for event, row in self._shared.items() if row.waiting)
        return [*self._alone, *self._declared_alone, *shared]

    def waiting_for(self, event: str, most: int) -> tuple[int, tuple[str, ...]]:
        """Return how many runs wait for the event, and the first of them, at most so many."""
        row = self._of(event)
        return len(row.waiting), tuple(islice(row.waiting, most))

    def __len__(self) -> int:
        return self._count

    def takes(self, event: str, run_id: str) -> bool:
        """Whether the run waits for the event, or declared it."""
        row = self._of(event)
        return run_id in row.waiting or run_id in row.declared

    def count(self, event: str) -> int:
        """Return how many runs wait for the event or declared it, at most."""
        row = self._of(event)
        return len(row.waiting) + len(row.declared)


class _Shared:
    """The runs of one event, in the order in which they came: they are woken in that order."""

    __slots__ = ("declared", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}
        """How often each waits."""
        self.declared: dict[str, None] = {}

    @property
    def empty(self) -> bool:
        """Whether the event concerns nobody any more."""
        return not (self.waiting or self.declared)

    def wait(self, run_id: str) -> bool:
        """Count one more; say whether the run is new."""
        count = self.waiting.get(run_id, 0)
        self.waiting[run_id] = count + 1
        return not count

    def unwait(self, run_id: str) -> bool:
        """Count one less; say whether the run waits no more."""
        count = self.waiting.get(run_id)
        if count is None:
            return False
        if count > 1:
            self.waiting[run_id] = count - 1
            return False
        del self.waiting[run_id]
        return True
