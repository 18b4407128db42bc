"""Reads runs: their records and payloads become a `RunState`, the same way as a snapshot's line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from stepflow.model.run import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepflow.engine.postgres.database import Database

__all__ = ["line_of", "load", "load_lines"]

_RECORDS: Final = """
select e.run_id, e.rs, e.lsn, e.crc, e.data
  from stepflow.records e join stepflow.runs r on r.run_id = e.run_id
 where e.run_id = any(%s) and e.rs > r.forgotten order by e.run_id, e.rs"""
_PAYLOADS: Final = """
select run_id, lsn, body from stepflow.payloads where run_id = any(%s) order by run_id, lsn"""

_Record = tuple[int, int, int, bytes]


async def load(database: Database, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Return the runs that there are. One whose records are damaged is set aside."""
    return {
        run_id: RunState.unpack(line)
        for run_id, line in (await load_lines(database, run_ids)).items()
    }


async def load_lines(database: Database, run_ids: Sequence[str]) -> dict[str, bytes]:
    """Return each run as its snapshot line."""
    async with database.connection() as conn, conn.transaction():
        await conn.execute(b"set transaction isolation level repeatable read read only")
        records = await (await conn.execute(_RECORDS.encode(), (list(run_ids),))).fetchall()
        payloads = await (await conn.execute(_PAYLOADS.encode(), (list(run_ids),))).fetchall()
    return lines_of(records, payloads)


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
