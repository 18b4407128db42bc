"""Reads runs: their records and payloads become a `RunState`, the same way as a snapshot's line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

from stepflow.model.records import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    decode_record,
)
from stepflow.model.run import ApplyError, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepflow.engine.postgres.database import Database

__all__ = ["Seen", "line_of", "lines_of", "load", "look"]
__all__ += ["summaries"]

_READ: Final = """
with asked as (select * from stepflow.runs where run_id = any(%s))
select a.run_id, 0 as rs, 0::bigint as lsn, 0::bigint, null::bytea,
       array[a.condition, a.reason, exists (
         select 1 from stepflow.inbox i where i.run_id = a.run_id and i.kind = 'cancel')::text]
  from asked a
union all
select a.run_id, e.rs, e.lsn, e.crc, e.data, null
  from asked a join stepflow.records e on e.run_id = a.run_id and e.rs > a.forgotten
union all
select a.run_id, -1, p.lsn, 0, p.body, null
  from asked a join stepflow.payloads p on p.run_id = a.run_id
 order by 1, 2, 3"""
"""In one statement: all of it is of one moment."""

_Record = tuple[int, int, int, bytes]


class Seen(NamedTuple):
    """A run, and what the tables say of it beside its records."""

    line: bytes
    condition: Any
    """A `RunViewState`, or nothing."""
    reason: str
    cancelled: bool
    """Somebody has cancelled it, and its worker has not recorded that yet."""


async def look(database: Database, run_ids: Sequence[str]) -> dict[str, Seen]:
    """Return the runs that there are, each as its snapshot line."""
    said: dict[str, tuple[str, str, str]] = {}
    records: list[tuple[Any, ...]] = []
    payloads: list[tuple[Any, ...]] = []
    for run_id, rs, lsn, crc, data, its in await database.rows(_READ, list(run_ids)):
        if its is not None:
            said[run_id] = its
        elif rs < 0:
            payloads.append((run_id, lsn, data))
        else:
            records.append((run_id, rs, lsn, crc, data))
    lines = lines_of(records, payloads)
    return {
        run_id: Seen(lines[run_id], condition, reason, cancelled == "true")
        for run_id, (condition, reason, cancelled) in said.items()
        if run_id in lines
    }


_ENDS: Final = """
with asked as (
  select run_id, forgotten, rs from stepflow.runs
   where run_id = any(%s) and status in ('completed', 'failed', 'cancelled'))
select e.run_id, e.rs, e.lsn, e.crc, e.data
  from asked a join stepflow.records e
    on e.run_id = a.run_id and e.rs in (a.forgotten + 1, a.rs)
 order by 1, 2"""


async def summaries(database: Database, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Return the runs that there are, their steps left out where they have ended.

    Of what has ended the first record and the last say all the rest, but for what a delay, a
    timeout or a restart has changed between them.
    """
    ends: dict[str, list[_Record]] = {}
    for run_id, rs, lsn, crc, data in await database.rows(_ENDS, list(run_ids)):
        ends.setdefault(run_id, []).append((rs, lsn, crc, bytes(data)))
    found = {
        run_id: state
        for run_id, records in ends.items()
        if (state := _summary(run_id, records)) is not None
    }
    more = [run_id for run_id in run_ids if run_id not in found]
    return found | (await load(database, more) if more else {})


def _summary(run_id: str, records: Sequence[_Record]) -> RunState | None:
    if len(records) != 2 or any(crc32(data) != crc for _, _, crc, data in records):
        return None
    (_, _, _, first), (rs, lsn, _, last) = records
    start, end = decode_record(first), decode_record(last)
    if not isinstance(start, RunStarted) or start.timeout or start.due or start.held:
        return None
    if not isinstance(end, RunCompleted | RunFailed | RunCancelled):
        return None
    state = RunState(run_id)
    try:
        state.apply(start, first)
        # As if all that was between them had been applied.
        state.rs, state.lsn = rs - 1, lsn - 1
        state.apply(end, last)
    except ApplyError:
        return None
    return state


async def load(database: Database, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Return the runs that there are. One whose records are damaged is set aside."""
    found = await look(database, run_ids)
    return {run_id: RunState.unpack(seen.line) for run_id, seen in found.items()}


def lines_of(
    records: Iterable[tuple[Any, ...]], payloads: Iterable[tuple[Any, ...]]
) -> dict[str, bytes]:
    """Return runs of rows."""
    rows: dict[str, list[_Record]] = {}
    for run_id, *row in records:
        rows.setdefault(run_id, []).append((row[0], row[1], row[2], bytes(row[3])))
    bodies: dict[str, dict[int, bytes]] = {}
    for run_id, lsn, body in payloads:
        bodies.setdefault(run_id, {})[lsn] = bytes(body)
    return {
        run_id: line_of(run_id, found, bodies.get(run_id, {})) for run_id, found in rows.items()
    }


def line_of(run_id: str, records: Sequence[_Record], payloads: dict[int, bytes]) -> bytes:
    """Return a run's snapshot line; a record that is not what was written sets the run aside."""
    aside = b""
    for rs, lsn, crc, data in records:
        if crc32(data) != crc:
            why = f"SFW401 run {run_id} set aside: record {rs} at lsn {lsn} is damaged"
            aside = b',"aside":"%b"' % why.encode()
            records = [row for row in records if row[0] < rs]
            break
    last = records[-1][1] if records else 0
    pairs = b",".join(b'"%d":%b' % row for row in payloads.items())
    return b'{"k":"run","id":"%b","lsn":%d,"payloads":{%b}%b,"records":[%b]}' % (
        run_id.encode(),
        last,
        pairs,
        aside,
        b",".join(row[3] for row in records),
    )
