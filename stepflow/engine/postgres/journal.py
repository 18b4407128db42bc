"""The journal of a worker: append now, hear later that the database has it.

It has the face of `journal.api.Journal` towards the runtime. What gathers while one transaction is
under way goes with the next; all of it is written, or none. LSNs are a counter of this worker that
is above the last one of every run it has claimed: they rise within a run, wherever it goes on.

A run whose claim was lost has no place in the transaction any more. Its groups are dropped, and
with them whatever was decided in one group with it; those who wait for them hear an error, nothing
of them was seen. A database that does not answer is asked again until it does: a group has a
number, and is written once.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from stepflow.engine.postgres.database import rest
from stepflow.engine.postgres.rows import Entry, Group, Sent, entry_of
from stepflow.errors import OutcomeUnknownError, UnavailableError
from stepflow.journal.recent import Recent
from stepflow.journal.release import call_isolated
from stepflow.journal.stats import COMMIT_BOUNDS_S, Counters, JournalStats
from stepflow.model.records import EventReceived, RunStarted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings
    from stepflow.engine.postgres.rows import Effect

    Store = Callable[[int, Sequence[Group], Mapping[str, UUID]], Awaitable[None]]

__all__ = ["ClusterJournal", "LostRunsError", "UnreachableError"]

_log: Final = logging.getLogger("stepflow.postgres")
_QUEUED_MAX: Final = 64 * 1024 * 1024
_AGAIN_S: Final = 0.1
_AGAIN_MAX_S: Final = 2.0
_DROPPED_KEPT: Final = 1000
"""Of so many dropped groups it is still known that they were."""
_HOLD_S: Final = 1.0
"""A database that has not answered for so long: nothing new is decided."""


class LostRunsError(Exception):
    """Nothing was written: these runs have no place in the transaction.

    The value says whether the claim still is ours: the run only has to be read again.
    """

    def __init__(self, runs: Mapping[str, bool]) -> None:
        self.runs = runs
        super().__init__(", ".join(runs))


class UnreachableError(Exception):
    """The database cannot be reached, or the connection was cut: what came of it is unknown."""


class ClusterJournal:
    """One worker's journal. All methods are called on the loop's thread."""

    def __init__(self, settings: Settings, clock: Clock, *, store_id: str, store: Store) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._clock = clock
        self._store = store
        self.store_id = store_id
        self.next_lsn = 1
        self.durable_lsn = 0
        self.strict_lsn = 0
        self.last_ts_ms = 0
        self.recent = Recent(0, 0)
        self.failed: BaseException | None = None
        self.on_commit: Callable[[int], None] | None = None
        self.on_fatal: Callable[[BaseException], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.on_lost: Callable[[str, bool], None] | None = None
        """Told of a run whose records were dropped, and whether its claim is still ours."""
        self.on_ended: Callable[[str], None] | None = None
        """Told of a run whose end is written: its claim is over."""
        self.holders: dict[str, UUID] = {}
        """The claims under which this worker may write, by run."""
        self._groups: list[Group] = []
        self._flying: list[Group] = []
        self._effects: list[Effect] = []
        self._after: list[tuple[int, Callable[[], None]]] = []
        self._queued_bytes = 0
        self._batch = 0
        self._flush_is_due = False
        self._lazy_timer: TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._waiting: list[tuple[int, int, Callable[[BaseException | None], None]]] = []
        self._count = 0
        self._dropped: deque[tuple[int, int]] = deque(maxlen=_DROPPED_KEPT)
        self._down_s = 0.0
        self._counters = Counters(None)
        self._shut = False

    # ------------------------------------------------------------ append

    @property
    def last_lsn(self) -> int:
        """LSN of the last appended record."""
        return self.next_lsn - 1

    def reach(self, lsn: int) -> None:
        """A run was claimed whose last record has this LSN: new ones come after it."""
        self.next_lsn = max(self.next_lsn, lsn + 1)
        self._settle_durable()

    def append(self, records: Sequence[bytes], *, strict: bool = True) -> int:
        """Queue one group, all or nothing; return the LSN of its last record."""
        if self._shut:
            raise UnavailableError("the journal is closed")
        entries = [entry_of(data) for data in records]
        if self._effects and _are_strangers(entries, self._effects):
            # A letter that made nothing of its run: it must not take another's records along.
            self._push_effects()
        first = self.next_lsn
        last = self.next_lsn = first + len(records)
        last -= 1
        effects, self._effects = self._effects, []
        group = Group(first, last, entries, effects, _rests_on(entries, effects))
        self._take(group, strict=strict or bool(effects))
        return last

    def attach(self, effect: Effect) -> None:
        """Write this with the records that are appended next in this turn of the loop, if any."""
        if self._effects and _run_of(self._effects[-1]) != _run_of(effect):
            self._push_effects()
        if not self._effects:
            self._loop.call_soon(self._push_effects)
        self._effects.append(effect)

    def after_effects(self, callback: Callable[[], None]) -> None:
        """Call when what was attached in this turn is written, or was dropped."""
        self._after.append((self._batch + 1 + (self._writing is not None), callback))

    def _push_effects(self) -> None:
        effects, self._effects = self._effects, []
        if effects and not self._shut:
            group = Group(self.next_lsn, self.next_lsn - 1, [], effects, _rests_on((), effects))
            self._take(group, strict=True)

    def _take(self, group: Group, *, strict: bool) -> None:
        if not group.runs <= self.holders.keys():
            # Decided by an actor that does not know yet that its run has gone.
            self._drop((group,))
            self._read_again((group,))
            return
        self._groups.append(group)
        self._queued_bytes += sum(len(entry.data) for entry in group.entries)
        if strict:
            self.strict_lsn = max(self.strict_lsn, group.last_lsn)
            self._flush_soon()
        elif self._lazy_timer is None:
            delay_s = self._settings.lazy_delay_s
            self._lazy_timer = self._clock.call_later(delay_s, self._lazy_is_due)

    def hurry(self, lsn: int) -> None:
        """Somebody waits for lazy records up to `lsn`."""
        if min(lsn, self.last_lsn) > self.strict_lsn:
            self.strict_lsn = min(lsn, self.last_lsn)
            self._flush_soon()

    def when_durable(self, lsn: int, callback: Callable[[BaseException | None], None]) -> None:
        """Call on the loop when `lsn` is written, in LSN order; with the error if it never is."""
        if lsn > self.durable_lsn and not self._shut:
            self._count += 1
            heappush(self._waiting, (lsn, self._count, callback))
        else:
            error = OutcomeUnknownError() if lsn > self.durable_lsn else self._outcome(lsn)
            self._loop.call_soon(callback, error)

    async def durable(self, lsn: int) -> None:
        """Return when `lsn` is written. Raises `OutcomeUnknownError` when it will not be."""
        if lsn <= self.durable_lsn:
            return
        self.hurry(lsn)
        waiter: asyncio.Future[None] = self._loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(OutcomeUnknownError())

        self.when_durable(lsn, settle)
        await waiter

    # ------------------------------------------------------------ write

    def _lazy_is_due(self) -> None:
        self._lazy_timer = None
        self.hurry(self.last_lsn)

    def _flush_soon(self) -> None:
        if not self._flush_is_due and self._writing is None:
            self._flush_is_due = True
            # Two passes: what one release wakes is written together.
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._writing is not None or self._shut or not self._groups:
            return
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        groups, self._groups = self._groups, []
        gone: list[Group] = []
        while stale := [group for group in groups if not group.runs <= self.holders.keys()]:
            # Of a run whose end was written meanwhile: a letter that came too late.
            groups = [group for group in groups if group.runs <= self.holders.keys()]
            self._read_again(stale)
            gone += stale
        # First what will be written: nothing of it may count as written for what is dropped.
        self._flying = groups
        self._drop(gone)
        if not self._flying:
            return
        # Not through the loop's factory: it may be called in a run's turn.
        self._writing = asyncio.Task(self._write(), loop=self._loop)
        self._writing.add_done_callback(self._wrote)

    def _wrote(self, task: asyncio.Task[None]) -> None:
        """Writing has ended; by a defect it ends the worker, which must not go on in silence."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.critical("writing to the database failed", exc_info=error)
        self.failed = error
        self._shut = True
        self._writing = None
        waiting, self._waiting = self._waiting, []
        for _, _, callback in sorted(waiting, key=lambda row: row[:2]):
            call_isolated(callback, OutcomeUnknownError())
        if self.on_fatal is not None:
            self.on_fatal(error)

    async def _write(self) -> None:
        began_s = self._clock.monotonic_s()
        pause_s = _AGAIN_S
        self._batch += 1
        while self._flying:
            try:
                await self._store(self._batch, self._flying, self.holders)
            except LostRunsError as lost:
                self._lose(lost.runs)
            except UnreachableError as error:
                if not self._down_s:
                    _log.warning("the database cannot be reached: %s", error)
                    self._down_s = self._clock.monotonic_s()
                await rest(self._clock, pause_s)
                pause_s = min(2 * pause_s, _AGAIN_MAX_S)
            else:
                break
        self._written(self._clock.monotonic_s() - began_s)

    def _written(self, seconds: float) -> None:
        was_held = not self.has_room(0)
        self._down_s = 0.0
        groups, self._flying = self._flying, []
        nbytes = sum(len(entry.data) for group in groups for entry in group.entries)
        self._queued_bytes = max(0, self._queued_bytes - nbytes)
        self._counters.commits[bisect_left(COMMIT_BOUNDS_S, seconds)] += 1
        self._counters.commit_s_total += seconds
        self._counters.syncs += 1
        self._counters.sync_s_last = seconds
        self._counters.sync_s_total += seconds
        self._counters.sync_s_max = max(seconds, self._counters.sync_s_max)
        self._counters.bytes_written += nbytes
        self._writing = None
        self._settle_durable()
        self._tell_ended(groups)
        due = [callback for batch, callback in self._after if batch <= self._batch]
        self._after = [row for row in self._after if row[0] > self._batch]
        for callback in due:
            callback()
        if self.strict_lsn > self.durable_lsn or any(group.effects for group in self._groups):
            self._flush_soon()
        if was_held and self.on_room is not None:
            self.on_room()

    def _tell_ended(self, groups: Sequence[Group]) -> None:
        if self.on_ended is None:
            return
        for group in groups:
            for entry in group.entries:
                if type(entry.record).__name__ in _ENDS:
                    self.on_ended(entry.record.r)

    def _settle_durable(self) -> None:
        """What is neither queued nor under way is written, or was dropped."""
        first = next((g.first_lsn for g in (*self._flying, *self._groups)), self.next_lsn)
        if first - 1 <= self.durable_lsn:
            return
        self.durable_lsn = first - 1
        if self.on_commit is not None:
            call_isolated(self.on_commit, self.durable_lsn)
        waiting = self._waiting
        while waiting and waiting[0][0] <= self.durable_lsn:
            lsn, _, callback = heappop(waiting)
            call_isolated(callback, self._outcome(lsn))

    def _outcome(self, lsn: int) -> BaseException | None:
        """Return what to say of a record that is not queued any more."""
        if any(begin <= lsn <= end for begin, end in self._dropped):
            return OutcomeUnknownError()
        return None

    # ------------------------------------------------------------ claims that were lost

    def lose(self, run_id: str) -> None:
        """The run's claim was lost: what is queued of it is dropped."""
        if run_id in self.holders:
            self._lose({run_id: False})

    def _lose(self, runs: Mapping[str, bool]) -> None:
        bad = dict(runs)
        while True:
            known = len(bad)
            for group in (*self._flying, *self._groups):
                if not group.runs.isdisjoint(bad):
                    for run_id in group.runs:
                        bad.setdefault(run_id, True)
            if len(bad) == known:
                break
        gone = [g for g in (*self._flying, *self._groups) if not g.runs.isdisjoint(bad)]
        self._flying = [g for g in self._flying if g.runs.isdisjoint(bad)]
        self._groups = [g for g in self._groups if g.runs.isdisjoint(bad)]
        for run_id in bad:
            self.holders.pop(run_id, None)
        self._drop(gone)
        for run_id, ours in bad.items():
            if self.on_lost is not None:
                self.on_lost(run_id, ours)

    def _drop(self, groups: Sequence[Group]) -> None:
        for group in groups:
            if group.entries:
                self._dropped.append((group.first_lsn, group.last_lsn))
        if self._writing is None:
            self._settle_durable()

    def _read_again(self, groups: Sequence[Group]) -> None:
        """Held runs had records in groups that were dropped: no later one of theirs is written."""
        for run_id in {run for group in groups for run in group.runs} & self.holders.keys():
            del self.holders[run_id]
            self._loop.call_soon(self._tell_lost, run_id)

    def _tell_lost(self, run_id: str) -> None:
        if self.on_lost is not None:
            self.on_lost(run_id, True)  # Its claim is still ours.

    # ------------------------------------------------------------ room and health

    def has_room(self, nbytes: int, *, reserve: bool = False) -> bool:
        """Say whether a record of `nbytes` may be decided."""
        del reserve
        return not (self._shut or self.stalled) and self._queued_bytes + nbytes <= _QUEUED_MAX

    @property
    def why_no_room(self) -> str:
        """What to say to whoever `has_room` refuses."""
        return "Stepflow is stopping" if self._shut else "The database does not answer"

    @property
    def stalled(self) -> bool:
        """Whether the database has not answered for so long that nothing new is decided."""
        return bool(self._down_s) and self._clock.monotonic_s() - self._down_s > _HOLD_S

    @property
    def slow(self) -> bool:
        """Whether the database does not answer."""
        return bool(self._down_s)

    def look(self) -> float:
        """Return for how many seconds the database has not answered."""
        return self._clock.monotonic_s() - self._down_s if self._down_s else 0.0

    def stats(self) -> JournalStats:
        """Return the present figures."""
        return self._counters.stats(
            durable_lsn=self.durable_lsn,
            last_lsn=self.last_lsn,
            queued=self._queued_bytes,
            room=0,
            read_only=self.stalled,
        )

    # ------------------------------------------------------------ the end

    async def close(self, *, clean: bool = True) -> None:
        """Write what is queued, then end. A database that does not answer is not waited for."""
        if self._shut:
            return
        if clean:
            self._push_effects()
            self.hurry(self.last_lsn)
            self._flush()
            limit_s = self._clock.monotonic_s() + self._settings.drain_timeout_s + 1
            while (self._groups or self._writing) and self._clock.monotonic_s() < limit_s:
                self._flush_soon()
                await rest(self._clock, 0.005)
        self._shut = True
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
            self._writing = None
        waiting, self._waiting = self._waiting, []
        for _, _, callback in sorted(waiting, key=lambda row: row[:2]):
            call_isolated(callback, OutcomeUnknownError())

    async def abandon(self) -> None:
        """End as a killed process would."""
        await self.close(clean=False)


_ENDS: Final = frozenset({"RunCompleted", "RunFailed", "RunCancelled"})


def _run_of(effect: Effect) -> str:
    return effect.sender if isinstance(effect, Sent) else effect.run_id


def _are_strangers(entries: Sequence[Entry], effects: Sequence[Effect]) -> bool:
    runs = _rests_on(entries, ())
    return bool(runs) and runs.isdisjoint(_run_of(effect) for effect in effects)


def _rests_on(entries: Sequence[Entry], effects: Sequence[Effect]) -> set[str]:
    """Return the held runs whose claim the group rests on: a run that it starts needs none."""
    runs = {
        entry.record.r
        for entry in entries
        if not isinstance(entry.record, RunStarted | EventReceived)
    }
    for effect in effects:
        runs.add(_run_of(effect))
    runs.discard("")
    return runs
