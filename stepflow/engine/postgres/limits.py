"""Says which limits the code has, and looks at the gate when the clock may let somebody in.

Whoever frees a slot lets the next one in, in the same transaction: nobody polls for that. What is
left is time: a rate limit has room again, and the first worker whose clock says so looks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson

from stepflow.engine.postgres.gate import asked, later_ask, limits_of, shape_of
from stepflow.engine.postgres.history import load
from stepflow.engine.postgres.inbox import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from stepflow.authoring.registry import Registry, Workflow
    from stepflow.clock import Clock
    from stepflow.engine.postgres.database import Database

__all__ = ["Gatekeeper"]

_LOOK_S: Final = 10.0
"""The gate is looked at so often, though whoever waits for the clock says so."""
_AT_ONCE: Final = 500
_SPECS: Final = "select workflow, spec from stepflow.gates where workflow = any(%s)"
_LOCK: Final = b"""
select run_id from stepflow.runs
 where workflow = any(%s) and status in ('pending', 'running') and task_id is not null
 order by run_id for no key update"""
_LIVE: Final = b"""
select run_id, status from stepflow.runs r
 where workflow = any(%s) and status in ('pending', 'running')
   and (run_id = any(%s) or exists (select 1 from stepflow.gated g where g.run_id = r.run_id))
 order by seq"""
_ROUND: Final = b"""
select stepflow.go_round(array(
  select distinct behind from stepflow.lanes where behind is not null))"""
_SPEC: Final = b"""
insert into stepflow.gates (workflow, spec) values (%s, %s)
on conflict (workflow) do update set spec = excluded.spec"""


class Gatekeeper:
    """One worker's part in it."""

    def __init__(self, database: Database, registry: Registry, clock: Clock) -> None:
        self._database = database
        self._registry = registry
        self._clock = clock
        self._rung = asyncio.Event()
        self._told: set[str] = set()
        self.ready = asyncio.Event()
        """What has limits is counted by them."""

    def ring(self) -> None:
        """Something waits for the clock, or a workflow was registered."""
        self._rung.set()

    async def look(self) -> None:
        """Let in whom the clock lets, then wait until it may let in another."""
        self._rung.clear()
        await self._register()
        wait_s = None
        if any(limit for w in self._registry.all() for limit in w.options.limits):
            due = (await self._database.act("select stepflow.look_at_gate()"))[0][0]
            wait_s = _LOOK_S if due is None else max(min(due / 1000, _LOOK_S), 0.0)
        timer = None if wait_s is None else self._clock.call_later(wait_s, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _register(self) -> None:
        """Say what limits this code has; once, for newer code may be there by then."""
        fresh = [w for w in self._registry.all() if w.id not in self._told]
        if not fresh:
            self.ready.set()
            return
        rows = await self._database.rows(_SPECS, [text(w.id) for w in fresh])
        known = dict(rows)
        for workflow in fresh:
            if known.get(text(workflow.id), _NONE) != _spec(workflow):
                await self._set(workflow)
        self._told |= {w.id for w in fresh}
        self.ready.set()

    async def _set(self, workflow: Workflow) -> None:
        """Count the workflow's runs by the limits that it has now."""
        limits = asked(limits_of(workflow.options.limits, None))
        names = [text(name) for name in (workflow.id, *workflow.options.aliases)]
        async with self._database.connection() as conn, conn.transaction():
            # One that ended meanwhile would be counted for ever. Without a task none does.
            found = await conn.execute(_LOCK, (names,))
            locked = [row[0] for row in await found.fetchall()]
            await conn.execute(b"select stepflow.set_limits(%s::jsonb)", (limits,))
            found = await conn.execute(_SPECS.encode(), ([text(workflow.id)],))
            row = await found.fetchone()
            before = orjson.loads(row[1] if row is not None else _NONE)
            if before[0] != orjson.loads(orjson.dumps(shape_of(workflow))):
                found = await conn.execute(_LIVE, (names, locked))
                await self._reseat(conn, workflow, await found.fetchall())
            await conn.execute(_ROUND)
            await conn.execute(_SPEC, (text(workflow.id), _spec(workflow)))

    async def _reseat(
        self,
        conn: psycopg.AsyncConnection[Any],
        workflow: Workflow,
        rows: Sequence[tuple[str, str]],
    ) -> None:
        for begin in range(0, len(rows), _AT_ONCE):
            some = dict(rows[begin : begin + _AT_ONCE])
            states = await load(self._database, list(some))
            asks: list[dict[str, Any]] = []
            for run_id, status in some.items():
                state = states.get(run_id)
                if state is None:
                    continue
                ask = later_ask(workflow, state, 0) or {"run": run_id, "limits": [], "parent": ""}
                asks.append(ask | {"running": status == "running"})
            await conn.execute(b"select stepflow.reseat(%s::jsonb)", (asked(asks),))


def _spec(workflow: Workflow) -> str:
    numbers = [(limit.count, limit.per_ms) for limit in workflow.options.limits]
    return orjson.dumps([shape_of(workflow), numbers]).decode()


_NONE: Final = orjson.dumps([[[], None], []]).decode()
"""The spec of a workflow that never had a limit."""
