"""Starts runs. What is started at a time goes in one transaction, and one trip.

Where the process has a worker with room, that worker claims in the same transaction: the run need
not be announced, claimed and read again. Else somebody is told of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg

from stepflow.engine.postgres.claims import CLAIM, claim_of
from stepflow.engine.postgres.commit import ANNOUNCE, START, start_values
from stepflow.errors import OutcomeUnknownError
from stepflow.model.records import encode_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.engine.postgres.claims import Claim
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.worker import Worker
    from stepflow.model.records import RunStarted

    Waiting = list[tuple[RunStarted, asyncio.Future[None]]]

__all__ = ["Triggers"]

_AT_ONCE: Final = 200
_UNDER_WAY_MAX: Final = 2
_NOTHING_WRITTEN: Final = frozenset({"40P01", "40001", "55P03"})
"""Deadlocks and the like."""


class Triggers:
    """Starts the runs of one process. `worker` is the process's own, if it has one."""

    def __init__(self, database: Database, worker: Callable[[], Worker | None]) -> None:
        self._database = database
        self._worker = worker
        self._waiting: Waiting = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0

    async def start(self, record: RunStarted) -> None:
        """Return when the run is durable.

        Raises `UnavailableError` and `OutcomeUnknownError`, and what the database refuses.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        if self._under_way < _UNDER_WAY_MAX:
            # Counted by itself: a task that looks no more is among the tasks for a moment longer.
            self._under_way += 1
            # Not in the caller's own task: he may be cancelled, and others are in it.
            task = asyncio.ensure_future(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await future

    async def idle(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _work(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                await self._start(some)
        finally:
            self._under_way -= 1

    async def _start(self, some: Waiting) -> None:
        records = [record for record, _ in some]
        worker = self._worker()
        if worker is not None and not worker.takes_its_own:
            worker = None
        try:
            try:
                claims = await self._write(records, worker)
            except _AgainError:
                claims = await self._write(records, None)
        except psycopg.Error as error:
            # Nothing was written, of the others neither.
            for one in some if len(some) > 1 else ():
                await self._start([one])
            _answer(some, error)
        except Exception as error:  # noqa: BLE001  it is whoever starts them that it concerns
            _answer(some, OutcomeUnknownError() if isinstance(error, _AgainError) else error)
        else:
            _answer(some, None)
            if worker is not None:
                worker.take_soon(claims)

    async def _write(self, records: Sequence[RunStarted], worker: Worker | None) -> list[Claim]:
        """Write them, and let the worker claim what there is; return what it has claimed.

        Raises `ApiError`; where nothing was written, `_AgainError`, and `psycopg.Error` for what
        the database refuses.
        """
        async with self._database.connection() as conn:
            try:
                async with conn.pipeline():
                    # Not by `transaction()`: that would hide what was refused.
                    await conn.execute(b"begin")
                    for record in records:
                        await conn.execute(START, start_values(record, encode_record(record)))
                    told = (
                        await conn.execute(ANNOUNCE, (len(records),))
                        if worker is None
                        else await conn.execute(CLAIM.encode(), worker.claim_values())
                    )
                    await conn.execute(b"commit")
                rows = await told.fetchall()
            except psycopg.OperationalError as error:
                if error.sqlstate not in _NOTHING_WRITTEN:
                    raise
                await conn.rollback()
                raise _AgainError from error
            except psycopg.Error:
                await conn.rollback()
                raise
        return [claim_of(row) for row in rows] if worker is not None else []


class _AgainError(Exception):
    """Nothing was written, and nobody is to blame."""


def _answer(some: Waiting, error: Exception | None) -> None:
    for _, future in some:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
