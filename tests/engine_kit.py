"""What the tests of the engine share: some workflows, a disk whose syncs can be held, its images.

A `Service` is a `World` with those workflows on a driven virtual clock. `hold` keeps the writer
from writing, so that nothing becomes durable until `release`; `image` is the disk that a power cut
at this moment would leave.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from stepflow import Context, RetryPolicy
from stepflow.clock import next_pass
from stepflow.engine.protocol import RunFilter
from tests.harness import World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from stepflow.journal.memory import MemoryDisk
    from stepflow.model.views import RunEvent, RunPage, RunView

ALL = RunFilter()


class Service(World):
    """A world that has the workflows below, but for those `without`."""

    def __init__(self, *, without: frozenset[str] = frozenset(), **options: Any) -> None:
        super().__init__(**options)
        self.without = without
        self.gate = asyncio.Event()
        """Steps of `gated` wait for it."""
        self.held: list[Any] | None = None
        register(self)

    # ------------------------------------------------------------ syncs

    def hold(self) -> None:
        """Write nothing more until `release`."""
        writing: Any = self.engine.sup.journal._writing
        submit = writing.submit
        held = self.held = []

        def keep(work: Any) -> None:
            held.append(partial_of(submit, work))

        writing.submit = keep

    def release(self) -> None:
        """Write what was held back, and all that follows."""
        held, self.held = self.held or [], None
        del self.engine.sup.journal._writing.submit
        for work in held:
            work()

    def image(self) -> MemoryDisk:
        """Return the disk as a power cut at this moment would leave it."""
        return self.disk.power_cut()

    async def views(self) -> list[bytes]:
        """Return every run as the API shows it, newest first, as bytes."""
        page = await self.engine.list_runs(ALL, limit=1_000_000, cursor=None)
        views = [await self.engine.get_run(run.id) for run in page.runs]
        return [msgspec.json.encode(view) for view in views]

    async def streams(self) -> dict[str, bytes]:
        """Return every run's whole stream so far."""
        return {run_id: await self.stream_bytes(run_id) for run_id in list(self.engine.sup.runs)}

    async def stream_bytes(self, run_id: str, after: int | None = None) -> bytes:
        stream = await self.engine.stream(run_id, after)
        try:
            return stream.read(1 << 30)
        finally:
            stream.close()

    async def events(self, run_id: str, after: int | None = None) -> list[RunEvent]:
        stream = await self.engine.stream(run_id, after)
        try:
            return stream.read_events(1_000_000)
        finally:
            stream.close()

    async def get(self, run_id: str) -> RunView:
        return await self.engine.get_run(run_id)

    async def page(self, limit: int = 50, cursor: str | None = None, **where: Any) -> RunPage:
        return await self.engine.list_runs(RunFilter(**where), limit=limit, cursor=cursor)

    async def durable(self) -> None:
        """Return when every record so far is on disk."""
        journal = self.engine.sup.journal
        await journal.durable(journal.last_lsn)

    async def waiting(self, run_id: str, count: int = 1) -> None:
        """Return when the run durably waits, for `count` things."""
        actor = self.actor(run_id)
        await self.until(lambda: len(actor.peek().pending_calls()) >= count)
        await self.durable()


def partial_of(submit: Callable[[Any], None], work: Any) -> Callable[[], None]:
    return lambda: submit(work)


def register(world: Service) -> None:
    """Give the world its workflows."""

    def workflow(name: str, **options: Any) -> Callable[[Any], Any]:
        if name in world.without:
            return lambda function: function
        return world.flow.workflow(name, **options)

    async def double(n: int) -> int:
        world.ran(n)
        return 2 * n

    async def gated() -> str:
        world.ran()
        await world.gate.wait()
        return "through"

    async def refuse() -> None:
        raise ValueError("no")

    @workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    @workflow("doubles")
    async def doubles(ctx: Context, n: int) -> int:
        first = await ctx.step("one", double, n)
        return await ctx.step("two", double, first)

    @workflow("gated")
    async def gated_flow(ctx: Context) -> str:
        return await ctx.step("gate", gated)

    @workflow("fails")
    async def fails(ctx: Context) -> None:
        await ctx.step("refuse", refuse, retry=RetryPolicy(max_attempts=1))

    @workflow("retries")
    async def retries(ctx: Context) -> None:
        policy = RetryPolicy(max_attempts=9, initial="1h", max_delay="1h", jitter=False)
        await ctx.step("refuse", refuse, retry=policy)

    @workflow("sleeps")
    async def sleeps(ctx: Context, seconds: float) -> str:
        await ctx.sleep("nap", seconds)
        return "awake"

    @workflow("waits")
    async def waits(ctx: Context, event: str) -> Any:
        return await ctx.wait_for_event("wait", event, timeout=None)

    @workflow("declares", events=["kept-{id}"])
    async def declares(ctx: Context, order: dict[str, Any]) -> list[Any]:
        await ctx.wait_for_event("go", f"go-{order['id']}", timeout=None)
        return [
            await ctx.wait_for_event("kept", f"kept-{order['id']}", timeout=None)
            for _ in range(order.get("count", 1))
        ]

    @workflow("parent")
    async def parent(ctx: Context, event: str) -> Any:
        return await ctx.call("waits", event)

    @workflow("both")
    async def both(ctx: Context, event: str) -> list[Any]:
        return list(
            await asyncio.gather(
                ctx.wait_for_event("a", event, timeout=None),
                ctx.wait_for_event("b", event, timeout=None),
            )
        )


@asynccontextmanager
async def service(**options: Any) -> AsyncGenerator[Service]:
    """Start a service on virtual time; stop it at the end, unless it was crashed."""
    world = Service(**options)
    with world.clock.driving():
        await world.start()
        try:
            yield world
        finally:
            await world.stop()


@asynccontextmanager
async def reborn(
    world: Service, disk: MemoryDisk | None = None, **options: Any
) -> AsyncGenerator[Service]:
    """Start another service on an image of the world's disk, beside it, on the same clock."""
    other = Service(disk=disk or world.image(), clock=world.clock, **options)
    other.settings = world.settings
    await other.start()
    try:
        yield other
    finally:
        await other.stop()


async def held_back(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Begin the work and let the loop go round; it must not get its answer yet."""
    task = asyncio.create_task(work)
    for _ in range(200):
        await next_pass()
    assert not task.done(), f"answered before it was durable: {task!r}"
    return task
