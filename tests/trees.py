"""Random workflow bodies of ordinary asyncio, and steps that take a random time.

A tree is drawn once from a seed; the same tree is then run in several lives with other timings.
Names and arguments are few, so that many calls are equal: what tells them apart is their branch
alone.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow import EventTimeoutError, RetryPolicy, StepFailedError
from stepflow.clock import next_pass

if TYPE_CHECKING:
    from stepflow import Context
    from tests.harness import World

ONCE = RetryPolicy(max_attempts=1)
TWICE = RetryPolicy(max_attempts=2, initial="5ms", jitter=False)
LONG_S = 10_000_000.0


@dataclass
class Node:
    """One piece of a body."""

    id: int
    kind: str
    children: list[Node]
    name: str = "a"
    number: int = 0
    flag: bool = False


LEAVES = ("step", "step", "step", "step", "fail", "flaky", "sleep", "event", "value", "pause")
PARTS = (
    "seq",
    "seq",
    "gather",
    "group",
    "first",
    "wait_for",
    "as_completed",
    "later",
    "shield",
    "semaphore",
    "chain",
    "map",
)


class Drawing:
    """Draws a tree of at most so many nodes."""

    def __init__(self, seed: int, size: int = 14) -> None:
        self.dice = random.Random(seed)
        self.left = size
        self.ids = 0

    def tree(self) -> Node:
        kind = self.dice.choice(("gather", "group", "first", "seq", "later", "semaphore"))
        return self.node(kind, 0)

    def node(self, kind: str, depth: int) -> Node:
        dice = self.dice
        self.ids += 1
        self.left -= 1
        node = Node(self.ids, kind, [], dice.choice("ab"), dice.randrange(2), dice.random() < 0.5)
        if kind in PARTS and kind != "map":
            count = 1 if kind in {"wait_for", "shield"} else dice.randint(2, 4)
            node.children = [self.draw(depth + 1) for _ in range(count)]
        return node

    def draw(self, depth: int) -> Node:
        if self.left <= 0 or depth > 4 or self.dice.random() < 0.45:
            return self.node(self.dice.choice(LEAVES), depth)
        return self.node(self.dice.choice(PARTS), depth)


class Timing:
    """How long each step takes in one life: some passes of the loop, or some milliseconds."""

    def __init__(self, seed: object) -> None:
        self.seed = seed

    async def take(self, key: str) -> None:
        dice = random.Random(f"{self.seed} {key}")
        kind = dice.randrange(4)
        if kind == 1:
            for _ in range(dice.randrange(40)):
                await next_pass()
        elif kind:
            await asyncio.sleep(dice.randrange(4) / 1000)


class Trees:
    """The workflow that runs a tree, and its steps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tree = Node(0, "value", [])
        self.timing = Timing(0)
        self.closed: set[str] = set()
        world.flow.workflow("tree")(self.body)

    async def body(self, ctx: Context) -> Any:
        return await self.go(ctx, self.tree)

    # ------------------------------------------------------------ steps

    async def work(self, number: int) -> str:
        ran = self.world.ran(number)
        await self.timing.take(ran.key)
        return f"{ran.key} {number}"

    async def fail(self, number: int) -> str:
        ran = self.world.ran(number)
        await self.timing.take(ran.key)
        raise ValueError(f"{ran.key} {number}")

    async def flaky(self, number: int) -> str:
        ran = self.world.ran(number)
        await self.timing.take(ran.key)
        if ran.attempt < 2:
            raise ValueError(ran.key)
        return f"{ran.key} {number}"

    # ------------------------------------------------------------ pieces

    async def go(self, ctx: Context, node: Node) -> Any:
        try:
            value = await getattr(self, f"do_{node.kind}")(ctx, node)
        except (StepFailedError, EventTimeoutError, ExceptionGroup) as error:
            self.world.note(node.id, "raised", _text(error))
            if node.flag:
                return "caught"
            raise
        self.world.note(node.id, value)
        return value

    async def do_step(self, ctx: Context, node: Node) -> Any:
        return await ctx.step(node.name, self.work, node.number)

    async def do_fail(self, ctx: Context, node: Node) -> Any:
        return await ctx.step(node.name, self.fail, node.number, retry=ONCE)

    async def do_flaky(self, ctx: Context, node: Node) -> Any:
        return await ctx.step(node.name, self.flaky, node.number, retry=TWICE)

    async def do_map(self, ctx: Context, node: Node) -> Any:
        limit = 2 if node.flag else None
        return await ctx.map(node.name, self.work, range(node.number + 3), limit=limit)

    async def do_sleep(self, ctx: Context, node: Node) -> Any:
        return await ctx.sleep(node.name, node.number / 200)

    async def do_event(self, ctx: Context, node: Node) -> Any:
        return await ctx.wait_for_event(node.name, f"event-{node.number}", timeout="4ms")

    async def do_value(self, ctx: Context, node: Node) -> Any:
        return str(ctx.uuid())

    async def do_pause(self, ctx: Context, node: Node) -> Any:
        for _ in range(node.number * 3):
            await next_pass()

    async def do_seq(self, ctx: Context, node: Node) -> Any:
        return [await self.go(ctx, child) for child in node.children]

    async def do_gather(self, ctx: Context, node: Node) -> Any:
        parts = await asyncio.gather(
            *(self.go(ctx, child) for child in node.children), return_exceptions=node.flag
        )
        return [_text(part) for part in parts]

    async def do_group(self, ctx: Context, node: Node) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.go(ctx, child)) for child in node.children]
        return [task.result() for task in tasks]

    async def do_first(self, ctx: Context, node: Node) -> Any:
        tasks = [asyncio.create_task(self.go(ctx, child)) for child in node.children]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winners = [number for number, task in enumerate(tasks) if task in done]
        self.world.note(node.id, "winners", winners)
        if node.flag:
            for task in pending:
                task.cancel()
        rest = await asyncio.gather(*tasks, return_exceptions=True)
        return [winners, [_text(part) for part in rest]]

    async def do_wait_for(self, ctx: Context, node: Node) -> Any:
        timeout = LONG_S if node.flag else None
        return await asyncio.wait_for(self.go(ctx, node.children[0]), timeout)

    async def do_as_completed(self, ctx: Context, node: Node) -> Any:
        tasks = [asyncio.create_task(self.go(ctx, child)) for child in node.children]
        values = []
        for part in asyncio.as_completed(tasks):
            try:
                value = await part
            except Exception as error:  # noqa: BLE001  whatever a child raised
                value = _text(error)
            self.world.note(node.id, "next", value)
            values.append(value)
        return values

    async def do_later(self, ctx: Context, node: Node) -> Any:
        first, *rest = node.children
        task = asyncio.create_task(self.go(ctx, first))
        values = []
        for child in rest:
            try:
                values.append(await self.go(ctx, child))
            except Exception as error:  # noqa: BLE001  whatever a child raised
                values.append(_text(error))
        return [values, await task]

    async def do_shield(self, ctx: Context, node: Node) -> Any:
        return await asyncio.shield(self.go(ctx, node.children[0]))

    async def do_semaphore(self, ctx: Context, node: Node) -> Any:
        gate = asyncio.Semaphore(node.number + 1)

        async def one(child: Node) -> Any:
            async with gate:
                return await self.go(ctx, child)

        parts = await asyncio.gather(*map(one, node.children), return_exceptions=True)
        return [_text(part) for part in parts]

    async def do_chain(self, ctx: Context, node: Node) -> Any:
        events = [asyncio.Event() for _ in range(len(node.children) + 5)]

        async def link(number: int) -> None:
            await events[number].wait()
            self.world.note(node.id, "link", number)
            if number + 1 < len(events):
                events[number + 1].set()

        async def head(number: int, child: Node) -> Any:
            # Not when cancelled: the order of cleanup after a TaskGroup's abort is not promised.
            try:
                value = await self.go(ctx, child)
            except Exception as error:  # noqa: BLE001  whatever a child raised
                value = _text(error)
            events[number].set()
            return value

        links = [asyncio.create_task(link(number)) for number in range(len(events))]
        parts = await asyncio.gather(
            *(head(i, child) for i, child in enumerate(node.children)), return_exceptions=True
        )
        await asyncio.gather(*links)
        return [_text(part) for part in parts]


def _text(value: Any) -> Any:
    if isinstance(value, BaseExceptionGroup):
        return sorted(str(_text(error)) for error in value.exceptions)
    return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else value
