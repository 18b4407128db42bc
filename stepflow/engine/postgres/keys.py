"""API keys in the database, for all processes on it. Satisfies `model.key_table.KeyTable`.

Each process knows the rows as they were when it last looked: whoever changes one tells the others
by `NOTIFY`, and everybody looks at the version every second. So a key that is revoked is refused by
all of them a moment later, and within two seconds where the notification was lost.

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
    from stepflow.engine.postgres.bell import Bell
    from stepflow.engine.postgres.database import Database

__all__ = ["PostgresKeys"]

_log: Final = logging.getLogger("stepflow.postgres")
_VERSION: Final = "select version from stepflow.api_keys_version"
_ROWS: Final = """
select v.version, k.id, k.row::text
  from stepflow.api_keys_version v left join stepflow.api_keys k on true"""


class PostgresKeys:
    """The keys of one database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: tuple[int, dict[str, bytes]] = (0, {})
        self._task: asyncio.Task[None] | None = None
        self._told = asyncio.Event()

    # ------------------------------------------------------------ a key table

    @property
    def version(self) -> int:
        return self._known[0]

    def known(self) -> Mapping[str, bytes]:
        return self._known[1]

    def read(self) -> Mapping[str, bytes]:
        with self._connected() as conn:
            return self._learn(conn.execute(_ROWS.encode()).fetchall())

    @contextmanager
    def turn(self) -> Generator[dict[str, bytes]]:
        with self._connected() as conn:
            with conn.transaction():
                conn.execute(b"update stepflow.api_keys_version set version = version + 1")
                found = conn.execute(_ROWS.encode()).fetchall()
                before = _rows_of(found)
                rows = dict(before)
                yield rows
                gone = [key_id for key_id in before if key_id not in rows]
                changed = {key: row for key, row in rows.items() if before.get(key) != row}
                conn.execute(b"delete from stepflow.api_keys where id = any(%s)", (gone,))
                conn.cursor().executemany(
                    b"""insert into stepflow.api_keys (id, row) values (%s, %s::jsonb)
                        on conflict (id) do update set row = excluded.row""",
                    [(key, row.decode()) for key, row in changed.items()],
                )
                conn.execute(b"select pg_notify('stepflow_keys', '')")
            # Only now, as it is written: `jsonb` has an order of its own.
            self._learn(conn.execute(_ROWS.encode()).fetchall())

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

    async def start(self, database: Database, bell: Bell, clock: Clock, poll_s: float) -> None:
        """Look at the keys, and again when somebody changes one."""
        await self._look(database)
        bell.on_keys = self._told.set
        self._task = asyncio.ensure_future(self._following(database, clock, poll_s))

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
                _log.warning("the API keys could not be looked at: %s", error.message)

    async def _look(self, database: Database) -> None:
        version = await database.rows(_VERSION)
        if version[0][0] != self._known[0]:
            self._learn(await database.rows(_ROWS))


def _rows_of(found: list[tuple[Any, ...]]) -> dict[str, bytes]:
    return {key_id: row.encode() for _, key_id, row in found if key_id is not None}
