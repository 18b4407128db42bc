"""The events of all runs, as one stream: whoever reads is a cursor into the last durable records.

Nothing is done for a record until somebody reads it. Then its event is rendered once, with its
time and its run's id and workflow, and kept in the record's place: the same bytes go to all. What
several with the same filter read from the same place on is joined once.

A reader that has everything is **idle**. A commit puts those who idle, and nobody else, in the
line of a wave that serves some in each pass of the loop: one whose client does not read costs a
commit nothing, and with ten thousand a commit still does one thing. A reader that is not done when
its turn is over, or that sees news come meanwhile, has another in the same wave.

What is not journaled is kept for those who read now, some hundred events of it, and shared, too.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from stepflow.clock import next_pass, rfc3339
from stepflow.journal.recent import NO_EVENTS, SLOT_BYTES, Told, kind_of
from stepflow.model.records import (
    EventReceived,
    RunCancelled,
    RunCompleted,
    RunFailed,
    UnknownRecordError,
    WaitResolved,
    decode_record,
)
from stepflow.model.views import RunEvent, event_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from stepflow.journal.api import Journal
    from stepflow.journal.recent import Chunk, Recent
    from stepflow.model.event_filter import EventFilter
    from stepflow.model.records import Record
    from stepflow.model.run import RunState
    from stepflow.model.views import EventName
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.runs import Runs

__all__ = ["Firehose", "Reader", "status_of"]

_SERVED_AT_ONCE: Final = 100
"""Readers that have their turn in one go, if they find things rendered."""
_WORK_AT_ONCE: Final = 2_000
"""Slots that are looked at in one go. To render one counts for as much as to look at twenty."""
_RENDERING: Final = 20
_PASSING: Final = 512
_PASSING_BYTES: Final = 1024 * 1024
"""So much that is not journaled is kept for those who read now."""
_JOINED: Final = 1024
_JOINED_BYTES: Final = 1024 * 1024
_KNOWN_MAX: Final = 4096
_ROW_BYTES: Final = SLOT_BYTES + 96

_log: Final = logging.getLogger("stepflow.hub")
_encode: Final = msgspec.json.Encoder().encode
_PENDING: Final = b'{"status":"pending"'


class _About(msgspec.Struct, frozen=True, gc=False):
    """What is said of a run with each of its events."""

    start_lsn: int
    run_id: str
    workflow_id: str
    tags: tuple[str, ...]
    tail: bytes
    """The end of the event's data."""


class _Row(Told, frozen=True, gc=False):
    """An event in its record's place."""

    frame: bytes
    event: EventName
    status: str
    about: _About


_Here: TypeAlias = "tuple[_Shared, int, int, int, int]"
"""Filter, position, passing events read, durable LSN, and how many bytes were asked for."""
_Joined: TypeAlias = "tuple[bytes, int, int]"
"""The events' bytes, the position behind them, and the passing events read by then."""


class _Shared:
    """A filter, and how many readers have it."""

    __slots__ = ("readers", "takes_all", "where")

    def __init__(self, where: EventFilter) -> None:
        self.where = where
        self.takes_all = where.takes_all
        self.readers = 0

    def takes(self, row: _Row) -> bool:
        about = row.about
        return self.where.takes(about.run_id, about.workflow_id, about.tags, row.status)


