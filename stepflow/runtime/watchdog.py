"""Names the code that holds the loop: whoever does stops everything else in the process.

A thread of its own asks the loop twice in each `loop_blocked_s` to answer. When it does not for so
long, the thread looks at what the loop's thread is doing at that moment and says whose code it is:
run, workflow, step and stack. Nothing is measured on the way of a run.

A blocked loop cannot be helped from here: the code must `await`, or become a plain function that is
run as a step, which has a thread.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Held", "Watchdog"]

_log: Final = logging.getLogger("stepflow.watchdog")

_ASKS_PER_LIMIT: Final = 2
_AGAIN: Final = 10
"""It is said again when it has taken so many times as long."""
_FRAMES: Final = 12
"""Of the stack, the innermost so many are shown."""


@dataclass(frozen=True, slots=True)
class Held:
    """What held the loop: a run's code, or `run_id` empty where it was nobody's."""

    run_id: str = ""
    workflow: str = ""
    step: str = ""

    def __str__(self) -> str:
        if not self.run_id:
            return "code outside every run"
        step = f" in step {self.step!r}" if self.step else ""
        return f"run {self.run_id} of workflow {self.workflow!r}{step}"


class Watchdog:
    """Watches the loop of one supervisor. Made and stopped on the loop."""

    def __init__(self, sup: Supervisor, limit_s: float) -> None:
        self._sup = sup
        self._loop = sup.loop
        self._clock = sup.clock
        self._limit_s = limit_s
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self.blocked_total = 0
        """How often the loop was held for longer than the limit."""
        self.blocked_s_max = 0.0
        self.lag_s = 0.0
        """How long the loop took to answer, the last time it was asked, and at most."""
        self.lag_s_max = 0.0
        self._thread = threading.Thread(target=self._watch, name="stepflow-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End soon; nothing is said any more."""
        self._stopped.set()

    # ------------------------------------------------------------ in the thread

    def _watch(self) -> None:
        while not self._stopped.wait(self._limit_s / _ASKS_PER_LIMIT):
            answered = threading.Event()
            began_s = self._clock.monotonic_s()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                # The loop is closed.
                return
            if not answered.wait(self._limit_s):
                self._blocked(answered, began_s)
            self.lag_s = self._clock.monotonic_s() - began_s
            self.lag_s_max = max(self.lag_s_max, self.lag_s)

    def _blocked(self, answered: threading.Event, began_s: float) -> None:
        """Say who holds the loop, until it is given back."""
        self.blocked_total += 1
        held = Held()
        limit_s = self._limit_s
        while not (answered.is_set() or self._stopped.is_set()):
            task, frame = self._look()
            if frame is None:
                return
            held = holder(self._sup, task)
            stack = "".join(traceback.format_list(traceback.extract_stack(frame)[-_FRAMES:]))
            # Asked for again: what is shown must be what held the loop, not what came after.
            if not answered.is_set():
                self._say(held, self._clock.monotonic_s() - began_s, stack)
            limit_s *= _AGAIN
            answered.wait(limit_s)
        seconds = self._clock.monotonic_s() - began_s
        self.blocked_s_max = max(self.blocked_s_max, seconds)
        if not self._stopped.is_set():
            _log.warning("the loop goes on after %.1f s; it was held by %s", seconds, held)

    def _look(self) -> tuple[asyncio.Task[Any] | None, FrameType | None]:
        """Return what the loop's thread is doing: its task, and where it is."""
        task = asyncio.current_task(self._loop)
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  documented for this
        return task, frames.get(self._loop_thread)

    def _say(self, held: Held, seconds: float, stack: str) -> None:
        self.blocked_s_max = max(self.blocked_s_max, seconds)
        _log.error(
            "the loop is held for %.1f s by %s: nothing else goes on meanwhile. Await there, or "
            "make it a step that is a plain function: those have threads\n%s",
            seconds,
            held,
            stack.rstrip(),
        )


def holder(sup: Supervisor, task: asyncio.Task[Any] | None) -> Held:
    """Return whose code the task runs. Called in another thread, while the loop stands still."""
    if task is None:
        return Held()
    step = sup.steps.in_task(task)
    if step is not None:
        return Held(step.actor.id, step.actor.state.workflow, step.ask.name)
    for actor in list(sup.active.values()):
        if actor.session is not None and task in actor.session.branches:
            return Held(actor.id, actor.state.workflow)
    return Held()
