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
import math
from contextlib import AsyncExitStack
from types import AsyncGeneratorType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from stepflow.clock import next_pass
from stepflow.errors import RunSuspended
from stepflow.runtime.plain import FRESH_DICT, FRESH_LIST, FRESH_SET, Plain
from stepflow.runtime.tracked import Tracked, TrackedRoot

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.branches import Branch
    from stepflow.runtime.calls import Wait
    from stepflow.runtime.replay import Ask, Gate

__all__ = ["Session"]

_log = logging.getLogger("stepflow.run")

_PASSES_TO_END = 20
_END_S = 0.1
_CANCELS = 2
_REFUSALS = 3
_ZOMBIES: set[asyncio.Task[Any]] = set()


class Session(Plain):
    """What an active run has and a passive one gave back."""

    actor: RunActor
    gate: Gate
    loop: asyncio.AbstractEventLoop
    run_id: str
    run_bytes: bytes
    workflow: str
    """Its name, for whoever must not look at the run's state: a log entry of a thread."""
    branches: dict[asyncio.Task[Any], Branch] = FRESH_DICT
    """Every task of the run that has not ended, with its place."""
    waits: set[Wait] = FRESH_SET
    root: asyncio.Task[None] | None = None
    fenced: bool = False
    """Nothing it does is recorded any more."""
    ended: bool = False
    """Its tasks are no longer told apart from the host's."""
    undoing: bool = False
    """The body has ended, and what undoes its steps runs."""
    plain_calls: int = 0
    running: int = 0
    """Attempts of its steps that run."""
    born_s: float = 0.0
    replay_s: float = 0.0
    """How long it took to come from the start of the body to its first new call."""
    missed: bool = False
    """Something happened that woke nobody, since the run was being put to sleep."""
    cut_short: list[str] = FRESH_LIST
    """Keys of what a task of the run asked for while it was being cancelled."""
    ahead: int = 0
    ahead_bytes: int = 0
    ahead_lsn: int = 0
    """Events that were emitted and are not known to be on disk, their bytes, the last one's LSN."""
    held: list[Sequence[Ask]] | None = None
    """While the run is paused: what the body has asked for meanwhile."""
    _refusals_left: int = 0

    # ------------------------------------------------------------ tasks

    def track(self, coro: Coroutine[Any, Any, Any]) -> Tracked:
        """Return the coroutine so that its steps are seen."""
        sup = self.actor.sup
        return Tracked(coro, self.gate, sup.marker, self.run_bytes)

    def track_root(self, coro: Coroutine[Any, Any, Any]) -> TrackedRoot:
        """Return the root's coroutine so that its steps and its end are seen."""
        sup = self.actor.sup
        return TrackedRoot(coro, self.gate, sup.marker, self.run_bytes, self)

    def root_ended(self, task: asyncio.Task[Any]) -> None:
        self.gate.tasks -= 1
        self.branches.pop(task, None)

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

    # ------------------------------------------------------------ the pause

    def hold(self) -> None:
        """Let the body hear of nothing and begin nothing."""
        self.held = []
        self.gate.hold()

    # ------------------------------------------------------------ the fence

    def fence(self) -> None:
        """Record nothing more and let every wait end."""
        if self.fenced:
            return
        self.fenced = True
        self.gate.closed = True
        self._refusals_left = _REFUSALS * max(1, len(self.branches))
        for wait in list(self.waits):
            wait.suspend()

    async def refuse(self) -> NoReturn:
        """Answer a `ctx` call of a fenced run.

        It raises after one pass; after three of them a task it waits for ever, so that a body which
        catches everything in a loop cannot spin the process.
        """
        self._refusals_left -= 1
        if self._refusals_left < 0:
            await self.loop.create_future()
        await next_pass()
        raise RunSuspended(self.run_id)

    async def suspend(self) -> int:
        """Fence the run and end its tasks; return how many could not be ended (zombies)."""
        self.fence()
        zombies = await self._end_tasks()
        self.ended = True
        self.root = None
        return zombies

    async def _end_tasks(self) -> int:
        for _ in range(_CANCELS):
            if await self._have_ended():
                return 0
            for task in self._others():
                task.cancel()
        if await self._have_ended():
            return 0
        left = self._others()
        _log.error(
            "%s: %d task(s) of the workflow survived two cancels and are left behind",
            self.run_id,
            len(left),
        )
        for task in left:
            _leave_behind(task)
        return len(left)

    async def _have_ended(self) -> bool:
        """Give the tasks, and those that they still make, a moment to end."""
        for _ in range(_PASSES_TO_END):
            if not self._others():
                return True
            await next_pass()
        # Something real is waited for: a thread, a socket.
        while others := self._others():
            done, _ = await asyncio.wait(others, timeout=_END_S)
            if not done:
                return False
        return True

    def _others(self) -> list[asyncio.Task[Any]]:
        here = asyncio.current_task()
        return [task for task in self.branches if task is not here]

    def waits_directly(self) -> bool:
        """Whether the root waits in a `ctx` call with no armed `asyncio.timeout` around it.

        Such a timeout would die with the task, so the run must keep it.
        """
        link: Any = self.root.get_coro() if self.root is not None else None
        while link is not None and type(link).__name__ != "FutureIter":
            held = gc.get_referents(_bare(link))
            if any(_is_armed(found) for found in held):
                return False
            link = _awaited(link, held)
        return link is not None

    def close(self) -> None:
        """The body has ended: fence the run and cancel what it left running."""
        self.fence()
        # Through its context the task holds the session: what a run held would wait for a
        # collection, which looks at how many objects there are and not at how large they are.
        self.root = None
        if self.cancel_others():
            self.spawn(self._finish())
        else:
            self.ended = True

    def cancel_others(self) -> bool:
        """Cancel every task of the run but the running one; say whether there are any."""
        others = self._others()
        for task in others:
            task.cancel()
        return bool(others)

    async def _finish(self) -> None:
        self.actor.sup.zombies += await self._end_tasks()
        self.ended = True

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run something of the engine's beside the run, outside its branches."""
        self.actor.sup.spawn(coro)


