"""Fan-out of one run's events to its subscribers.

A subscriber is a cursor into the run's records, not a queue: a slow one costs its socket buffer and
nothing else. An event is encoded once, when the first subscriber reads it, and the same bytes go to
all; what several read from the same place on is joined once. Nothing is read before it is durable.

After a commit the subscribers of what it made durable have their turn some at a time, and others
have theirs in between: five thousand writes in a row would hold the loop for longer than it may be.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.model.records import RunCancelled, RunFailed, decode_record
from stepflow.model.views import RunEvent, event_of, run_view, sse_frame
from stepflow.runtime.firehose import Firehose, Reader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from stepflow.journal.api import Journal
    from stepflow.model.event_filter import EventFilter
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.runs import Runs

_ENDS = (RunFailed, RunCancelled)

__all__ = ["Feed", "Hub", "Subscriber"]

_SERVED_AT_ONCE: Final = 100
"""Subscribers that are woken or written to in one go: about a millisecond."""

_ASIDE: Final = 64
_ASIDE_BYTES: Final = 64 * 1024
"""So much that is not journaled waits for a subscriber; what comes then is not for it."""

_log: Final = logging.getLogger("stepflow.hub")
_encode = msgspec.json.Encoder().encode


class Feed:
    """The events of one run that has subscribers, rendered as far as somebody has read."""

    __slots__ = ("_hub", "_rendered", "actor", "subscribers")

    def __init__(self, hub: Hub, actor: RunActor) -> None:
        self._hub = hub
        self.actor = actor
        self.subscribers: set[Subscriber] = set()
        self._rendered: dict[int, tuple[int, RunEvent | None, bytes]] = {}
        """(LSN, event, its server-sent event bytes) by the record's place in the run."""

    def wake(self) -> None:
        """There may be more to read: give each subscriber its turn."""
        self._hub.give_turns(self.subscribers)

    def tell(self, event: RunEvent) -> None:
        """Give those who read now an event that is kept nowhere."""
        for subscriber in self.subscribers:
            subscriber.take(event)
        self._hub.give_turns(self.subscribers)

    def revived(self) -> None:
        """The run was retried: the end that this undoes is not told again."""
        self._rendered.pop(self.actor.state.rs - 2, None)

    def row(self, index: int) -> tuple[int, RunEvent | None, bytes] | None:
        """Return what record number `index + 1` of the run makes, or `None` past the end."""
        row = self._rendered.get(index)
        if row is None:
            state = self.actor.state
            place = index - state.forgotten
            if place < 0 or place >= len(state.records):
                return None
            record = decode_record(state.records[place])
            event = None
            # A type that this version may skip makes no event, and does not end the feed. Neither
            # does an end after which the run goes on: a retry has undone it.
            if record is not None and not (
                isinstance(record, _ENDS) and place + 1 < len(state.records)
            ):
                event = event_of(record, state.payloads)
            lsn = record.lsn if record is not None else 0
            row = self._rendered[index] = (lsn, event, sse_frame(event) if event else b"")
        return row

    def begins_anew(self) -> None:
        """The run forgets its history: keep what its subscribers have not read of it.

        What they had not read at the restart before is dropped: they get the present run instead.
        """
        state = self.actor.state
        unread = min((s.cursor for s in self.subscribers), default=state.rs)
        rows: dict[int, tuple[int, RunEvent | None, bytes]] = {}
        for index in range(max(unread, state.forgotten), state.rs):
            row = self.row(index)
            if row is not None:
                rows[index] = row
        self._rendered = rows

    def lost(self, position: int) -> bool:
        """Whether what follows `position` was forgotten by a restart of the run."""
        return position < self.actor.state.forgotten and position not in self._rendered

    def resync(self) -> RunEvent | None:
        """Return the present run as an event, or `None` while it is not durable."""
        state = self.actor.state
        if state.lsn > self._hub.durable_lsn:
            return None
        view = run_view(state, self.actor.condition, reason=self.actor.reason)
        return RunEvent(0, "resync", _encode(view))


