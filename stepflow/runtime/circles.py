"""Runs that wait for each other in a circle: none of them will ever go on by itself.

::

    run A ──awaits──► its child b ──queued at limit B, held by──► run B
      ▲                                                              │ awaits
      └──held by, queued at limit A── its child a ◄──────────────────┘

A queued run is **stuck** where one of its full limits has a slot behind every one of which a stuck
run stands; a run that began is stuck where all that it waits for are awaited children that are
stuck. What ends by itself is not: a run with a `timeout=` or in a cancel. What is set aside,
parked or paused is said as that. Looked for when somebody asks why, and once a second among the
children that wait for their turn. It only reads, and a bounded number of runs: a circle that is
wider than `_LOOK_MAX` runs, or for the log than `_GLANCE_MAX`, is not found.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepflow.runtime.supervisor import Supervisor

__all__ = ["CODE", "Circles", "circle_of", "say_circle"]

CODE: Final = "SFW502"
_MOVE: Final = (
    "cancel one of them (`stepflow runs cancel RUN`), and give their workflows one limit with one "
    "`name`, or start the child with ctx.start"
)
_LOOK_MAX: Final = 1000
_GLANCE_MAX: Final = 200
_ASKED_MAX: Final = 100
_SHOWN_MAX: Final = 8

_log = logging.getLogger("stepflow.admission")

Needs = list[list[str]]
"""One of these lists is enough to be stuck, if all of its runs are."""


def circle_of(sup: Supervisor, run_id: str) -> tuple[str, ...]:
    """Return the circle that keeps the run, each run before the one it waits for; none: empty."""
    needs: dict[str, Needs] = {}
    _look_around(sup, run_id, needs, _LOOK_MAX)
    return _circle(needs, _stuck(needs), run_id)


def _circle(needs: dict[str, Needs], stuck: set[str], run_id: str) -> tuple[str, ...]:
    if run_id not in stuck:
        return ()
    path: dict[str, int] = {}
    at = run_id
    while at not in path:
        path[at] = len(path)
        at = next(run for group in needs[at] if stuck.issuperset(group) for run in group)
    return tuple(path)[path[at] :]


def say_circle(circle: tuple[str, ...]) -> str:
    """Return the sentence about it, with the next move."""
    shown = " -> ".join(circle[:_SHOWN_MAX])
    left = len(circle) - _SHOWN_MAX
    if left > 0:
        shown += f" -> {left} more"
    return f"{CODE} these runs wait for each other in a circle: {shown} -> {circle[0]}; {_MOVE}"


def _look_around(sup: Supervisor, run_id: str, needs: dict[str, Needs], most: int) -> None:
    """Add what the run and all that it rests on would need to be stuck; of `most` runs at most.

    One that was not looked at counts as one that goes on.
    """
    left = [run_id]
    while left and len(needs) < most:
        at = left.pop()
        if at not in needs:
            needs[at] = list(_needs(sup, at))
            left += (run for group in needs[at] for run in group)


def _needs(sup: Supervisor, run_id: str) -> Iterator[list[str]]:
    actor = sup.runs.get(run_id)
    if actor is None or actor.finished or actor.condition is not None:
        return
    state = actor.peek()
    if state.cancelling or state.deadline_ms or state.paused:
        return
    if state.status == "pending":
        yield from sup.admission.blockers(run_id)
        return
    calls = state.pending_calls()
    if calls and all(call.kind == "child" and call.child for call in calls):
        yield [call.child for call in calls]


def _stuck(needs: dict[str, Needs]) -> set[str]:
    """Return those that hold each other: of all, take away who does not until none does."""
    stuck = set(needs)
    while True:
        free = {run for run in stuck if not any(map(stuck.issuperset, needs[run]))}
        if not free:
            return stuck
        stuck -= free


class Circles:
    """Says each circle once, as long as it is there."""

    __slots__ = ("_looked", "_sup", "_told")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._told: set[frozenset[str]] = set()
        self._looked = 0

    def look(self, children: Sequence[str]) -> None:
        """Look for circles among children that are queued and awaited; a part of many at a time."""
        sup = self._sup
        self._told = {runs for runs in self._told if all(map(self._lives, runs))}
        needs: dict[str, Needs] = {}
        asked: list[str] = []
        for _ in range(min(len(children), _ASKED_MAX)):
            run_id = children[self._looked % len(children)]
            self._looked += 1
            asked.append(run_id)
            _look_around(sup, run_id, needs, _GLANCE_MAX)
            if len(needs) >= _GLANCE_MAX:
                break
        stuck = _stuck(needs)
        for run_id in asked:
            circle = _circle(needs, stuck, run_id)
            runs = frozenset(circle)
            if circle and runs not in self._told:
                self._told.add(runs)
                _log.warning("%s", say_circle(circle))

    def _lives(self, run_id: str) -> bool:
        actor = self._sup.runs.get(run_id)
        return actor is not None and not actor.finished