def _leave_behind(task: asyncio.Task[Any]) -> None:
    """Keep a task that cannot be ended: destroying it would run its code once more.

    The loop is made to forget it, or `asyncio.run` would wait for it at its end, for ever.
    """
    _ZOMBIES.add(task)
    task.add_done_callback(_ZOMBIES.discard)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  as asyncio does with its own
    asyncio._unregister_task(task)  # noqa: SLF001  documented: Extending asyncio


def _bare(coro: Any) -> Any:
    return coro.bare if isinstance(coro, Tracked) else coro


def _awaited(link: Any, held: list[Any]) -> Any:
    """Return what a link of an await chain waits for, or `None` where that cannot be seen."""
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(link, name):
            return getattr(link, name)
    # One step of an async generator: what it waits for is the generator's business.
    generators: list[Any] = [found for found in held if isinstance(found, AsyncGeneratorType)]
    return generators[0] if generators else None


def _is_armed(found: object) -> bool:
    """Whether this is a timeout that is armed, or a context manager that holds one."""
    # `async with` keeps the bound __aexit__, not the manager itself.
    manager: Any = found.__self__ if isinstance(found, MethodType) else found
    if isinstance(manager, asyncio.Timeout):
        return manager.when() is not None
    if manager is found:
        # Something of the author's: it is not touched.
        return False
    if isinstance(manager, AsyncExitStack):
        return any(_is_armed(callback) for _, callback in manager._exit_callbacks)  # type: ignore[attr-defined]  # noqa: SLF001
    generator = getattr(manager, "gen", None)
    if isinstance(generator, AsyncGeneratorType | GeneratorType):
        return any(_is_armed(inner) for inner in gc.get_referents(generator))
    # anyio's scopes, without importing anyio.
    deadline = getattr(manager, "deadline", None)
    return isinstance(deadline, float) and deadline < math.inf and hasattr(manager, "cancel_called")
