"""The last durable records, kept in memory: where the stream of all runs reads.

A commit costs one `append` of what is written anyway, whoever reads or not. Once a second, and when
somebody reads, that is **folded** into slots. A slot holds at first a record's bytes, by reference;
whoever reads it may put in its place what it has made of them. Slots stand by LSN without a gap, in
chunks. The oldest chunk goes when the others have as many events as are asked for, or when all of
them hold too many bytes.

A record counts as an event by its type alone, when its chunk is full: all but those that never make
one. So at least as many events are kept as are asked for, if their bytes allow it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["NO_EVENTS", "SLOT_BYTES", "Chunk", "Recent", "Slot", "Told", "kind_of"]

SLOT_BYTES: Final = 48
"""What a record takes beside its own length: the object's head, and its place in a list."""

_CHUNKS: Final = 64
"""What is kept is dropped in about so many pieces."""
_CHUNK_BYTES_MAX: Final = 1024 * 1024
_CHUNK_RECORDS_MAX: Final = 512
_FOLDED_MAX: Final = 4096

kind_of: Final[Callable[[bytes], bytes]] = itemgetter(slice(6, 14))
"""Returns the first letters of a record's type, behind `{"t":"`."""

NO_EVENTS: Final = frozenset(
    f'{kind}","'.encode()[:8]
    for kind in (
        "sys.open",
        "sys.close",
        "sys.snapshot",
        "run.purged",
        "step.retrying",
        "call.cancelled",
        "call.adopted",
        "value",
        "version",
        "event.received",
        "event.kept",
        "audit.bulk",
        "audit.key",
        "schedule.",
    )
) | {b""}
"""Those letters for the types that make no event, and for a slot that has none to tell any more."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What a reader puts in a record's place; `nbytes` is what it takes in all."""

    nbytes: int


Slot: TypeAlias = "bytes | Told"
Groups: TypeAlias = "Iterable[Sequence[bytes]]"


class Chunk(msgspec.Struct, gc=False):
    """Slots that follow each other. `nbytes` and `events` are known when it is full."""

    first_lsn: int
    slots: list[Slot]
    nbytes: int = 0
    events: int = 0


