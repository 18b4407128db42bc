"""How many runs have each status, of all workflows and of each: kept as it changes, never counted.

Nothing is done for it on the way of a run that begins at once. What lives is counted anyway, and so
is what has ended, where retention keeps it; so all that is left is which of those that live are
**held**: by a delay, by admission, by a pause before they began.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from stepflow.model.views import RunCounts

if TYPE_CHECKING:
    from stepflow.model.run import RunState
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Tally"]


class Tally:
    """Runs by status. What it says rests on all records there are: whoever tells it waits."""

    __slots__ = ("_held", "_kept_aside", "_sup")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._held: defaultdict[str, int] = defaultdict(int)
        """Pending runs, by workflow."""
        self._kept_aside: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Ended runs whose records make no sense, by workflow and status: nothing purges them."""

    def held(self, workflow: str) -> None:
        """A run is `pending` from now on."""
        self._held[workflow] += 1

    def let_go(self, workflow: str) -> None:
        """A pending run has begun, or has ended without."""
        self._held[workflow] -= 1

    def found_aside(self, state: RunState) -> None:
        """Recovery found a run that had ended and was set aside."""
        self._kept_aside[state.workflow, state.status] += 1

    def counts(self, workflow: str = "") -> RunCounts:
        """Return how many runs there are of each status, of that workflow or of all."""
        sup = self._sup
        names = [workflow] if workflow else list({*sup.live_by, *sup.retention.tables})
        held = sum(self._held.get(name, 0) for name in names)
        ended = {"completed": 0, "failed": 0, "cancelled": 0}
        for (name, status), count in self._kept_aside.items():
            if not workflow or name == workflow:
                ended[status] += count
        tables = sup.retention.tables
        for table in [tables[name] for name in names if name in tables]:
            ended["completed"] += len(table.completed)
            ended["failed"] += table.failed
            ended["cancelled"] += len(table.others) - table.failed
        live = sum(sup.live_by.get(name, 0) for name in names)
        return RunCounts(pending=held, running=live - held, **ended)
