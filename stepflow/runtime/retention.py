"""Forgets finished runs: the oldest beyond a number of bytes, and those past their age.

A purge is a record, so recovery forgets the same runs. It goes in slices, as many as are due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stepflow.clock import next_pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["RETENTION", "Ended", "Retention", "ended_of"]

RETENTION: Final = "retention"
"""Who purges, where nobody does."""
_SLICE = 200
_OVER = 8
_OVER_BYTES_MIN = 8 * 1024 * 1024
"""Or by so much: whoever waits for a run of a small store may still read it."""
_PURGE_BYTES = 4096


class Ended(NamedTuple):
    """What retention knows of a finished run, so that it need not be opened to be purged."""

    run_id: str
    completed: bool
    lsn: int
    rs: int
    ended_ms: int
    size: int


def ended_of(actor: RunActor) -> Ended:
    """Return the row of a run that has ended and is open."""
    state = actor.state
    completed = state.status == "completed"
    return Ended(actor.id, completed, state.lsn, state.rs, state.updated_ms, state.nbytes)


class Retention:
    """Finished runs in the order in which they ended: completed ones, and the others."""

    __slots__ = ("_completed", "_others", "_sup", "_sweeping", "bytes", "purged_total")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._completed: dict[str, Ended] = {}
        self._others: dict[str, Ended] = {}
        self._sweeping = False
        self.bytes = 0
        self.purged_total = 0

    def __len__(self) -> int:
        return len(self._completed) + len(self._others)

    def ended(self, actor: RunActor) -> None:
        """The run has ended: it counts from now on."""
        self._add(ended_of(actor))
        limit = self._sup.settings.finished_bytes_max
        over = max(limit // _OVER, _OVER_BYTES_MIN)
        if self.bytes > limit + over and not self._sweeping:
            # More than the regular sweep can wait for.
            self._sup.spawn(self.sweep())

    def adopt(self, rows: Iterable[Ended]) -> None:
        """Enter what recovery found, in any order."""
        for row in sorted(rows, key=lambda row: row.lsn):
            self._add(row)

    def _add(self, row: Ended) -> None:
        (self._completed if row.completed else self._others)[row.run_id] = row
        self.bytes += row.size

    def revived(self, actor: RunActor) -> None:
        """The run goes on: it is not forgotten."""
        self._forget(self._completed.get(actor.id) or self._others[actor.id])

    def purge(self, actor: RunActor, by: str, reason: str = "") -> int:
        """Forget a finished run; return the LSN of the record that says so."""
        sup = self._sup
        row = self._completed.get(actor.id) or self._others[actor.id]
        if by == RETENTION:
            lsn = sup.recorder.write_purge(actor.id, row.rs + 1, by)
        else:
            lsn = sup.recorder.write_purge(
                actor.id, row.rs + 1, by, reason=reason, workflow=actor.summary().workflow
            )
        self._forget(row)
        sup.idempotency.remove(actor.summary(), actor.id)
        sup.runs.pop(actor.id, None)
        if sup.gone is not None:
            sup.gone[actor.id] = lsn
        actor.purged = True
        if actor.feed is not None:
            actor.feed.wake()
        self.purged_total += 1
        return lsn

    def _forget(self, row: Ended) -> None:
        del (self._completed if row.completed else self._others)[row.run_id]
        self.bytes -= row.size

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
        due = list(self._due(sup.time.now_ms()))
        for row in due:
            if sup.stopping or not sup.journal.has_room(_PURGE_BYTES):
                return False
            self.purge(sup.runs[row.run_id], RETENTION)
        return len(due) == _SLICE

    def _due(self, now_ms: int) -> Iterator[Ended]:
        settings = self._sup.settings
        completed, others = iter(self._completed.values()), iter(self._others.values())
        first, second = next(completed, None), next(others, None)
        excess = self.bytes - settings.finished_bytes_max
        for _ in range(_SLICE):
            if first is not None and now_ms - first.ended_ms > settings.completed_age_s * 1000:
                row = first
            elif second is not None and now_ms - second.ended_ms > settings.failed_age_s * 1000:
                row = second
            elif excess > 0 and (first or second):
                row = min(filter(None, (first, second)), key=lambda row: row.lsn)
            else:
                return
            yield row
            excess -= row.size
            if row is first:
                first = next(completed, None)
            else:
                second = next(others, None)
