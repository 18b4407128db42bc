"""The order in which a directory becomes a database, and what can be taken back when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Final

from stepflow.engine.postgres.inbox import child_letter
from stepflow.engine.postgres.moving.rows import RunRows, digest, key_of, rows_of_run
from stepflow.engine.postgres.moving.source import LEFT_OUT, Source
from stepflow.engine.postgres.moving.target import Rest, Target, where
from stepflow.errors import ConfigurationError
from stepflow.journal.moved import Moved, forget_moved, read_moved, write_moved
from stepflow.journal.opening import lock_directory
from stepflow.journal.store import read_store
from stepflow.runtime.children import ended_child

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.postgres.moving.rows import Key
    from stepflow.engine.postgres.moving.source import Survey, Tell
    from stepflow.engine.postgres.moving.target import Migration
    from stepflow.journal.disk import Disk
    from stepflow.model.run import RunState

__all__ = ["MoveReport", "Mover"]

_BATCH_RUNS: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024
_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What was found and done."""

    survey: Survey
    to: str
    resumed: int = 0
    """So many runs had been copied before."""
    checksum: str = ""
    """SHA-256 over all records and payloads, the same on both sides; empty: nothing was copied."""
    switched: str = ""
    """`now`, or when it had been done before; empty: it was not."""