class Subscriber:
    """One reader of one run. Satisfies `engine.protocol.RunStream`."""

    __slots__ = (
        "_closed",
        "_extra",
        "_feed",
        "_hub",
        "_listener",
        "_position",
        "_waiter",
        "is_due",
    )

    def __init__(self, hub: Hub, feed: Feed, position: int, extra: RunEvent | None) -> None:
        self._hub = hub
        self._feed = feed
        self._position = position
        """How many of the run's records were read."""
        self._extra: tuple[RunEvent, ...] = () if extra is None else (extra,)
        """Events that are not journaled and go first."""
        self._waiter: asyncio.Future[None] | None = None
        self._listener: Callable[[], None] | None = None
        self._closed = False
        self.is_due = False
        """Whether its turn is coming."""

    @property
    def cursor(self) -> int:
        return self._position

    @property
    def finished(self) -> bool:
        state = self._feed.actor.state
        return not self._extra and state.finished and self._position >= state.rs

    @property
    def ended(self) -> bool:
        # Asked after each write: as little as can be.
        actor = self._feed.actor
        if self._closed or self._hub.closing or actor.purged:
            return True
        state = actor.open_state or actor.state
        return self._position >= state.rs and state.finished and not self._extra

    def _catch_up(self) -> None:
        """Go on with the present run where what comes next was forgotten."""
        feed = self._feed
        if feed.lost(self._position) and (extra := feed.resync()) is not None:
            self._extra = (extra, *self._extra)
            self._position = feed.actor.state.rs

    def read(self, nbytes: int) -> bytes:
        hub = self._hub
        here = (self._feed, self._position, hub.durable_lsn, nbytes)
        if here == hub.joined_at and not self._extra:
            self._position = hub.joined_to
            return hub.joined
        self._catch_up()
        if self._extra:
            return self._read(nbytes)
        data = self._read(nbytes)
        hub.joined_at, hub.joined_to, hub.joined = here, self._position, data
        return data

    def _read(self, nbytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        if self._extra:
            parts += map(sse_frame, self._extra)
            self._extra = ()
            size = sum(map(len, parts))
        durable = self._hub.durable_lsn
        feed = self._feed
        while size < nbytes:
            row = feed.row(self._position)
            if row is None or row[0] > durable:
                break
            self._position += 1
            parts.append(row[2])
            size += len(row[2])
        return b"".join(parts)

    def read_events(self, limit: int) -> list[RunEvent]:
        self._catch_up()
        events: list[RunEvent] = []
        if self._extra:
            events += self._extra[:limit]
            self._extra = self._extra[limit:]
        durable = self._hub.durable_lsn
        while len(events) < limit:
            row = self._feed.row(self._position)
            if row is None or row[0] > durable:
                break
            self._position += 1
            if row[1] is not None:
                events.append(row[1])
        return events

    def _readable(self) -> bool:
        if self._feed.lost(self._position):
            return self._feed.actor.lsn <= self._hub.durable_lsn
        row = self._feed.row(self._position)
        return bool(self._extra) or (row is not None and row[0] <= self._hub.durable_lsn)

    def take(self, event: RunEvent) -> None:
        """Read this next, though it is in no journal; whoever reads too slowly for it misses it."""
        waiting = self._extra
        if len(waiting) < _ASIDE and sum(len(e.data) for e in waiting) < _ASIDE_BYTES:
            self._extra = (*waiting, event)

    async def changed(self) -> None:
        while not self.ended and not self._readable():
            if self._waiter is None or self._waiter.done():
                self._waiter = self._hub.future()
            await self._waiter

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Call `listener` when there may be more to read, in place of waking who waits."""
        self._listener = listener

    def wake(self) -> None:
        """There may be more to read."""
        if self._listener is not None:
            self._listener()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.wake()
            self._hub.leave(self._feed, self)


class Hub:
    """All feeds; told of each commit."""

    __slots__ = (
        "_due",
        "_feeds",
        "_journal",
        "_loop",
        "_waiting",
        "closing",
        "firehose",
        "joined",
        "joined_at",
        "joined_to",
        "subscribers",
    )

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop, runs: Runs) -> None:
        self._journal = journal
        self.firehose = Firehose(journal, loop, runs)
        self._loop = loop
        self._waiting: deque[tuple[int, Feed]] = deque()
        self._due: deque[Subscriber] = deque()
        self._feeds: set[Feed] = set()
        self.closing = False
        self.joined_at: tuple[Feed, int, int, int] | None = None
        """From where and how far the bytes go that were joined last: the next reader's, mostly."""
        self.joined_to = 0
        self.joined = b""
        self.subscribers = 0

    @property
    def durable_lsn(self) -> int:
        """Nothing above this may be read."""
        return self._journal.durable_lsn

    def future(self) -> asyncio.Future[None]:
        """Return a new future of the engine's loop."""
        return self._loop.create_future()

    def join(self, actor: RunActor, position: int, extra: RunEvent | None = None) -> Subscriber:
        """Add a subscriber that reads on after `position` records."""
        if actor.feed is None:
            actor.feed = Feed(self, actor)
            self._feeds.add(actor.feed)
            if actor.lsn > self.durable_lsn:
                # Nobody listened when these records were appended, so they were not noted.
                self.note(self._journal.last_lsn, actor.feed)
        subscriber = Subscriber(self, actor.feed, position, extra)
        actor.feed.subscribers.add(subscriber)
        self.subscribers += 1
        return subscriber

    def leave(self, feed: Feed, subscriber: Subscriber) -> None:
        """Remove a subscriber; the last one takes the feed along."""
        if subscriber in feed.subscribers:
            feed.subscribers.remove(subscriber)
            self.subscribers -= 1
        if not feed.subscribers and feed.actor.feed is feed:
            self._feeds.discard(feed)
            feed.actor.feed = None
            feed.actor.left_alone()
            self._forget()

    def note(self, lsn: int, feed: Feed) -> None:
        """The run has a new record; its subscribers are woken when it is durable."""
        self._waiting.append((lsn, feed))

    def commit(self, durable_lsn: int) -> None:
        """Let the subscribers of what has become durable have their turn."""
        waiting = self._waiting
        if not waiting:
            return
        # Many records of one run may become durable at once: its subscribers have one turn for all.
        feeds: dict[Feed, None] = {}
        while waiting and waiting[0][0] <= durable_lsn:
            feeds[waiting.popleft()[1]] = None
        for feed in feeds:
            feed.wake()

    def join_all(self, where: EventFilter, after: str | None = None) -> Reader:
        """Add a reader of all runs."""
        if not self.firehose.readers and self._journal.on_commit is not None:
            # Only while somebody reads them does a commit cost anything for it.
            self._journal.on_commit = self._commit_to_all
        return self.firehose.join(where, after)

    def _commit_to_all(self, durable_lsn: int) -> None:
        self.commit(durable_lsn)
        if self.firehose.readers:
            self.firehose.news()
        else:
            self._journal.on_commit = self.commit

    def give_turns(self, subscribers: Iterable[Subscriber]) -> None:
        """Wake them, some at a time, in one of the next passes of the loop."""
        due = self._due
        was_idle = not due
        for subscriber in subscribers:
            if not subscriber.is_due:
                subscriber.is_due = True
                due.append(subscriber)
        if was_idle and due:
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        due = self._due
        for _ in range(min(len(due), _SERVED_AT_ONCE)):
            subscriber = due.popleft()
            subscriber.is_due = False
            try:
                subscriber.wake()
            except Exception:  # noqa: BLE001  a border: one connection must not stop the others
                _log.exception("a subscriber could not be woken")
        # Those that are tasks read in the next pass.
        self._loop.call_soon(self._serve if due else self._forget)

    def _forget(self) -> None:
        self.joined_at, self.joined = None, b""

    def close(self) -> None:
        """End every stream."""
        self.closing = True
        for feed in self._feeds:
            feed.wake()
        self.firehose.close()

    def is_heard(self, actor: RunActor) -> bool:
        """Whether anybody reads now what the run does."""
        return actor.feed is not None or self.firehose.readers > 0

    def tell(self, actor: RunActor, event: RunEvent) -> None:
        """Give those who read now an event that is kept nowhere."""
        if actor.feed is not None:
            actor.feed.tell(event)
        if self.firehose.readers:
            self.firehose.tell(actor, event)
