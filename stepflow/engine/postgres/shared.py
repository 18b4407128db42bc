"""Small tables of the auth room in the database, for all processes on it: API keys and sessions.

Each satisfies `model.shared_table.SharedTable`. A process knows the rows as they were when it last
looked: whoever changes one tells the others by `NOTIFY`, and everybody looks at the version every
second. So a key that is revoked is refused by all of them a moment later, and within two seconds
where the notification was lost.

What changes is done in a thread of the caller's, over a connection of its own: it is rare.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg

from stepflow.engine.postgres.database import SESSION, end
from stepflow.errors import ApiError, ConfigurationError, OutcomeUnknownError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepflow.clock import Clock
    from stepflow.engine.postgres.database import Database

__all__ = ["PostgresTable"]

_log: Final = logging.getLogger("stepflow.postgres")
_VERSION: Final = "select version from stepflow.{0}_version"
_ROWS: Final = """
select v.version, k.id, k.row::text
  from stepflow.{0}_version v left join stepflow.{0} k on true"""
_RAISE: Final = "update stepflow.{0}_version set version = version + 1"
_DELETE: Final = "delete from stepflow.{0} where id = any(%s)"
_WRITE: Final = """
insert into stepflow.{0} (id, row) values (%s, %s::jsonb)
on conflict (id) do update set row = excluded.row"""


class PostgresTable:
    """One of them: `api_keys` or `sessions`."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._version_sql = _VERSION.format(name)
        self._rows_sql = _ROWS.format(name)
        self._raise_sql = _RAISE.format(name).encode()
        self._delete_sql = _DELETE.format(name).encode()
        self._write_sql = _WRITE.format(name).encode()
        self._known: tuple[int, dict[str, bytes]] = (0, {})
        self._task: asyncio.Task[None] | None = None
        self._told = asyncio.Event()

    # ------------------------------------------------------------ a shared table

    @property
    def version(self) -> int:
        return self._known[0]

    def known(self) -> Mapping[str, bytes]:
        return self._known[1]

    def read(self) -> Mapping[str, bytes]:
        with self._connected() as conn:
            return self._learn(conn.execute(self._rows_sql.encode()).fetchall())

    @contextmanager
    def turn(self) -> Generator[dict[str, bytes]]:
        with self._connected() as conn:
            with conn.transaction():
                conn.execute(self._raise_sql)
                found = conn.execute(self._rows_sql.encode()).fetchall()
                before = _rows_of(found)
                rows = dict(before)
                yield rows
                gone = [key_id for key_id in before if key_id not in rows]
                changed = {key: row for key, row in rows.items() if before.get(key) != row}
                conn.execute(self._delete_sql, (gone,))
                conn.cursor().executemany(
                    self._write_sql,
                    [(key, row.decode()) for key, row in changed.items()],
                )
                conn.execute(b"select pg_notify('stepflow_keys', '')")
            # Only now, as it is written: `jsonb` has an order of its own.
            self._learn(conn.execute(self._rows_sql.encode()).fetchall())

    @contextmanager
    def _connected(self) -> Generator[psycopg.Connection[Any]]:
        try:
            conn = psycopg.connect(self._url, autocommit=True, options=SESSION, connect_timeout=5)
        except psycopg.OperationalError as error:
            raise UnavailableError("The database cannot be reached", retry_after_s=1) from error
        try:
            with conn:
                yield conn
        except psycopg.errors.UndefinedTable as error:
            message = "the database has no keys: start Stepflow on it once, which makes its tables"
            raise ConfigurationError(message) from error
        except psycopg.OperationalError as error:
            raise OutcomeUnknownError from error

    def _learn(self, found: list[tuple[Any, ...]]) -> Mapping[str, bytes]:
        rows = _rows_of(found)
        version = int(found[0][0])
        if version > self._known[0]:
            self._known = version, rows
        return rows

    # ------------------------------------------------------------ following it

    async def start(self, database: Database, clock: Clock, poll_s: float) -> None:
        """Look at the rows, and again when `told`, and every so often."""
        await self._look(database)
        self._task = asyncio.ensure_future(self._following(database, clock, poll_s))

    def told(self) -> None:
        """Somebody has changed one of these tables."""
        self._told.set()

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _following(self, database: Database, clock: Clock, poll_s: float) -> None:
        # A query that is cancelled may say so as an error of the database.
        while self._task is not None:
            timer = clock.call_later(poll_s, self._told.set)
            try:
                await self._told.wait()
            finally:
                timer.cancel()
            self._told.clear()
            try:
                await self._look(database)
            except ApiError as error:
                # They are what they were: without the database nothing is done with them.
                _log.warning("keys and sessions could not be looked at: %s", error.message)

    async def _look(self, database: Database) -> None:
        version = await database.rows(self._version_sql)
        if version[0][0] != self._known[0]:
            self._learn(await database.rows(self._rows_sql))


def _rows_of(found: list[tuple[Any, ...]]) -> dict[str, bytes]:
    return {key_id: row.encode() for _, key_id, row in found if key_id is not None}
