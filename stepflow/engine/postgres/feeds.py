"""What streams read: one query for all who read on from the same place, and one decoding.

All subscribers of a run who have read as far as the others are woken together, ask for the same,
and get the same objects. Who is slower asks for his own place. Many runs are one query, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from stepflow.clock import rfc3339
from stepflow.engine.postgres.batched import Batched
from stepflow.model.records import RunCancelled, RunFailed, decode_record
from stepflow.model.views import RunEvent, event_of, sse_frame
from stepflow.runtime.firehose import status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.history import Seen

__all__ = ["AllKey", "Begin", "Feeds", "Frame", "Piece", "RunKey", "TaggedFrame"]

_AT_ONCE: Final = 200
"""Records of a run, or of all, that one look gives."""
_RUNS_AT_ONCE: Final = 50
_BEGUN_AT_ONCE: Final = 1000
_PASSING: Final = 64
"""Of so many emits that pass, and were not read yet, a reader gets the last."""
_UNDONE: Final = RunFailed | RunCancelled
_encode: Final = msgspec.json.Encoder().encode

_BEGIN: Final = """
select r.run_id, r.rs, r.forgotten,
       (select coalesce(max(n), 0) from stepflow.passing p where p.run_id = r.run_id)
  from stepflow.runs r where r.run_id = any(%s)"""
_RUNS: Final = """
with k as (
  select * from unnest(%s::text[], %s::int[], %s::bigint[])
       with ordinality as k(run_id, place, passed, i)
)
select k.i, 0 as kind, e.rs, r.rs as last, r.status, r.forgotten, 0::bigint as n, e.data
  from k join stepflow.runs r on r.run_id = k.run_id
  left join lateral (
    select rs, data from stepflow.records
     where run_id = k.run_id and rs > k.place order by rs limit %s
  ) e on true
union all
select k.i, 1, p.rs, 0, '', 0, p.n, p.data
  from k join stepflow.runs r on r.run_id = k.run_id
  cross join lateral (
    select n, rs, data from stepflow.passing
     where run_id = k.run_id and n > k.passed order by n desc limit %s
  ) p
 order by 1, 2, 7, 3"""
"""In one snapshot: what passes lies between the records that are there."""
_PAYLOADS: Final = """
select run_id, lsn, body from stepflow.payloads
 where (run_id, lsn) in (select * from unnest(%s::text[], %s::bigint[]))"""
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


class RunKey(NamedTuple):
    """A place in a run."""

    run_id: str
    place: int
    """The last record that was looked at."""
    passed: int
    """The last of what passes that was read."""


class AllKey(NamedTuple):
    """A place in all runs."""

    xid: int
    n: int
    since: int
    """What passed before this transaction is not told."""


class Begin(NamedTuple):
    """Where a run is at the moment."""

    rs: int
    forgotten: int
    passed: int


class Frame(NamedTuple):
    """An event, and its bytes."""

    event: RunEvent
    data: bytes


class Piece(NamedTuple):
    """What follows a place in a run."""

    last_rs: int
    status: str
    forgotten: int
    records: list[tuple[int, Frame | None]]
    """By record number."""
    passing: tuple[list[int], list[int], list[bytes]]
    """Number, the record it comes after, and data of each."""


class TaggedFrame(NamedTuple):
    """A row of the stream of all runs: who takes it decides by the run's own."""

    place: tuple[int, int]
    run_id: str
    workflow: str
    tags: tuple[str, ...]
    status: str
    event: RunEvent | None
    """None: it tells nothing, and is behind the reader now."""
    data: bytes


