"""Streams out of the tables: a cursor and a few rows, on whatever process the reader came to.

A run's own stream reads records after a record number: they are written in order, by whoever holds
the run. The stream of all runs reads in the order of transactions, and only what is older than the
oldest one that is under way: nothing can appear behind a cursor that was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.clock import rfc3339
from stepflow.engine.postgres.history import load
from stepflow.engine.postgres.passing import Tail, with_passing
from stepflow.model.records import RunCancelled, RunCompleted, RunFailed, decode_record
from stepflow.model.views import RunEvent, event_of, run_view, sse_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepflow.engine.postgres.bell import Bell
    from stepflow.engine.postgres.database import Database
    from stepflow.model.event_filter import EventFilter
    from stepflow.model.records import Record

__all__ = ["ClusterAllStream", "ClusterStream", "horizon"]

_AT_ONCE: Final = 200
_UNDONE: Final = RunFailed | RunCancelled
_FINISHED: Final = frozenset({"completed", "failed", "cancelled"})
_encode: Final = msgspec.json.Encoder().encode

_RUN: Final = with_passing("""
select r.rs, r.status, r.forgotten, e.rs as place, e.data
  from stepflow.runs r
  left join lateral (
    select rs, data from stepflow.records
     where run_id = r.run_id and rs > %s order by rs limit %s
  ) e on true
 where r.run_id = %s""")


class ClusterStream:
    """One reader of one run. Satisfies `engine.protocol.RunStream`."""

    def __init__(
        self, database: Database, bell: Bell, run_id: str, poll_s: float, after: int | None
    ) -> None:
        self._database = database
        self._bell = bell
        self._run_id = run_id
        self._poll_s = poll_s
        self._after = max(0, after or 0)
        self._position = self._after
        """The last record that was looked at."""
        self._read = self._after
        self._rows: list[RunEvent] = []
        self._tail = Tail()
        self._closed = False
        self.on_close: Callable[[], None] | None = None
        self._gone = False
        self._over = False
        """Nothing follows what is in `_rows`."""

    async def open(self) -> bool:
        """Read the first events; False: there is no such run."""
        rows = await self._database.rows(
            """select rs, forgotten,
                      (select coalesce(max(n), 0) from stepflow.passing where run_id = %s)
                 from stepflow.runs where run_id = %s""",
            self._run_id,
            self._run_id,
        )
        if not rows:
            return False
        rs, forgotten, passed = rows[0]
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
            event = self._rows.pop(0)
            parts.append(sse_frame(event))
            size += len(parts[-1])
            self._read = event.id or self._read
        return b"".join(parts)

    def read_events(self, limit: int) -> list[RunEvent]:
        events, self._rows = self._rows[:limit], self._rows[limit:]
        for event in events:
            self._read = event.id or self._read
        return events

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
        found = await self._database.rows(
            _RUN, self._position, _AT_ONCE, self._run_id, self._run_id, self._tail.place
        )
        if not found:
            self._gone = True
            return
        last_rs, status, forgotten = found[0][:3]
        if self._position < forgotten and found[0][3] != self._position + 1:
            # A run that began anew, twice: what comes next was forgotten.
            await self._resync()
            return
        payloads = await _payloads(self._database, [(self._run_id, row[4]) for row in found])
        self._tail.take(found)
        for _, _, _, rs, data, *_ in found:
            if rs is not None:
                self._rows += self._tail.until(rs)
                self._position = rs
                self._take(bytes(data), rs, last_rs, payloads.get(self._run_id, {}))
        if self._position >= last_rs:
            self._rows += self._tail.until()
        self._over = status in _FINISHED and self._position >= last_rs

    def _take(self, data: bytes, rs: int, last_rs: int, payloads: Mapping[int, bytes]) -> None:
        record = decode_record(data)
        if record is None or (isinstance(record, _UNDONE) and rs < last_rs):
            # An end that a retry has undone is not told again.
            return
        event = event_of(record, payloads)
        if event is not None:
            self._rows.append(event)

    async def _resync(self) -> None:
        state = (await load(self._database, [self._run_id])).get(self._run_id)
        if state is None:
            self._gone = True
            return
        self._position = self._read = state.rs
        self._rows.append(RunEvent(0, "resync", _encode(run_view(state))))


_ALL: Final = """
(select e.xid, e.n, e.run_id, e.rs, e.data, r.workflow, r.tags, r.rs, 0
  from stepflow.records e join stepflow.runs r on r.run_id = e.run_id
 where (e.xid, e.n) > (%s, %s)
   and e.xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
 order by e.xid, e.n limit %s)
