"""Where blocking work runs: in threads, or in simulations, which have none, on the loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Background", "InlineBackground", "InlineWriter", "ThreadBackground", "Writing"]

_T = TypeVar("_T")


class Background(Protocol):
    """One thing at a time, in order."""

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, without holding the loop."""
        ...

    def stop(self) -> None:
        """End when the work at hand is done."""
        ...


class ThreadBackground:
    """A second thread: a long sync in it does not hold up the writer's."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stepflow-files")

    async def run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.wrap_future(self._pool.submit(work))

    def stop(self) -> None:
        self._pool.shutdown(wait=True)


class InlineBackground:
    """No thread: the work is done when `run` is awaited. For simulations."""

    async def run(self, work: Callable[[], _T]) -> _T:
        return work()

    def stop(self) -> None:
        return


class Writing(Protocol):
    """Runs the writer's work in order and reports on the loop."""

    def submit(self, work: Callable[[], Callable[[], None]]) -> None:
        """Run `work`, then what it returns on the loop."""
        ...

    def stop(self) -> None:
        """End after the work at hand."""
        ...


class InlineWriter:
    """No thread: the work is done in a later pass of the loop. For simulations."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stopped = False

    def submit(self, work: Callable[[], Callable[[], None]]) -> None:
        self._loop.call_soon(self._run, work)

    def stop(self) -> None:
        self._stopped = True

    def _run(self, work: Callable[[], Callable[[], None]]) -> None:
        if not self._stopped:
            work()()
