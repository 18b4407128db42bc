"""Append and apply: the one place where a decision becomes a record.

In one turn of the loop a record is encoded, applied to its run and queued for the journal. Nothing
after the encoding may fail but `apply`, which changes nothing when it does; so what is queued is
exactly what memory holds. A **group** goes into one frame: all of it is on disk, or none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Raw
from msgspec.structs import replace

from stepflow.model.records import (
    BulkActed,
    EventReceived,
    KeyActed,
    Record,
    RunPurged,
    ValueRecorded,
    VersionChosen,
    encode_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from stepflow.clock import HybridTime
    from stepflow.journal.api import Journal
    from stepflow.model.run import RunState
    from stepflow.runtime.actor import RunActor

__all__ = ["Copied", "Recorder"]

R = TypeVar("R", bound=Record)

Copied = tuple[Record, EventReceived | None]
"""What a fork keeps: a record but for its place, and the event that it names."""

_BINDING = (ValueRecorded, VersionChosen)
"""Lazy, yet effects wait for them: a step must not act on a value that a crash takes back."""


class Recorder:
    """Turns decisions into records."""

    __slots__ = ("journal", "live_bytes", "on_act", "sink", "time")

    def __init__(self, journal: Journal, time: HybridTime) -> None:
        self.journal = journal
        self.time = time
        self.on_act: Callable[[Record], None] | None = None
        """Told of acts on no run, and on runs that have gone."""
        self.live_bytes = 0
        """What the records of the runs that live hold; whoever ends one takes it away."""
        self.sink: Journal | _Group = journal
        """Where records go: into the journal, or into the group that is open."""

    @property
    def next_lsn(self) -> int:
        """The LSN of the next record."""
        return self.sink.next_lsn

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
        state = actor.open_state or actor.state
        lsn = self.sink.next_lsn
        record = kind(lsn=lsn, r=state.id, rs=state.rs + 1, ts=self.time.now_ms(), **fields)
        strict = not (kind.lazy if lazy is None else lazy)
        self.take(actor, state, record, strict=strict, body=body)
        if not strict and kind in _BINDING:
            actor.strict_lsn = lsn
        return record

    def take(
        self,
        actor: RunActor,
        state: RunState,
        record: Record,
        *,
        strict: bool,
        body: bytes | None = None,
    ) -> None:
        """Record what the caller has made, in the same turn, with `sink.next_lsn` and `time`.

        Members that pass through `**fields` cost five times what the record does, so whoever
        records something for each step makes it himself. Raises as `write` does.
        """
        data = encode_record(record)
        before = state.nbytes
        state.apply(record, data, body)
        self.live_bytes += state.nbytes - before
        self.sink.append((data,), strict=strict)
        if strict:
            actor.strict_lsn = record.lsn
        if actor.feed is not None:
            actor.noted(record.lsn)

    def write_copies(self, actor: RunActor, rows: Iterable[Copied]) -> None:
        """Record what another run had recorded as the history of a run that has just been started.

        It is much in one turn, so all of it has one moment, and nobody follows the run yet.
        """
        state = actor.state
        run_id, ts, before = state.id, self.time.now_ms(), state.nbytes
        lsn = self.sink.next_lsn
        written: list[bytes] = []
        try:
            for record, event in rows:
                body: bytes | None = None
                if event is not None:
                    taken = replace(event, lsn=lsn, ts=ts, by=f"run:{run_id}")
                    written.append(encode_record(taken))
                    body = bytes(event.payload)
                    record = replace(record, payload=lsn)  # noqa: PLW2901  it names the event
                    lsn += 1
                copy = replace(record, lsn=lsn, r=run_id, rs=state.rs + 1, ts=ts)
                data = encode_record(copy)
                state.apply(copy, data, body)
                written.append(data)
                lsn += 1
        finally:
            # Also after an exception: what was applied must be queued.
            if written:
                self.sink.append(written, strict=True)
                actor.strict_lsn = lsn - 1
            self.live_bytes += state.nbytes - before

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
        self.sink.append((encode_record(record),), strict=True)
        return lsn

    def write_schedule(self, kind: type[R], /, **fields: Any) -> R:
        """Record one fact of a schedule."""
        record = kind(lsn=self.next_lsn, r="", rs=0, ts=self.time.now_ms(), **fields)
        self.sink.append((encode_record(record),), strict=True)
        return record

    def write_purge(
        self, run_id: str, rs: int, by: str, *, reason: str = "", workflow: str = ""
    ) -> int:
        """Record that a run is forgotten; return the record's LSN. With a workflow it is an act."""
        lsn = self.next_lsn
        record = RunPurged(
            lsn=lsn,
            r=run_id,
            rs=rs,
            ts=self.time.now_ms(),
            by=by,
            reason=reason,
            workflow=workflow,
        )
        self.sink.append((encode_record(record),), strict=True)
        if self.on_act is not None:
            self.on_act(record)
        return lsn

    def write_bulk(self, **fields: Any) -> int:
        """Record that somebody acted on many runs; return the record's LSN."""
        return self._write_act(BulkActed, fields)

    def write_key_act(self, **fields: Any) -> int:
        """Record that somebody made or revoked an API key; return the record's LSN."""
        return self._write_act(KeyActed, fields)

    def _write_act(self, kind: type[Record], fields: dict[str, Any]) -> int:
        lsn = self.next_lsn
        record = kind(lsn=lsn, r="", rs=0, ts=self.time.now_ms(), **fields)
        self.sink.append((encode_record(record),), strict=True)
        if self.on_act is not None:
            self.on_act(record)
        return lsn

    @contextmanager
    def group(self) -> Generator[None]:
        """Put all records written inside into one frame. Groups nest; the outermost counts."""
        if self.sink is not self.journal:
            yield
            return
        group = self.sink = _Group(self.journal.next_lsn)
        try:
            yield
        finally:
            self.sink = self.journal
            if group.records:
                # Also after an exception: what was applied must be queued.
                self.journal.append(group.records, strict=group.strict)


class _Group:
    """Gathers records for one frame."""

    __slots__ = ("next_lsn", "records", "strict")

    def __init__(self, next_lsn: int) -> None:
        self.next_lsn = next_lsn
        self.records: list[bytes] = []
        self.strict = False

    def append(self, records: Sequence[bytes], *, strict: bool) -> None:
        """Take records whose LSNs follow those of the last ones."""
        self.records += records
        self.next_lsn += len(records)
        self.strict |= strict
