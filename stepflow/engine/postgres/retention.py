"""Forgets finished runs: those past their age, and the oldest beyond a number of runs or bytes.

One process sweeps at a time: whoever has the database's advisory lock, for a sweep, once a minute.
It counts all finished runs first, once; then it purges what is due, oldest first by an index, so
many in a transaction.

A workflow's own limits are a table, written by each worker at its start for what it has registered:
a worker that sweeps need not know every workflow. All the limits of the settings are its own.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from stepflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.authoring.registry import Registry
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.postgres.database import Database

__all__ = ["ClusterRetention", "write_limits"]

_log: Final = logging.getLogger("stepflow.postgres")
_LOCK: Final = 0x5374_6570_5377_6570
_SLICE: Final = 200
_OWN: Final = b"""
insert into stepflow.retention (workflow, names, completed_ms, failed_ms, runs_max, bytes_max)
values (%s, %s, %s, %s, %s, %s)
on conflict (workflow) do update
   set names = excluded.names, completed_ms = excluded.completed_ms,
       failed_ms = excluded.failed_ms, runs_max = excluded.runs_max,
       bytes_max = excluded.bytes_max"""
_TOTALS: Final = b"""
select workflow, status = 'completed', count(*), coalesce(sum(bytes), 0)::bigint, min(ended_ms)
  from stepflow.runs where ended_ms is not null group by 1, 2"""
_OLDEST: Final = b"""
select run_id, bytes from stepflow.runs
 where ended_ms is not null and ended_ms < %s and workflow = any(%s) and status = any(%s)
 order by ended_ms, seq limit %s"""
_PURGE: Final = b"select run, refused from stepflow.act_on('purge', %s::text[], '')"
_COMPLETED: Final = ("completed",)
_OTHERS: Final = ("failed", "cancelled")


class _Own(NamedTuple):
    """What a workflow says of its finished runs. None: as the settings say."""

    names: frozenset[str]
    completed_ms: int | None = None
    failed_ms: int | None = None
    runs_max: int | None = None
    bytes_max: int | None = None


class _Total(NamedTuple):
    """The finished runs of one workflow: those that completed, or the others."""

    workflow: str
    completed: bool
    runs: int
    nbytes: int
    oldest_ms: int


async def write_limits(database: Database, registry: Registry) -> None:
    """Write what the workflows that are registered here say of their finished runs."""
    async with database.connection() as conn, conn.pipeline(), conn.transaction():
        # Workers that start together would wait for each other's rows in a circle.
        await conn.execute(b"select pg_advisory_xact_lock(%s)", (_LOCK + 1,))
        for workflow in registry.all():
            names = [workflow.id, *workflow.options.aliases]
            own = workflow.options.retention
            await conn.execute(b"delete from stepflow.retention where workflow = any(%s)", (names,))
            if own is not None:
                await conn.execute(_OWN, (workflow.id, names, *own))


class ClusterRetention:
    """What one worker does of it."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self.purged_total = 0

    async def sweep(self) -> int:
        """Purge all that is due, unless another process is at it; return how many runs went."""
        try:
            conn = await self._database.connect()
        except psycopg.OperationalError as error:
            raise UnavailableError("The database cannot be reached", retry_after_s=1) from error
        try:
            async with conn:
                taken = await conn.execute(b"select pg_try_advisory_lock(%s)", (_LOCK,))
                row = await taken.fetchone()
                if row is None or not row[0]:
                    return 0
                sweep = _Sweep(conn, self._settings, self._clock.wall_ms())
                await sweep.run()
        except psycopg.OperationalError as error:
            raise UnavailableError("The database does not answer", retry_after_s=1) from error
        if sweep.purged:
            _log.info("%d finished runs were forgotten", sweep.purged)
        self.purged_total += sweep.purged
        return sweep.purged


