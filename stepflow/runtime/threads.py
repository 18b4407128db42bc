"""The pool in whose threads sync steps run: daemons of our own, started when needed."""

from __future__ import annotations

import contextvars
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.runtime.steps import Attempt

__all__ = ["StepThreads"]


class StepThreads:
    """Daemon threads for sync steps, started when needed, at most `limit`."""

    __slots__ = ("_idle", "_limit", "_lock", "_queue", "_stopped", "_threads")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._stopped = False

    def submit(
        self,
        attempt: Attempt,
        context: contextvars.Context,
        function: Callable[..., Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Run the attempt in a thread, unless it is closed by then; `ended` is called there."""
        self._queue.put((attempt, context, function, ended))
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                return
            if self._threads >= self._limit or self._stopped:
                return
            self._threads += 1
            name = f"stepflow-step-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            attempt, context, function, ended = job
            value: Any = None
            failure: BaseException | None = None
            try:
                # What timed out or was given up while it waited for a thread does not begin.
                value = None if attempt.closed else context.run(function, *attempt.ask.call_args)
            except BaseException as error:  # noqa: BLE001  border: user code
                failure = error
            ended(value, failure)
            del job, attempt, context, function, ended, value, failure
            with self._lock:
                self._idle += 1

    def stop(self) -> None:
        """Let idle threads end; busy ones are abandoned, they are daemons."""
        with self._lock:
            self._stopped = True
            for _ in range(self._threads):
                self._queue.put(None)


_Job = tuple[
    "Attempt",
    contextvars.Context,
    "Callable[..., Any]",
    "Callable[[Any, BaseException | None], None]",
]
