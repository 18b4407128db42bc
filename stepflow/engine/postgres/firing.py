"""Starts runs when their schedules say so: each time once, over all workers.

::

    wait until the first is due ──► lock its row ──► runs, and the row: it is decided ──► commit
              ▲                          │ somebody else has it: look again in a moment
              └── a row was changed      └── it is decided, or its code is another's: nothing to do

The clock is the database's. A worker fires what its own code plans, and only while the row says the
same: the code that was started last has written it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from stepflow.engine.postgres.inbox import cancel_letter, text
from stepflow.engine.postgres.starting import lock_gate, start_run
from stepflow.errors import ApiError
from stepflow.model.ids import run_ids_of
from stepflow.model.records import RunStarted
from stepflow.model.schedules import ScheduleRow
from stepflow.runtime.schedules import scheduled_id, times_due

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    import psycopg

    from stepflow.authoring.registry import Registry
    from stepflow.authoring.schedule import Planned
    from stepflow.clock import Clock, HybridTime
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.traced import Handing, Spans
    from stepflow.entropy import Entropy

    Connection = psycopg.AsyncConnection[Any]

__all__ = ["Firing", "Starter", "live_runs", "row_of"]

_log: Final = logging.getLogger("stepflow.schedule")
_LOOK_S: Final = 10.0
"""Rows are looked at so often, though whoever changes one says so."""
_AGAIN_S: Final = 0.2
"""Another worker is at it."""
_ID_BYTES: Final = 64
_REGISTER: Final = """
select stepflow.set_schedules(%s::text[], %s::text[], %s::text[], %s::text[])"""
_LOOK: Final = """
select id, spec, last_ms, stepflow.now_ms() from stepflow.schedules
 where id = any(%s) and not paused"""
_LOCK: Final = """
select s.*, stepflow.now_ms() from stepflow.schedules s
 where id = %s and spec = %s and not paused for update skip locked"""
_DECIDED: Final = b"""
update stepflow.schedules
   set last_ms = greatest(last_ms, %s), fired = fired + %s, skipped = skipped + %s,
       run_id = %s, at_ms = %s
 where id = %s"""
_OWN: Final = b"update stepflow.runs set schedule = %s where run_id = %s"
_LIVE: Final = b"""
select run_id from stepflow.runs
 where schedule = %s and status in ('pending', 'running') order by seq limit %s"""


def row_of(row: Sequence[Any]) -> ScheduleRow:
    """Return the row of the table."""
    key, _, spec, last, paused, fired, skipped, run, at = row[:9]
    return ScheduleRow(key, 0, spec, last, paused, fired, skipped, run, at)


async def live_runs(conn: Connection, planned: Planned) -> list[str]:
    """Return the schedule's runs that have not ended, oldest first, as many as matter to it."""
    schedule = planned.schedule
    limit = None if schedule.overlap == "cancel" else schedule.catch_up_max + 1
    found = await conn.execute(_LIVE, (text(planned.id), limit))
    return [str(row[0]) for row in await found.fetchall()]


def waits_its_turn(planned: Planned) -> bool:
    """Whether a run of the schedule begins when the one before has ended."""
    return planned.schedule.overlap in {"queue", "cancel"}


