"""Emits that are kept nowhere, on their way to who reads now in another process.

::

    body ─► ClusterHub.tell ─► Passing ─► table ─► a stream's next read
               ▲ only while somebody reads ──── NOTIFY ◄── Audience

Whoever reads says so to all workers when he begins, and every few seconds while he goes on; a run
that nobody reads tells nobody, and costs the look into a table that is empty. What is told waits
for no run: it is queued, within bounds, and goes with the worker's next group commit or by itself,
over the same connection: never later than what its run records after it. Readers take both out of
the tables in one snapshot, each emit behind the record that was the run's last when it was told.
Where that is not committed yet, it overtakes. The table is unlogged, its rows are gone after some
seconds, and what a claim that was lost still says is not written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepflow.clock import next_pass
from stepflow.engine.postgres.database import end, rest
from stepflow.errors import ApiError
from stepflow.model.views import RunEvent
from stepflow.runtime.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from stepflow.clock import Clock
    from stepflow.engine.postgres.database import Database
    from stepflow.journal.api import Journal
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.runs import Runs

__all__ = ["ALL_RUNS", "CHANNEL", "CLEAN", "KEPT_MS", "WRITE", "Audience", "ClusterHub", "Passing"]
__all__ += ["Tail", "Told", "columns_of"]

CHANNEL: Final = "stepflow_audience"
ALL_RUNS: Final = "*"
"""In place of a run: the stream of all runs is read."""
_SAID_EVERY_S: Final = 4.0
_HEARD_S: Final = 10.0
_SORTED_EVERY_S: Final = 1.0
_AUDIENCE_MAX: Final = 100_000
_NAMED_AT_ONCE: Final = 100
_QUEUED: Final = 512
_QUEUED_BYTES: Final = 1024 * 1024
"""So much waits to be written, then the oldest is dropped."""
_PAUSE_S: Final = 0.01
"""Between two transactions that carry nothing else; so often it is looked whether one is needed."""
KEPT_MS: Final = 10_000

WRITE: Final = b"""
insert into stepflow.passing (run_id, rs, at_ms, data)
select p.run_id, p.rs, p.at_ms, p.data
  from unnest(%s::text[], %s::uuid[], %s::int[], %s::bigint[], %s::bytea[])
       with ordinality as p(run_id, holder, rs, at_ms, data, place)
  join stepflow.runs r on r.run_id = p.run_id and r.holder = p.holder
 order by p.place"""
CLEAN: Final = "delete from stepflow.passing where at_ms < %s"


class Told(NamedTuple):
    """An emit that passes."""

    run_id: str
    rs: int
    """The run's last record at that time."""
    at_ms: int
    data: bytes


# ---------------------------------------------------------------- a worker's side


