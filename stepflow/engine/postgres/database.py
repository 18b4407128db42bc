"""The way to the database: a pool of connections."""

from __future__ import annotations

import asyncio
import select
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import psycopg.conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from stepflow.engine.postgres.schema import prepare
from stepflow.errors import ConfigurationError, OutcomeUnknownError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stepflow.clock import Clock

__all__ = ["SESSION", "Database", "end", "rest"]

_POOL_MAX: Final = 8
_WAIT_S: Final = 5.0
"""A call waits so long for a connection, then it is refused."""
_CANCEL_AGAIN_S: Final = 0.2
SESSION: Final = (
    "-c synchronous_commit=on -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
)
"""Acknowledged is durable, whatever the database's own default is."""
_ALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""A peer that is gone in silence is noticed by the kernel, within a minute."""


async def _check(conn: psycopg.AsyncConnection[Any]) -> None:
    """Ask a connection whether it still is one, where something speaks against it.

    A connection at rest has nothing to read, unless it was closed: a query would tell no more, and
    would cost each call a trip to the database.
    """
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(conn)


async def rest(clock: Clock, seconds: float) -> None:
    """Wait for so long."""
    woken = asyncio.Event()
    timer = clock.call_later(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended.

    Whoever waits for the database misses a cancellation that comes in the same moment as the
    answer: `asyncio.wait_for` before Python 3.12 gives him the answer and nothing more.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)


class Database:
    """The connections of one process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store_id = ""
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] | None = None

    async def open(self) -> None:
        """Connect, and make the schema where it is missing.

        Raises `ConfigurationError` for a database that cannot be reached or used.
        """
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            self.url,
            min_size=1,
            max_size=_POOL_MAX,
            timeout=_WAIT_S,
            open=False,
            kwargs={"autocommit": True, "options": SESSION, **_ALIVE},
            check=_check,
            name="stepflow",
        )
        # The pool would try again for long, and say nothing of why.
        try:
            await (await self.connect()).close()
            await pool.open(wait=True, timeout=_WAIT_S)
        except (psycopg.OperationalError, PoolTimeout) as error:
            await pool.close()
            where = psycopg.conninfo.conninfo_to_dict(self.url)
            message = f"the database at {where.get('host', 'localhost')} cannot be reached: {error}"
            raise ConfigurationError(message) from error
        self._pool = pool
        async with pool.connection() as conn:
            self.store_id = await prepare(conn)

    async def close(self) -> None:
        """Give the connections back."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """Return a connection of the caller's own."""
        return await psycopg.AsyncConnection.connect(
            self.url, autocommit=True, options=SESSION, connect_timeout=5, **_ALIVE
        )

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """Lend a connection.

        Raises `UnavailableError` when there is none to be had, `OutcomeUnknownError` when it was
        lost while it was used.
        """
        if self._pool is None:
            raise UnavailableError("Stepflow is not running", retry_after_s=1)
        try:
            conn = await self._pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise UnavailableError("The database cannot be reached", retry_after_s=1) from error
        try:
            yield conn
        except psycopg.OperationalError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A query that is cancelled says so as an error of the database: whoever ends a
                # task means the task, and must not be taken for a database that hangs.
                raise asyncio.CancelledError from error
            raise OutcomeUnknownError from error
        finally:
            await self._pool.putconn(conn)

    async def rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Return what a query that changes nothing gives; one cut by the database is tried again.

        Raises `UnavailableError`.
        """
        try:
            return await self.act(sql, *args)
        except OutcomeUnknownError:
            try:
                return await self.act(sql, *args)
            except OutcomeUnknownError as error:
                raise UnavailableError("The database does not answer", retry_after_s=1) from error

    async def act(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Do one statement in a transaction of its own; return its rows, durable.

        Raises `UnavailableError` and `OutcomeUnknownError`.
        """
        async with self.connection() as conn:
            cursor = await conn.execute(sql.encode(), args or None)
            return await cursor.fetchall() if cursor.description else []