class Recent:
    """Slots of the last durable records."""

    __slots__ = (
        "_bytes_max",
        "_chunk_bytes",
        "_chunk_records",
        "_chunks",
        "_events_max",
        "_firsts",
        "_left",
        "_pending",
        "_slots",
        "events",
        "keep",
        "nbytes",
    )

    def __init__(self, events_max: int, bytes_max: int) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._chunk_bytes = max(1, min(_CHUNK_BYTES_MAX, bytes_max // _CHUNKS))
        self._chunk_records = max(1, min(_CHUNK_RECORDS_MAX, events_max // _CHUNKS))
        self._pending: list[Groups] = []
        self.keep = self._pending.append
        """Keeps what a commit has written: groups of records that follow the last ones."""
        self.begin(1)

    def begin(self, lsn: int) -> None:
        """Keep nothing; the next record is that of `lsn`."""
        self._chunks: list[Chunk] = []
        self._firsts: list[int] = []
        self._pending.clear()
        self.events = 0
        self.nbytes = 0
        """What all but the chunk that is being filled hold, and how many events that is."""
        self._open(lsn)

    def _open(self, lsn: int) -> None:
        self._slots: list[Slot] = []
        self._left = self._chunk_bytes
        self._chunks.append(Chunk(lsn, self._slots))
        self._firsts.append(lsn)

    @property
    def first_lsn(self) -> int:
        """The lowest LSN that is kept; the next one where nothing is."""
        return self._firsts[0]

    @property
    def next_lsn(self) -> int:
        """The LSN of the record after the last that was folded."""
        return self._firsts[-1] + len(self._slots)

    def count(self) -> int:
        """Return how many events are kept."""
        self.fold()
        return self.events + events_in(self._slots)

    def fold(self) -> None:
        """Take in what was written since the last time."""
        while self.fold_some(_FOLDED_MAX):
            pass

    def fold_some(self, most: int) -> bool:
        """Take in the next commits, about so many records; say whether there are more.

        To be called once a second, until there are none.
        """
        pending = self._pending
        fresh: list[bytes] = []
        taken = 0
        for groups in pending:
            fresh += chain.from_iterable(groups)
            taken += 1
            if len(fresh) >= most:
                break
        del pending[:taken]
        self._take(fresh)
        return bool(pending)

    def _take(self, fresh: list[bytes]) -> None:
        at, count = 0, len(fresh)
        while at < count:
            piece = self._piece(fresh, at)
            self._slots += piece
            at += len(piece)
            if self._left <= 0 or len(self._slots) >= self._chunk_records:
                self._seal()

    def _piece(self, fresh: list[bytes], at: int) -> list[bytes]:
        """Return as many as the chunk has room for, one at least."""
        piece = fresh[at : at + self._chunk_records - len(self._slots)]
        sizes = list(accumulate(map(SLOT_BYTES.__add__, map(len, piece))))
        if sizes[-1] > self._left:
            del piece[bisect_left(sizes, self._left) + 1 :]
        self._left -= sizes[len(piece) - 1]
        return piece

    def _seal(self) -> None:
        """The chunk is full: begin the next, and drop what is kept no longer."""
        chunk = self._chunks[-1]
        chunk.nbytes = sum(map(_bytes_of, chunk.slots))
        chunk.events = events_in(chunk.slots)
        self.nbytes += chunk.nbytes
        self.events += chunk.events
        self._open(self.next_lsn)
        self._drop()

    def _drop(self) -> None:
        count = 0
        chunks = self._chunks
        bytes_max = self._bytes_max - self._chunk_bytes
        while count < len(chunks) - 1 and (
            self.nbytes > bytes_max or self.events - chunks[count].events >= self._events_max
        ):
            self.nbytes -= chunks[count].nbytes
            self.events -= chunks[count].events
            count += 1
        del chunks[:count]
        del self._firsts[:count]

    @property
    def takes_older(self) -> bool:
        """Whether there is room for records from before the first."""
        room = self._bytes_max - self.nbytes - 2 * self._chunk_bytes
        return self.events < self._events_max and room > 0

    def like(self, lsn: int) -> Recent:
        """Return an empty one with the same bounds, for records from `lsn` on."""
        other = Recent(self._events_max, self._bytes_max)
        other.begin(lsn)
        return other

    def put_before(self, older: Recent) -> None:
        """Take the records that come before the first."""
        older.fold()
        if older._slots:
            older._seal()
        if older.next_lsn != self.first_lsn:
            message = f"lsn {older.next_lsn} does not go before lsn {self.first_lsn}"
            raise ValueError(message)
        self._chunks[:0] = older._chunks[:-1]
        self._firsts[:0] = older._firsts[:-1]
        self.nbytes += older.nbytes
        self.events += older.events
        self._drop()

    # ------------------------------------------------------------ reading

    def find(self, lsn: int) -> tuple[Chunk, int]:
        """Return the chunk of a kept LSN and its place in it."""
        firsts = self._firsts
        at = len(firsts) - 1 if lsn >= firsts[-1] else bisect_right(firsts, lsn) - 1
        return self._chunks[at], lsn - firsts[at]

    def raw(self, lsn: int) -> bytes:
        """Return the record's bytes, if they are still there."""
        if not self.first_lsn <= lsn < self.next_lsn:
            return b""
        chunk, place = self.find(lsn)
        slot = chunk.slots[place]
        return slot if isinstance(slot, bytes) else b""

    def put(self, chunk: Chunk, place: int, slot: Slot) -> None:
        """Put in a record's place what was made of it."""
        old = chunk.slots[place]
        chunk.slots[place] = slot
        # Not of the chunk that is being filled, nor of one that its reader alone still has.
        if self._firsts[0] <= chunk.first_lsn < self._firsts[-1]:
            more = _bytes_of(slot) - _bytes_of(old)
            chunk.nbytes += more
            self.nbytes += more
            if self.nbytes > self._bytes_max:
                self._drop()

    def blank(self, lsn: int) -> None:
        """The record has no event to tell any more."""
        if self.first_lsn <= lsn < self.next_lsn:
            chunk, place = self.find(lsn)
            self.put(chunk, place, b"")


def _bytes_of(slot: Slot) -> int:
    return len(slot) + SLOT_BYTES if isinstance(slot, bytes) else slot.nbytes


def events_in(slots: Sequence[Slot]) -> int:
    """Return how many of them make an event, by their types."""
    try:
        raw = cast("Sequence[bytes]", slots)
        return len(slots) - sum(map(NO_EVENTS.__contains__, map(kind_of, raw)))
    except TypeError:
        # Some were read already.
        return sum(not isinstance(slot, bytes) or kind_of(slot) not in NO_EVENTS for slot in slots)