class Starter:
    """Starts runs of schedules, in a transaction that has the schedule's row.

    `note` is told of the workflow of each, for figures.
    """

    def __init__(
        self,
        registry: Registry,
        time: HybridTime,
        entropy: Entropy,
        spans: Spans,
        note: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._time = time
        self._entropy = entropy
        self._spans = spans
        self._note = note

    @asynccontextmanager
    async def transaction(self, database: Database) -> AsyncGenerator[tuple[Connection, Handing]]:
        """Begin a transaction; the spans of what it starts are told when it is committed."""
        async with database.connection() as conn:
            with self._spans.handing() as spans:
                async with conn.transaction():
                    yield conn, spans

    async def start(
        self,
        conn: Connection,
        spans: Handing,
        planned: Planned,
        at: int,
        *,
        by: str,
        run_id: str = "",
    ) -> str:
        """Start a run for that time; return its id."""
        workflow = self._registry.get(planned.workflow)
        assert workflow is not None
        record = RunStarted(
            lsn=1,
            r=run_id or run_ids_of(self._entropy.randbytes(_ID_BYTES))[0],
            rs=1,
            ts=self._time.now_ms(),
            workflow=workflow.id,
            input=Raw(planned.body),
            by=by,
            tags=workflow.options.tags,
            events=workflow.event_ids(planned.body),
            timeout=workflow.options.timeout_ms or 0,
            schedule=planned.id,
            scheduled=at,
            exclusive=f"schedule {planned.id}" if waits_its_turn(planned) else "",
        )
        record = spans.traced(record)
        await start_run(conn, self._registry, record)
        await conn.execute(_OWN, (text(planned.id), record.r))
        self._note(workflow.id)
        return record.r

    async def cancel_live(self, conn: Connection, planned: Planned, live: Sequence[str]) -> None:
        """Cancel what is under way of the schedule."""
        await lock_gate(conn)
        letter = cancel_letter(
            f"schedule:{planned.id}", "the schedule's next run is due", force=False
        )
        for run_id in live:
            await conn.execute(b"select stepflow.put(%s, 'cancel', %s)", (run_id, letter))


class Firing:
    """One worker's part in it."""

    def __init__(
        self, database: Database, registry: Registry, clock: Clock, starter: Starter
    ) -> None:
        self._database = database
        self._registry = registry
        self._clock = clock
        self._starter = starter
        self._rung = asyncio.Event()
        self._told: set[str] = set()
        """Schedules that were registered, and workflows."""
        self.fired_total = 0
        self.skipped_total = 0

    def ring(self) -> None:
        """A row was changed, or a workflow was registered: look again."""
        self._rung.set()

    async def look(self) -> None:
        """Fire what is due, then wait until something may be."""
        self._rung.clear()
        await self._register()
        wait_s = await self._round()
        timer = None if wait_s is None else self._clock.call_later(wait_s, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _register(self) -> None:
        """Say what this code has. What was said is not said again: newer code may be there."""
        fresh = [w for w in self._registry.all() if w.id not in self._told]
        if not fresh:
            return
        names = {w.id for w in fresh}
        planned = [p for p in self._registry.schedules.values() if p.workflow in names]
        await self._database.act(
            _REGISTER,
            [text(each.id) for each in planned],
            [each.workflow for each in planned],
            [each.times.spec for each in planned],
            [name for w in fresh for name in (w.id, *w.options.aliases)],
        )
        self._told |= names

    async def _round(self) -> float | None:
        """Fire; return after how long to look again, None where nothing is planned."""
        planned = self._registry.schedules
        if not planned:
            return None
        wait_s = _LOOK_S
        rows = await self._database.rows(_LOOK, [text(key) for key in planned])
        for key, spec, last, now in rows:
            each = planned.get(key)
            if each is None or each.times.spec != spec:
                continue
            due = each.times.after(last)
            if due is not None and due <= now:
                try:
                    due = await self._fire(each)
                except ApiError as error:
                    _log.warning("schedule %r: not yet: %s", key, error.message)
                    due = None
                    wait_s = min(wait_s, 1.0)
            if due is not None:
                wait_s = min(wait_s, max((due - now) / 1000, _AGAIN_S))
        return wait_s

    async def _fire(self, planned: Planned) -> int | None:
        """Decide every time that is due, in one transaction; return when it fires next."""
        async with self._starter.transaction(self._database) as (conn, spans):
            found = await conn.execute(_LOCK.encode(), (text(planned.id), planned.times.spec))
            locked = await found.fetchone()
            if locked is None:
                return 0
            row, now = row_of(locked), int(locked[-1])
            known, times = times_due(planned, row.last, now)
            if not known:
                return planned.times.after(row.last)
            started = await self._start(conn, spans, planned, times)
            skipped = len(known) - len(started)
            at, run_id = started[-1] if started else (row.at, row.run)
            await conn.execute(
                _DECIDED,
                (known[-1], len(started), skipped, run_id, at, text(planned.id)),
            )
        self.fired_total += len(started)
        self.skipped_total += skipped
        if skipped:
            _log.warning("schedule %r: %d times passed without a run", planned.id, skipped)
        return planned.times.after(known[-1])

    async def _start(
        self, conn: Connection, spans: Handing, planned: Planned, times: Sequence[int]
    ) -> list[tuple[int, str]]:
        """Start the runs that the overlap policy allows; return them with their times."""
        schedule = planned.schedule
        ids = {at: scheduled_id(planned.id, at) for at in times}
        found = await conn.execute(
            b"select run_id from stepflow.runs where run_id = any(%s)", (list(ids.values()),)
        )
        # A backfill was here before.
        taken = {row[0] for row in await found.fetchall()}
        live = await live_runs(conn, planned)
        started: list[tuple[int, str]] = []
        for at, run_id in ids.items():
            if run_id in taken:
                continue
            if live and schedule.overlap == "skip":
                _log.warning("schedule %r: skipped, run %s is under way", planned.id, live[0])
                continue
            if schedule.overlap == "queue" and len(live) > schedule.catch_up_max:
                _log.warning("schedule %r: skipped, %d runs wait", planned.id, len(live))
                continue
            if schedule.overlap == "cancel":
                await self._starter.cancel_live(conn, planned, live)
                live = []
            by = f"schedule:{planned.id}"
            await self._starter.start(conn, spans, planned, at, by=by, run_id=run_id)
            live.append(run_id)
            started.append((at, run_id))
        return started
