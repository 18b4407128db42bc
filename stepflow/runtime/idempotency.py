"""Which run an `Idempotency-Key` started. Rebuilt from the runs' own first records."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepflow.model.run import RunSummary

__all__ = ["IdempotencyKeys"]


class IdempotencyKeys:
    """(workflow, principal, key) to run, for `ttl_ms` after the run's creation."""

    __slots__ = ("_rows", "_ttl_ms")

    def __init__(self, ttl_ms: int) -> None:
        self._ttl_ms = ttl_ms
        # In order of creation, so the oldest expire first. No plain dict: one that loses its first
        # rows again and again is slow to say which is the first.
        self._rows: OrderedDict[tuple[str, str, str], tuple[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, workflows: Iterable[str], by: str, key: str, now_ms: int) -> str | None:
        """Return the run that the key started, if it still counts.

        `workflows` are the ids of one workflow: the one it has, and those it had.
        """
        self._expire(now_ms)
        for workflow in workflows:
            row = self._rows.get((workflow, by, key))
            if row is not None:
                return row[0]
        return None

    def add(self, summary: RunSummary, run_id: str) -> None:
        """Enter a run that has a key."""
        if summary.idem:
            place = (summary.workflow, summary.by, summary.idem)
            self._rows.pop(place, None)
            self._rows[place] = (run_id, summary.created_ms)

    def remove(self, summary: RunSummary, run_id: str) -> None:
        """The run was purged: its key ends with it."""
        place = (summary.workflow, summary.by, summary.idem)
        row = self._rows.get(place)
        if row is not None and row[0] == run_id:
            del self._rows[place]

    def _expire(self, now_ms: int) -> None:
        while self._rows:
            place = next(iter(self._rows))
            if self._rows[place][1] + self._ttl_ms > now_ms:
                return
            del self._rows[place]
