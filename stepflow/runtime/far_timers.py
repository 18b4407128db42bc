"""Timers of a far day, as arrays: a bucket for each span of time, opened shortly before it begins.

::

    bucket of 65 seconds        [whom: run, key, run, key, …]   [offset, offset, …]  2 bytes each
    bucket of 18 hours          the same, 4 bytes each; opened, its timers go into those of 65 s

A million runs wait for days, and a tuple and an integer each would be as much again as their rows.
In a bucket there is no order: what is taken out of it is put in order by whoever takes it, before
the bucket's time begins. A bucket is a chain of parts of some thousands: to let one list of
millions grow would hold the loop for as long as it takes to copy it.
"""

from __future__ import annotations

import heapq
from array import array
from math import inf
from typing import TYPE_CHECKING, Final

from stepflow.clock import next_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FarTimers", "Timer"]

Timer = tuple[int, str, str]
"""When it is due, in hybrid ms; whose it is; its key."""

_SPANS: Final = ((26, 1, "I"), (16, 0, "H"))
"""Widest first: bits of a bucket's width in ms, its mark in the bucket's name, its offsets' type.

A bucket's name is the moment at which it begins, whose last bits are free for the mark.
"""
_MARKS: Final = 1
_PART_MAX: Final = 4096
_TIDY_SLICE: Final = 1000


class _Part:
    """Some of the timers of one span of time, and the part that was full before this one."""

    __slots__ = ("before", "offsets", "whom")

    def __init__(self, kind: str, before: _Part | None) -> None:
        self.before = before
        self.offsets: array[int] = array(kind)
        self.whom: list[str] = []
        """Run and key in turn: one list has one end that grows."""


class FarTimers:
    """Timers by the span of time in which they are due."""

    __slots__ = ("_buckets", "_count", "_least", "_names")

    def __init__(self) -> None:
        self._buckets: dict[int, _Part] = {}
        """The last part of each."""
        self._least: dict[int, int] = {}
        """What was ever due first in each."""
        self._names: list[int] = []
        """A heap; that of a bucket that has gone stays until it comes up."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, due_ms: int, run_id: str, key: str, horizon_ms: int) -> bool:
        """Keep the timer in the widest bucket that begins at the horizon or later, if any does."""
        for bits, mark, kind in _SPANS:
            begin = due_ms >> bits << bits
            if begin < horizon_ms:
                continue
            name = begin | mark
            part = self._buckets.get(name)
            if part is None:
                heapq.heappush(self._names, name)
                self._least[name] = due_ms
            elif due_ms < self._least[name]:
                self._least[name] = due_ms
            if part is None or len(part.offsets) >= _PART_MAX:
                part = self._buckets[name] = _Part(kind, part)
            part.offsets.append(due_ms - begin)
            part.whom += (run_id, key)
            self._count += 1
            return True
        return False

    @property
    def begin_ms(self) -> float:
        """When the first bucket begins: nothing in here is due before."""
        names = self._names
        while names and names[0] not in self._buckets:
            heapq.heappop(names)
        return names[0] & ~_MARKS if names else inf

    @property
    def due_ms(self) -> float:
        """A moment before which nothing in here is due: that of the first timer, most likely."""
        if self.begin_ms == inf:
            return inf
        # A wide bucket may lie around others: one of the next two of the heap begins next.
        begins = (name & ~_MARKS for name in self._names[1:3])
        return min((self._least[self._names[0]], *begins))

    def take(self, most: int) -> list[Timer]:
        """Take so many timers, at most, out of the bucket that begins first."""
        if self.begin_ms == inf:
            return []
        name = self._names[0]
        part = self._buckets[name]
        offsets, whom = part.offsets, part.whom
        begin = name & ~_MARKS
        taken: list[Timer] = []
        for _ in range(min(most, len(offsets))):
            key, run_id = whom.pop(), whom.pop()
            taken.append((begin + offsets.pop(), run_id, key))
        self._count -= len(taken)
        if not offsets:
            self._drop_last(name)
        return taken

    def _drop_last(self, name: int) -> None:
        """The bucket's last part is empty."""
        before = self._buckets.pop(name).before
        if before is not None:
            self._buckets[name] = before
        else:
            del self._least[name]

    def clear(self) -> None:
        """Keep nothing."""
        for last in self._buckets.values():
            part: _Part | None = last
            while part is not None:
                # A tidying may be at it.
                del part.offsets[:]
                part.whom.clear()
                part = part.before
        self._buckets.clear()
        self._least.clear()
        self._names.clear()
        self._count = 0

    async def tidy(self, counts: Callable[[str, str, int], bool]) -> None:
        """Leave out timers that do not count any more, a slice in each pass of the loop."""
        looked_at = 0
        for name in list(self._buckets):
            part = self._buckets.get(name)
            while part is not None:
                for place in _backwards(part.offsets):
                    self._look_at(part, place, name & ~_MARKS, counts)
                    looked_at += 1
                    if looked_at % _TIDY_SLICE == 0:
                        await next_pass()
                part = part.before
            self._drop_empty(name)

    def _look_at(
        self, part: _Part, place: int, begin_ms: int, counts: Callable[[str, str, int], bool]
    ) -> None:
        """Leave the timer out if it does not count: the last one takes its place."""
        offsets, whom = part.offsets, part.whom
        if counts(whom[2 * place], whom[2 * place + 1], begin_ms + offsets[place]):
            return
        offset, key, run_id = offsets.pop(), whom.pop(), whom.pop()
        if place < len(offsets):
            offsets[place], whom[2 * place], whom[2 * place + 1] = offset, run_id, key
        self._count -= 1

    def _drop_empty(self, name: int) -> None:
        """Leave the parts out that have become empty."""
        while (last := self._buckets.get(name)) is not None and not last.offsets:
            self._drop_last(name)
        while last is not None:
            while last.before is not None and not last.before.offsets:
                last.before = last.before.before
            last = last.before


def _backwards(offsets: array[int]) -> Iterator[int]:
    """Yield the places from the last to the first, of a part that others take from meanwhile.

    Whatever is in the last place when another goes was looked at, or put in meanwhile: it may be
    looked at next time.
    """
    place = len(offsets)
    while place := min(place, len(offsets)):
        place -= 1
        yield place