class Feeds:
    """Reads for all streams of one process."""

    def __init__(self, database: Database, runs: Batched[str, Seen]) -> None:
        self.database = database
        self.runs = runs
        self.begins: Batched[str, Begin] = Batched(self._begin, at_once=_BEGUN_AT_ONCE)
        self.pieces: Batched[RunKey, Piece] = Batched(self._read_runs, at_once=_RUNS_AT_ONCE)
        self.rows: Batched[AllKey, Sequence[TaggedFrame]] = Batched(self._read_all, at_once=1)

    async def _begin(self, run_ids: Sequence[str]) -> dict[str, Begin]:
        rows = await self.database.rows(_BEGIN, list(run_ids))
        return {run_id: Begin(*place) for run_id, *place in rows}

    async def _read_runs(self, keys: Sequence[RunKey]) -> dict[RunKey, Piece]:
        rows = await self.database.rows(
            _RUNS,
            [key.run_id for key in keys],
            [key.place for key in keys],
            [key.passed for key in keys],
            _AT_ONCE,
            _PASSING,
        )
        payloads = await self._payloads(
            (keys[int(row[0]) - 1].run_id, row[7]) for row in rows if row[1] == 0 and row[7]
        )
        found: dict[RunKey, Piece] = {}
        for i, kind, rs, last, status, forgotten, n, data in rows:
            key = keys[int(i) - 1]
            if kind:
                passing = found[key].passing
                passing[0].append(n)
                passing[1].append(rs)
                passing[2].append(bytes(data))
                continue
            piece = found.get(key)
            if piece is None:
                piece = found[key] = Piece(last, status, forgotten, [], ([], [], []))
            if rs is not None:
                frame = _frame(bytes(data), rs, last, payloads.get(key.run_id, {}))
                piece.records.append((rs, frame))
        return found

    async def _read_all(self, keys: Sequence[AllKey]) -> dict[AllKey, Sequence[TaggedFrame]]:
        found: dict[AllKey, Sequence[TaggedFrame]] = {}
        for key in keys:
            place = (key.xid, key.n)
            rows = await self.database.rows(
                _ALL, *place, _AT_ONCE, *place, key.since, _AT_ONCE, _AT_ONCE
            )
            payloads = await self._payloads((row[2], row[4]) for row in rows if row[3] is not None)
            found[key] = [self._tagged(row, payloads.get(row[2], {})) for row in rows]
        return found

    def _tagged(self, row: tuple[Any, ...], payloads: Mapping[int, bytes]) -> TaggedFrame:
        xid, n, run_id, rs, data, workflow, tags, last_rs, at_ms = row
        run = (xid, n), run_id, workflow, tuple(tags)
        if rs is None:
            told = _with_run(bytes(data), at_ms, run_id, workflow)
            frame = b"event: emit\ndata: %b\n\n" % told
            return TaggedFrame(*run, "running", RunEvent(0, "emit", told), frame)
        record = decode_record(bytes(data))
        event = None
        if record is not None and not (isinstance(record, _UNDONE) and rs < last_rs):
            event = event_of(record, payloads)
        if record is None or event is None:
            return TaggedFrame(*run, "", None, b"")
        told = _with_run(event.data, record.ts, run_id, workflow)
        cursor = f"{self.database.store_id}-{xid}.{n}".encode()
        frame = b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor, event.event.encode(), told)
        row_event = RunEvent(xid, event.event, told, xid)
        return TaggedFrame(*run, status_of(record, event), row_event, frame)

    async def _payloads(self, found: Iterable[tuple[str, Any]]) -> dict[str, dict[int, bytes]]:
        """Return the payloads that records name, by run."""
        named = [
            (run_id, lsn)
            for run_id, data in found
            if b'"payload":' in (text := bytes(data))
            for lsn in [getattr(decode_record(text), "payload", 0)]
            if isinstance(lsn, int) and lsn
        ]
        bodies: dict[str, dict[int, bytes]] = {}
        if named:
            rows = await self.database.rows(_PAYLOADS, *map(list, zip(*named, strict=True)))
            for run_id, lsn, body in rows:
                bodies.setdefault(run_id, {})[lsn] = bytes(body)
        return bodies


def _frame(data: bytes, rs: int, last_rs: int, payloads: Mapping[int, bytes]) -> Frame | None:
    record = decode_record(data)
    if record is None or (isinstance(record, _UNDONE) and rs < last_rs):
        # An end that a retry has undone is not told again.
        return None
    event = event_of(record, payloads)
    return Frame(event, sse_frame(event)) if event is not None else None


def _with_run(data: bytes, at_ms: int, run_id: str, workflow: str) -> bytes:
    """Return an event's data with what the stream of all runs adds."""
    run = run_id.encode(), _encode(workflow)
    return b'%b,"at":"%b","runId":"%b","workflowId":%b}' % (
        data[:-1],
        rfc3339(at_ms).encode(),
        *run,
    )
