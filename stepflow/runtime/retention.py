"""Forgets finished runs: the oldest beyond a number of bytes, and those past their age.

A purge is a record, so recovery forgets the same runs. It goes in slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Retention"]

_SLICE = 200


class Retention:
    """Finished runs in the order in which they ended."""

    __slots__ = ("_finished", "_sup", "bytes", "purged_total")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._finished: dict[str, int] = {}
        self.bytes = 0
        self.purged_total = 0

    def __len__(self) -> int:
        return len(self._finished)

    def ended(self, actor: RunActor) -> None:
        """The run has ended: it counts from now on."""
        size = actor.state.nbytes
        self._finished[actor.id] = size
        self.bytes += size

    def purge(self, actor: RunActor, by: str) -> int:
        """Forget a finished run; return the LSN of the record that says so."""
        sup = self._sup
        summary = actor.summary()
        rs = actor.peek().rs + 1
        lsn = sup.recorder.write_purge(actor.id, rs, by)
        self.forget(actor.id)
        sup.idempotency.remove(summary, actor.id)
        sup.runs.pop(actor.id, None)
        if sup.gone is not None:
            sup.gone[actor.id] = lsn
        actor.purged = True
        if actor.feed is not None:
            actor.feed.wake()
        self.purged_total += 1
        return lsn

    def forget(self, run_id: str) -> None:
        """The run is gone."""
        self.bytes -= self._finished.pop(run_id, 0)

    def sweep(self) -> int:
        """Purge a slice of what is due; return how many runs were."""
        count = 0
        now = self._sup.time.now_ms()
        for run_id in list(self._due(now)):
            actor = self._sup.runs.get(run_id)
            if actor is not None and self._sup.journal.has_room(4096):
                self.purge(actor, "retention")
                count += 1
        return count

    def _due(self, now_ms: int) -> list[str]:
        settings = self._sup.settings
        due: list[str] = []
        excess = self.bytes - settings.finished_bytes_max
        for run_id, size in self._finished.items():
            if len(due) >= _SLICE:
                break
            actor = self._sup.runs.get(run_id)
            if actor is None:
                continue
            summary = actor.summary()
            age_s = settings.completed_age_s
            if summary.status != "completed":
                age_s = settings.failed_age_s
            if excess > 0 or now_ms - summary.updated_ms > age_s * 1000:
                due.append(run_id)
                excess -= size
            elif now_ms - summary.updated_ms < settings.completed_age_s * 1000:
                # Everything behind ended later.
                break
        return due
