"""All runs in the order of their start.

In chunks: to let one list of a million grow is to copy it now and then, which holds the loop for
some twenty milliseconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stepflow.model.ids import RunId

__all__ = ["Order"]

_BITS: Final = 12
_CHUNK: Final = 1 << _BITS
_MASK: Final = _CHUNK - 1


class Order:
    """LSNs of starts, rising, each with its run's id; those of purged runs are to be skipped.

    A place is a number from 0 on.
    """

    __slots__ = ("_chunks", "_firsts", "_ids", "_last_lsn", "_lsns")

    def __init__(self) -> None:
        self._firsts: list[int] = [0]
        """From which LSN on each chunk is."""
        self._lsns: array[int] = array("Q")
        self._ids: list[RunId] = []
        """The chunk that is being filled, which is the last of `_chunks`, too."""
        self._chunks: list[tuple[array[int], list[RunId]]] = [(self._lsns, self._ids)]
        self._last_lsn = -1

    def __len__(self) -> int:
        return ((len(self._chunks) - 1) << _BITS) + len(self._ids)

    def add(self, lsn: int, run_id: RunId) -> bool:
        """Enter a run; a second one of the same record has no place of its own: say so."""
        if lsn <= self._last_lsn:
            return False
        if len(self._ids) == _CHUNK:
            self._begin(lsn)
        self._lsns.append(lsn)
        self._ids.append(run_id)
        self._last_lsn = lsn
        return True

    def _begin(self, lsn: int) -> None:
        """Begin the next chunk, with that LSN."""
        self._firsts.append(lsn)
        self._lsns, self._ids = array("Q"), []
        self._chunks.append((self._lsns, self._ids))

    def at(self, place: int) -> tuple[int, RunId]:
        """Return the LSN of the start at the place, and whose it is."""
        lsns, ids = self._chunks[place >> _BITS]
        return lsns[place & _MASK], ids[place & _MASK]

    def before(self, lsn: int) -> int:
        """Return how many runs were started before the LSN."""
        chunk = max(bisect_right(self._firsts, lsn) - 1, 0)
        return (chunk << _BITS) + bisect_left(self._chunks[chunk][0], lsn)
