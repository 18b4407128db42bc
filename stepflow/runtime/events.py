"""Who waits for which event, and who declared it. Pure bookkeeping: it calls nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Waiters"]


class Waiters:
    """Event ids to the runs that wait for them or declared them. Rows of ended runs are removed."""

    __slots__ = ("_declared", "_waiting")

    def __init__(self) -> None:
        # dicts, not sets: runs are woken in the order in which they began to wait.
        self._waiting: dict[str, dict[str, int]] = {}
        self._declared: dict[str, dict[str, None]] = {}

    def wait(self, event: str, run_id: str) -> None:
        """One more wait of the run for the event."""
        runs = self._waiting.setdefault(event, {})
        runs[run_id] = runs.get(run_id, 0) + 1

    def unwait(self, event: str, run_id: str) -> None:
        """One wait less."""
        runs = self._waiting.get(event)
        if runs is None or run_id not in runs:
            return
        runs[run_id] -= 1
        if not runs[run_id]:
            del runs[run_id]
        if not runs:
            del self._waiting[event]

    def declare(self, events: Iterable[str], run_id: str) -> None:
        """The run, while it lives, keeps these events until it waits for them."""
        for event in events:
            self._declared.setdefault(event, {})[run_id] = None

    def undeclare(self, events: Iterable[str], run_id: str) -> None:
        """The run has ended."""
        for event in events:
            runs = self._declared.get(event)
            if runs is not None:
                runs.pop(run_id, None)
                if not runs:
                    del self._declared[event]

    def takers(self, event: str) -> list[str]:
        """Return the runs that wait for the event, then those that declared it, each once."""
        waiting = self._waiting.get(event, {})
        declared = self._declared.get(event, {})
        return [*waiting, *(run for run in declared if run not in waiting)]

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Return each event that somebody waits for, with the runs."""
        return ((event, list(runs)) for event, runs in self._waiting.items())

    def __len__(self) -> int:
        return sum(len(runs) for runs in self._waiting.values())