class Firehose:
    """All readers of all runs; told of each commit while some of them idle."""

    __slots__ = (
        "_due",
        "_is_serving",
        "_joined",
        "_joined_bytes",
        "_journal",
        "_known",
        "_loop",
        "_news",
        "_passing",
        "_passing_bytes",
        "_payload",
        "_runs",
        "_shared",
        "closing",
        "idle",
        "passed",
        "readers",
        "work",
    )

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop, runs: Runs) -> None:
        self._journal = journal
        self._loop = loop
        self._runs = runs
        self._shared: dict[EventFilter, _Shared] = {}
        self._known: dict[str, _About] = {}
        self._payload = (0, b"")
        """The payload that was asked for last, by its LSN: many runs may have taken it."""
        self._joined: dict[_Here, _Joined] = {}
        """What was joined in this wave: the next reader's, mostly."""
        self._joined_bytes = 0
        self._due: deque[Reader] = deque()
        self._is_serving = False
        """Whether a turn is going on or will come."""
        self._news = False
        """Whether something came since the wave began."""
        self._passing: deque[tuple[int, _Row]] = deque()
        """Events that are not journaled, each with the LSN behind which it is told."""
        self._passing_bytes = 0
        self.passed = 0
        """How many such events there were."""
        self.idle: dict[Reader, None] = {}
        self.readers = 0
        self.work = 0
        """What was looked at and rendered in this go."""
        self.closing = False

    @property
    def durable_lsn(self) -> int:
        """Nothing above this may be read."""
        return self._journal.durable_lsn

    @property
    def recent(self) -> Recent:
        """The last durable records."""
        return self._journal.recent

    def future(self) -> asyncio.Future[None]:
        """Return a new future of the engine's loop."""
        return self._loop.create_future()

    # ------------------------------------------------------------ readers

    def join(self, where: EventFilter, after: str | None = None) -> Reader:
        """Add a reader that goes on after the cursor, or begins now."""
        shared = self._shared.setdefault(where, _Shared(where))
        shared.readers += 1
        self.readers += 1
        position = self.durable_lsn if after is None else self._position(after)
        return Reader(self, shared, position)

    def leave(self, shared: _Shared) -> None:
        """A reader has gone."""
        self.readers -= 1
        shared.readers -= 1
        if not shared.readers:
            del self._shared[shared.where]
        if not self.readers:
            self._passing.clear()
            self._passing_bytes = 0
            self._known.clear()
            self._payload = 0, b""

    def _position(self, cursor: str) -> int:
        """Return the LSN of a cursor; -1 for one that this store has not given."""
        store, _, text = cursor.rpartition("-")
        if store != self._journal.store_id or not (text.isascii() and text.isdecimal()):
            return -1
        # A longer text is no number of ours, and int() need not look at it.
        lsn = int(text) if len(text) < 20 else self.durable_lsn + 1
        return lsn if lsn <= self.durable_lsn else -1

    def cursor(self, lsn: int) -> str:
        """Return the cursor behind that record."""
        return f"{self._journal.store_id}-{lsn}"

    def is_kept(self, position: int) -> bool:
        """Whether all that follows the position is still there."""
        self.recent.fold()
        return position + 1 >= self.recent.first_lsn

    # ------------------------------------------------------------ waves

    def news(self) -> None:
        """There may be more to read: begin a wave, or let the one that goes on take it along."""
        if self._due:
            self._news = True
        elif self.idle:
            self._begin()

    def _begin(self) -> None:
        self._news = False
        self._due.extend(self.idle)
        self.idle.clear()
        self._serve_soon()

    def _serve_soon(self) -> None:
        if not self._is_serving:
            self._is_serving = True
            self._loop.call_soon(self._serve)

    def arm(self, reader: Reader) -> None:
        """Give the reader its turn when there is more to read."""
        if reader.is_behind():
            self._due.append(reader)
            self._serve_soon()
        else:
            self.idle[reader] = None

    def disarm(self, reader: Reader) -> None:
        """Give it no turn."""
        self.idle.pop(reader, None)

    def _serve(self) -> None:
        due = self._due
        self.work = 0
        for _ in range(min(len(due), _SERVED_AT_ONCE)):
            try:
                due.popleft().wake()
            except Exception:  # noqa: BLE001  a border: one connection must not stop the others
                _log.exception("a reader of all runs could not be woken")
            if self.work > _WORK_AT_ONCE:
                break
        self.work = 0
        self._is_serving = False
        if due:
            self._serve_soon()
        elif self._news and self.idle:
            self._begin()
        else:
            # Those that are tasks read in the next pass.
            self._loop.call_soon(self._forget)

    def _forget(self) -> None:
        if not self._due:
            self._joined.clear()
            self._joined_bytes = 0

    def joined(self, here: _Here) -> _Joined | None:
        """Return what another reader has read from the same place on, in this wave."""
        return self._joined.get(here)

    def keep(self, here: _Here, joined: _Joined) -> None:
        """Keep for the others what was read; when it gets much, what was read before is not."""
        self._joined_bytes += len(joined[0])
        if self._joined_bytes > _JOINED_BYTES or len(self._joined) >= _JOINED:
            self._joined.clear()
            self._joined_bytes = len(joined[0])
        self._joined[here] = joined

    def close(self) -> None:
        """End every stream."""
        self.closing = True
        self.news()

    # ------------------------------------------------------------ what passes

    def tell(self, actor: RunActor, event: RunEvent) -> None:
        """Give those who read now an event that is kept nowhere."""
        about = self._about_of(actor.id, self._journal.next_lsn)
        if about is None:
            return
        at = rfc3339(actor.sup.time.now_ms()).encode()
        data = b'%b,"at":"%b"%b' % (event.data[:-1], at, about.tail)
        frame = b"event: %b\ndata: %b\n\n" % (event.event.encode(), data)
        row = _Row(len(frame) + _ROW_BYTES, frame, event.event, "running", about)
        # Of a run that may still be lost nothing is told, and nothing before what it follows.
        self._passing.append((max(self.durable_lsn, about.start_lsn), row))
        self._passing_bytes += row.nbytes
        self.passed += 1
        while len(self._passing) > _PASSING or self._passing_bytes > _PASSING_BYTES:
            self._passing_bytes -= self._passing.popleft()[1].nbytes
        self.news()

    def passing(self, number: int) -> tuple[int, int, _Row] | None:
        """Return the first that is kept of those from that number on: number, LSN, event."""
        first = self.passed - len(self._passing)
        number = max(number, first)
        return None if number >= self.passed else (number, *self._passing[number - first])

    # ------------------------------------------------------------ rendering

    def undo(self, state: RunState) -> None:
        """The run was retried just now: the end that this undoes is not told again."""
        end = decode_record(state.records[-2])
        if end is not None:
            self.recent.blank(end.lsn)

    def look(self, chunk: Chunk, place: int) -> _Row | None:
        """Return the event of a record, rendered if need be."""
        self.work += 1
        slot = chunk.slots[place]
        if isinstance(slot, _Row):
            return slot
        if not isinstance(slot, bytes) or kind_of(slot) in NO_EVENTS:
            return None
        self.work += _RENDERING
        row = self._render(slot, chunk.first_lsn + place)
        self.recent.put(chunk, place, b"" if row is None else row)
        return row

    def _render(self, data: bytes, lsn: int) -> _Row | None:
        try:
            record = decode_record(data)
        except (UnknownRecordError, msgspec.MsgspecError, ValueError, RecursionError):
            # The run that it belongs to was set aside because of it.
            return None
        # A type that this version may skip makes no event; nor does a run that has been purged.
        about = None if record is None else self._about_of(record.r, lsn)
        if record is None or about is None or self._is_undone(record):
            return None
        event = self._event_of(record)
        if event is None:
            return None
        mark = self.cursor(lsn).encode()
        at = rfc3339(record.ts).encode()
        data = b'%b,"at":"%b"%b' % (event.data[:-1], at, about.tail)
        frame = b"id: %b\nevent: %b\ndata: %b\n\n" % (mark, event.event.encode(), data)
        return _Row(len(frame) + _ROW_BYTES, frame, event.event, status_of(record, event), about)

    def _event_of(self, record: Record) -> RunEvent | None:
        actor = self._runs.awake_one(record.r)
        if actor is not None and actor.feed is not None:
            # Somebody watches this one run: encoded once for both.
            row = actor.feed.row(record.rs - 1)
            if row is not None and row[0] == record.lsn:
                return row[1]
        if isinstance(record, WaitResolved):
            return event_of(record, {record.payload: self._payload_of(record)})
        return event_of(record, {})

    def _payload_of(self, record: WaitResolved) -> bytes:
        """Return what the event brought: from its own record, or from the run that had kept it."""
        lsn, payload = self._payload
        if lsn == record.payload:
            return payload
        raw = self.recent.raw(record.payload)
        received = decode_record(raw) if raw else None
        if isinstance(received, EventReceived):
            payload = bytes(received.payload)
        else:
            actor = self._runs.get(record.r)
            held = {} if actor is None else actor.peek().payloads
            payload = held.get(record.payload, b"null")
        self._payload = record.payload, payload
        return payload

    def _is_undone(self, record: Record) -> bool:
        """Whether the record is an end after which the run goes on."""
        return isinstance(record, RunFailed | RunCancelled) and record.lsn < self._runs.last_lsn(
            record.r
        )

    def _about_of(self, run_id: str, lsn: int) -> _About | None:
        """Return what is said of the run of a record; None where it is purged."""
        start_lsn = self._runs.start_lsn(run_id)
        if not 0 < start_lsn <= lsn:
            return None
        about = self._known.get(run_id)
        if about is None or about.start_lsn != start_lsn:
            summary = self._runs.summary(run_id)
            if summary is None:
                return None
            workflow = summary.workflow
            tail = b',"runId":"%b","workflowId":%b}' % (run_id.encode(), _encode(workflow))
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            about = _About(start_lsn, run_id, workflow, summary.tags, tail)
            self._known[run_id] = about
        return about


