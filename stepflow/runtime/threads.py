"""The pool in whose threads sync steps run: daemons of our own, started when needed.

A thread cannot be killed. One whose step timed out, or was given up, is a **zombie**: it holds its
place in the pool until its function returns, and nobody hears of it. What waits for a thread when
it times out or is given up is taken out of the queue: it never begins.
"""

from __future__ import annotations

import threading
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from stepflow.runtime.plain import Fixed

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Iterable

    from stepflow.runtime.steps import Attempt

__all__ = ["StepThreads", "Zombie"]

_LOOKED_MAX = 10_000


class Zombie(Fixed, frozen=True):
    """A thread whose step goes on unheard."""

    run_id: str
    workflow: str
    key: str
    attempt: int
    since_ms: int


class StepThreads:
    """At most `limit` threads, and a queue before them."""

    __slots__ = ("_idle", "_jobs", "_lock", "_stopped", "_threads", "_tokens", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._jobs: dict[Attempt, _Job] = {}
        """Those that no thread has taken, in their order."""
        self._tokens: SimpleQueue[None] = SimpleQueue()
        """One for each job ever queued: whoever gets it looks for a job."""
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._stopped = False

    @property
    def waiting(self) -> int:
        """How many attempts wait for a thread."""
        return len(self._jobs)

    def submit(
        self,
        attempt: Attempt,
        context: contextvars.Context,
        function: Callable[..., Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Run the attempt in a thread, unless it is closed by then; `ended` is called there."""
        with self._lock:
            self._jobs[attempt] = (context, function, ended)
            self._tokens.put(None)
            if self._idle > 0:
                self._idle -= 1
                return
            if self._threads >= self.limit or self._stopped:
                return
            self._threads += 1
            name = f"stepflow-step-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def withdraw(self, attempt: Attempt) -> bool:
        """Take the attempt out of the queue; whether no thread had it, so that it never begins."""
        with self._lock:
            return self._jobs.pop(attempt, None) is not None

    def ahead_of(self, wanted: Iterable[Attempt]) -> dict[Attempt, int]:
        """Return how many wait before each of these that waits for a thread.

        Of a queue that is very long the first ten thousand are looked at.
        """
        left = set(wanted)
        with self._lock:
            queue = enumerate(islice(self._jobs, _LOOKED_MAX))
            found = {attempt: place for place, attempt in queue if attempt in left}
            behind = (a for a in left if a not in found and a in self._jobs)
            found.update(dict.fromkeys(behind, _LOOKED_MAX))
        return found

    def _work(self) -> None:
        while True:
            self._tokens.get()
            with self._lock:
                attempt = next(iter(self._jobs), None)
                job = None if attempt is None else self._jobs.pop(attempt)
                if job is None and self._stopped:
                    return
            if attempt is not None and job is not None:
                _run(attempt, *job)
            del attempt, job
            with self._lock:
                self._idle += 1

    def stop(self) -> None:
        """Let idle threads end; busy ones are abandoned, they are daemons."""
        with self._lock:
            self._stopped = True
            for _ in range(self._threads):
                self._tokens.put(None)


def _run(
    attempt: Attempt,
    context: contextvars.Context,
    function: Callable[..., Any],
    ended: Callable[[Any, BaseException | None], None],
) -> None:
    value: Any = None
    failure: BaseException | None = None
    try:
        # What was given up in this moment does not begin.
        value = None if attempt.closed else context.run(function, *attempt.ask.call_args)
    except BaseException as error:  # noqa: BLE001  border: user code
        failure = error
    ended(value, failure)
    # An error holds this frame.
    del failure


_Job = tuple[
    "contextvars.Context",
    "Callable[..., Any]",
    "Callable[[Any, BaseException | None], None]",
]
