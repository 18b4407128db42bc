"""What lies in `snapshots/format-1-control`: what the first golden directory has nothing of.

Runs that were paused, retried, restarted, forked, set aside, ended by force and acted on in bulk;
limits, priorities, timeouts and schedules; at-most-once and compensated steps, `ctx.first`,
children that failed and children nobody waits for; results that a change of the code moved.

`live` is their life, in two processes: the second one has other code.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from stepflow import (
    Concurrency,
    Context,
    RetryPolicy,
    RunFailedError,
    Schedule,
    Settings,
    Stepflow,
    current_step,
)
from stepflow.engine.local import LocalEngine
from stepflow.engine.protocol import RunFilter
from stepflow.model import records as rec
from stepflow.model.records import decode_record

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

__all__ = ["live", "register"]

_ONCE = RetryPolicy(max_attempts=1)
_TWICE = RetryPolicy(max_attempts=2, initial=0.01, jitter=False)
_OPS = "key:ops"


async def same(value: Any) -> Any:
    return value


async def once_then(value: Any) -> Any:
    if current_step().attempt == 1:
        message = "not yet"
        raise ConnectionError(message)
    return value


async def refuse(value: Any) -> None:
    raise ValueError(value)


async def undo(value: Any) -> None:
    del value


async def long() -> None:
    await asyncio.sleep(3600)


def register(flow: Stepflow, *, code: int = 2) -> None:
    """Register the workflows, as the first or as the second process has them."""
    _changed(flow, mended=code > 1)
    _composed(flow)
    _ending(flow)
    _limited(flow)


def _changed(flow: Stepflow, *, mended: bool) -> None:
    """What another version of the code, or a restart, has to do with."""

    @flow.workflow("moves")
    async def moves(ctx: Context) -> list[Any]:
        first, second = (2, 1) if mended else (1, 2)
        found = [await ctx.step("s", same, first), await ctx.step("s", same, second)]
        await ctx.wait_for_event("look", "look", timeout=None)
        return [*found, await ctx.wait_for_event("moved", "moved", timeout=None)]

    @flow.workflow("versions")
    async def versions(ctx: Context) -> int:
        return ctx.version("tax", 2)

    @flow.workflow("restarts", events=["more"], concurrency=1, timeout="3650d")
    async def restarts(ctx: Context, n: int) -> list[Any]:
        got = await ctx.wait_for_event("again", "again", timeout=None)
        if n == 1:
            await ctx.restart(2)
        return [n, got, await ctx.wait_for_event("more", "more", timeout=None)]

    @flow.workflow("undoes", concurrency=5, retry=_ONCE)
    async def undoes(ctx: Context) -> list[Any]:
        first = await ctx.step("reserve", same, 1, compensate=undo)
        fails = same if mended else refuse
        return [first, await ctx.step("charge", fails, "declined", retry=_TWICE)]

    @flow.workflow("chains")
    async def chains(ctx: Context, n: int) -> list[Any]:
        first = await ctx.step("first", same, n)
        got = await ctx.wait_for_event("chained", "chained", timeout=None)
        return [first, got, await ctx.step("last", same, 3)]


def _composed(flow: Stepflow) -> None:
    """Steps, races and children."""

    @flow.workflow("attempts")
    async def attempts(ctx: Context) -> int:
        await ctx.step("mail", same, 1, at_most_once=True)
        return await ctx.step("once-then", once_then, 7, retry=_TWICE)

    @flow.workflow("races")
    async def races(ctx: Context) -> list[Any]:
        won, value = await ctx.first(
            step=ctx.step("long", long),
            child=ctx.call("sleeps"),
            late=ctx.sleep("late", "3650d"),
            event=ctx.wait_for_event("event", "win", timeout=None),
        )
        return [won, value]

    @flow.workflow("patient")
    async def patient(ctx: Context) -> list[Any]:
        won, value = await ctx.first(
            late=ctx.sleep("late", "3650d"),
            event=ctx.wait_for_event("event", "patience", timeout=None),
        )
        return [won, value]

    @flow.workflow("families", retry=_ONCE)
    async def families(ctx: Context) -> list[Any]:
        started = await ctx.start("sleeps")
        try:
            await ctx.call("fails", "of a child")
        except RunFailedError as error:
            return [bool(started), error.run_id != started]
        return []


def _ending(flow: Stepflow) -> None:
    """What fails, or is cancelled."""

    @flow.workflow("tidies", retry=_ONCE)
    async def tidies(ctx: Context) -> None:
        try:
            await ctx.step("refuse", refuse, "untidy")
        finally:
            await ctx.step("tidy", same, "tidy")

    @flow.workflow("fails", retry=_ONCE)
    async def fails(ctx: Context, text: str) -> None:
        await ctx.step("refuse", refuse, text)

    @flow.workflow("sleeps")
    async def sleeps(ctx: Context) -> None:
        await ctx.sleep("nap", "3650d")

    @flow.workflow("cleans")
    async def cleans(ctx: Context) -> None:
        try:
            await ctx.sleep("nap", "3650d")
        finally:
            await ctx.wait_for_event("cleaned", "cleaned", timeout=None)


def _limited(flow: Stepflow) -> None:
    """What waits for its turn, and what starts by itself."""

    @flow.workflow("rated", rate_limit="1/s")
    async def rated(ctx: Context, n: int) -> int:
        return n

    @flow.workflow("urgent", concurrency=Concurrency(1), priority="input.urgency")
    async def urgent(ctx: Context, order: dict[str, int]) -> int:
        await ctx.wait_for_event("next", f"next-{order['urgency']}", timeout=None)
        return order["urgency"]

    @flow.workflow("ticks", schedule=Schedule(every="1s", overlap="skip"))
    async def ticks(ctx: Context) -> None:
        await ctx.sleep("nap", "3650d")

    @flow.workflow("queues", schedule=Schedule(every="1s", overlap="queue"))
    async def queues(ctx: Context) -> None:
        await ctx.sleep("nap", "3650d")


class _Life:
    """One process on the directory."""

    def __init__(self, data: Path, settings: Settings, code: int) -> None:
        self.flow = Stepflow(data, settings=settings)
        register(self.flow, code=code)
        self.kept: list[rec.Record] = []

    @property
    def engine(self) -> LocalEngine:
        engine = self.flow.engine
        assert isinstance(engine, LocalEngine)
        return engine

    async def until(self, is_so: Callable[[], Any]) -> None:
        """Return when it is so and is on disk."""
        while not is_so():
            await asyncio.sleep(0.01)
        journal = self.engine.sup.journal
        await journal.durable(journal.last_lsn)

    def records(self, run_id: str, kind: type[rec.Record]) -> list[rec.Record]:
        rows = [decode_record(data) for data in self.engine.sup.runs[run_id].peek().records]
        return [row for row in rows if isinstance(row, kind)]

    async def waits(self, run_id: str, count: int = 1) -> None:
        """Return when the run waits for so many timers, events and children."""
        run = self.engine.sup.runs[run_id]

        def waiting() -> int:
            return sum(call.kind != "step" for call in run.peek().pending_calls())

        await self.until(lambda: waiting() >= count)


async def live(data: Path, settings: Settings) -> AsyncGenerator[Stepflow]:
    """Live it, and yield the flow while its process still runs."""
    first = _Life(data, settings, 1)
    async with first.flow:
        await _first(first)
    # The runs of the second process are traced.
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    second = _Life(data, settings, 2)
    async with second.flow:
        await _second(second)
        yield second.flow


async def _first(life: _Life) -> None:
    flow, engine = life.flow, life.engine
    await flow.trigger("moves", run_id="run_moves0000000")
    await life.waits("run_moves0000000")
    # Let in when the one before it has ended; restarts with an event that is kept for it.
    await flow.trigger("restarts", 0, run_id="run_holds0000000")
    await life.waits("run_holds0000000")
    await engine.trigger(
        "restarts", b"1", run_id="run_restarts0000", idempotency_key="k", by=_OPS, tags=["golden"]
    )
    await engine.pause("run_restarts0000", by=_OPS, reason="not yet")
    await engine.resume("run_restarts0000", by=_OPS, reason="now")
    await engine.cancel("run_holds0000000", by=_OPS, reason="make room")
    await life.waits("run_restarts0000")
    await engine.notify("more", b'{"kept":1}', by=_OPS)
    await engine.notify("again", b'"once"', by=_OPS)
    restarted = life.engine.sup.runs["run_restarts0000"]
    await life.until(lambda: restarted.peek().restarts)
    await life.waits("run_restarts0000")
    # Fails, and is compensated; the code of the second process will have mended it.
    await flow.trigger("undoes", run_id="run_undoes000000")
    await engine.wait("run_undoes000000")
    await flow.trigger("attempts", run_id="run_attempts0000")
    await engine.wait("run_attempts0000")
    await flow.trigger("fails", "gone", run_id="run_purged000000")
    await engine.wait("run_purged000000")
    await engine.purge("run_purged000000", by=_OPS, reason="asked for")
    # Each schedule has one run under way, and a time that got none or a run that waits.
    schedules = engine.sup.schedules
    await life.until(lambda: schedules.skipped_total and len(schedules.live["queues"]) > 1)
    for name in ("ticks", "queues"):
        await engine.pause_schedule(name, by=_OPS)


async def _second(life: _Life) -> None:
    flow, engine = life.flow, life.engine
    await flow.notify("look", None)
    await life.until(lambda: life.records("run_moves0000000", rec.CallAdopted))
    await life.waits("run_moves0000000")
    await engine.retry("run_undoes000000", by=_OPS, reason="mended")
    await engine.wait("run_undoes000000")
    await flow.trigger("versions", run_id="run_versions0000")
    await engine.wait("run_versions0000")
    await flow.trigger("patient", run_id="run_patient00000")
    await life.waits("run_patient00000", 2)
    await flow.trigger("races", run_id="run_raced0000000")
    await life.waits("run_raced0000000", 3)
    await flow.notify("win", "the event")
    await engine.wait("run_raced0000000")
    await flow.trigger("tidies", run_id="run_tidies000000")
    await engine.wait("run_tidies000000")
    await flow.trigger("families", run_id="run_families0000")
    await engine.wait("run_families0000")
    for n in range(2):
        await flow.trigger("rated", n, run_id=f"run_rated000000{n}")
    await engine.wait("run_rated0000001")
    await engine.snapshot()
    # A run, forks of it, and what was done to it.
    await flow.trigger("chains", 1, run_id="run_chains000000")
    await life.waits("run_chains000000")
    engine.sup.set_aside(engine.sup.runs["run_chains000000"], "for a look")
    await engine.resume("run_chains000000", by=_OPS, reason="looked at")
    await flow.notify("chained", {"n": 1})
    await engine.wait("run_chains000000")
    await engine.fork(
        "run_chains000000", "last", body=b"5", results={"chained": b"2"}, by=_OPS, reason="what if"
    )
    await flow.trigger("chains", 2, run_id="run_paused000000")
    await life.waits("run_paused000000")
    await engine.pause("run_paused000000", by=_OPS, reason="hold it")
    await flow.trigger("sleeps", run_id="run_forced000000")
    await life.waits("run_forced000000")
    await engine.cancel("run_forced000000", by=_OPS, reason="at once", force=True)
    # One of them cleans up and cannot be paused.
    for run_id in ("run_cleans000000", "run_cleaning0000"):
        await flow.trigger("cleans", run_id=run_id)
        await life.waits(run_id)
    await engine.cancel("run_cleaning0000", by=_OPS, reason="enough")
    await life.waits("run_cleaning0000")
    await engine.bulk("pause", RunFilter(workflow_id="cleans"), by=_OPS, reason="all of them")
    await flow.notify("cleaned", None)
    await engine.wait("run_cleaning0000")
    # Of those that wait for a place, the most urgent one is the next.
    for urgency in (5, 1, 3, 9):
        await flow.trigger("urgent", {"urgency": urgency}, run_id=f"run_urgent00000{urgency}")
    await engine.pause("run_urgent000001", by=_OPS, reason="not before noon")
    await life.waits("run_urgent000005")
