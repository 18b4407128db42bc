"""Those in this process who await the end of a run.

Nobody asks the database again and again: an end is told (`NOTIFY` says which runs have ended), or
happens here, in the process's own worker. One query for all of them, every so often, finds what
was not told. And a run that was started here, while ends were heard of, need not be asked for at
all before it has ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from types import TracebackType

    from stepflow.clock import TimerHandle
    from stepflow.engine.postgres.bell import Bell
    from stepflow.model.run import RunState

__all__ = ["Ends", "Waiter"]

_EXPECTED_MAX: Final = 10_000
_LOOKED_FOR_AT_ONCE: Final = 10_000


class Waiter:
    """One who awaits a run. Enter it before looking into the tables."""

    def __init__(self, ends: Ends, run_id: str) -> None:
        self._ends = ends
        self._run_id = run_id
        self._told = asyncio.Event()
        self.has_ended = False
        """Whether it was said that the run has ended."""
        self.state: RunState | None = None
        """The run as its own worker has ended it, if that is here."""

    def __enter__(self) -> Self:
        self._ends.enter(self._run_id, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ends.leave(self._run_id, self)

    def tell(self, state: RunState | None = None, *, ended: bool) -> None:
        """The run has ended, or may have."""
        self.has_ended = self.has_ended or ended
        self.state = self.state or state
        self._told.set()

    async def told(self) -> None:
        """Return once there is something to look at."""
        await self._told.wait()
        self._told.clear()


class Ends:
    """Knows who awaits what. `look_for` returns those of some runs that are live."""

    def __init__(
        self,
        bell: Bell,
        poll_s: float,
        look_for: Callable[[Sequence[str]], Awaitable[Iterable[str]]],
    ) -> None:
        self._bell = bell
        self._poll_s = poll_s
        self._look_for = look_for
        self._waiting: dict[str, set[Waiter]] = {}
        self._expected: dict[str, bool] = {}
        """Runs that were started here since when all ends are heard of, and whether they have."""
        self._timer: TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    def expect(self, run_id: str) -> None:
        """A run is about to be started here."""
        if self._bell.hears_of_runs:
            while len(self._expected) >= _EXPECTED_MAX:
                del self._expected[next(iter(self._expected))]
            self._expected[run_id] = False

    def is_live(self, run_id: str) -> bool:
        """Whether nobody has to ask: the run was started here, and its end was not told."""
        return self._expected.get(run_id) is False

    def waiter(self, run_id: str) -> Waiter:
        """Return one who awaits the run, to be entered."""
        return Waiter(self, run_id)

    def enter(self, run_id: str, waiter: Waiter) -> None:
        """Tell him of the run's end."""
        self._bell.attend()
        self._waiting.setdefault(run_id, set()).add(waiter)
        if self._timer is None and self._looking is None:
            self._timer = self._bell.clock.call_later(self._poll_s, self._look)

    def leave(self, run_id: str, waiter: Waiter) -> None:
        """Tell him no more."""
        self._expected.pop(run_id, None)
        waiters = self._waiting[run_id]
        waiters.discard(waiter)
        if not waiters:
            del self._waiting[run_id]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def told(self, run_ids: Sequence[str] | None, state: RunState | None = None) -> None:
        """These runs have ended; None: something may have been missed."""
        if run_ids is None:
            self._expected.clear()
            for waiters in tuple(self._waiting.values()):
                for waiter in waiters:
                    waiter.tell(ended=False)
            return
        for run_id in run_ids:
            if run_id in self._expected:
                self._expected[run_id] = True
            for waiter in self._waiting.get(run_id, ()):
                waiter.tell(state, ended=True)

    def _look(self) -> None:
        self._timer = None
        self._looking = asyncio.ensure_future(self._look_for_all())

    async def _look_for_all(self) -> None:
        """One query for all who wait: whose runs are not live any more hear of it."""
        try:
            run_ids = list(self._waiting)
            for begin in range(0, len(run_ids), _LOOKED_FOR_AT_ONCE):
                some = run_ids[begin : begin + _LOOKED_FOR_AT_ONCE]
                live = set(await self._look_for(some))
                self.told([run_id for run_id in some if run_id not in live])
        finally:
            self._looking = None
            if self._waiting:
                self._timer = self._bell.clock.call_later(self._poll_s, self._look)
