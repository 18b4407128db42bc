"""One activation of a run: its root task, the tasks born of it, its gate, the waits under way.

A session ends in one of three ways, which are three different things:

- the body **ends**: returned, raised or was cancelled; whatever tasks it left are cancelled;
- it is **suspended** (passivation, shutdown, divergence): fenced, so that nothing it still does is
  recorded; every wait gets `RunSuspended`; what does not end by that is cancelled;
- it is **abandoned** by force when a cancel's grace has run out: fenced and cancelled.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any, NoReturn

from stepflow.clock import next_pass
from stepflow.errors import RunSuspended
from stepflow.runtime.tracked import Tracked

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.branches import Branch
    from stepflow.runtime.calls import Wait
    from stepflow.runtime.replay import Gate

__all__ = ["Session"]

_log = logging.getLogger("stepflow.run")

_PASSES_TO_END = 20
_CANCELS = 2
_REFUSALS = 3


class Session:
    """What an active run has and a passive one gave back."""

    __slots__ = (
        "_refused",
        "actor",
        "born_s",
        "branches",
        "ended",
        "fenced",
        "gate",
        "loop",
        "moved_s",
        "plain_calls",
        "replay_s",
        "root",
        "run_id",
        "waits",
    )

    def __init__(self, actor: RunActor, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self.actor = actor
        self.run_id = actor.id
        self.gate = gate
        self.loop = loop
        self.branches: dict[asyncio.Task[Any], Branch] = {}
        """Every task of the run that has not ended, with its place."""
        self.waits: set[Wait] = set()
        self.root: asyncio.Task[None] | None = None
        self.fenced = False
        """Nothing it does is recorded any more."""
        self.ended = False
        """Its tasks are no longer told apart from the host's."""
        self.plain_calls = 0
        self.born_s = 0.0
        self.moved_s = 0.0
        """When something of the run moved last, in monotonic seconds."""
        self.replay_s = 0.0
        """How long it took to come from the start of the body to its first new call."""
        self._refused = 0

    def moved(self, now_s: float) -> None:
        """The body asks for something new."""
        self.moved_s = now_s
        if not self.replay_s:
            self.replay_s = now_s - self.born_s

    # ------------------------------------------------------------ tasks

    def track(self, coro: Coroutine[Any, Any, Any]) -> Tracked:
        """Return the coroutine so that its steps are seen."""
        sup = self.actor.sup
        return Tracked(coro, self.gate.stepped, sup.marker, self.run_id.encode())

    def add_task(self, task: asyncio.Task[Any], branch: Branch) -> None:
        """Count a task of the run until it ends."""
        self.branches[task] = branch
        branch.owned = True
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self.gate.tasks -= 1
        self.branches.pop(task, None)
        if (self.fenced or self.ended) and not task.cancelled():
            # Nobody will ask for it any more: look at it, or asyncio complains.
            task.exception()

    # ------------------------------------------------------------ the fence

    def fence(self) -> None:
        """Record nothing more and let every wait end."""
        if self.fenced:
            return
        self.fenced = True
        self.gate.closed = True
        for wait in list(self.waits):
            wait.suspend()

    async def refuse(self) -> NoReturn:
        """Answer a `ctx` call of a fenced run.

        It raises after one pass; from the fourth on it waits for ever, so that a body which catches
        everything in a loop cannot spin the process.
        """
        self._refused += 1
        if self._refused > _REFUSALS:
            await self.loop.create_future()
        await next_pass()
        raise RunSuspended(self.run_id)

    async def suspend(self) -> int:
        """Fence the run and end its tasks; return how many could not be ended (zombies)."""
        self.fence()
        zombies = await self._end_tasks()
        self.ended = True
        return zombies

    async def _end_tasks(self) -> int:
        for _ in range(_CANCELS + 1):
            for _ in range(_PASSES_TO_END):
                if not self._others():
                    return 0
                await next_pass()
            for task in self._others():
                task.cancel()
        for _ in range(_PASSES_TO_END):
            if not self._others():
                return 0
            await next_pass()
        left = self._others()
        _log.error(
            "%s: %d task(s) of the workflow survived two cancels and are left behind",
            self.run_id,
            len(left),
        )
        return len(left)

    def _others(self) -> list[asyncio.Task[Any]]:
        here = asyncio.current_task()
        return [task for task in self.branches if task is not here]

    def waits_directly(self) -> bool:
        """Whether the root waits in a `ctx` call with no armed `asyncio.timeout` around it.

        Such a timeout would die with the task, so the run must keep it.
        """
        coro: Any = self.root.get_coro() if self.root is not None else None
        while coro is not None and hasattr(coro, "cr_await"):
            if any(_is_armed(found) for found in gc.get_referents(_bare(coro))):
                return False
            coro = coro.cr_await
        return type(coro).__name__ == "FutureIter"

    def close(self) -> None:
        """The body has ended: cancel what it left running and stop counting."""
        self.fence()
        self.ended = True
        here = asyncio.current_task()
        for task in list(self.branches):
            if task is not here:
                task.cancel()

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run something of the engine's beside the run, outside its branches."""
        self.actor.sup.spawn(coro)


def _bare(coro: Any) -> Any:
    return coro.bare if isinstance(coro, Tracked) else coro


def _is_armed(found: object) -> bool:
    # `async with` keeps the bound __aexit__, not the manager itself.
    manager = getattr(found, "__self__", found)
    return isinstance(manager, asyncio.Timeout) and manager.when() is not None