union all
(select e.xid, e.n, e.run_id, null, e.data, r.workflow, r.tags, r.rs, e.at_ms
  from stepflow.passing e join stepflow.runs r on r.run_id = e.run_id
 where (e.xid, e.n) > (%s, %s) and e.xid >= %s
   and e.xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
 order by e.xid, e.n limit %s)
 order by 1, 2 limit %s"""


async def horizon(database: Database) -> int:
    """Return the oldest transaction that is under way: all before it can be read."""
    rows = await database.rows("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    return int(rows[0][0])


class ClusterAllStream:
    """One reader of all runs. Satisfies `engine.protocol.AllStream`."""

    def __init__(self, database: Database, bell: Bell, where: EventFilter, poll_s: float) -> None:
        self._database = database
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
        place = (*self._place, _AT_ONCE)
        found = await self._database.rows(_ALL, *place, *self._place, self._since, *place[2:] * 2)
        payloads = await _payloads(
            self._database, [(row[2], row[4]) for row in found if row[3] is not None]
        )
        for xid, n, run_id, rs, data, workflow, tags, last_rs, at_ms in found:
            self._place = (xid, n)
            if rs is None:
                if self._where.takes(run_id, workflow, tuple(tags), "running"):
                    told = _with_run(bytes(data), at_ms, run_id, workflow)
                    frame = b"event: emit\ndata: %b\n\n" % told
                    self._rows.append((self._place, RunEvent(0, "emit", told), frame))
                continue
            record = decode_record(bytes(data))
            if record is None or (isinstance(record, _UNDONE) and rs < last_rs):
                continue
            event = event_of(record, payloads.get(run_id, {}))
            if event is None:
                continue
            if not self._where.takes(run_id, workflow, tuple(tags), _status(record, event)):
                continue
            told = _with_run(event.data, record.ts, run_id, workflow)
            cursor = self._cursor(self._place).encode()
            frame = b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, event.event.encode(), told)
            self._rows.append((self._place, RunEvent(xid, event.event, told, xid), frame))
        if not self._rows:
            self._shown = self._place
        return bool(found)


def _with_run(data: bytes, at_ms: int, run_id: str, workflow: str) -> bytes:
    """Return an event's data with what the stream of all runs adds."""
    run = run_id.encode(), _encode(workflow)
    return b'%b,"at":"%b","runId":"%b","workflowId":%b}' % (
        data[:-1],
        rfc3339(at_ms).encode(),
        *run,
    )


async def _payloads(
    database: Database, found: Sequence[tuple[str, bytes | None]]
) -> dict[str, dict[int, bytes]]:
    """Return the payloads of the runs with records that name one."""
    wanted = {run_id for run_id, data in found if data and b'"payload":' in bytes(data)}
    bodies: dict[str, dict[int, bytes]] = {}
    if wanted:
        rows = await database.rows(
            "select run_id, lsn, body from stepflow.payloads where run_id = any(%s)",
            sorted(wanted),
        )
        for run_id, lsn, body in rows:
            bodies.setdefault(run_id, {})[lsn] = bytes(body)
    return bodies


def _status(record: Record, event: RunEvent) -> str:
    match record:
        case RunCompleted():
            return "completed"
        case RunFailed():
            return "failed"
        case RunCancelled():
            return "cancelled"
        case _:
            pending = event.event == "status" and event.data.startswith(b'{"status":"pending"')
            return "pending" if pending else "running"
