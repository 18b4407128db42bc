"""Which run an `Idempotency-Key` started. Rebuilt from the runs' own first records."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepflow.model.run import RunSummary

__all__ = ["IdempotencyKeys"]


class IdempotencyKeys:
    """(workflow, principal, key) to run, for `ttl_ms` after the run's creation."""

    __slots__ = ("_rows", "_ttl_ms")

    def __init__(self, ttl_ms: int) -> None:
        self._ttl_ms = ttl_ms
        # In order of creation, so the oldest expire first.
        self._rows: dict[tuple[str, str, str], tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, workflow: str, by: str, key: str, now_ms: int) -> str | None:
        """Return the run that the key started, if it still counts."""
        self._expire(now_ms)
        row = self._rows.get((workflow, by, key))
        return row[0] if row is not None else None

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
