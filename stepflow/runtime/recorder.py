"""Append and apply: the one place where a decision becomes a record.

In one turn of the loop a record is encoded, applied to its run and queued for the journal. Nothing
after the encoding may fail but `apply`, which changes nothing when it does; so what is queued is
exactly what memory holds. A **group** goes into one frame: all of it is on disk, or none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Raw

from stepflow.model.records import (
    EventReceived,
    Record,
    RunPurged,
    ValueRecorded,
    VersionChosen,
    encode_record,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepflow.clock import HybridTime
    from stepflow.journal.api import Journal
    from stepflow.runtime.actor import RunActor

__all__ = ["Recorder"]

R = TypeVar("R", bound=Record)

_BINDING = (ValueRecorded, VersionChosen)
"""Lazy, yet effects wait for them: a step must not act on a value that a crash takes back."""


class Recorder:
    """Turns decisions into records."""

    __slots__ = ("_depth", "_group", "_strict", "journal", "live_bytes", "time")

    def __init__(self, journal: Journal, time: HybridTime) -> None:
        self.journal = journal
        self.time = time
        self.live_bytes = 0
        """What the records of the runs that live hold; whoever ends one takes it away."""
        self._group: list[bytes] = []
        self._strict = False
        self._depth = 0

    @property
    def next_lsn(self) -> int:
        """The LSN of the next record."""
        return self.journal.next_lsn + len(self._group)

    def write(
        self,
        actor: RunActor,
        kind: type[R],
        /,
        *,
        lazy: bool | None = None,
        body: bytes | None = None,
        **fields: Any,
    ) -> R:
        """Record one fact of the actor's run. `body` is the event payload that the record names.

        Raises `ApplyError`, with nothing changed or queued.
        """
        state = actor.state
        lsn = self.journal.next_lsn
        if self._depth:
            lsn += len(self._group)
        record = kind(lsn=lsn, r=state.id, rs=state.rs + 1, ts=self.time.now_ms(), **fields)
        data = encode_record(record)
        before = state.nbytes
        state.apply(record, data, body)
        self.live_bytes += state.nbytes - before
        if lazy is None:
            lazy = kind.lazy
        if self._depth:
            self._group.append(data)
            self._strict |= not lazy
        else:
            self.journal.append((data,), strict=not lazy)
        if not lazy or kind in _BINDING:
            actor.strict_lsn = lsn
        if actor.feed is not None:
            actor.noted(lsn)
        return record

    def write_event(self, event: str, payload: bytes, takers: int, by: str) -> int:
        """Record that an event came; return the LSN that its takers name."""
        lsn = self.next_lsn
        record = EventReceived(
            lsn=lsn,
            r="",
            rs=0,
            ts=self.time.now_ms(),
            event=event,
            payload=Raw(payload),
            takers=takers,
            by=by,
        )
        self._queue(encode_record(record), strict=True)
        return lsn

    def write_purge(self, run_id: str, rs: int, by: str) -> int:
        """Record that a run is forgotten; return the record's LSN."""
        lsn = self.next_lsn
        record = RunPurged(lsn=lsn, r=run_id, rs=rs, ts=self.time.now_ms(), by=by)
        self._queue(encode_record(record), strict=True)
        return lsn

    @contextmanager
    def group(self) -> Generator[None]:
        """Put all records written inside into one frame. Groups nest; the outermost counts."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._group:
                # Also after an exception: what was applied must be queued.
                group, self._group = self._group, []
                strict, self._strict = self._strict, False
                self.journal.append(group, strict=strict)

    def _queue(self, data: bytes, *, strict: bool) -> None:
        if self._depth:
            self._group.append(data)
            self._strict |= strict
        else:
            self.journal.append((data,), strict=strict)
