"""Planted bugs of composition: each breaks one of its rules and must be found."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from stepflow.model.records import NOTHING
from stepflow.model.run import RunState
from stepflow.runtime import messages, starting, supervisor
from stepflow.runtime.context import RunContext
from stepflow.runtime.steps import Attempt
from tests.sim.patching import attribute, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPOSE_BUGS", "COMPOSE_FOCUS"]

COMPOSE_BUGS: Final[dict[str, Callable[[], Any]]] = {}
COMPOSE_FOCUS: Final[dict[str, tuple[str, ...]]] = {
    "at-most-once-begins-before-its-record": ("once", "crash"),
    "a-child-is-begun-in-another-turn": ("parent", "race"),
    "a-child-is-begun-again-after-a-crash": ("parent", "race"),
    "a-childs-failure-is-told-as-a-result": ("parent",),
}
"""What the seeds are about that find a bug soonest."""


def planted(break_it: Callable[[], Any]) -> Callable[[], Any]:
    COMPOSE_BUGS[break_it.__name__.replace("_", "-")] = break_it
    return break_it


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


@planted
def at_most_once_begins_before_its_record() -> Any:
    real: Any = attribute(starting, "begin_attempt")

    def broken(actor: Any, ask: Any, attempt: int) -> None:
        journal = actor.sup.journal
        if ask.once:
            journal.when_durable = lambda _lsn, release: release(None)
        try:
            real(actor, ask, attempt)
        finally:
            vars(journal).pop("when_durable", None)

    return replaced(starting, "begin_attempt", broken)


@planted
def an_interrupted_step_runs_again() -> Any:
    real: Any = attribute(starting, "_start_step")

    def broken(actor: Any, ask: Any) -> None:
        call = actor.state.calls.get(ask.key)
        if call is not None:
            call.once = False
        real(actor, ask)

    return replaced(starting, "_start_step", broken)


@planted
def a_child_is_begun_in_another_turn() -> Any:
    real: Any = attribute(starting, "start_child")

    def broken(parent: Any, ask: Any, call: Any) -> None:
        sup = parent.sup
        start_run = sup.start_run

        def later(*args: Any, **options: Any) -> None:
            asyncio.get_running_loop().call_soon(lambda: start_run(*args, **options))

        sup.start_run = later
        try:
            real(parent, ask, call)
        finally:
            del sup.start_run

    return replaced(starting, "start_child", broken)


@planted
def a_child_is_begun_again_after_a_crash() -> Any:
    real: Any = attribute(starting, "start_child")

    def broken(parent: Any, ask: Any, _: Any) -> None:
        real(parent, ask, None)

    return replaced(starting, "start_child", broken)


@planted
def a_childs_failure_is_told_as_a_result() -> Any:
    def broken(sup: Any, parent_id: str, key: str, child_id: str) -> None:
        parent, child = sup.runs.get(parent_id), sup.runs.get(child_id)
        if parent is not None and child is not None:
            result = child.state.result or b"null"
            parent.tell(messages.ChildFinished(key, child_id, Raw(result), NOTHING))

    return replaced(supervisor, "tell_parent", broken)
