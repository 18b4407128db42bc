"""Forgets finished runs: those past their age, and the oldest beyond a number of runs or bytes.

Each workflow has a **table** of its finished runs, in the order in which they ended. A sweep looks
at the tables with the limits that hold now: a workflow's own, from the registry, so that a deploy
changes them for what has ended before, too; then those of the settings, for all runs together. A
purge is a record, so recovery forgets the same runs. It goes in slices, as many as are due.
"""

from __future__ import annotations

import heapq
from itertools import chain
from math import inf
from sys import intern
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from stepflow.clock import next_pass
from stepflow.model.run import RunStatus
from stepflow.runtime.horizon import Flow, horizon_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stepflow.authoring.retention import Kept
    from stepflow.model.outline import Outline
    from stepflow.model.run import RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["RETENTION", "Ended", "Limits", "Retention", "Table", "ended_of"]

RETENTION: Final = "retention"
"""Who purges, where nobody does."""
_SLICE = 200
_OVER = 8
_OVER_BYTES_MIN = 8 * 1024 * 1024
"""Or by so much: whoever waits for a run of a small store may still read it."""
_PURGE_BYTES = 4096


class Ended(msgspec.Struct, frozen=True, gc=False):
    """What retention knows of a finished run, so that it need not be opened to be purged.

    There are many, and nothing in them that the collector would have to look at.
    """

    run_id: str
    workflow: str
    status: RunStatus
    lsn: int
    rs: int
    ended_ms: int
    size: int

    @property
    def completed(self) -> bool:
        return self.status == "completed"


def ended_of(run_id: str, run: RunState | Outline) -> Ended:
    """Return the row of a run that has ended."""
    # A name that each row held by itself would take as much as the row.
    name = intern(run.workflow)
    return Ended(run_id, name, run.status, run.lsn, run.rs, run.updated_ms, run.nbytes)


class Limits(NamedTuple):
    """What holds for one workflow's finished runs."""

    completed_ms: float
    failed_ms: float
    runs_max: int | None = None
    bytes_max: int | None = None


class Table:
    """The finished runs of one workflow: completed ones, and the others, in the order of their end.

    Stays when they have gone: there are few workflows. `ended_total` and `ended_bytes` count what
    has ended since the start.
    """

    __slots__ = ("bytes", "completed", "ended_bytes", "ended_total", "failed", "others")

    def __init__(self) -> None:
        self.completed: dict[str, Ended] = {}
        self.others: dict[str, Ended] = {}
        self.failed = 0
        """How many of the others; the rest was cancelled."""
        self.bytes = 0
        self.ended_total = 0
        self.ended_bytes = 0

    def __len__(self) -> int:
        return len(self.completed) + len(self.others)

    def find(self, run_id: str) -> Ended:
        """Return the row of a run that is in the table."""
        return self.completed.get(run_id) or self.others[run_id]


