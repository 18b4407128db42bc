"""The table of all runs: by id, and in order of creation.

A row is an actor, or, for a run that nobody moves, its parked `bytes` (parked.py): a hundred
thousand sleepers cost what their bytes cost. `get` makes the actor when it is asked for. A run has
one actor at a time, whoever still holds it: one that was parked is found again as long as anybody
has it.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from stepflow.clock import next_pass
from stepflow.model.ids import RunId
from stepflow.runtime.order import Order
from stepflow.runtime.parked import (
    Names,
    finished_of,
    line_of,
    lsn_of,
    press,
    start_lsn_of,
    status_of,
    summary_of,
)
from stepflow.runtime.shards import MASK, Shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepflow.model.run import RunStatus, RunSummary
    from stepflow.runtime.actor import RunActor

__all__ = ["Runs"]

_VISITED_MAX: Final = 1000
_ORDER_SLACK: Final = 1000
_ORDER_SLICE: Final = 2000
_PRESSED_AT_ONCE: Final = 100
_LOOKED_AT: Final = 2000
"""So many places are looked at in one go, be there runs in them or not."""


class Runs:
    """Runs by id. `order` has their ids by the LSN of their start."""

    __slots__ = (
        "_held",
        "_make",
        "_parts",
        "_rows",
        "_strays",
        "_tidying",
        "_visited",
        "names",
        "order",
        "parked_bytes",
    )

    def __init__(self, make: Callable[[RunId, bytes], RunActor]) -> None:
        self._make = make
        self._rows: Shards[RunActor | bytes] = Shards()
        self._parts = self._rows.parts
        self._held: WeakValueDictionary[str, RunActor] = WeakValueDictionary()
        """Parked, but somebody still has the actor."""
        self._visited: deque[RunId] = deque()
        """Whose actor was made from a parked row by `get`: it goes when nothing came of it."""
        self._strays: list[RunId] = []
        """Runs without a place in `order`: no journal of ours makes any."""
        self._tidying = False
        self.parked_bytes = 0
        """What the rows hold that are parked."""
        self.names = Names()
        self.order = Order()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._rows

    def __iter__(self) -> Iterator[str]:
        """Yield the ids there are now, in the order of creation."""
        return iter(sorted(chain.from_iterable(self._rows.parts), key=self.start_lsn))

    def __getitem__(self, run_id: str) -> RunActor:
        actor = self.get(run_id)
        if actor is None:
            raise KeyError(run_id)
        return actor

    def get(self, run_id: str) -> RunActor | None:
        """Return the run's actor, or None where there is no such run."""
        # Here and elsewhere on the hot way a part of the table is asked itself.
        row = self._parts[hash(run_id) & MASK].get(run_id)
        return self._visit(run_id, row) if isinstance(row, bytes) else row

    def _visit(self, run_id: str, parked: bytes) -> RunActor:
        actor = self._held.get(run_id)
        if actor is None:
            actor = self._make(self._own_id(run_id, parked), parked)
        self._rows[run_id] = actor
        self.parked_bytes -= len(parked)
        self._visited.append(actor.id)
        if len(self._visited) > _VISITED_MAX:
            longest_ago = self._rows.get(self._visited.popleft())
            if longest_ago is not None and not isinstance(longest_ago, bytes):
                longest_ago.leave()
        return actor

    def _own_id(self, run_id: str, parked: bytes) -> RunId:
        """Return the table's own copy of the id: what is entered by it must not hold another."""
        place = self.order.before(start_lsn_of(parked))
        if place < len(self.order):
            _, own = self.order.at(place)
            if own == run_id:
                return own
        return RunId(run_id)

    def values(self) -> Iterator[RunActor]:
        """Yield every run's actor, parked ones too."""
        return (self[run_id] for run_id in list(self))

    def awake(self) -> list[RunActor]:
        """Return the actors there are, oldest first: nobody waits on any other run."""
        rows = [row for row in self._rows.values() if not isinstance(row, bytes)]
        return sorted((*rows, *self._held.values()), key=_start_lsn)

    def finished(self, run_id: str) -> bool:
        """Whether the run has ended, or is not known."""
        row = self._rows.get(run_id)
        if row is None:
            return True
        return finished_of(row) if isinstance(row, bytes) else row.finished

    def stands_at(self, run_id: str, start_lsn: int) -> bool:
        """Whether there is the run of that start: its id may have been purged and taken again."""
        row = self._rows.get(run_id)
        return row is not None and _start_lsn(row) == start_lsn

    def awake_one(self, run_id: str) -> RunActor | None:
        """Return the run's actor where there is one: none is made of a parked row."""
        row = self._rows.get(run_id)
        return None if isinstance(row, bytes) else row

    def start_lsn(self, run_id: str) -> int:
        """Return the LSN of the run's start; 0 where there is no such run."""
        row = self._rows.get(run_id)
        return 0 if row is None else _start_lsn(row)

    def last_lsn(self, run_id: str) -> int:
        """Return the LSN of the run's last record; 0 where there is no such run."""
        row = self._rows.get(run_id)
        if row is None:
            return 0
        return lsn_of(row) if isinstance(row, bytes) else row.lsn

    def status(self, run_id: str) -> RunStatus | None:
        """Return the run's status, the quickest thing to ask; None where there is no such run."""
        row = self._rows.get(run_id)
        if row is None:
            return None
        return status_of(row) if isinstance(row, bytes) else row.status

    def summary(self, run_id: str) -> RunSummary | None:
        """Return what lists show of the run, without making its actor."""
        row = self._rows.get(run_id)
        if row is None:
            return None
        return summary_of(row, run_id, self.names) if isinstance(row, bytes) else row.summary()

    def line(self, run_id: str) -> tuple[int, bytes] | None:
        """Return the LSN of the run's last record and its snapshot line."""
        row = self._rows.get(run_id)
        if row is None:
            return None
        return _line(row, run_id)

    def enter(self, actor: RunActor, start_lsn: int) -> None:
        """Enter a run: a new one, or one that recovery found."""
        run_id = actor.id
        self._parts[hash(run_id) & MASK][run_id] = actor
        if not self.order.add(start_lsn, run_id):
            self._strays.append(run_id)

    def enter_parked(self, run_id: RunId, start_lsn: int, parked: bytes) -> None:
        """Enter a run that recovery found and that nothing moves."""
        self._rows[run_id] = parked
        self.parked_bytes += len(parked)
        self._place(start_lsn, run_id)

    def _place(self, start_lsn: int, run_id: RunId) -> None:
        if not self.order.add(start_lsn, run_id):
            self._strays.append(run_id)

    def opened(self, actor: RunActor) -> None:
        """The actor has opened its state: it is the row now, if the run was not purged."""
        row = self._rows.get(actor.id)
        if row is not None:
            if isinstance(row, bytes):
                self.parked_bytes -= len(row)
            self._rows[actor.id] = actor

    def park(self, actor: RunActor, parked: bytes) -> None:
        """Keep the run as bytes; the actor goes when nobody has it any more."""
        run_id = actor.id
        part = self._parts[hash(run_id) & MASK]
        if part.get(run_id) is actor:
            part[run_id] = parked
            self.parked_bytes += len(parked)
            self._held[run_id] = actor

    def pop(self, run_id: str) -> RunActor | bytes | None:
        """Forget a purged run."""
        row = self._rows.pop(run_id)
        if isinstance(row, bytes):
            self.parked_bytes -= len(row)
        return row

    def slices(self, runs_max: int, bytes_max: int) -> Iterator[list[tuple[int, bytes]]]:
        """Yield the LSNs and snapshot lines of all runs there are now, some at a time.

        A run that is purged meanwhile is left out; what is started meanwhile is not in it. A list
        of a million ids would take longer than the loop may wait: this goes by their order.
        """
        order, strays = self.order, self._strays[:]
        lines: list[tuple[int, bytes]] = []
        nbytes = 0
        for place in range(len(order)):
            start_lsn, run_id = order.at(place)
            row = self._rows.get(run_id)
            if row is not None and _start_lsn(row) == start_lsn:
                lines.append(_line(row, run_id))
                nbytes += len(lines[-1][1])
            if (
                len(lines) >= runs_max
                or nbytes >= bytes_max
                or place % _LOOKED_AT == _LOOKED_AT - 1
            ):
                yield lines
                lines, nbytes = [], 0
        yield [*lines, *(line for run_id in strays if (line := self.line(run_id)) is not None)]

    async def press(self) -> None:
        """Compress what a start has parked in a hurry, a slice in each pass of the loop."""
        order = self.order
        for place in range(len(order)):
            _, run_id = order.at(place)
            row = self._rows.get(run_id)
            if isinstance(row, bytes):
                pressed = self._rows[run_id] = press(row, run_id)
                self.parked_bytes += len(pressed) - len(row)
            if place % _PRESSED_AT_ONCE == _PRESSED_AT_ONCE - 1:
                await next_pass()

    async def tidy(self) -> None:
        """Drop the places of purged runs once they are the more, a slice in each pass."""
        if self._tidying or len(self.order) <= 2 * len(self._rows) + _ORDER_SLACK:
            return
        self._tidying = True
        try:
            # A new one: a list that is being made goes on with the one it began with.
            old, new, seen = self.order, Order(), 0
            while seen < len(old):
                if seen:
                    await next_pass()
                begin, seen = seen, min(seen + _ORDER_SLICE, len(old))
                for place in range(begin, seen):
                    start_lsn, run_id = old.at(place)
                    if self.stands_at(run_id, start_lsn):
                        new.add(start_lsn, run_id)
            self.order = new
        finally:
            self._tidying = False


def _line(row: RunActor | bytes, run_id: str) -> tuple[int, bytes]:
    return (lsn_of(row), line_of(row, run_id)) if isinstance(row, bytes) else (row.lsn, row.line())


def _start_lsn(row: RunActor | bytes) -> int:
    return start_lsn_of(row) if isinstance(row, bytes) else row.start_lsn
