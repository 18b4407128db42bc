"""The workflow that runs a plan's programs, and tells the ledger all that it asks, sees and does.

One workflow serves every seed, so that it is registered once: its input names the program. An op is
known by its **path** in the program (`0.2.1`), and so is its name, its step's argument and its
outcome; a step's function says whose it is by that path.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepflow import (
    Context,
    EventTimeoutError,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    StepFailedError,
    Stepflow,
    StepInterruptedError,
    current_step,
)
from stepflow.config import MEMORY, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sim.ledger import Activation, Ledger
    from tests.sim.plan import Op

__all__ = ["REGISTRY", "WORKFLOW", "Scene", "enter"]

WORKFLOW: Final = "program"
STARTED: Final = "started"
START_EVENT: Final = "begin"
ATTEMPTS: Final = 3
RETRY_MS: Final = 50
TIMEOUT_S: Final = 0.1
POLICY: Final = RetryPolicy(
    max_attempts=ATTEMPTS, initial=RETRY_MS / 1000, factor=2.0, max_delay=1.0, jitter=False
)


@dataclass
class Scene:
    """What the running seed is about."""

    programs: Sequence[Sequence[Op]]
    ledger: Ledger


class _Stage:
    scene: Scene


def enter(scene: Scene) -> None:
    """Let the workflow work on this scene from now on."""
    _Stage.scene = scene


class StepBroke(Exception):
    """A step fails as planned."""


# ---------------------------------------------------------------- steps


def _begin(path: str, fails: int) -> Any:
    step = current_step()
    _Stage.scene.ledger.began(step, path)
    return step


def _end(step: Any, path: str, fails: int) -> dict[str, str]:
    if step.attempt <= fails:
        _Stage.scene.ledger.broke(step, path)
        raise StepBroke(path)
    _Stage.scene.ledger.returned(step, path)
    return {"p": path}


async def _take_time(step: Any, path: str, ms: int) -> None:
    if not ms:
        return
    try:
        await asyncio.sleep(ms / 1000)
    except asyncio.CancelledError:
        # Timed out, or given up: only what timed out is tried again.
        _Stage.scene.ledger.broke(step, path)
        raise


async def work(path: str, fails: int, ms: int) -> dict[str, str]:
    step = _begin(path, fails)
    await _take_time(step, path, ms)
    return _end(step, path, fails)


async def chatty(path: str, fails: int, ms: int) -> dict[str, str]:
    step = _begin(path, fails)
    await step.emit({"path": path})
    await _take_time(step, path, ms)
    return _end(step, path, fails)


def work_in_thread(path: str, fails: int, ms: int) -> dict[str, str]:
    del ms
    return _end(_begin(path, fails), path, fails)


async def undo(path: str, fails: int, ms: int) -> None:
    del fails, ms
    step = _begin(f"undo:{path}", 0)
    _end(step, f"undo:{path}", 0)


async def work_on_item(item: list[Any]) -> dict[str, str]:
    path, ms, fails = item
    step = _begin(path, fails)
    await _take_time(step, path, ms)
    return _end(step, path, fails)


# ---------------------------------------------------------------- bodies


class _Interpreter:
    """Runs one program in one activation."""

    def __init__(self, ctx: Context, act: Activation) -> None:
        self.ctx = ctx
        self.act = act

    async def all(self, ops: Sequence[Op], at: str) -> list[Any]:
        return [await self.one(op, f"{at}.{i}" if at else f"{i}") for i, op in enumerate(ops)]

    async def one(self, op: Op, path: str) -> Any:
        if op.kind in _STRUCTURE:
            return await getattr(self, f"_{op.kind}")(op, path)
        self.act.asks(path, op)
        outcome = await getattr(self, f"_{op.kind}")(op, path)
        self.act.saw(path, op, outcome)
        return outcome

    # ------------------------------------------------------------ calls

    async def _step(self, op: Op, path: str) -> Any:
        fn: Any = work_in_thread if op.flags == "thread" else work
        fn = chatty if op.flags == "emit" else fn
        try:
            got = await self.ctx.step(
                f"s{path}",
                fn,
                path,
                op.fails,
                op.ms,
                key=path if op.flags == "key" else None,
                retry=POLICY,
                compensate=undo if op.flags == "undo" else None,
                durability="relaxed" if op.flags == "relaxed" else "strict",
                at_most_once=op.flags == "once",
                timeout=TIMEOUT_S if op.flags == "timeout" else None,
            )
        except StepInterruptedError:
            return "interrupted"
        except StepFailedError as error:
            return f"failed {error.error_type} {error.message}"
        return got

    async def _sleep(self, op: Op, path: str) -> str:
        await self.ctx.sleep(f"t{path}", op.ms / 1000)
        return "slept"

    async def _wait(self, op: Op, path: str) -> Any:
        event = f"kept-{op.n}" if op.flags == "kept" else f"event-{op.n}"
        timeout = op.ms / 1000 if op.ms else None
        if op.flags == "default":
            return await self.ctx.wait_for_event(
                f"w{path}", event, timeout=timeout, default="timeout"
            )
        try:
            return await self.ctx.wait_for_event(f"w{path}", event, timeout=timeout)
        except EventTimeoutError:
            return "timeout"

    async def _anchor(self, op: Op, path: str) -> Any:
        return await self.ctx.wait_for_event(f"w{path}", "anchor", timeout=None)

    async def _notify(self, op: Op, path: str) -> int:
        payload = f"{self.ctx.run_id} {path}"
        return await self.ctx.notify(f"event-{op.n}", payload)

    async def _call(self, op: Op, path: str) -> Any:
        try:
            return await self.ctx.call(WORKFLOW, {"p": op.n}, name=f"c{path}")
        except RunCancelledError:
            return "child cancelled"
        except RunFailedError as error:
            return f"child failed {error.message}"

    async def _start(self, op: Op, path: str) -> str:
        return await self.ctx.start(WORKFLOW, {"p": op.n}, name=f"c{path}")

    async def _emit(self, op: Op, path: str) -> None:
        await self.ctx.emit("said", {"path": path})
        self.ctx.progress(1, 2, path)

    async def _value(self, op: Op, path: str) -> Any:
        return [self.ctx.random(), str(self.ctx.uuid()), self.ctx.now().timestamp()]

    async def _map(self, op: Op, path: str) -> Any:
        fails = [0] * (op.n - 1) + [op.fails]
        items = [[f"{path}.{i}", op.ms, fails[i]] for i in range(op.n)]
        limit = 2 if op.flags == "limit" else None
        try:
            return await self.ctx.map(f"m{path}", work_on_item, items, limit=limit, retry=POLICY)
        except StepFailedError as error:
            return f"failed {error.error_type} {error.message}"

    async def _fail(self, op: Op, path: str) -> None:
        raise StepBroke(path)

    # ------------------------------------------------------------ structure

    async def _gather(self, op: Op, path: str) -> Any:
        return await asyncio.gather(
            *(self.all(ops, f"{path}.{i}") for i, ops in enumerate(op.parts))
        )

    async def _race(self, op: Op, path: str) -> Any:
        tasks = [
            asyncio.ensure_future(self.all(ops, f"{path}.{i}")) for i, ops in enumerate(op.parts)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return "raced"

    async def _guard(self, op: Op, path: str) -> Any:
        inner, cleanup = op.parts
        try:
            return await self.all(inner, f"{path}.0")
        except asyncio.CancelledError:
            self.act.cancelled()
            await self.all(cleanup, f"{path}.1")
            raise

    async def _repeat(self, op: Op, path: str) -> Any:
        return [await self.all(op.parts[0], f"{path}.{i}") for i in range(op.n)]


_STRUCTURE: Final = frozenset({"gather", "race", "guard", "repeat"})


async def program(ctx: Context, given: dict[str, Any]) -> dict[str, Any]:
    """Run the program that the input names."""
    scene = _Stage.scene
    number: int = given["p"]
    act = scene.ledger.activated(ctx.run_id, given)
    try:
        out = await _Interpreter(ctx, act).all(scene.programs[number], "")
    except asyncio.CancelledError:
        act.cancelled()
        raise
    return {"out": out}


async def started(ctx: Context, given: str) -> str:
    """An event's own run: its input is the payload."""
    act = _Stage.scene.ledger.activated(ctx.run_id, {"p": -1})
    act.asks("0", _ONE)
    outcome = await ctx.step("s0", work, "0", 0, 0, retry=POLICY)
    act.saw("0", _ONE, outcome)
    return given


def _one() -> Op:
    from tests.sim.plan import Op

    return Op("step")


_ONE: Final = _one()


def _registry() -> Any:
    flow = Stepflow(MEMORY, settings=Settings())
    flow.workflow(WORKFLOW, events=["kept-0", "kept-1"])(program)
    flow.workflow(STARTED, on=START_EVENT)(started)
    return flow.registry


REGISTRY: Final = _registry()
