"""`BlockingFlow`: a flow for threads that are not its loop's; each call returns when it is done.

A program without a loop of its own starts one in a thread with `flow.start_background()`. A
synchronous view of a host whose loop runs the engine already asks for `flow.blocking()`.

What programs do all day is a method here; `run` takes every other coroutine of the flow, so that
there is no second copy of it: `background.run(flow.fork(run_id, "charge"))`. On the loop itself a
call would wait for itself for ever, so there it raises.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from stepflow.errors import StepflowError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Generator,
        Sequence,
    )

    from stepflow.flow import Stepflow
    from stepflow.handles import RunHandle
    from stepflow.model.all_event import AllEvent
    from stepflow.model.durations import Duration
    from stepflow.model.views import RunEvent, RunView

__all__ = ["BlockingFlow", "BlockingRun", "start_background"]

T = TypeVar("T")


class BlockingFlow:
    """A running flow, for any thread but its loop's. Thread-safe."""

    def __init__(
        self,
        flow: Stepflow,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.flow: Final = flow
        self._loop = loop
        self._close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the engine and its thread, where `start_background` started them; once is enough."""
        if self._close is not None and not self._loop.is_closed():
            self._refuse_the_loop_itself()
            self._close()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Return what the coroutine returns on the flow's loop, or raise what it raises.

        After `timeout` seconds it is cancelled, and this raises `TimeoutError`.
        """
        try:
            self._refuse_the_loop_itself()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise
        try:
            return future.result(timeout)
        except BaseException:
            # Of a caller that gives up, by timeout or Ctrl-C; of one that has its answer, nothing.
            future.cancel()
            raise

    def _refuse_the_loop_itself(self) -> None:
        if self._loop.is_closed():
            raise StepflowError("the flow's loop has ended; start_background() starts another")
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return
        if here is self._loop:
            raise StepflowError("this is the flow's own loop: await the flow's methods here")

    # ------------------------------------------------------------ runs

    def trigger(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        delay: Duration | None = None,
    ) -> BlockingRun:
        """Start a run, as `Stepflow.trigger` does: it is durable when this returns."""
        started = self.flow.trigger(
            workflow,
            input,
            run_id=run_id,
            idempotency_key=idempotency_key,
            tags=tags,
            delay=delay,
        )
        return BlockingRun(self, self.run(started))

    def trigger_many(
        self,
        workflow: str | Callable[..., Any],
        inputs: Sequence[object],
        *,
        tags: Sequence[str] = (),
        delay: Duration | None = None,
    ) -> list[BlockingRun]:
        """Start many runs in one durable write, as `Stepflow.trigger_many` does."""
        runs = self.run(self.flow.trigger_many(workflow, inputs, tags=tags, delay=delay))
        return [BlockingRun(self, run) for run in runs]

    def notify(self, event_id: str, payload: object = None, *, run_id: str | None = None) -> int:
        """Deliver an event, as `Stepflow.notify` does."""
        return self.run(self.flow.notify(event_id, payload, run_id=run_id))

    def get_run(self, run_id: str) -> RunView:
        """Return the run as it is."""
        return self.run(self.flow.get_run(run_id))

    def cancel(self, run_id: str, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel a live run, as `Stepflow.cancel` does."""
        return self.run(self.flow.cancel(run_id, reason, force=force))

    def stream(self, run_id: str, after: int | None = None) -> Generator[RunEvent]:
        """Yield the run's events after id `after`: history, then live, until the run ends."""
        return self._each(self.flow.stream(run_id, after))

    def stream_all(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        tag: str = "",
        run_ids: Sequence[str] = (),
        after: str | None = None,
    ) -> Generator[AllEvent]:
        """Yield the events of all runs, as `Stepflow.stream_all` does; it ends with the engine."""
        return self._each(
            self.flow.stream_all(
                status=status, workflow_id=workflow_id, tag=tag, run_ids=run_ids, after=after
            )
        )

    def _each(self, iterator: AsyncIterator[T]) -> Generator[T]:
        events = cast("AsyncGenerator[T]", iterator)
        try:
            while (event := self.run(_next(events))) is not None:
                yield event
        finally:
            if not self._loop.is_closed():
                self.run(_close(events))


class BlockingRun:
    """A run that was triggered, for any thread but the loop's. `.id` names it."""

    __slots__ = ("_flow", "handle", "id")

    def __init__(self, flow: BlockingFlow, handle: RunHandle) -> None:
        self._flow = flow
        self.handle: Final = handle
        self.id: Final = handle.id

    def __repr__(self) -> str:
        return f"BlockingRun({self.id!r})"

    @property
    def public_access_token(self) -> str:
        """A token that reads this run and its stream, and nothing else."""
        return self.handle.public_access_token

    def result(self, timeout: float | None = None) -> Any:
        """Return the run's result once it has ended; `TimeoutError` after so many seconds.

        Raises `RunFailedError` or `RunCancelledError`, as the run ended.
        """
        return self._flow.run(self.handle.result(), timeout)

    def get(self) -> RunView:
        """Return the run as it is."""
        return self._flow.get_run(self.id)

    def cancel(self, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel the run; by `force` without waiting for its cleanup."""
        return self._flow.cancel(self.id, reason, force=force)

    def stream(self, after: int = 0) -> Generator[RunEvent]:
        """Yield the run's events after id `after`: history, then live, until the run ends."""
        return self._flow.stream(self.id, after)


async def _next(events: AsyncIterator[T]) -> T | None:
    return await anext(events, None)


async def _close(events: AsyncGenerator[Any]) -> None:
    await events.aclose()


# ---------------------------------------------------------------- a loop in a thread


def start_background(flow: Stepflow) -> BlockingFlow:
    """Run the flow on a loop in a thread of its own; return when its engine serves.

    Raises what the start of the engine raises.
    """
    thread = _LoopThread(flow)
    thread.start()
    return BlockingFlow(flow, thread.loop.result(), thread.close)


class _LoopThread:
    """A thread that runs one flow on one loop, until it is told to stop."""

    def __init__(self, flow: Stepflow) -> None:
        self.loop: Future[asyncio.AbstractEventLoop] = Future()
        self._flow = flow
        self._stop = asyncio.Event()
        # A program that ends without close() is not held up: to the runs it is a crash, and what
        # was acknowledged is on disk.
        self._thread = threading.Thread(target=self._main, name="stepflow-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        loop = self.loop.result()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self.loop.done():
                raise
            self.loop.set_exception(error)

    async def _serve(self) -> None:
        async with self._flow:
            self.loop.set_result(asyncio.get_running_loop())
            await self._stop.wait()
