"""The way to the database: a pool of connections, and a bell that rings when rows were written.

`NOTIFY` only wakes: whoever is woken looks into the tables, and looks there every so often anyway.
So a notification that is lost costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
import psycopg.conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from stepflow.engine.postgres.schema import prepare
from stepflow.errors import ConfigurationError, OutcomeUnknownError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from stepflow.clock import Clock

__all__ = ["SESSION", "Bell", "Database", "Ear", "rest"]

_log: Final = logging.getLogger("stepflow.postgres")

_POOL_MAX: Final = 8
_CHANNELS: Final = (
    "stepflow_runs",
    "stepflow_inbox",
    "stepflow_work",
    "stepflow_timed",
    "stepflow_audience",
    "stepflow_keys",
)
_WAIT_S: Final = 5.0
"""A call waits so long for a connection, then it is refused."""
_AGAIN_S: Final = 0.5
SESSION: Final = (
    "-c synchronous_commit=on -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
)
"""Acknowledged is durable, whatever the database's own default is."""


async def rest(clock: Clock, seconds: float) -> None:
    """Wait for so long."""
    woken = asyncio.Event()
    timer = clock.call_later(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()


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
            kwargs={"autocommit": True, "options": SESSION},
            check=AsyncConnectionPool.check_connection,
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
            self.url, autocommit=True, options=SESSION, connect_timeout=5
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


class Ear:
    """Hears of one run. Clear it, look into the tables, then wait."""

    def __init__(self, bell: Bell, run_id: str) -> None:
        self._bell = bell
        self._run_id = run_id
        self._rung = asyncio.Event()

    def __enter__(self) -> Self:
        self._bell.ears.setdefault(self._run_id, set()).add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        ears = self._bell.ears.get(self._run_id)
        if ears is not None:
            ears.discard(self)
            if not ears:
                del self._bell.ears[self._run_id]

    def ring(self) -> None:
        """There may be something new."""
        self._rung.set()

    def clear(self) -> None:
        """Forget what was heard so far."""
        self._rung.clear()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, or after so long."""
        timer = self._bell.clock.call_later(seconds, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()


class Bell:
    """Listens to the database in a task of its own, for everybody in the process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.clock = clock
        self.ears: dict[str, set[Ear]] = {}
        """By run; those under the empty text hear of every run."""
        self.on_work: Callable[[], None] | None = None
        self.on_inbox: Callable[[Sequence[str] | None], None] | None = None
        """Told of runs with something in their inbox; None: of any."""
        self.on_timed: Callable[[], None] | None = None
        """Told of a change in what begins by the clock."""
        self.on_keys: Callable[[], None] | None = None
        """Told of API keys that were made or revoked."""
        self.on_audience: Callable[[Sequence[str]], None] | None = None
        """Told of runs that somebody reads in some process."""
        self._task: asyncio.Task[None] | None = None

    def hear(self, run_id: str) -> Ear:
        """Return an ear for the run, to be entered."""
        return Ear(self, run_id)

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.ensure_future(self._listen())

    async def stop(self) -> None:
        """Listen no more; whoever waits is woken."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self.ring_all()

    async def _listen(self) -> None:
        while self._task is not None:
            try:
                async with await self._database.connect() as conn:
                    for channel in _CHANNELS:
                        await conn.execute(f"listen {channel}".encode())
                    # What was told while nobody listened is not told again.
                    self.ring_all()
                    async for note in conn.notifies():
                        self._heard(note.channel, note.payload)
            except psycopg.Error as error:
                _log.warning("listening to the database was cut, trying again: %s", error)
            await rest(self.clock, _AGAIN_S)

    def _heard(self, channel: str, payload: str) -> None:
        if channel == "stepflow_runs":
            self.ring(payload.split(","))
        elif channel in {"stepflow_inbox", "stepflow_audience"}:
            told = self.on_inbox if channel == "stepflow_inbox" else self.on_audience
            if told is not None:
                told(payload.split(","))
        elif channel == "stepflow_keys":
            if self.on_keys is not None:
                self.on_keys()
        elif channel == "stepflow_timed":
            if self.on_timed is not None:
                self.on_timed()
        elif self.on_work is not None:
            self.on_work()

    def ring(self, run_ids: Sequence[str]) -> None:
        """Wake those who hear of these runs."""
        for run_id in (*run_ids, ""):
            for ear in tuple(self.ears.get(run_id, ())):
                ear.ring()

    def ring_all(self) -> None:
        """Wake everybody."""
        for ears in tuple(self.ears.values()):
            for ear in tuple(ears):
                ear.ring()
        if self.on_inbox is not None:
            self.on_inbox(None)
        if self.on_timed is not None:
            self.on_timed()
        if self.on_keys is not None:
            self.on_keys()
        if self.on_work is not None:
            self.on_work()
