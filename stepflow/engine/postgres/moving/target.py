"""Fills a database that nobody works on yet: a transaction a batch, held until the switch.

While `stepflow.meta` says `HELD` no engine starts on it, and no run has a task that could be
claimed. One command at a time fills a database: it holds an advisory lock.
"""

from __future__ import annotations

import os
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from zlib import crc32

import psycopg
import psycopg.conninfo

from stepflow.engine.postgres.acts import ACTS
from stepflow.engine.postgres.database import Database
from stepflow.engine.postgres.history import lines_of
from stepflow.engine.postgres.inbox import text
from stepflow.engine.postgres.moving.rows import Key, RunRows
from stepflow.engine.postgres.schema import FORMAT, HELD, QUEUE, check_server, exists, make
from stepflow.errors import ConfigurationError
from stepflow.model.run import FINISHED, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from stepflow.model.rates import RateRow
    from stepflow.model.schedules import ScheduleRow

__all__ = ["Migration", "Target", "where"]

_LOCK: Final = 0x5374_6570_6D6F_7665
_COPY_RUNS: Final = b"""
copy stepflow.runs (run_id, workflow, tags, status, created_ms, updated_ms, rs, lsn, forgotten,
                    kept, kept_bytes) from stdin"""
_COPY_RECORDS: Final = b"copy stepflow.records (run_id, rs, lsn, crc, data) from stdin"
_COPY_PAYLOADS: Final = b"copy stepflow.payloads (run_id, lsn, body) from stdin"
_COPY_WAITS: Final = b"copy stepflow.waits (run_id, key, event) from stdin"
_COPY_DECLARED: Final = b"copy stepflow.declared (event, run_id) from stdin"
_ENDED: Final = b"""
update stepflow.runs r set ended_ms = p.ms, bytes = p.bytes
  from unnest(%s::text[], %s::bigint[], %s::bigint[]) as p(run_id, ms, bytes)
 where r.run_id = p.run_id"""
_KEY: Final = b"""
insert into stepflow.keys (workflow, principal, key, run_id, expires_ms)
values (%s, %s, %s, %s, %s)
on conflict (workflow, principal, key) do update
   set run_id = excluded.run_id, expires_ms = excluded.expires_ms"""
_RUNS: Final = b"""
select run_id, workflow, tags, status, created_ms, updated_ms, rs, lsn, forgotten, kept, kept_bytes
  from stepflow.runs where run_id = any(%s)"""
_SPAWN: Final = b"""
update stepflow.runs r set task_id = (
         select t.task_id from absurd.spawn_task(
           %s, r.workflow, jsonb_build_object('run', r.run_id),
           jsonb_build_object('idempotency_key', r.run_id || '@' || r.seq)) t)
 where r.status in ('pending', 'running')"""
_SCHEDULED: Final = b"update stepflow.runs set schedule = %s where run_id = %s"
_SCHEDULE: Final = b"""
insert into stepflow.schedules
  (id, workflow, spec, last_ms, paused, fired, skipped, run_id, at_ms)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_RATE: Final = b"""
