"""Writes a group commit: one transaction, one trip to the database."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import psycopg

from stepflow.engine.postgres.acts import ACTS
from stepflow.engine.postgres.bell import ENDED
from stepflow.engine.postgres.gate import ENTER, asked
from stepflow.engine.postgres.inbox import text
from stepflow.engine.postgres.journal import LostRunsError, UnreachableError
from stepflow.engine.postgres.passing import CLEAN, KEPT_MS, WRITE, columns_of
from stepflow.engine.postgres.rows import Begins, Enters, Leaves, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.passing import Passing, Told
    from stepflow.engine.postgres.rows import Group, Rows
    from stepflow.model.records import RunStarted
    from stepflow.model.run import RunState

__all__ = ["ANNOUNCE", "PAYLOADS", "RECORDS", "START", "START_HELD", "Committer", "start_values"]

_log: Final = logging.getLogger("stepflow.postgres")

START: Final = b"select stepflow.start(%s, %s, %s::text[], %s, %s, %s, %s, %s, %s::text[])"
ANNOUNCE: Final = b"select stepflow.announce(%s)"
START_HELD: Final = START[:-1] + b", p_held => true)"
_GUARD: Final = b"select stepflow.guard(%s, %s, %s::text[], %s::uuid[], %s::uuid[])"
RECORDS: Final = b"""
insert into stepflow.records (run_id, rs, lsn, crc, data)
select * from unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bytea[])"""
_RUNS: Final = b"""
update stepflow.runs r set rs = p.rs, lsn = p.lsn, updated_ms = p.ms,
       status = case when p.status = '' then r.status else p.status end,
       ended_ms = case when p.bytes is not null then p.ms when p.status = '' then r.ended_ms end,
       bytes = case when p.status = '' then r.bytes else p.bytes end
  from unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[])
       as p(run_id, rs, lsn, ms, status, bytes)
 where r.run_id = p.run_id"""
PAYLOADS: Final = b"""
insert into stepflow.payloads (run_id, lsn, body)
select * from unnest(%s::text[], %s::bigint[], %s::bytea[])"""
_WAITS: Final = b"""
insert into stepflow.waits (run_id, key, event, type)
select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[])
on conflict (run_id, key) do update set event = excluded.event, type = excluded.type"""
_UNWAIT: Final = b"""
delete from stepflow.waits w using unnest(%s::text[], %s::text[]) as p(run_id, key)
 where w.run_id = p.run_id and w.key = p.key"""
_TIME_OUT: Final = b"select stepflow.time_out(%s::text[], %s::text[])"
_KEPT: Final = b"""
update stepflow.runs r set kept = p.kept, kept_bytes = p.bytes
  from unnest(%s::text[], %s::int[], %s::bigint[]) as p(run_id, kept, bytes)
 where r.run_id = p.run_id"""
_CHECKPOINTS: Final = b"""
insert into absurd.c_stepflow
  (task_id, checkpoint_name, state, status, owner_run_id, updated_at)
select distinct on (r.task_id, p.name)
       r.task_id, p.name, p.state::jsonb, 'committed', r.holder, absurd.current_time()
  from unnest(%s::text[], %s::text[], %s::text[]) with ordinality as p(run_id, name, state, place)
  join stepflow.runs r on r.run_id = p.run_id
 order by r.task_id, p.name, p.place desc
on conflict (task_id, checkpoint_name) do update
   set state = excluded.state, status = excluded.status, owner_run_id = excluded.owner_run_id,
       updated_at = excluded.updated_at"""
"""What absurd.set_task_checkpoint_state does to one, once the claim is known to be good."""
_UNDECLARE: Final = b"delete from stepflow.declared where run_id = any(%s::text[])"
_DECLARE: Final = b"""
insert into stepflow.declared (run_id, event)
select * from unnest(%s::text[], %s::text[]) on conflict do nothing"""
_FORGET_WAITS: Final = b"delete from stepflow.waits where run_id = any(%s::text[])"
_FORGET: Final = b"""
with p as (select * from unnest(%s::text[], %s::int[]) as p(run_id, rs)),
     old as (
       delete from stepflow.records e using p, stepflow.runs r
        where r.run_id = p.run_id and e.run_id = p.run_id and e.rs <= r.forgotten
     )
