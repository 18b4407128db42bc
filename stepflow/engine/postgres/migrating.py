"""Moves a data directory into a database: copied and verified as often as wanted, then switched.

::

    copy ──► verify ──► (again, as often as wanted; `undo` forgets the copies)
                          └──► switch: with the directory's lock, one transaction, no way back

A copied run has its records and no task: nothing runs it, nobody waits there. The switch writes
`MIGRATED` into the directory, which no server starts on from then on, and then, in one
transaction, gives every live run its task, its waits, what it declares and its idempotency key.
One that is cut in between is done again: at no time are both sides able to run.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec

from stepflow.engine.postgres.database import Database
from stepflow.engine.postgres.history import load
from stepflow.engine.postgres.inbox import text
from stepflow.errors import ConfigurationError
from stepflow.journal.disk import replace_file
from stepflow.journal.lock import acquire_lock
from stepflow.journal.opening import MIGRATED
from stepflow.journal.recovery import Recovery
from stepflow.journal.store import read_store
from stepflow.model.records import decode_known
from stepflow.runtime.restore import Restorer

if TYPE_CHECKING:
    import psycopg

    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.journal.disk import Disk
    from stepflow.model.run import RunState

__all__ = ["MigrationReport", "migrate", "undo"]

_AT_ONCE: Final = 100


class MigrationReport(msgspec.Struct, rename="camel", kw_only=True):
    """What a migration has done, or found done."""

    store_id: str
    runs: int = 0
    live: int = 0
    records: int = 0
    copied: int = 0
    """Runs that were not there yet, or had grown."""
    left: list[str] = []
    """Runs that were set aside: their records make no sense, and are not copied."""
    switched: bool = False


async def migrate(
    disk: Disk, url: str, settings: Settings, clock: Clock, *, switch: bool = False
) -> MigrationReport:
    """Copy what is not there yet and verify all of it; `switch` lets the database have the runs.

    Without `switch` a server may be running on the directory. Raises `DataDirLockedError`,
    `ConfigurationError` for runs that cannot be moved, and what a start raises for damage.
    """
    lock = await acquire_lock(disk, clock, 0, lambda _: None) if switch else None
    database = Database(url)
    try:
        await database.open()
        return await _migrate(disk, database, settings, clock, switch=switch)
    finally:
        await database.close()
        if lock is not None:
            lock.release()


async def _migrate(
    disk: Disk, database: Database, settings: Settings, clock: Clock, *, switch: bool
) -> MigrationReport:
    store = read_store(disk)
    if store is None:
        raise ConfigurationError(f"{disk.path} holds no runs: there is no store in it")
    report = MigrationReport(store_id=store.hex_id)
    done = await database.rows(
        "select switched from stepflow.moved where store = %s", report.store_id
    )
    if done and done[0][0]:
        report.switched = True
        return report
    await database.act(
        "insert into stepflow.moved (store) values (%s) on conflict do nothing", report.store_id
    )
    restorer = Restorer()
    await asyncio.to_thread(
        Recovery(
            disk, store, clock.wall_ms(), restorer.on_line, restorer.on_record, read_only=True
        ).run
    )
    states = (found.state for found in restorer.runs())
    moved: list[RunState] = []
    while some := list(islice(states, _AT_ONCE)):
        report.left += [state.id for state in some if state.failure]
        sound = [state for state in some if not state.failure]
        await _copy(database, report, sound)
        moved += sound
    await _forget_purged(database, report, moved)
    if switch:
        if report.left:
            raise ConfigurationError(
                f"{len(report.left)} runs are set aside and cannot be moved, {report.left[0]} "
                "first: cancel or purge them before the switch"
            )
        note = f"moved to a database as store {report.store_id}\n"
        await asyncio.to_thread(replace_file, disk, MIGRATED, note.encode())
        await _switch(database, report, moved, settings, clock)
    return report


async def _copy(database: Database, report: MigrationReport, states: list[RunState]) -> None:
    """Copy runs that are not there, or not as long as they are now; then compare all of them."""
    marker = f"moved:{report.store_id}"
    known = {
        run_id: (lsn, worker)
        for run_id, lsn, worker in await database.rows(
            "select run_id, lsn, worker from stepflow.runs where run_id = any(%s)",
            [state.id for state in states],
        )
    }
    async with database.connection() as conn, conn.transaction():
        for state in states:
            report.runs += 1
            report.live += not state.finished
            report.records += len(state.records)
            lsn, worker = known.get(state.id, (0, marker))
            if worker != marker:
                raise ConfigurationError(
                    f"the database has a run {state.id} of its own: it is another store's"
                )
            if lsn != state.lsn:
                report.copied += 1
                await _write(conn, state, marker)
    for run_id, there in (await load(database, [state.id for state in states])).items():
        state = next(state for state in states if state.id == run_id)
        if there.records != state.records or there.payloads != state.payloads or there.failure:
            raise ConfigurationError(f"run {run_id} is not in the database as it is here: undo")


async def _write(conn: psycopg.AsyncConnection[Any], state: RunState, marker: str) -> None:
    await conn.execute(b"delete from stepflow.records where run_id = %s", (state.id,))
    await conn.execute(b"delete from stepflow.payloads where run_id = %s", (state.id,))
    start = state.started
    await conn.execute(
        b"""insert into stepflow.runs (run_id, workflow, tags, status, created_ms, updated_ms, rs,
                   lsn, forgotten, kept, kept_bytes, worker)
            values (%s, %s, %s::text[], %s, %s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (run_id) do update set status = excluded.status, rs = excluded.rs,
                   updated_ms = excluded.updated_ms, lsn = excluded.lsn, kept = excluded.kept,
                   forgotten = excluded.forgotten, kept_bytes = excluded.kept_bytes""",
        (
            state.id,
            text(state.workflow),
            [text(tag) for tag in start.tags] if start is not None else [],
            state.status,
            state.created_ms,
            state.updated_ms,
            state.rs,
            state.lsn,
            state.forgotten,
            state.kept_count,
            state.kept_bytes,
            marker,
        ),
    )
    heads = [decode_known(data) for data in state.records]
    await conn.execute(
        b"""insert into stepflow.records (run_id, rs, lsn, crc, data)
            select %s, * from unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bytea[])""",
        (
            state.id,
            [head.rs for head in heads],
            [head.lsn for head in heads],
            [crc32(data) for data in state.records],
            state.records,
        ),
    )
    if state.payloads:
        await conn.execute(
            b"""insert into stepflow.payloads (run_id, lsn, body)
                select %s, * from unnest(%s::bigint[], %s::bytea[])""",
            (state.id, list(state.payloads), list(state.payloads.values())),
        )


async def _forget_purged(
    database: Database, report: MigrationReport, moved: list[RunState]
) -> None:
    """Runs that were purged here since they were copied are forgotten there, too."""
    await database.act(
        _FORGET.replace("task_id is null", "task_id is null and not (run_id = any(%s))"),
        f"moved:{report.store_id}",
        [state.id for state in moved],
    )


_FORGET: Final = """
with gone as (delete from stepflow.runs where worker = %s and task_id is null returning run_id),
     r as (delete from stepflow.records where run_id in (select run_id from gone)),
     p as (delete from stepflow.payloads where run_id in (select run_id from gone)),
     i as (delete from stepflow.inbox where run_id in (select run_id from gone))