insert into stepflow.limits (kind, id, count, per_ms, path) values ('rate', %s, %s, %s, '')
on conflict do nothing"""
_BUCKET: Final = b"""
insert into stepflow.buckets (kind, id, key, started) values ('rate', %s, %s, %s)
returning bucket"""
_COPY_STARTS: Final = b"copy stepflow.starts (bucket, n, at_ms) from stdin"
_UNCOUNTED: Final = b"""
insert into stepflow.gates (workflow, spec)
select distinct workflow, '[["moved"], []]' from stepflow.runs
 where status in ('pending', 'running')"""
"""Limits that no code has: the first worker with the workflow counts its runs by what it has."""
_TABLES: Final = "runs, records, payloads, waits, declared, keys, inbox, sent"


class Migration(NamedTuple):
    """From where a database is filled, and how far."""

    id: str
    source: str
    terms: str
    copied: int
    switched: str
    """When; empty: not yet."""


class Rest(NamedTuple):
    """What the runs need besides their rows."""

    letters: list[tuple[str, str, bytes]]
    """What parents have not heard yet."""
    scheduled: list[tuple[str, str]]
    """Live runs, with the schedule that each is of."""
    schedules: Sequence[ScheduleRow] = ()
    rates: Sequence[RateRow] = ()


def where(url: str) -> str:
    """Return the database's place, without who asks and the password.

    Raises `ConfigurationError`.
    """
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not with what it says: the password may be in it.
        raise ConfigurationError(
            "that is no URL of a PostgreSQL database: postgresql://user@host/name"
        ) from None
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{parts.get('host') or 'localhost'}{port}/{parts.get('dbname') or ''}"


class Target:
    """The database over one connection: a context manager. Raises `psycopg.Error` when cut."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.place = where(url)
        self._conn: psycopg.AsyncConnection[Any] | None = None

    async def __aenter__(self) -> Self:
        try:
            self._conn = await Database(self._url).connect()
        except psycopg.OperationalError as error:
            message = f"the database at {self.place} cannot be reached: {error}"
            raise ConfigurationError(message) from error
        check_server(self._conn)
        try:
            # One that has just ended may still be letting go.
            await self._conn.execute(b"set lock_timeout = '2s'")
            await self._conn.execute(b"select pg_advisory_lock(%s)", (_LOCK,))
        except psycopg.errors.LockNotAvailable as error:
            await self._conn.close()
            message = f"another `stepflow migrate` works on {self.place}: let it end"
            raise ConfigurationError(message) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.conn.close()

    @property
    def conn(self) -> psycopg.AsyncConnection[Any]:
        """The connection."""
        assert self._conn is not None
        return self._conn

    async def _rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return await (await self.conn.execute(sql.encode(), args or None)).fetchall()

    async def _one(self, sql: str, *args: object) -> object:
        rows = await self._rows(sql, *args)
        return rows[0][0] if rows else None

    # ------------------------------------------------------------ whose it is

    async def find(self) -> Migration | None:
        """Return the migration that fills the database, or has; None for one that is free.

        Raises `ConfigurationError` for a database that has runs of its own.
        """
        if await exists(self.conn, "stepflow.migration"):
            rows = await self._rows(
                """select id, source, terms, copied, coalesce(switched_at::text, '')
                     from stepflow.migration"""
            )
            return Migration(*rows[0])
        queue = "absurd.t_" + QUEUE
        if await exists(self.conn, "stepflow.meta") or await exists(self.conn, queue):
            raise self._taken()
        return None

    def _taken(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.place} is taken: Stepflow has been started on it. Give an empty database, "
            "or drop the schema stepflow and Absurd's queue stepflow, when nobody needs them"
        )

    async def begin(self, source: str, terms: str) -> Migration:
        """Make the tables, held; nothing is in them.

        Raises `ConfigurationError` where an engine was quicker.
        """
        made_absurd = not await exists(self.conn, "absurd.queues")
        name = os.urandom(8).hex()
        async with self.conn.transaction():
            await make(self.conn, HELD)
            if await self._one("select version from stepflow.meta") != HELD:
                raise self._taken()
            await self.conn.execute(
                resources.files("stepflow.engine.postgres.moving")
                .joinpath("moving.sql")
                .read_bytes()
            )
            await self.conn.execute(
                b"""insert into stepflow.migration (id, source, terms, made_absurd)
                    values (%s, %s, %s, %s)""",
                (name, source, terms, made_absurd),
            )
        return Migration(name, source, terms, 0, "")

    async def clear(self, terms: str) -> None:
        """Begin anew: what was copied is of a directory that has changed since."""
        async with self.conn.transaction():
            await self._mine()
            await self.conn.execute(f"truncate {_qualified(_TABLES)} restart identity".encode())
            await self.conn.execute(
                b"update stepflow.migration set copied = 0, terms = %s", (terms,)
            )

    async def _mine(self) -> int:
        """Return how many runs are copied. Raises where the switch is done: nothing may change."""
        rows = await self._rows("select copied, switched_at from stepflow.migration for update")
        if rows[0][1] is not None:
            raise ConfigurationError(f"the runs go on at {self.place} since {rows[0][1]}")
        return int(rows[0][0])

    # ------------------------------------------------------------ copying

    async def copy(self, position: int, runs: Sequence[RunRows], keys: Sequence[Key]) -> None:
        """Copy a batch, all of it or nothing; `position` runs were copied before it."""
        conn = self.conn
        async with conn.transaction():
            if await self._mine() != position:
                raise ConfigurationError(f"another `stepflow migrate` works on {self.place}")
            await self._copy(_COPY_RUNS, [rows.run for rows in runs])
            await self._copy(_COPY_RECORDS, [(r.id, *row) for r in runs for row in r.records])
            await self._copy(_COPY_PAYLOADS, [(r.id, *row) for r in runs for row in r.payloads])
            await self._copy(_COPY_WAITS, [(r.id, *row) for r in runs for row in r.waits])
            await self._copy(_COPY_DECLARED, [(e, r.id) for r in runs for e in r.declared])
            ended = [(r.id, r.run[5], r.nbytes) for r in runs if r.run[3] in FINISHED]
            if ended:
                await conn.execute(_ENDED, tuple(map(list, zip(*ended, strict=True))))
            for key in keys:
                await conn.execute(_KEY, key)
            await conn.execute(b"update stepflow.migration set copied = copied + %s", (len(runs),))

    async def _copy(self, sql: bytes, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        async with self.conn.cursor() as cursor, cursor.copy(sql) as copy:
            for row in rows:
                await copy.write_row(row)

    # ------------------------------------------------------------ verifying

    async def read(self, run_ids: Sequence[str]) -> dict[str, RunRows]:
        """Return the rows of these runs, as they are there; checksums are reckoned anew."""
        ids = list(run_ids)
        found = await self.conn.execute(_RUNS, (ids,))
        runs = {row[0]: RunRows(row, [], [], [], []) for row in await found.fetchall()}
        for run_id, rs, lsn, crc, data in await self._rows(
            """select run_id, rs, lsn, crc, data from stepflow.records
                where run_id = any(%s) order by run_id, rs""",
            ids,
        ):
            if run_id in runs and crc32(data) == crc:
                runs[run_id].records.append((rs, lsn, crc, bytes(data)))
        for run_id, lsn, body in await self._rows(
            """select run_id, lsn, body from stepflow.payloads
                where run_id = any(%s) order by run_id, lsn""",
            ids,
        ):
            if run_id in runs:
                runs[run_id].payloads.append((lsn, bytes(body)))
        for run_id, key, event in await self._rows(
            "select run_id, key, event from stepflow.waits where run_id = any(%s)", ids
        ):
            if run_id in runs:
                runs[run_id].waits.append((key, event))
        for run_id, event in await self._rows(
            "select run_id, event from stepflow.declared where run_id = any(%s)", ids
        ):
            if run_id in runs:
                runs[run_id].declared.append(event)
        for rows in runs.values():
            # Here, not there: a database may order texts by its own rules.
            rows.waits.sort()
            rows.declared.sort()
        return runs

    async def totals(self) -> dict[str, int]:
        """Return how many rows each table has, and how many runs each status."""
        names = ("runs", "records", "payloads", "waits", "declared", "keys")
        totals = {
            name: int(str(await self._one(f"select count(*) from stepflow.{name}")))  # noqa: S608  ours
            for name in names
        }
        for status, count in await self._rows(
            "select status, count(*) from stepflow.runs group by status"
        ):
            totals[f"runs {status}"] = int(count)
        return totals

    async def keys(self) -> set[Key]:
        """Return the idempotency keys."""
        rows = await self._rows(
            "select workflow, principal, key, run_id, expires_ms from stepflow.keys"
        )
        return {Key(*row) for row in rows}

    async def ended(self, run_ids: Sequence[str]) -> dict[str, RunState | None]:
        """Return those of the runs that have ended, and None for those that are not there."""
        ids = list(run_ids)
        rows = await self._rows(
            "select run_id, status from stepflow.runs where run_id = any(%s)", ids
        )
        there = dict(rows)
        over = [name for name, status in there.items() if status not in {"pending", "running"}]
        lines = lines_of(
            await self._rows(
                """select run_id, rs, lsn, crc, data from stepflow.records
                    where run_id = any(%s) order by run_id, rs""",
                over,
            ),
            await self._rows(
                "select run_id, lsn, body from stepflow.payloads where run_id = any(%s)", over
            ),
        )
        found: dict[str, RunState | None] = {name: RunState.unpack(lines[name]) for name in over}
        found.update((name, None) for name in ids if name not in there)
        return found

    # ------------------------------------------------------------ the end of it

    async def switch(self, rest: Rest, acts: Sequence[tuple[str, bytes]]) -> None:
        """Give each live run its task, hand in what it needs and acts, and open the database."""
        conn = self.conn
        async with conn.transaction():
            await self._mine()
            await conn.execute(_SPAWN, (QUEUE,))
            for letter in rest.letters:
                await conn.execute(
                    b"insert into stepflow.inbox (run_id, kind, body) values (%s, %s, %s)", letter
                )
            await conn.execute(ACTS, ([act[0] for act in acts], [act[1] for act in acts]))
            await self._plan(rest)
            await conn.execute(b"update stepflow.meta set version = %s", (FORMAT,))
            await conn.execute(b"update stepflow.migration set switched_at = clock_timestamp()")

    async def _plan(self, rest: Rest) -> None:
        """Write what begins by the clock, and have those that are under way counted."""
        conn = self.conn
        for run_id, schedule in rest.scheduled:
            await conn.execute(_SCHEDULED, (text(schedule), run_id))
        for row in rest.schedules:
            # Whose it is, its code says when it is started.
            name, told = text(row.id), (row.fired, row.skipped, row.run, row.at)
            await conn.execute(_SCHEDULE, (name, name, row.spec, row.last, row.paused, *told))
        for rate in rest.rates:
            count = len(rate.times)
            await conn.execute(_RATE, (text(rate.id), count, rate.per))
            found = await conn.execute(_BUCKET, (text(rate.id), rate.key, count))
            bucket = await found.fetchone()
            assert bucket is not None
            starts = [(bucket[0], n, at) for n, at in enumerate(rate.times, 1)]
            await self._copy(_COPY_STARTS, starts)
        await conn.execute(_UNCOUNTED)

    async def settle(self) -> None:
        """Let the database know how much there is, before anybody asks for it."""
        for table in _qualified(_TABLES).split(", "):
            await self.conn.execute(f"analyze {table}".encode())

    async def drop(self) -> None:
        """Remove all that was made, in the caller's transaction."""
        await self._mine()
        made_absurd = await self._one("select made_absurd from stepflow.migration")
        await self.conn.execute(b"drop schema stepflow cascade")
        await self.conn.execute(b"select absurd.drop_queue(%s)", (QUEUE,))
        if made_absurd and not await self._one("select count(*) from absurd.queues"):
            await self.conn.execute(b"drop schema absurd cascade")


def _qualified(names: str) -> str:
    return ", ".join(f"stepflow.{name}" for name in names.split(", "))
