"""For the tests of `stepflow migrate`: workflows that say what they ran, and both engines."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from stepflow import Context, RetryPolicy, Stepflow
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres.moving import Mover
from stepflow.journal.disk import RealDisk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path


class App:
    """Workflows, and what their steps have done since they were registered."""

    def __init__(self, *, concurrency: int | None = None) -> None:
        self.ran: list[str] = []
        self._limits: dict[str, Any] = {"concurrency": concurrency} if concurrency else {}

    def step(self, name: str) -> str:
        self.ran.append(name)
        return name

    def register(self, flow: Stepflow) -> Stepflow:
        step = self.step

        @flow.workflow("sleeping")
        async def sleeping(ctx: Context) -> list[str]:
            first = await ctx.step("first", lambda: step("sleeping/first"))
            await ctx.sleep("nap", "1s")
            return [first, await ctx.step("second", lambda: step("sleeping/second"))]

        @flow.workflow("waiting")
        async def waiting(ctx: Context, event: str) -> list[Any]:
            first = await ctx.step("first", lambda: step("waiting/first"))
            return [first, await ctx.wait_for_event("told", event, timeout=None)]

        @flow.workflow("keeping", events=["kept-{id}"])
        async def keeping(ctx: Context, order: dict[str, Any]) -> list[Any]:
            await ctx.step("first", lambda: step("keeping/first"))
            go = await ctx.wait_for_event("go", f"go-{order['id']}", timeout=None)
            return [go, await ctx.wait_for_event("kept", f"kept-{order['id']}", timeout=None)]

        @flow.workflow("retrying")
        async def retrying(ctx: Context) -> list[str]:
            first = await ctx.step("first", lambda: step("retrying/first"))

            def flaky() -> str:
                if self.ran.count("retrying/flaky") == 0 and "here" not in self.ran:
                    step("retrying/flaky")
                    raise OSError("not yet")
                return step("retrying/flaky")

            policy = RetryPolicy(initial="1s", jitter=False)
            return [first, await ctx.step("flaky", flaky, retry=policy)]

        @flow.workflow("parent")
        async def parent(ctx: Context, event: str) -> list[Any]:
            first = await ctx.step("before", lambda: step("parent/before"))
            return [first, await ctx.call("waiting", event)]

        @flow.workflow("again")
        async def again(ctx: Context, left: int) -> str:
            if left:
                await ctx.step("round", lambda: step("again/round"))
                await ctx.restart(left - 1)
            return str(await ctx.wait_for_event("on", "again-on", timeout=None))

        @flow.workflow("short", **self._limits)
        async def short(ctx: Context, n: int) -> int:
            if n < 0:
                step("short/negative")
                raise ValueError("negative")
            if n > 100:
                await ctx.wait_for_event("on", "short-on", timeout=None)
            return n

        return flow


@asynccontextmanager
async def local(data: Path, app: App) -> AsyncGenerator[Stepflow]:
    async with app.register(Stepflow(str(data))) as flow:
        yield flow


@asynccontextmanager
async def cluster(url: str, app: App) -> AsyncGenerator[Stepflow]:
    async with app.register(Stepflow(engine=PostgresEngine(url, claim_timeout_s=5))) as flow:
        yield flow


async def until(what: Callable[[], Awaitable[Any]]) -> Any:
    """Return what it gives once that is true; the test's own limit ends a vain wait."""
    while not (found := await what()):
        await asyncio.sleep(0.01)
    return found


def mover(data: Path, url: str, **options: Any) -> Mover:
    settings = Settings(lock_wait_s=0)
    return Mover(RealDisk(str(data)), url, settings=settings, clock=SystemClock(), **options)


def files(data: Path) -> dict[str, bytes]:
    """Return the directory's contents; the lock's text is whose it was last."""
    return {p.name: p.read_bytes() for p in data.iterdir() if p.is_file() and p.name != "LOCK"}


async def rows(url: str, sql: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        return await (await conn.execute(sql.encode())).fetchall()


async def some_runs(data: Path, count: int) -> None:
    async with local(data, App()) as flow:
        for n in range(count):
            await (await flow.trigger("short", n)).result()


async def waits_at(flow: Stepflow, run_id: str, summary: str) -> None:
    async def there() -> bool:
        return any(row.kind == summary for row in (await flow.why(run_id)).waiting_for)

    await until(there)


async def waited_for(flow: Stepflow, event: str) -> bool:
    return any(row.event_id == event for row in await flow.engine.waiting_events())


async def result_of(flow: Stepflow, run_id: str) -> Any:
    return json.loads(bytes((await flow.engine.wait(run_id)).result or b"null"))
