"""Who waits for which event, and who declared it. Pure bookkeeping: it calls nobody."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from stepflow.runtime.shards import SHARDS, shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Waiters"]


class Waiters:
    """Event ids to the runs that wait for them or declared them. Rows of ended runs are removed.

    Most events concern one run, which waits for it once, declared it, or both: such a row is the
    run's id and no more, and which of the three it is, its table says. Any other event is among
    the shared ones. So a run that waits for an event of its own holds the event's id once.
    """

    __slots__ = ("_count", "_parts")

    def __init__(self) -> None:
        self._parts = [_Part() for _ in range(SHARDS)]
        """By the event's hash: no table is so large that the loop is held when it grows."""
        self._count = 0
        """Of the runs of all rows that wait."""

    def wait(self, event: str, run_id: str) -> None:
        """One more wait of the run for the event."""
        part = self._parts[shard_of(event)]
        if part.declared.get(event) == run_id:
            del part.declared[event]
            part.both[event] = run_id
            self._count += 1
        elif part.knows(event):
            self._count += part.share(event).wait(run_id)
        else:
            part.waiting[event] = run_id
            self._count += 1

    def unwait(self, event: str, run_id: str) -> None:
        """One wait less."""
        part = self._parts[shard_of(event)]
        if part.both.get(event) == run_id:
            del part.both[event]
            part.declared[event] = run_id
            self._count -= 1
        elif part.waiting.get(event) == run_id:
            del part.waiting[event]
            self._count -= 1
        elif (row := part.shared.get(event)) is not None:
            self._count -= row.unwait(run_id)
            if row.empty:
                del part.shared[event]

    def declare(self, events: Iterable[str], run_id: str) -> None:
        """The run, while it lives, keeps these events until it waits for them."""
        for event in events:
            part = self._parts[shard_of(event)]
            if part.waiting.get(event) == run_id:
                del part.waiting[event]
                part.both[event] = run_id
            elif not part.knows(event):
                part.declared[event] = run_id
            elif run_id not in {part.declared.get(event), part.both.get(event)}:
                part.share(event).declared[run_id] = None

    def undeclare(self, events: Iterable[str], run_id: str) -> None:
        """The run has ended."""
        for event in events:
            part = self._parts[shard_of(event)]
            if part.declared.get(event) == run_id:
                del part.declared[event]
            elif part.both.get(event) == run_id:
                del part.both[event]
                part.waiting[event] = run_id
            elif (row := part.shared.get(event)) is not None:
                row.declared.pop(run_id, None)
                if row.empty:
                    del part.shared[event]

    def _of(self, event: str) -> Shared:
        return self._parts[shard_of(event)].of(event)

    def takers(self, event: str) -> list[str]:
        """Return the runs that wait for the event, then those that declared it, each once."""
        row = self._of(event)
        return [*row.waiting, *(run for run in row.declared if run not in row.waiting)]

    def events(self) -> list[str]:
        """Return the events that somebody waits for: a copy, some milliseconds a million."""
        events: list[str] = []
        for part in self._parts:
            events += part.waiting
            events += part.both
            events += (event for event, row in part.shared.items() if row.waiting)
        return events

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


class _Part:
    """Some of the events; each is in one of the tables."""

    __slots__ = ("both", "declared", "shared", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        """Events that one run waits for, once, and none declared."""
        self.declared: dict[str, str] = {}
        """Events that one run declared, and none waits for."""
        self.both: dict[str, str] = {}
        """Events that one run declared and waits for, once."""
        self.shared: dict[str, Shared] = {}

    def knows(self, event: str) -> bool:
        """Whether the event concerns anybody."""
        return (
            event in self.declared
            or event in self.waiting
            or event in self.both
            or event in self.shared
        )

    def of(self, event: str) -> Shared:
        """Return who waits for the event and who declared it, for reading."""
        row = self.shared.get(event)
        if row is not None:
            return row
        row = Shared()
        both = self.both.get(event)
        waits, declared = self.waiting.get(event, both), self.declared.get(event, both)
        if waits is not None:
            row.waiting[waits] = 1
        if declared is not None:
            row.declared[declared] = None
        return row

    def share(self, event: str) -> Shared:
        """Return the event's row of many, which takes the place of that of one."""
        row = self.shared.get(event)
        if row is None:
            row = self.shared[event] = self.of(event)
            for table in (self.waiting, self.declared, self.both):
                table.pop(event, None)
        return row


class Shared:
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