def status_of(record: Record, event: RunEvent) -> str:
    """Return the run's status as the record leaves it."""
    match record:
        case RunCompleted():
            return "completed"
        case RunFailed():
            return "failed"
        case RunCancelled():
            return "cancelled"
        case _:
            pending = event.event == "status" and event.data.startswith(_PENDING)
            return "pending" if pending else "running"


class Reader:
    """One reader of all runs. Satisfies `engine.protocol.AllStream`."""

    __slots__ = ("_closed", "_hose", "_listener", "_passed", "_position", "_shared", "_waiter")

    def __init__(self, hose: Firehose, shared: _Shared, position: int) -> None:
        self._hose = hose
        self._shared = shared
        self._position = position
        """LSN of the last record looked at; -1: what it wants to go on from is not known."""
        self._passed = hose.passed
        self._waiter: asyncio.Future[None] | None = None
        self._listener: Callable[[], None] | None = None
        self._closed = False

    @property
    def cursor(self) -> int:
        return max(self._position, 0)

    @property
    def stream_cursor(self) -> str:
        """Where to go on, as `after` takes it; empty while a `resync` is still to be read."""
        return self._hose.cursor(self._position) if self._position >= 0 else ""

    @property
    def finished(self) -> bool:
        return False

    @property
    def ended(self) -> bool:
        return self._closed or self._hose.closing

    def is_behind(self) -> bool:
        """Whether there is something to look at."""
        hose = self._hose
        if self._position < hose.durable_lsn:
            return True
        if self._passed >= hose.passed:
            return False
        passing = hose.passing(self._passed)
        return passing is not None and passing[1] <= self._position

    # ------------------------------------------------------------ reading

    def read(self, nbytes: int) -> bytes:
        hose = self._hose
        here = (self._shared, self._position, self._passed, hose.durable_lsn, nbytes)
        joined = hose.joined(here)
        if joined is None:
            rows, lost = self._rows(nbytes, nbytes)
            parts = [row.frame for row in rows]
            if lost:
                parts.insert(0, self._resync_frame())
            joined = b"".join(parts), self._position, self._passed
            hose.keep(here, joined)
        data, self._position, self._passed = joined
        return data

    def read_events(self, limit: int) -> list[RunEvent]:
        rows, lost = self._rows(limit, 1 << 62)
        events = [RunEvent(_id_of(row), row.event, _data_of(row), _id_of(row)) for row in rows]
        if lost:
            events.insert(0, RunEvent(self._position, "resync", self._resync(), self._position))
        return events

    def _rows(self, limit: int, nbytes: int) -> tuple[list[_Row], bool]:
        """Return what is wanted of the next records, and whether some before them are lost."""
        hose = self._hose
        rows: list[_Row] = []
        if self._position < 0 or not hose.is_kept(self._position):
            self._position = hose.durable_lsn
            return rows, True
        recent, takes = hose.recent, self._shared.takes
        takes_all = self._shared.takes_all
        work = hose.work + _WORK_AT_ONCE
        durable, lsn = hose.durable_lsn, self._position + 1
        while len(rows) < limit and nbytes > 0 and hose.work < work:
            stop = durable
            passing = hose.passing(self._passed)
            if passing is None:
                self._passed = hose.passed
            else:
                number, behind, row = passing
                stop = min(stop, behind)
                if behind < lsn:
                    self._passed = number + 1
                    if takes_all or takes(row):
                        rows.append(row)
                        nbytes -= len(row.frame)
                    continue
            if lsn > stop:
                break
            chunk, place = recent.find(lsn)
            end = min(len(chunk.slots), stop + 1 - chunk.first_lsn)
            while place < end and len(rows) < limit and nbytes > 0 and hose.work < work:
                found = hose.look(chunk, place)
                place += 1
                if found is not None and (takes_all or takes(found)):
                    rows.append(found)
                    nbytes -= len(found.frame)
            lsn = chunk.first_lsn + place
        self._position = lsn - 1
        return rows, False

    def _resync(self) -> bytes:
        return b'{"streamCursor":"%b"}' % self.stream_cursor.encode()

    def _resync_frame(self) -> bytes:
        mark = self.stream_cursor.encode()
        return b"id: %b\nevent: resync\ndata: %b\n\n" % (mark, self._resync())

    # ------------------------------------------------------------ waiting

    async def changed(self) -> None:
        if self.ended:
            return
        if self.is_behind():
            # It was not done with what there is: others have their turn first.
            await next_pass()
            return
        self._waiter = self._hose.future()
        self._hose.arm(self)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._hose.disarm(self)

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call `listener` when there may be more to read, in place of waking who waits."""
        self._listener = listener
        if listener is None:
            self._hose.disarm(self)
        else:
            self._hose.arm(self)

    def wake(self) -> None:
        """Its turn has come."""
        listener = self._listener
        if listener is not None:
            listener()
            if self._listener is not None and not self.ended:
                self._hose.arm(self)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hose.disarm(self)
            self.wake()
            self._hose.leave(self._shared)


def _id_of(row: _Row) -> int:
    """Return the LSN in an event's id; 0 for one that has none."""
    if not row.frame.startswith(b"id: "):
        return 0
    return int(row.frame[: row.frame.index(b"\n")].rpartition(b"-")[2])


def _data_of(row: _Row) -> bytes:
    return row.frame[row.frame.index(b"\ndata: ") + 7 : -2]