class Passing:
    """What a worker's runs tell those who read now.

    `write` writes what is queued, if it can; while a commit `is_due` that carries it, it waits.
    """

    def __init__(self, clock: Clock, is_due: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_due = is_due
        self._heard: dict[str, float] = {}
        self._sorted_s = 0.0
        self._queue: deque[Told] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self.write: Callable[[], Any] | None = None
        self.told_total = 0

    def heard(self, run_ids: Iterable[str]) -> None:
        """Somebody reads these runs, for a while from now."""
        now_s = self._clock.monotonic_s()
        if now_s - self._sorted_s > _SORTED_EVERY_S:
            self._sorted_s = now_s
            self._heard = {run: until for run, until in self._heard.items() if until > now_s}
        if len(self._heard) < _AUDIENCE_MAX:
            self._heard.update(dict.fromkeys(run_ids, now_s + _HEARD_S))

    def is_heard(self, run_id: str) -> bool:
        """Whether anybody reads the run."""
        heard = self._heard
        if not heard:
            return False
        now_s = self._clock.monotonic_s()
        return heard.get(run_id, 0) > now_s or heard.get(ALL_RUNS, 0) > now_s

    def tell(self, told: Told) -> None:
        """Queue what a run tells, and return."""
        self._put(told)
        self.told_total += 1
        if self._task is None and self.write is not None:
            # Not through the loop's factory: this is a run's turn.
            self._task = asyncio.Task(self._writing(), loop=asyncio.get_running_loop())

    def take(self) -> list[Told]:
        """Return what is queued: the caller writes it."""
        told = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        return told

    def put_back(self, told: Sequence[Told]) -> None:
        """It was not written."""
        later = self.take()
        for one in (*told, *later):
            self._put(one)

    def _put(self, told: Told) -> None:
        self._queue.append(told)
        self._bytes += len(told.data)
        while len(self._queue) > _QUEUED or self._bytes > _QUEUED_BYTES:
            self._bytes -= len(self._queue.popleft().data)

    async def _writing(self) -> None:
        try:
            while self._queue and self.write is not None:
                if not self._is_due():
                    await self.write()
                await rest(self._clock, _PAUSE_S)
        finally:
            self._task = None

    async def stop(self) -> None:
        """Tell nothing any more."""
        self.write = None
        if self._task is not None:
            await end(self._task)


def columns_of(told: Sequence[Told], holders: Mapping[str, UUID]) -> tuple[list[Any], ...]:
    """Return what `WRITE` takes. What is told of a run that is another's by now is left out."""
    mine = [one for one in told if one.run_id in holders]
    return (
        [one.run_id for one in mine],
        [holders[one.run_id] for one in mine],
        [one.rs for one in mine],
        [one.at_ms for one in mine],
        [one.data for one in mine],
    )


class ClusterHub(Hub):
    """Nobody subscribes here: readers are in all processes."""

    __slots__ = ("passing",)

    def __init__(
        self, journal: Journal, loop: asyncio.AbstractEventLoop, runs: Runs, passing: Passing
    ) -> None:
        super().__init__(journal, loop, runs)
        self.passing = passing

    def is_heard(self, actor: RunActor) -> bool:
        """Whether anybody reads now what the run does."""
        return self.passing.is_heard(actor.id)

    def tell(self, actor: RunActor, event: RunEvent) -> None:
        """Give those who read now an event that is kept nowhere."""
        now_ms = actor.sup.time.now_ms()
        self.passing.tell(Told(actor.id, actor.state.rs, now_ms, event.data))


# ---------------------------------------------------------------- a reader's side


class Audience:
    """Which runs are read in this process: the workers are told."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._readers: dict[str, int] = {}
        self._new: list[str] = []
        self._next: asyncio.Task[None] | None = None
        """It says the new ones in a moment."""
        self._task: asyncio.Task[None] | None = None

    async def enter(self, run_id: str) -> None:
        """Somebody reads the run, or all of them, from now on."""
        readers = self._readers[run_id] = self._readers.get(run_id, 0) + 1
        if self._task is None:
            # Not through the loop's factory: a run's step may read, too.
            self._task = asyncio.Task(self._saying(), loop=asyncio.get_running_loop())
        if readers == 1:
            self._new.append(run_id)
            if self._next is None:
                self._next = asyncio.Task(self._say_new(), loop=asyncio.get_running_loop())
            await asyncio.shield(self._next)

    async def _say_new(self) -> None:
        """Say those of one moment together."""
        await next_pass()
        new, self._new = self._new, []
        self._next = None
        await self._say(new)

    def leave(self, run_id: str) -> None:
        """One reader less."""
        self._readers[run_id] -= 1
        if not self._readers[run_id]:
            del self._readers[run_id]
        if not self._readers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _saying(self) -> None:
        while True:
            await rest(self._clock, _SAID_EVERY_S)
            await self._say(tuple(self._readers))

    async def _say(self, run_ids: Sequence[str]) -> None:
        payloads = [
            ",".join(run_ids[begin : begin + _NAMED_AT_ONCE])
            for begin in range(0, len(run_ids), _NAMED_AT_ONCE)
        ]
        try:
            await self._database.act(
                "select pg_notify(%s, payload) from unnest(%s::text[]) payload", CHANNEL, payloads
            )
        except ApiError:
            # Said again in a while.
            return


class Tail:
    """How far a reader of one run has read what passes, and how it lies between the records."""

    def __init__(self) -> None:
        self._n = 0
        self._told: deque[tuple[int, RunEvent]] = deque()

    def begin(self, n: int) -> None:
        """Begin behind that."""
        self._n = n

    @property
    def place(self) -> int:
        """What was read last."""
        return self._n

    def take(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take what was read together with records."""
        for *_, ns, places, datas in rows:
            for n, rs, data in zip(ns or (), places or (), datas or (), strict=True):
                self._n = max(self._n, n)
                self._told.append((rs, RunEvent(0, "emit", bytes(data))))

    def until(self, rs: int | None = None) -> Iterator[RunEvent]:
        """Give what comes before that record; None: all of it."""
        while self._told and (rs is None or self._told[0][0] < rs):
            yield self._told.popleft()[1]
