"""One task for many steps: a body that ends without ever waiting needs none of its own.

The async steps that a commit releases are run one after the other, each in a context of its own, by
one task of the engine's. A body that waits keeps the task: it is that step's from then on, as if it
had been made for it. The rest, which are likely to wait too, get a task each. So
`asyncio.current_task()`, timeouts and task groups work in a body as they do in any task.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from typing import TYPE_CHECKING, Any

from stepflow.runtime.current import in_step

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Generator

    from stepflow.runtime.steps import Attempt
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Crew"]

_SLICE = 50
"""So many steps begin in one pass of the loop: what they record is synced while the next begin."""


class Crew:
    """Runs the bodies of attempts. `waits` and `ended` are told what became of each."""

    __slots__ = ("_ended", "_ready", "_sup", "_task", "_waits")

    def __init__(
        self,
        sup: Supervisor,
        waits: Callable[[Attempt], None],
        ended: Callable[[Attempt, Any, BaseException | None], None],
    ) -> None:
        self._sup = sup
        self._waits = waits
        self._ended = ended
        self._ready: deque[Attempt] = deque()
        self._task: asyncio.Task[None] | None = None
        """It goes on with what is ready."""

    def put(self, attempt: Attempt) -> None:
        """Begin the attempt in a later pass of the loop."""
        self._ready.append(attempt)
        if self._task is None or self._task.done():
            self._go_on()

    def _go_on(self) -> None:
        self._task = self._begin(self._ready)

    def _begin(self, ready: deque[Attempt]) -> asyncio.Task[None]:
        sup = self._sup
        # Not through the loop's factory: a step is no branch of the run.
        return asyncio.Task(self._work(ready), loop=sup.loop, context=sup.base_context.copy())

    async def _work(self, ready: deque[Attempt]) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._take_turns(task, ready)
        finally:
            if self._task is task:
                self._task = None
                if ready:
                    self._go_on()

    @types.coroutine
    def _take_turns(
        self, task: asyncio.Task[Any], ready: deque[Attempt]
    ) -> Generator[Any, Any, None]:
        marker, base = self._sup.marker, self._sup.base_context
        ended = self._ended
        attempt: Attempt | None = None
        context: contextvars.Context | None = None
        coro: Any = None
        while ready:
            # They begin in this turn: their marks must be on file.
            marker.flush()
            for _ in range(min(len(ready), _SLICE)):
                attempt = ready.popleft()
                attempt.task = task
                context = base.copy()
                coro = None
                try:
                    if attempt.closed:
                        # Given up before it began.
                        ended(attempt, None, None)
                        continue
                    coro = context.run(_called, attempt)
                    waits_for = context.run(coro.send, None)
                except StopIteration as end:
                    ended(attempt, end.value, end if coro is None else None)
                except BaseException as error:  # noqa: BLE001  border: user code
                    ended(attempt, None, error)
                else:
                    self._keep(task, attempt)
                    yield from self._to_its_end(attempt, coro, context, waits_for)
                    return
                if task.cancelling():
                    # Somebody has cancelled what has ended meanwhile: not to hit the next one.
                    return
            # It must not hold what they have returned until the next one comes.
            attempt = context = coro = None
            if ready:
                yield

    def _keep(self, task: asyncio.Task[Any], attempt: Attempt) -> None:
        """The attempt waits: the task is its own, and each of the rest gets one."""
        if self._task is task:
            self._task = None
            while self._ready:
                self._begin(deque((self._ready.popleft(),)))
        self._waits(attempt)

    def _to_its_end(
        self, attempt: Attempt, coro: Any, context: contextvars.Context, waits_for: Any
    ) -> Generator[Any, Any, None]:
        """Do what a task does with its coroutine, in the context of the step."""
        value: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    context.run(coro.close)
                    raise
                except BaseException as thrown:  # noqa: BLE001  handed on
                    waits_for = context.run(coro.throw, thrown)
                else:
                    waits_for = context.run(coro.send, sent)
        except GeneratorExit:
            raise
        except StopIteration as end:
            value = end.value
        except BaseException as error:  # noqa: BLE001  border: user code
            failure = error
        self._ended(attempt, value, failure)
        # An error holds this frame.
        del failure


def _called(attempt: Attempt) -> Any:
    """Return the body's coroutine. Called in the context of the step."""
    in_step.set(attempt)
    if attempt.span is not None:
        attempt.span.enter()
    coro: Any = attempt.body(*attempt.ask.call_args)
    if type(coro) is not types.CoroutineType:
        coro = _awaiting(coro)
    return coro  # pyright: ignore[reportUnknownVariableType]


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable
