"""Where blocking work runs: in threads, or in simulations, which have none, on the loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
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

    def stop(self, *, wait: bool = True) -> None:
        """End when the work at hand is done; `wait` for that."""
        ...


class ThreadBackground:
    """A second thread: a long sync in it does not hold up the writer's.

    A daemon, not one of a pool's: a disk that hangs must not keep the process from its end.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stepflow-files", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], _T]) -> _T:
        done: Future[_T] = Future()
        self._queue.put(partial(_settle, done, work))
        return await asyncio.wrap_future(done)

    def stop(self, *, wait: bool = True) -> None:
        self._queue.put(None)
        if wait:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
            del job


def _settle(done: Future[_T], work: Callable[[], _T]) -> None:
    """Do the work, unless nobody waits for it any more, and say how it went."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        value = work()
    except BaseException as error:  # noqa: BLE001  it is raised again where it is awaited
        done.set_exception(error)
    else:
        done.set_result(value)


class InlineBackground:
    """No thread: the work is done when `run` is awaited. For simulations."""

    async def run(self, work: Callable[[], _T]) -> _T:
        return work()

    def stop(self, *, wait: bool = True) -> None:  # noqa: ARG002  there is no thread
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
