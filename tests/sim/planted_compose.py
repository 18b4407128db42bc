"""Planted bugs of composition: each breaks one of its rules and must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepflow.model.run import RunState
from stepflow.runtime.context import RunContext
from stepflow.runtime.steps import Attempt
from tests.sim.compose import run_seed
from tests.sim.patching import attribute, replaced
from tests.sim.world import simulating

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPOSE_BUGS", "find_compose_bug"]

COMPOSE_BUGS: Final[dict[str, Callable[[], Any]]] = {}
SEEDS_MAX: Final = 600


def planted(break_it: Callable[[], Any]) -> Callable[[], Any]:
    COMPOSE_BUGS[break_it.__name__.replace("_", "-")] = break_it
    return break_it


def find_compose_bug(name: str) -> int | None:
    """Return the first seed that fails with the bug and not without it."""
    with simulating():
        for seed in range(SEEDS_MAX):
            with COMPOSE_BUGS[name]():
                violations = run_seed(seed)
            if violations and not run_seed(seed):
                return seed
    return None


@planted
def compensation_in_order_of_asking() -> Any:
    real: Any = attribute(RunContext, "undo_order")

    def broken(self: Any) -> Any:
        return sorted(real(self), key=lambda row: str(row[0]))

    return replaced(RunContext, "undo_order", broken)


@planted
def compensation_twice() -> Any:
    real: Any = attribute(RunContext, "undo_order")

    def broken(self: Any) -> Any:
        return [row for row in real(self) for _ in range(2)]

    return replaced(RunContext, "undo_order", broken)


def _nothing(*_: Any) -> tuple[()]:
    return ()


@planted
def firsts_loser_recorded_late() -> Any:
    return replaced(RunState, "_drop_others", _nothing)


@planted
def restart_loses_a_kept_event() -> Any:
    return replaced(RunState, "kept_events", _nothing)


@planted
def late_emit_accepted() -> Any:
    return replaced(Attempt, "_is_late", _nothing)