class Mover:
    """One directory and one database. `tell` hears a phase, how far it is, and of how much.

    Raises `ConfigurationError` for a URL that is none.
    """

    def __init__(
        self,
        disk: Disk,
        url: str,
        *,
        settings: Settings,
        clock: Clock,
        leave_out: Collection[str] = (),
        tell: Tell = lambda _phase, _done, _total: None,
        waiting: Callable[[str], None] = lambda _message: None,
        batch_runs: int = _BATCH_RUNS,
    ) -> None:
        where(url)
        self._disk = disk
        self._url = url
        self._settings = settings
        self._clock = clock
        self._leave_out = frozenset(leave_out)
        self._tell = tell
        self._waiting = waiting
        self._batch_runs = batch_runs

    # ------------------------------------------------------------ moving

    async def move(self, *, dry_run: bool = False) -> MoveReport:
        """Move the runs; with `dry_run` look at both sides alone.

        Done again it goes on where it was cut short. Raises `DataDirLockedError`,
        `ConfigurationError` for what cannot be moved so, and `psycopg.Error` for a database that
        was lost meanwhile.
        """
        lock = await lock_directory(
            self._disk, self._clock, self._settings.lock_wait_s, self._waiting
        )
        try:
            source = Source(self._disk, self._clock.wall_ms(), self._tell)
            async with Target(self._url) as target:
                return await self._move(source, target, dry_run=dry_run)
        finally:
            lock.release()

    async def _move(self, source: Source, target: Target, *, dry_run: bool) -> MoveReport:
        found = await target.find()
        moved = read_moved(self._disk)
        survey = source.survey()
        self._check_place(survey.store, target, found, moved)
        if found is not None and found.switched:
            write_moved(self._disk, Moved(target.place, found.id, done=True))
            return MoveReport(survey, target.place, switched=found.switched)
        if not dry_run:
            self._check_lacking(survey)
        if dry_run:
            return MoveReport(survey, target.place, found.copied if found is not None else 0)
        terms = self._terms(survey)
        if found is None:
            found = await target.begin(survey.store, terms)
        elif found.terms != terms:
            await target.clear(terms)
            found = found._replace(terms=terms, copied=0)
        await self._copy(source, target, survey, found.copied)
        await target.settle()
        checksum, rest = await self._verify(source, target, survey)
        rest = rest._replace(schedules=survey.schedules, rates=survey.rates)
        # First: at no moment may an engine start on either side while one might run on the other.
        write_moved(self._disk, Moved(target.place, found.id))
        await target.switch(rest, survey.acts)
        write_moved(self._disk, Moved(target.place, found.id, done=True))
        return MoveReport(survey, target.place, found.copied, checksum, "now")

    def _terms(self, survey: Survey) -> str:
        """Return what a copy rests on: with others it is begun anew."""
        ttl_ms = int(self._settings.idempotency_ttl_s * 1000)
        return f"lsn {survey.lsn}, keys {ttl_ms} ms, without {sorted(self._leave_out)}"

    def _check_place(
        self, store: str, target: Target, found: Migration | None, moved: Moved | None
    ) -> None:
        """Raise where directory and database do not belong together."""
        if moved is not None and (found is None or found.id != moved.migration):
            message = (
                f"{self._disk.path} has moved, or is being moved, to {moved.to}, and "
                f"{target.place} knows nothing of that: give the URL of the database it names"
            )
            raise ConfigurationError(message)
        if found is not None and found.source != store:
            message = (
                f"{target.place} is filled from another directory (store {found.source}, "
                f"{self._disk.path} is {store}): give an empty database"
            )
            raise ConfigurationError(message)
        if found is not None and found.switched and moved is None:
            message = (
                f"the runs went on at {target.place} at {found.switched}, and {self._disk.path} "
                "does not say so: somebody took it back. Move it to another, empty database"
            )
            raise ConfigurationError(message)

    def _check_lacking(self, survey: Survey) -> None:
        lacking = [name for name in survey.lacking if name not in self._leave_out]
        if lacking:
            rows = "; ".join(f"{n}: {survey.lacking[n]:,} ({LEFT_OUT[n]})" for n in lacking)
            flags = " ".join(f"--leave-out {name}" for name in lacking)
            message = (
                f"the PostgreSQL engine has no place for some of it: {rows}. Nothing was copied; "
                f"leave it behind with {flags}"
            )
            raise ConfigurationError(message)

    # ------------------------------------------------------------ copying

    async def _copy(self, source: Source, target: Target, survey: Survey, done: int) -> None:
        if done >= survey.runs:
            return
        states = source.states()
        for _ in range(done):
            next(states)
        for runs, keys in self._batches(states):
            await target.copy(done, runs, keys)
            done += len(runs)
            self._tell("copying runs", done, survey.runs)

    def _batches(self, states: Iterable[RunState]) -> Iterator[tuple[list[RunRows], list[Key]]]:
        ttl_ms = int(self._settings.idempotency_ttl_s * 1000)
        runs: list[RunRows] = []
        keys: list[Key] = []
        nbytes = 0
        for state in states:
            rows = rows_of_run(state)
            if runs and (len(runs) == self._batch_runs or nbytes + rows.nbytes > _BATCH_BYTES):
                yield runs, keys
                runs, keys, nbytes = [], [], 0
            runs.append(rows)
            nbytes += rows.nbytes
            key = key_of(state, ttl_ms)
            if key is not None:
                keys.append(key)
        if runs:
            yield runs, keys

    # ------------------------------------------------------------ verifying

    async def _verify(self, source: Source, target: Target, survey: Survey) -> tuple[str, Rest]:
        """Read both sides whole; return their checksum, and what runs need besides to go on.

        Raises `ConfigurationError`, naming runs, where they differ.
        """
        here, there = sha256(), sha256()
        wrong: list[str] = []
        totals: Counter[str] = Counter()
        keys: dict[tuple[str, str, str], Key] = {}
        children: dict[str, tuple[str, str]] = {}
        scheduled: dict[str, str] = {}

        done = 0
        for runs, new_keys in self._batches(_noting(source.states(), children, scheduled)):
            found = await target.read([rows.id for rows in runs])
            for rows in runs:
                here.update(digest(rows))
                other = found.get(rows.id)
                if other is not None:
                    there.update(digest(other))
                if other != rows:
                    wrong.append(rows.id)
                _count(totals, rows)
            keys.update((key[:3], key) for key in new_keys)
            done += len(runs)
            self._tell("verifying runs", done, survey.runs)
        totals["keys"] = len(keys)
        stray = await self._stray(target, totals, set(keys.values()))
        if wrong or stray or here.digest() != there.digest():
            raise self._differs(target, wrong, stray)
        letters = await self._letters(target, children)
        return here.hexdigest(), Rest(letters, list(scheduled.items()))

    def _differs(
        self, target: Target, wrong: Sequence[str], stray: Sequence[str]
    ) -> ConfigurationError:
        more = len(wrong) - _NAMED_MAX
        named = ", ".join(chain(wrong[:_NAMED_MAX], stray))
        others = f" and {more:,} more runs" if more > 0 else ""
        return ConfigurationError(
            f"the copy at {target.place} is not what {self._disk.path} has: {named}{others}. "
            "Nothing was switched: take it back with --abort, and see who writes there"
        )

    async def _stray(self, target: Target, totals: Counter[str], keys: set[Key]) -> list[str]:
        """Return what is there in another number than here."""
        found = await target.totals()
        stray = [
            f"{found.get(name, 0):,} {name} instead of {totals[name]:,}"
            for name in sorted({*totals, *found})
            if found.get(name, 0) != totals[name]
        ]
        if not stray and await target.keys() != keys:
            stray.append("idempotency keys")
        return stray

    async def _letters(
        self, target: Target, children: dict[str, tuple[str, str]]
    ) -> list[tuple[str, str, bytes]]:
        """Return what tells parents of children that have ended, where they had not heard of it."""
        letters: list[tuple[str, str, bytes]] = []
        for child, state in (await target.ended(list(children))).items():
            parent, key = children[child]
            told = ended_child(key, child, state)
            letters.append((parent, "child", child_letter(key, child, told.result, told.error)))
        return letters

    # ------------------------------------------------------------ taking it back

    async def abort(self) -> str:
        """Remove all that was copied; the directory is as it was. Return the database's place.

        Raises `ConfigurationError` when there is nothing to take back, or the switch is done.
        """
        store = read_store(self._disk)
        moved = read_moved(self._disk)
        async with Target(self._url) as target:
            found = await target.find()
            if found is None and moved is None:
                raise ConfigurationError(f"nothing is being moved to {target.place}")
            self._check_place(store.hex_id if store is not None else "", target, found, moved)
            if found is not None and found.switched:
                message = (
                    f"the runs go on at {target.place} since {found.switched}: what was before "
                    f"the move is in {self._disk.path} still, and how to go back to it stands in "
                    "docs/cluster.md"
                )
                raise ConfigurationError(message)
            async with target.conn.transaction():
                await target.drop()
                # Under the lock of the migration's row: nobody can switch any more.
                forget_moved(self._disk)
        return target.place


def _noting(
    states: Iterable[RunState], children: dict[str, tuple[str, str]], scheduled: dict[str, str]
) -> Iterator[RunState]:
    """Pass the runs on; note which children live ones await, and what schedule they are of."""
    for state in states:
        if not state.finished and state.started is not None and state.started.schedule:
            scheduled[state.id] = state.started.schedule
        for call in () if state.finished else state.pending_calls():
            if call.kind == "child" and call.child and call.awaited:
                children[call.child] = state.id, call.key
        yield state


def _count(totals: Counter[str], rows: RunRows) -> None:
    totals["runs"] += 1
    totals[f"runs {rows.run[3]}"] += 1
    totals["records"] += len(rows.records)
    totals["payloads"] += len(rows.payloads)
    totals["waits"] += len(rows.waits)
    totals["declared"] += len(rows.declared)
