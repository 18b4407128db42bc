"""A bell that rings when rows were written.

`NOTIFY` only wakes: whoever is woken looks into the tables, and looks there every so often anyway.
So a notification that is lost costs time and nothing else.

Nobody is woken for what is another's: a worker has a channel of its own, for work and for letters,
and a process hears of runs while somebody in it reads or awaits one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import sql

from stepflow.engine.postgres.database import end, rest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from stepflow.clock import Clock, TimerHandle
    from stepflow.engine.postgres.database import Database

__all__ = ["ENDED", "Bell", "Ear"]

_log: Final = logging.getLogger("stepflow.postgres")
_AGAIN_S: Final = 0.5
_RUNS: Final = "stepflow_runs"
_TIMED: Final = "stepflow_timed"
_KEYS: Final = "stepflow_keys"
_AUDIENCE: Final = "stepflow_audience"
_LISTENS_ON_S: Final = 60.0
"""Whoever has heard of runs goes on listening for so long: the next one is likely to come."""
ENDED: Final = "!"
"""Behind the id of a run that has ended, or was purged."""


class Ear:
    """Hears of one run. Clear it, look into the tables, then wait."""

    def __init__(self, bell: Bell, run_id: str) -> None:
        self._bell = bell
        self._run_id = run_id
        self._rung = asyncio.Event()

    def __enter__(self) -> Self:
        self._bell.ears.setdefault(self._run_id, set()).add(self)
        self._bell.attend()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        ears = self._bell.ears.get(self._run_id)
        if ears is not None:
            ears.discard(self)
            if not ears:
                del self._bell.ears[self._run_id]

    def ring(self) -> None:
        """There may be something new."""
        self._rung.set()

    def clear(self) -> None:
        """Forget what was heard so far."""
        self._rung.clear()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, or after so long at most.

        All who wait for so long look in the same moment: what they look for alike is one query.
        """
        clock = self._bell.clock
        timer = clock.call_later(seconds - clock.monotonic_s() % seconds, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()


class Bell:
    """Listens to the database in a task of its own, for everybody in the process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.clock = clock
        self.ears: dict[str, set[Ear]] = {}
        """By run; those under the empty text hear of every run."""
        self.channel = ""
        """That of this process's worker, if it has one."""
        self.on_work: Callable[[int], None] | None = None
        """Told for how many runs; 0: it may be any number."""
        self.on_inbox: Callable[[Sequence[str] | None], None] | None = None
        """Told of runs with something in their inbox; None: of any."""
        self.on_ended: Callable[[Sequence[str] | None], None] | None = None
        """Told of runs that have ended; None: of any."""
        self.on_timed: Callable[[], None] | None = None
        """Told of a change in what begins by the clock."""
        self.on_keys: Callable[[], None] | None = None
        """Told of API keys and sessions that began or ended."""
        self.on_audience: Callable[[Sequence[str]], None] | None = None
        """Told of runs that somebody reads in some process."""
        self.hears_of_runs = False
        """Whether nothing that is told of runs is missed."""
        self._attends_until_s = 0.0
        self._timer: TimerHandle | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hear(self, run_id: str) -> Ear:
        """Return an ear for the run, to be entered."""
        return Ear(self, run_id)

    def attend(self) -> None:
        """Somebody wants to hear of runs: listen for them, now and for a while."""
        self._attends_until_s = self.clock.monotonic_s() + _LISTENS_ON_S
        if not self.hears_of_runs:
            self._changed.set()

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.ensure_future(self._listen())

    async def stop(self) -> None:
        """Listen no more; whoever waits is woken."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)
        self._stop_timer()
        self.ring_all()

    # ------------------------------------------------------------ listening

    async def _listen(self) -> None:
        while self._task is not None:
            try:
                async with await self._database.connect() as conn:
                    await self._hear(conn)
            except psycopg.Error as error:
                _log.warning("listening to the database was cut, trying again: %s", error)
            finally:
                self.hears_of_runs = False
            await rest(self.clock, _AGAIN_S)

    async def _hear(self, conn: psycopg.AsyncConnection[Any]) -> None:
        heard: set[str] = set()
        while True:
            self._changed.clear()
            wanted = self._channels()
            for name in sorted(wanted - heard):
                await conn.execute(sql.SQL("listen {}").format(sql.Identifier(name)))
            for name in sorted(heard - wanted):
                await conn.execute(sql.SQL("unlisten {}").format(sql.Identifier(name)))
            self.hears_of_runs = _RUNS in wanted
            if wanted - heard:
                # What was told while nobody listened is not told again.
                self.ring_all()
            heard = wanted
            self._look_again()
            await self._until_changed(conn)

    def _channels(self) -> set[str]:
        names: set[str] = {self.channel} - {""}
        of = {_TIMED: self.on_timed, _KEYS: self.on_keys, _AUDIENCE: self.on_audience}
        names |= {name for name, told in of.items() if told is not None}
        if self.ears or self.clock.monotonic_s() < self._attends_until_s:
            names.add(_RUNS)
        return names

    def _look_again(self) -> None:
        """Look after a while whether anybody still wants to hear of runs."""
        self._stop_timer()
        if self.hears_of_runs:
            self._timer = self.clock.call_later(_LISTENS_ON_S, self._changed.set)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _until_changed(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Pass on what is told until others have to be listened to. Raises `psycopg.Error`."""
        hearing = asyncio.ensure_future(self._pass_on(conn))
        changed = asyncio.ensure_future(self._changed.wait())
        both = (hearing, changed)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*both)
        if not hearing.cancelled():
            hearing.result()

    async def _pass_on(self, conn: psycopg.AsyncConnection[Any]) -> None:
        async for note in conn.notifies():
            if note.channel == _RUNS:
                self.told(note.payload.split(","))
            elif note.channel in {_TIMED, _KEYS}:
                told = self.on_timed if note.channel == _TIMED else self.on_keys
                if told is not None:
                    told()
            elif note.channel == _AUDIENCE:
                if self.on_audience is not None:
                    self.on_audience(note.payload.split(","))
            elif note.payload.isdecimal():
                if self.on_work is not None:
                    self.on_work(int(note.payload))
            elif self.on_inbox is not None:
                self.on_inbox(note.payload.split(","))

    # ------------------------------------------------------------ ringing

    def told(self, told: Sequence[str]) -> None:
        """Runs have gone on; of some it is said that they have ended."""
        ended = [run_id[:-1] for run_id in told if run_id.endswith(ENDED)]
        self.ring([run_id.removesuffix(ENDED) for run_id in told])
        if ended and self.on_ended is not None:
            self.on_ended(ended)

    def ring(self, run_ids: Sequence[str]) -> None:
        """Wake those who hear of these runs."""
        if not self.ears:
            return
        for run_id in (*run_ids, ""):
            for ear in tuple(self.ears.get(run_id, ())):
                ear.ring()

    def ring_all(self) -> None:
        """Wake everybody."""
        for ears in tuple(self.ears.values()):
            for ear in tuple(ears):
                ear.ring()
        for told in (self.on_inbox, self.on_ended):
            if told is not None:
                told(None)
        for changed in (self.on_timed, self.on_keys):
            if changed is not None:
                changed()
        if self.on_work is not None:
            self.on_work(0)