select count(*) from gone"""


async def _switch(
    database: Database,
    report: MigrationReport,
    moved: list[RunState],
    settings: Settings,
    clock: Clock,
) -> None:
    """Let the database have the runs: all of them, or none."""
    async with database.connection() as conn, conn.transaction():
        for state in moved:
            start = state.started
            expires_ms = state.created_ms + int(settings.idempotency_ttl_s * 1000)
            if start is not None and start.idem and expires_ms > clock.wall_ms():
                await conn.execute(
                    b"""insert into stepflow.keys values (%s, %s, %s, %s, %s)
                        on conflict do nothing""",
                    (text(start.workflow), text(start.by), text(start.idem), state.id, expires_ms),
                )
            if not state.finished:
                await _go_on(conn, state)
        await conn.execute(
            b"update stepflow.runs set worker = null where worker = %s",
            (f"moved:{report.store_id}",),
        )
        await conn.execute(
            b"update stepflow.moved set switched = true where store = %s", (report.store_id,)
        )
        await conn.execute(b"select pg_notify('stepflow_work', '')")
    report.switched = True


async def _go_on(conn: psycopg.AsyncConnection[Any], state: RunState) -> None:
    await conn.execute(
        b"""update stepflow.runs set task_id = (
              select task_id from absurd.spawn_task(
                'stepflow', %s, jsonb_build_object('run', %s::text),
                jsonb_build_object('idempotency_key', %s::text || '@' || seq)))
             where run_id = %s""",
        (text(state.workflow), state.id, state.id, state.id),
    )
    waits = [call for call in state.pending_calls() if call.kind == "event"]
    for call in waits:
        await conn.execute(
            b"insert into stepflow.waits (run_id, key, event) values (%s, %s, %s)",
            (state.id, text(call.key), text(call.event)),
        )
    for event in set(state.started.events) if state.started is not None else ():
        await conn.execute(
            b"insert into stepflow.declared (event, run_id) values (%s, %s)",
            (text(event), state.id),
        )


async def undo(disk: Disk, url: str) -> int:
    """Forget the copies of the directory's runs; return how many. Raises after the switch."""
    store = read_store(disk)
    if store is None:
        raise ConfigurationError(f"{disk.path} holds no runs: there is no store in it")
    database = Database(url)
    try:
        await database.open()
        done = await database.rows(
            "select switched from stepflow.moved where store = %s", store.hex_id
        )
        if done and done[0][0]:
            raise ConfigurationError("the database has the runs: there is no way back")
        rows = await database.act(_FORGET, f"moved:{store.hex_id}")
        await database.act("delete from stepflow.moved where store = %s", store.hex_id)
        return int(rows[0][0])
    finally:
        await database.close()
