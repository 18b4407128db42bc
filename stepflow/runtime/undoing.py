"""PURE. Which completed steps have a compensation, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stepflow.authoring.options import UNDO
from stepflow.model.failures import decode_step_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.model.run import CallState, RunState

__all__ = ["UNDO", "not_undone", "undo_name", "undo_pairs"]

_NAME_MAX: Final = 64


class NotUndone(NamedTuple):
    """A step that was to be undone and is not, as far as is known."""

    name: str
    key: str
    error_type: str
    message: str


def undo_name(name: str) -> str:
    """Return the name of the step that undoes the step `name`."""
    return f"{UNDO}{name}"[:_NAME_MAX]


def undo_pairs(state: RunState) -> Iterator[tuple[CallState, CallState | None]]:
    """Yield each completed step that has a compensation, last one first, with what undoes it.

    Compensations run one after the other, last completed step first; so the n-th of a name undoes
    the n-th such step of that name. What was completed after the first of them began is not undone.
    """
    steps = [c for c in state.calls.values() if c.undo and c.status == "completed"]
    if not steps:
        return
    undos = [c for c in state.calls.values() if c.name.startswith(UNDO)]
    undos.sort(key=lambda call: -call.begun)
    if undos:
        first = undos[-1].begun
        steps = [call for call in steps if call.lsn < first]
    queues: dict[str, list[CallState]] = {}
    for undo in undos:
        queues.setdefault(undo.name, []).append(undo)
    for step in sorted(steps, key=lambda call: -call.lsn):
        queue = queues.get(undo_name(step.name))
        yield step, queue.pop() if queue else None


def not_undone(state: RunState) -> Iterator[NotUndone]:
    """Yield the steps that were not undone, though they have a compensation, last one first.

    It is so when the compensation failed, when the run is ended before it has its result, and when
    the run is ended before it was begun.
    """
    for step, undo in undo_pairs(state):
        if undo is None:
            told = "RunCancelledError", "the run was ended before this step was undone"
        elif undo.status == "pending":
            told = "StepInterruptedError", "the run was ended while this step was being undone"
        elif undo.status == "failed":
            error = decode_step_error(step.name, undo.error or b"{}")
            told = error.error_type, error.message
        else:
            continue
        yield NotUndone(step.name, step.key, *told)