update stepflow.runs r set forgotten = p.rs from p where r.run_id = p.run_id"""
_FINISH: Final = b"select stepflow.finish(%s::text[], %s::text[])"
_BEGIN: Final = b"select stepflow.begin_gated(%s::text[])"
_LEAVE: Final = b"select stepflow.leave(%s::text[])"
_CONSUME: Final = b"""
delete from stepflow.inbox i using unnest(%s::text[], %s::bigint[]) as p(run_id, n)
 where i.run_id = p.run_id and i.n = p.n"""
_PUT: Final = b"""
select stepflow.put(p.run_id, p.kind, p.body)
  from unnest(%s::text[], %s::text[], %s::bytea[]) with ordinality as p(run_id, kind, body, place)
 order by p.run_id, p.place"""
_NOTIFY: Final = b"select pg_notify('stepflow_runs', %s)"
_NOTIFIED_AT_ONCE: Final = 100
_CLEANED_MS: Final = 2_000
"""So often a worker that tells what passes forgets what has passed."""


class Committer:
    """Writes for one worker, over a connection of its own."""

    def __init__(
        self,
        database: Database,
        worker: str,
        state_of: Callable[[str], RunState | None],
        type_of: Callable[[str, str], str | None],
        passing: Passing,
        ask: Callable[[RunStarted], dict[str, Any] | None],
    ) -> None:
        self._database = database
        self._worker = worker
        self._state_of = state_of
        self._type_of = type_of
        self._passing = passing
        self._turn = asyncio.Lock()
        """One transaction at a time: what passes may go between two groups."""
        self._cleaned_ms = 0
        self._ask = ask
        self._conn: psycopg.AsyncConnection[Any] | None = None

    async def close(self) -> None:
        """Give the connection back."""
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def store(self, batch: int, groups: Sequence[Group], holders: Mapping[str, UUID]) -> None:
        """Write the groups.

        Raises `LostRunsError`, having written nothing, and `UnreachableError`.
        """
        async with self._turn:
            told = self._passing.take()
            try:
                await self._store(batch, groups, holders, told)
            except BaseException:
                self._passing.put_back(told)
                raise

    async def pass_on(self, holders: Mapping[str, UUID]) -> None:
        """Write what is told to those who read now. What cannot be written is lost."""
        async with self._turn:
            told = self._passing.take()
            if not told:
                return
            try:
                conn = self._conn = self._conn or await self._database.connect()
                async with conn.pipeline():
                    await conn.execute(b"begin")
                    # Nobody counts on it, and no record is in this transaction.
                    await conn.execute(b"set local synchronous_commit = off")
                    await self._tell(conn, told, holders)
                    await _ring(conn, [one.run_id for one in told])
                    await conn.execute(b"commit")
            except psycopg.Error as error:
                _log.debug("what passes could not be told: %s", error)
                await self._hang_up()

    async def _tell(
        self,
        conn: psycopg.AsyncConnection[Any],
        told: Sequence[Told],
        holders: Mapping[str, UUID],
    ) -> None:
        if told[-1].at_ms - self._cleaned_ms > _CLEANED_MS:
            self._cleaned_ms = told[-1].at_ms
            await conn.execute(CLEAN.encode(), (self._cleaned_ms - KEPT_MS,))
        await conn.execute(WRITE, columns_of(told, holders))

    async def _store(
        self,
        batch: int,
        groups: Sequence[Group],
        holders: Mapping[str, UUID],
        told: Sequence[Told],
    ) -> None:
        rows = rows_of(groups, self._state_of, self._type_of)
        runs = sorted({run_id for group in groups for run_id in group.runs})
        try:
            conn = self._conn = self._conn or await self._database.connect()
        except psycopg.Error as error:
            raise UnreachableError(str(error)) from error
        try:
            async with conn.pipeline():
                # Not by `transaction()`: that would hide what was refused behind its own failure.
                await conn.execute(b"begin")
                await self._write(conn, batch, runs, rows, holders, told)
                await conn.execute(b"commit")
        except psycopg.OperationalError as error:
            if error.sqlstate in {"40P01", "40001", "55P03"}:
                # Deadlock and the like: nothing was written, the same again.
                await conn.rollback()
                raise UnreachableError(str(error)) from error
            await self._hang_up()
            raise UnreachableError(str(error)) from error
        except psycopg.Error as error:
            await conn.rollback()
            self._refused(error, runs)

    def _refused(self, error: psycopg.Error, runs: Sequence[str]) -> None:
        """Say what the database has refused; return when the group had been written before."""
        state, message = error.sqlstate, error.diag.message_primary or ""
        if state == "SF002":
            return
        if state in {"SF001", "SF003"}:
            raise LostRunsError(dict.fromkeys(message.split(","), state == "SF003")) from error
        if state in {"AB001", "AB002"}:
            # Lost between the guard and its checkpoint: the guard will name it.
            raise UnreachableError(message) from error
        _log.error("a group commit was refused: %s", error, exc_info=error)
        # Nobody knows whose fault it is: all of them are read again, and what fails again and
        # again is set aside by its claims, which end without a record.
        raise LostRunsError(dict.fromkeys(runs, False)) from error

    async def _hang_up(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def _write(  # noqa: C901, PLR0912, PLR0915  one statement a table
        self,
        conn: psycopg.AsyncConnection[Any],
        batch: int,
        runs: Sequence[str],
        rows: Rows,
        holders: Mapping[str, UUID],
        told: Sequence[Told],
    ) -> None:
        run = conn.execute
        ending = [holders[run_id] for run_id in rows.ended]
        held = [holders[run_id] for run_id in runs]
        await run(_GUARD, (self._worker, batch, runs, held, ending))
        if told:
            # Before whatever was recorded after it.
            await self._tell(conn, told, holders)
        if rows.started:
            await _begin(conn, rows.started)
        if rows.records:
            await run(RECORDS, _columns(rows.records, 5))
        if rows.runs:
            table = [
                (run_id, row.rs, row.lsn, row.updated_ms, row.status, row.nbytes)
                for run_id, row in sorted(rows.runs.items())
            ]
            await run(_RUNS, _columns(table, 6))
        if rows.payloads:
            payloads = [(*place, body) for place, body in rows.payloads.items()]
            await run(PAYLOADS, _columns(payloads, 3))
        if rows.restarted:
            await run(_FORGET_WAITS, (list(rows.restarted),))
            await run(_FORGET, _columns(list(rows.restarted.items()), 2))
        if rows.timed_out:
            await run(_TIME_OUT, _columns(sorted(rows.timed_out), 2))
        if rows.waits:
            over = sorted(place for place, event in rows.waits.items() if event is None)
            begun = [
                (*place, event, rows.types.get(place))
                for place, event in rows.waits.items()
                if event is not None
            ]
            if over:
                await run(_UNWAIT, _columns(over, 2))
            if begun:
                await run(_WAITS, _columns(begun, 4))
        if rows.declared:
            await run(_UNDECLARE, (list(rows.declared),))
            events = [
                (r, text(event)) for r, declared in rows.declared.items() for event in declared
            ]
            if events:
                await run(_DECLARE, _columns(events, 2))
        if rows.kept:
            await run(_KEPT, _columns(list(self._kept(rows.kept)), 3))
        if rows.checkpoints:
            await run(_CHECKPOINTS, _columns(rows.checkpoints, 3))
        await self._at_the_gate(conn, rows)
        if rows.ended:
            await run(_FINISH, _columns(list(rows.ended.items()), 2))
        if rows.consumed:
            await run(_CONSUME, _columns(rows.consumed, 2))
        if rows.acts:
            await run(ACTS, _columns(rows.acts, 2))
        if rows.sent:
            await run(_PUT, _columns(rows.sent, 3))
        changed = [run_id + ENDED if run_id in rows.ended else run_id for run_id in rows.runs]
        changed += [record.r for record, _ in rows.started]
        changed += [run_id for run_id, _ in rows.consumed if run_id not in rows.runs]
        changed += [one.run_id for one in told if one.run_id not in rows.runs]
        await _ring(conn, changed)

    async def _at_the_gate(self, conn: psycopg.AsyncConnection[Any], rows: Rows) -> None:
        """Ask for slots and give them back, in the order in which it was decided."""
        asks = [self._ask(record) for record, _ in rows.started if record.held]
        if any(asks):
            await conn.execute(ENTER, (asked(ask for ask in asks if ask),))
        for effect in rows.gate:
            match effect:
                case Enters():
                    await conn.execute(ENTER, (asked([effect.ask]),))
                case Leaves():
                    await conn.execute(_LEAVE, ([effect.run_id],))
                case Begins():
                    await conn.execute(_BEGIN, ([effect.run_id],))

    def _kept(self, runs: Iterable[str]) -> Iterable[tuple[str, int, int]]:
        for run_id in sorted(runs):
            state = self._state_of(run_id)
            if state is not None:
                yield run_id, state.kept_count, state.kept_bytes


async def _ring(conn: psycopg.AsyncConnection[Any], run_ids: Iterable[str]) -> None:
    changed = list(dict.fromkeys(run_ids))
    for begin in range(0, len(changed), _NOTIFIED_AT_ONCE):
        await conn.execute(_NOTIFY, (",".join(changed[begin : begin + _NOTIFIED_AT_ONCE]),))


async def _begin(
    conn: psycopg.AsyncConnection[Any], started: Sequence[tuple[RunStarted, bytes]]
) -> None:
    for record, data in started:
        await conn.execute(START_HELD if record.held else START, start_values(record, data))
    # Whoever is let in is announced by the gate.
    if count := sum(not record.held for record, _ in started):
        await conn.execute(ANNOUNCE, (count,))


def start_values(record: RunStarted, data: bytes) -> tuple[object, ...]:
    """Return what `stepflow.start` takes."""
    return (
        record.r,
        text(record.workflow),
        [text(tag) for tag in record.tags],
        "pending" if record.due or record.held else "running",
        record.ts,
        record.lsn,
        crc32(data),
        data,
        [text(event) for event in record.events],
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> tuple[list[Any], ...]:
    return tuple([row[place] for row in rows] for place in range(width))