class _Sweep:
    """One sweep, over the connection that has the lock."""

    def __init__(self, conn: psycopg.AsyncConnection[Any], settings: Settings, now_ms: int) -> None:
        self._conn = conn
        self._settings = settings
        self._now_ms = now_ms
        self.purged = 0
        self._runs = 0
        self._nbytes = 0
        """What there is still, of all workflows."""

    async def run(self) -> None:
        """Purge first what a workflow does not keep, then what all together do not."""
        totals = [_Total(*row) for row in await self._rows(_TOTALS)]
        self._runs = sum(total.runs for total in totals)
        self._nbytes = sum(total.nbytes for total in totals)
        for own in self._groups({total.workflow for total in totals}, await self._owns()):
            await self._group(own, [total for total in totals if total.workflow in own.names])
        settings = self._settings
        await self._oldest(
            sorted({total.workflow for total in totals}),
            runs=self._runs - settings.finished_runs_max,
            nbytes=self._nbytes - settings.finished_bytes_max,
        )

    async def _owns(self) -> list[_Own]:
        rows = await self._rows(
            b"select names, completed_ms, failed_ms, runs_max, bytes_max from stepflow.retention"
        )
        return [_Own(frozenset(names), *limits) for names, *limits in rows]

    def _groups(self, names: set[str], owns: Sequence[_Own]) -> list[_Own]:
        """Return those with limits of their own; all others are one, for their ages are alike."""
        others = names.difference(*(own.names for own in owns))
        return [*owns, _Own(frozenset(others))]

    async def _group(self, own: _Own, totals: Sequence[_Total]) -> None:
        settings = self._settings
        runs = sum(total.runs for total in totals)
        nbytes = sum(total.nbytes for total in totals)
        for completed, own_ms, age_s in (
            (True, own.completed_ms, settings.completed_age_s),
            (False, own.failed_ms, settings.failed_age_s),
        ):
            before_ms = self._now_ms - (int(age_s * 1000) if own_ms is None else own_ms)
            due = [t.workflow for t in totals if t.completed == completed]
            if any(t.oldest_ms < before_ms for t in totals if t.completed == completed):
                statuses = _COMPLETED if completed else _OTHERS
                gone = await self._oldest(due, statuses=statuses, before_ms=before_ms)
                runs, nbytes = runs - gone[0], nbytes - gone[1]
        await self._oldest(
            [*own.names],
            runs=-inf if own.runs_max is None else runs - own.runs_max,
            nbytes=-inf if own.bytes_max is None else nbytes - own.bytes_max,
        )

    async def _oldest(
        self,
        workflows: Sequence[str],
        *,
        statuses: Sequence[str] = (*_COMPLETED, *_OTHERS),
        before_ms: int | None = None,
        runs: float = -inf,
        nbytes: float = -inf,
    ) -> tuple[int, int]:
        """Purge the oldest: all before that time, or so many runs and so many bytes of them.

        Return how many runs and bytes went.
        """
        gone_runs = gone_bytes = 0
        until_ms = 1 << 62 if before_ms is None else before_ms
        while before_ms is not None or runs > gone_runs or nbytes > gone_bytes:
            found = await self._rows(_OLDEST, until_ms, list(workflows), list(statuses), _SLICE)
            chosen: dict[str, int] = {}
            for run_id, size in found:
                count, taken = gone_runs + len(chosen), gone_bytes + sum(chosen.values())
                if before_ms is None and runs <= count and nbytes <= taken:
                    break
                chosen[run_id] = size or 0
            went = await self._purge(chosen)
            gone_runs += len(went)
            gone_bytes += sum(went.values())
            if not went or len(found) < _SLICE:
                # Those that are left are being retried.
                break
        self._runs -= gone_runs
        self._nbytes -= gone_bytes
        return gone_runs, gone_bytes

    async def _purge(self, chosen: dict[str, int]) -> dict[str, int]:
        """Purge them in one transaction; one that lives again stays."""
        if not chosen:
            return {}
        rows = await self._rows(_PURGE, list(chosen))
        went = {run_id: chosen[run_id] for run_id, refused in rows if not refused}
        self.purged += len(went)
        return went

    async def _rows(self, sql: bytes, *args: object) -> list[tuple[Any, ...]]:
        return await (await self._conn.execute(sql, args or None)).fetchall()
