"""PURE. A live list of runs: pages and events folded into rows, one a run.

Events carry no times: what happens while we look is timed by our clock, what had happened before by
the run itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.cli.render import error_text, progress_text, short, value_text
from stepflow.cli.watching import millis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepflow.model.all_event import AllEvent
    from stepflow.model.views import RunCounts, RunView

__all__ = ["ListRow", "RunList"]

_ENDED: Final = frozenset({"completed", "failed", "cancelled"})
_ROWS_MAX: Final = 2000
"""Ended runs beyond these are forgotten, the longest ago first."""


@dataclass(slots=True)
class ListRow:
    """One run of the list."""

    run_id: str
    workflow: str
    status: str = "running"
    began_ms: int = 0
    """0: it began before we looked, and we do not know when."""
    ended_ms: int = 0
    doing: str = ""
    """What it does, or what came of it."""
    steps: int = 0
    """Steps that have ended while we looked."""
    under_way: dict[str, str] = field(default_factory=dict[str, str])
    """What it has begun and not ended: names by key."""

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.status in _ENDED

    def age_s(self, now_ms: int) -> float | None:
        """Return for how long it has been going on, or went on."""
        if not self.began_ms:
            return None
        return max(0, (self.ended_ms or now_ms) - self.began_ms) / 1000


class RunList:
    """Runs as a page and the events after it tell them. `status` are those to show; empty: all."""

    def __init__(self, status: Iterable[str] = ()) -> None:
        self.rows: dict[str, ListRow] = {}
        """The newest last."""
        self.began_total = 0
        """Runs that began while we looked."""
        self.ended_total: Counter[str] = Counter()
        """Runs that ended while we looked, by status."""
        self._status = frozenset(status)
        self._totals: Counter[str] | None = None

    def count(self, counts: RunCounts | None) -> None:
        """Take the server's counts, until others come; None: it has none for this list."""
        self._totals = None if counts is None else Counter(msgspec.structs.asdict(counts))

    def fill(self, runs: Iterable[RunView]) -> None:
        """Begin anew from a page, newest first."""
        self.rows = {}
        for run in reversed(list(runs)):
            row = ListRow(run.id, run.workflow_id, run.status, millis(run.created_at))
            if row.ended:
                row.ended_ms = millis(run.updated_at)
            if run.state and run.state not in {run.status, "active"}:
                row.doing = run.state
            self.rows[run.id] = row

    def apply(self, event: AllEvent, now_ms: int) -> ListRow | None:
        """Take an event in; return its run's row."""
        if not event.run_id:
            return None
        row = self.rows.get(event.run_id)
        known = "" if row is None else row.status
        if row is None:
            row = self.rows[event.run_id] = ListRow(event.run_id, event.workflow_id)
            self._forget()
        began = self.began_total
        data: Any = event.json()
        match event.event:
            case "status":
                self._status_of(row, data, now_ms)
            case "step":
                row.steps += 1
                row.under_way.pop(data.get("key") or data["name"], None)
                row.doing = _under_way(row) or f"{short(data['name'])} {data['status']}"
            case "progress":
                row.doing = progress_text(data)
            case "complete" | "error":
                self._end(row, data, now_ms)
            case _:
                pass
        if self._totals is not None:
            self._move(known, row.status, is_new=self.began_total > began and not known)
        return row

    def _move(self, known: str, status: str, *, is_new: bool) -> None:
        """Count a change. One of a run that is not in the list shows when the server is asked."""
        assert self._totals is not None
        if known:
            self._totals[known] -= 1
        if known or is_new:
            self._totals[status] += 1

    def _status_of(self, row: ListRow, data: dict[str, Any], now_ms: int) -> None:
        name = data.get("stepName")
        row.status, row.ended_ms = data["status"], 0
        if name is None:
            if not row.began_ms and "state" not in data and not data.get("retry"):
                row.began_ms = now_ms
                self.began_total += 1
            row.doing = data.get("state", "")
            return
        row.under_way[data.get("key") or name] = name
        words = {"sleep": "sleeping", "event": "waiting for", "child": "child"}
        row.doing = f"{words.get(data.get('kind', ''), '')} {short(name)}".strip()
        if data.get("eventId"):
            row.doing = f"waiting for {short(data['eventId'])}"

    def _end(self, row: ListRow, data: dict[str, Any], now_ms: int) -> None:
        row.status, row.ended_ms = data["status"], now_ms
        row.under_way = {}
        self.ended_total[row.status] += 1
        error = data.get("error")
        row.doing = error_text(error) if error else value_text(data.get("result"))

    def _forget(self) -> None:
        if len(self.rows) <= _ROWS_MAX:
            return
        # None has ended: then it is the oldest that goes.
        oldest = next((key for key, row in self.rows.items() if row.ended), next(iter(self.rows)))
        del self.rows[oldest]

    def shown(self) -> list[ListRow]:
        """Return the rows to show, newest first."""
        rows = list(self.rows.values())
        return [row for row in reversed(rows) if self.shows(row)]

    def shows(self, row: ListRow) -> bool:
        """Whether the row is one of those to show."""
        return not self._status or row.status in self._status

    def counts(self) -> Counter[str]:
        """Return how many runs have each status: all there are, or those of the rows."""
        if self._totals is not None:
            return self._totals
        return Counter(row.status for row in list(self.rows.values()))


def _under_way(row: ListRow) -> str:
    names = list(row.under_way.values())
    return short(names[-1]) if names else ""
