"""Whether the host still lets the engine run.

A host that is in a hurry cancels every task of its loop: `asyncio.run` does when it is interrupted,
a server at its second SIGTERM. What that cuts has not failed: it goes on after the next start. All
tasks are cancelled before the first of them runs, so a task of our own tells the others apart from
a body that cancels itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

__all__ = ["HostWatch"]


class HostWatch:
    """A task that does nothing. `left` is called when somebody else cancels it."""

    __slots__ = ("_task",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        left: Callable[[], None],
    ) -> None:
        self._task = asyncio.Task(
            _wait(loop, left), loop=loop, context=context, name="stepflow-host"
        )

    @property
    def left(self) -> bool:
        """Whether the loop's tasks were cancelled, which they may not have noticed yet."""
        return self._task.cancelling() > 0

    async def stop(self) -> None:
        """Watch no longer, and leave no task behind."""
        self._task.cancel()
        await asyncio.wait([self._task])


async def _wait(loop: asyncio.AbstractEventLoop, left: Callable[[], None]) -> None:
    try:
        await loop.create_future()
    finally:
        left()