class Retention:
    """Finished runs, a table for each workflow."""

    __slots__ = ("_sup", "_sweeping", "bytes", "purged_total", "runs", "tables")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self.tables: dict[str, Table] = {}
        """By the name that the runs have recorded: it may be an alias by now."""
        self._sweeping = False
        self.bytes = 0
        self.runs = 0
        self.purged_total = 0

    def __len__(self) -> int:
        return self.runs

    def ended(self, actor: RunActor) -> None:
        """The run has ended: it counts from now on."""
        row = ended_of(actor.id, actor.state)
        table = self._add(row)
        table.ended_total += 1
        table.ended_bytes += row.size
        limit = self._sup.settings.finished_bytes_max
        over = max(limit // _OVER, _OVER_BYTES_MIN)
        if self.bytes > limit + over and not self._sweeping:
            # More than the regular sweep can wait for.
            self._sup.spawn(self.sweep())

    def adopt(self, rows: Iterable[Ended]) -> None:
        """Enter what recovery found, in any order."""
        for row in sorted(rows, key=lambda row: row.lsn):
            self._add(row)

    def _add(self, row: Ended) -> Table:
        table = self.tables.get(row.workflow)
        if table is None:
            table = self.tables[row.workflow] = Table()
        if row.status == "completed":
            table.completed[row.run_id] = row
        else:
            table.others[row.run_id] = row
            table.failed += row.status == "failed"
        table.bytes += row.size
        self.bytes += row.size
        self.runs += 1
        return table

    def revived(self, actor: RunActor) -> None:
        """The run goes on: it is not forgotten."""
        self._forget(self.tables[actor.state.workflow].find(actor.id))

    def purge(self, actor: RunActor, by: str, reason: str = "") -> int:
        """Forget a finished run; return the LSN of the record that says so."""
        sup = self._sup
        summary = actor.summary()
        row = self.tables[summary.workflow].find(actor.id)
        if by == RETENTION:
            lsn = sup.recorder.write_purge(actor.id, row.rs + 1, by)
        else:
            lsn = sup.recorder.write_purge(
                actor.id, row.rs + 1, by, reason=reason, workflow=summary.workflow
            )
        self._forget(row)
        sup.idempotency.remove(summary, actor.id)
        sup.runs.pop(actor.id)
        if sup.gone is not None:
            sup.gone[actor.id] = lsn
        actor.purged = True
        if actor.feed is not None:
            actor.feed.wake()
        self.purged_total += 1
        return lsn

    def _forget(self, row: Ended) -> None:
        table = self.tables[row.workflow]
        if row.status == "completed":
            del table.completed[row.run_id]
        else:
            del table.others[row.run_id]
            table.failed -= row.status == "failed"
        table.bytes -= row.size
        self.bytes -= row.size
        self.runs -= 1

    # ------------------------------------------------------------ limits

    def horizon_s(self, elapsed_s: float) -> float:
        """Return for how long finished runs are kept, at the rate of so many seconds until now."""
        settings = self._sup.settings
        groups = self._groups(lambda table: table.ended_total > 0)
        return horizon_s(
            [group.flow(elapsed_s) for group in groups],
            bytes_max=settings.finished_bytes_max,
            runs_max=settings.finished_runs_max,
        )

    def _limits(self, own: Kept | None) -> Limits:
        """Return what holds now for a workflow with limits of its own, or without."""
        settings = self._sup.settings
        completed_ms, failed_ms = settings.completed_age_s * 1000, settings.failed_age_s * 1000
        if own is None:
            return Limits(completed_ms, failed_ms)
        return Limits(
            completed_ms if own.completed_ms is None else own.completed_ms,
            failed_ms if own.failed_ms is None else own.failed_ms,
            own.runs_max,
            own.bytes_max,
        )

    # ------------------------------------------------------------ sweeping

    async def sweep(self) -> None:
        """Purge all that is due, a slice in each pass of the loop, while there is room for it."""
        if self._sweeping:
            return
        self._sweeping = True
        try:
            while self._purge_slice():
                await next_pass()
        finally:
            self._sweeping = False

    def _purge_slice(self) -> bool:
        """Purge a slice of what is due; say whether there may be more."""
        sup = self._sup
        due = _Slice(self.bytes, self.runs)
        self._choose(due, sup.time.now_ms())
        for row in due.rows:
            if sup.stopping or not sup.journal.has_room(_PURGE_BYTES):
                return False
            self.purge(sup.runs[row.run_id], RETENTION)
        return due.full

    def _choose(self, due: _Slice, now_ms: int) -> None:
        """Choose what goes: first what a workflow does not keep, then what all together do not."""
        settings = self._sup.settings
        groups = self._groups(bool)
        for group in groups:
            group.choose(due, now_ms)
        excess, runs_over = settings.finished_bytes_max, settings.finished_runs_max
        queue = _oldest_first(chain.from_iterable(group.queues for group in groups))
        while not due.full and (due.bytes_left > excess or due.runs_left > runs_over):
            row = next(queue, None)
            if row is None:
                return
            due.take(row)

    def _groups(self, is_in: Callable[[Table], bool]) -> list[_Group]:
        """Return the tables that are asked for, those of a workflow and its aliases together."""
        groups: dict[str, _Group] = {}
        for name, table in self.tables.items():
            if not is_in(table):
                continue
            workflow = self._sup.workflow(name)
            # One that nobody has registered stands for itself.
            key = name if workflow is None else workflow.id
            group = groups.get(key)
            if group is None:
                own = None if workflow is None else workflow.options.retention
                group = groups[key] = _Group(self._limits(own))
            group.add(table)
        return list(groups.values())


class _Slice:
    """What was chosen to go in one pass, and what is left then."""

    __slots__ = ("bytes_left", "rows", "runs_left")

    def __init__(self, nbytes: int, runs: int) -> None:
        self.rows: list[Ended] = []
        self.bytes_left = nbytes
        self.runs_left = runs

    @property
    def full(self) -> bool:
        return len(self.rows) >= _SLICE

    def take(self, row: Ended) -> None:
        self.rows.append(row)
        self.bytes_left -= row.size
        self.runs_left -= 1


class _Queue:
    """Rows in the order of their end; those before `head` are chosen."""

    __slots__ = ("_rows", "completed", "head")

    def __init__(self, rows: dict[str, Ended], *, completed: bool) -> None:
        self._rows = iter(rows.values())
        self.completed = completed
        self.head = next(self._rows, None)

    def step(self) -> None:
        self.head = next(self._rows, None)


class _Group:
    """The finished runs of one workflow, under whatever names, while a slice is chosen."""

    __slots__ = ("_bytes", "_limits", "_runs", "queues", "tables")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._runs = 0
        self.queues: list[_Queue] = []
        self.tables: list[Table] = []

    def add(self, table: Table) -> None:
        self.tables.append(table)
        self.queues.append(_Queue(table.completed, completed=True))
        self.queues.append(_Queue(table.others, completed=False))
        self._bytes += table.bytes
        self._runs += len(table)

    def flow(self, elapsed_s: float) -> Flow:
        """Return how its runs have ended in so many seconds."""
        limits = self._limits
        runs = sum(table.ended_total for table in self.tables)
        size = sum(table.ended_bytes for table in self.tables) / runs
        runs_max = inf if limits.runs_max is None else float(limits.runs_max)
        if limits.bytes_max is not None:
            runs_max = min(runs_max, limits.bytes_max / size)
        age_s = max(limits.completed_ms, limits.failed_ms) / 1000
        return Flow(runs / elapsed_s, size, age_s, runs_max)

    def choose(self, due: _Slice, now_ms: int) -> None:
        """Choose what is past its age, then the oldest beyond the number and the bytes."""
        limits = self._limits
        for queue in self.queues:
            age_ms = limits.completed_ms if queue.completed else limits.failed_ms
            while (row := queue.head) is not None and now_ms - row.ended_ms > age_ms:
                if due.full:
                    return
                self._take(due, row)
                queue.step()
        if not self._is_over():
            return
        for row in _oldest_first(self.queues):
            if due.full:
                return
            self._take(due, row)
            if not self._is_over():
                return

    def _take(self, due: _Slice, row: Ended) -> None:
        due.take(row)
        self._bytes -= row.size
        self._runs -= 1

    def _is_over(self) -> bool:
        limits = self._limits
        return (limits.runs_max is not None and self._runs > limits.runs_max) or (
            limits.bytes_max is not None and self._bytes > limits.bytes_max
        )


def _oldest_first(queues: Iterable[_Queue]) -> Iterator[Ended]:
    """Yield the rows of the queues in the order in which they ended; what is yielded is taken."""
    heads = [(queue.head.lsn, place, queue) for place, queue in enumerate(queues) if queue.head]
    heapq.heapify(heads)
    while heads:
        _, place, queue = heads[0]
        row = queue.head
        assert row is not None
        queue.step()
        if queue.head is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (queue.head.lsn, place, queue))
        yield row
