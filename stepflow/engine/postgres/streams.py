"""Streams out of the tables: a cursor and a few rows, on whatever process the reader came to.

A run's own stream reads records after a record number: they are written in order, by whoever holds
the run. The stream of all runs reads in the order of transactions, and only what is older than the
oldest one that is under way: nothing can appear behind a cursor that was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.engine.postgres.feeds import AllKey, Frame, RunKey
from stepflow.engine.postgres.passing import Tail
from stepflow.model.run import RunState
from stepflow.model.views import RunEvent, run_view, sse_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.engine.postgres.bell import Bell
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.feeds import Feeds
    from stepflow.model.event_filter import EventFilter

__all__ = ["ClusterAllStream", "ClusterStream", "horizon"]

_FINISHED: Final = frozenset({"completed", "failed", "cancelled"})
_encode: Final = msgspec.json.Encoder().encode


class ClusterStream:
    """One reader of one run. Satisfies `engine.protocol.RunStream`."""

    def __init__(
        self, feeds: Feeds, bell: Bell, run_id: str, poll_s: float, after: int | None
    ) -> None:
        self._feeds = feeds
        self._bell = bell
        self._run_id = run_id
        self._poll_s = poll_s
        self._after = max(0, after or 0)
        self._position = self._after
        """The last record that was looked at."""
        self._read = self._after
        self._rows: list[Frame] = []
        self._tail = Tail()
        self._closed = False
        self.on_close: Callable[[], None] | None = None
        self._gone = False
        self._over = False
        """Nothing follows what is in `_rows`."""

    async def open(self) -> bool:
        """Read the first events; False: there is no such run."""
        begin = await self._feeds.begins.get(self._run_id)
        if begin is None:
            return False
        rs, forgotten, passed = begin
        self._tail.begin(passed)
        if not self._after:
            self._position = self._read = forgotten
        elif not forgotten <= self._after <= rs:
            await self._resync()
        await self._fetch()
        return not self._gone

    @property
    def cursor(self) -> int:
        return self._read

    @property
    def is_over(self) -> bool:
        """Whether nothing will follow what was read out of the tables."""
        return self._over or self._gone

    @property
    def finished(self) -> bool:
        return self._over and not self._rows and not self._gone

    @property
    def ended(self) -> bool:
        return self._closed or ((self._over or self._gone) and not self._rows)

    def read(self, nbytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while self._rows and size < nbytes:
            event, frame = self._rows.pop(0)
            parts.append(frame)
            size += len(frame)
            self._read = event.id or self._read
        return b"".join(parts)

    def read_events(self, limit: int) -> list[RunEvent]:
        frames, self._rows = self._rows[:limit], self._rows[limit:]
        for event, _ in frames:
            self._read = event.id or self._read
        return [event for event, _ in frames]

    async def changed(self) -> None:
        with self._bell.hear(self._run_id) as ear:
            while not self._rows and not self.ended:
                ear.clear()
                await self._fetch()
                if not self._rows and not self.ended:
                    await ear.wait(self._poll_s)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self.on_close is not None:
                self.on_close()
            self._bell.ring((self._run_id,))

    async def _fetch(self) -> None:
        key = RunKey(self._run_id, self._position, self._tail.place)
        piece = await self._feeds.pieces.get(key)
        if piece is None:
            self._gone = True
            return
        records, last_rs = piece.records, piece.last_rs
        if self._position < piece.forgotten and (
            not records or records[0][0] != self._position + 1
        ):
            # A run that began anew, twice: what comes next was forgotten.
            await self._resync()
            return
        self._tail.take([piece.passing])
        for rs, frame in records:
            self._rows += map(_framed, self._tail.until(rs))
            self._position = rs
            if frame is not None:
                self._rows.append(frame)
        if self._position >= last_rs:
            self._rows += map(_framed, self._tail.until())
        self._over = piece.status in _FINISHED and self._position >= last_rs

    async def _resync(self) -> None:
        seen = await self._feeds.runs.get(self._run_id)
        if seen is None:
            self._gone = True
            return
        state = RunState.unpack(seen.line)
        self._position = self._read = state.rs
        self._rows.append(_framed(RunEvent(0, "resync", _encode(run_view(state)))))


def _framed(event: RunEvent) -> Frame:
    return Frame(event, sse_frame(event))


async def horizon(database: Database) -> int:
    """Return the oldest transaction that is under way: all before it can be read."""
    rows = await database.rows("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    return int(rows[0][0])


class ClusterAllStream:
    """One reader of all runs. Satisfies `engine.protocol.AllStream`."""

    def __init__(self, feeds: Feeds, bell: Bell, where: EventFilter, poll_s: float) -> None:
        self._feeds = feeds
        self._database = feeds.database
        self._bell = bell
        self._where = where
        self._poll_s = poll_s
        self._place = (0, 0)
        self._since = 0
        self._shown: tuple[int, int] | None = (0, 0)
        self._rows: list[tuple[tuple[int, int], RunEvent, bytes]] = []
        self._closed = False
        self.on_close: Callable[[], None] | None = None

    async def open(self, after: str | None) -> None:
        """Begin after the cursor, or now."""
        place = None if after is None else self._parse(after)
        # What passes and was told before is not told again.
        self._since = await horizon(self._database)
        if place is None:
            self._place = (self._since - 1, 1 << 62)
            if after is not None:
                cursor = self._cursor(self._place)
                data = b'{"streamCursor":"%b"}' % cursor.encode()
                frame = b"id: %b\nevent: resync\ndata: %b\n\n" % (cursor.encode(), data)
                self._rows.append((self._place, RunEvent(0, "resync", data), frame))
        else:
            self._place = place
        self._shown = self._place

    def _parse(self, cursor: str) -> tuple[int, int] | None:
        store, _, text = cursor.rpartition("-")
        xid, _, n = text.partition(".")
        if store != self._database.store_id or not (xid.isdecimal() and n.isdecimal()):
            return None
        return int(xid), int(n)

    def _cursor(self, place: tuple[int, int]) -> str:
        return f"{self._database.store_id}-{place[0]}.{place[1]}"

    @property
    def cursor(self) -> int:
        return self._place[0]

    @property
    def stream_cursor(self) -> str:
        return "" if self._rows or self._shown is None else self._cursor(self._shown)

    @property
    def is_over(self) -> bool:
        """Whether nothing will follow: of all runs there is always more."""
        return False

    @property
    def finished(self) -> bool:
        return False

    @property
    def ended(self) -> bool:
        return self._closed

    def read(self, nbytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while self._rows and size < nbytes:
            self._shown, _, frame = self._rows.pop(0)
            parts.append(frame)
            size += len(frame)
        self._catch_up()
        return b"".join(parts)

    def read_events(self, limit: int) -> list[RunEvent]:
        rows, self._rows = self._rows[:limit], self._rows[limit:]
        if rows:
            self._shown = rows[-1][0]
        self._catch_up()
        return [row[1] for row in rows]

    def _catch_up(self) -> None:
        """What a filter leaves out need not be looked at again by who goes on from here."""
        if not self._rows:
            self._shown = self._place

    async def changed(self) -> None:
        with self._bell.hear("") as ear:
            while not self._rows and not self._closed:
                ear.clear()
                if not await self._fetch() and not self._closed:
                    await ear.wait(self._poll_s)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self.on_close is not None:
                self.on_close()
            self._bell.ring(())

    async def _fetch(self) -> bool:
        # What comes later has a higher number anyway: then all ask for the same.
        since = self._since if self._place[0] < self._since else 0
        found = await self._feeds.rows.get(AllKey(*self._place, since)) or ()
        for row in found:
            self._place = row.place
            if row.event is not None and self._where.takes(
                row.run_id, row.workflow, row.tags, row.status
            ):
                self._rows.append((row.place, row.event, row.data))
        if not self._rows:
            self._shown = self._place
        return bool(found)
