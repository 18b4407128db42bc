"""What a run's root task does: decode the input, run the function, undo, report the end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from stepflow.errors import ControlFlow, DivergenceError, InvalidInputError, StepflowError
from stepflow.runtime import messages as msg
from stepflow.runtime.context import RunContext
from stepflow.runtime.undoing import undo_name

if TYPE_CHECKING:
    from stepflow.authoring.registry import Workflow
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.session import Session

__all__ = ["drive"]

_log = logging.getLogger("stepflow.run")


async def drive(
    actor: RunActor, session: Session, workflow: Workflow, args: tuple[Any, ...] | None
) -> None:
    """Run the body to its end and tell the actor how it ended."""
    context = RunContext(actor, session, workflow)
    value: Any = None
    failure: BaseException | None = None
    try:
        if args is None:
            args = _arguments(actor, workflow)
        value = await workflow.function(context, *args)
    except ControlFlow as error:
        _control_flow(actor, session, error)
        return
    except BaseException as error:  # noqa: BLE001  border: user code; SystemExit must not end the host
        failure = error
    if _was_cut(actor, session):
        return
    if context.undo and (failure is not None or actor.state.cancelling):
        # A cancelled task may go on: what undoes its steps are steps, inside the cancel's grace.
        # So it is with a body that returned before it heard of its cancel: the run ends cancelled.
        session.undoing = True
        _uncancel()
        session.cancel_others()
        try:
            await _compensate(context)
        except ControlFlow as error:
            _control_flow(actor, session, error)
            return
        except asyncio.CancelledError:
            if _was_cut(actor, session):
                return
            _log.warning("%s: its compensation was cut short", actor.id)
    if not session.fenced:
        actor.tell(msg.BodyEnded(session, value, failure))
    # An error holds this frame.
    del failure


def _arguments(actor: RunActor, workflow: Workflow) -> tuple[Any, ...]:
    try:
        return workflow.signature.arguments(actor.state.input)
    except InvalidInputError as error:
        recorded = "an input that no longer fits its annotation"
        raise DivergenceError("input", recorded, f"{workflow.id} ({error.message})") from error


def _control_flow(actor: RunActor, session: Session, error: ControlFlow) -> None:
    if isinstance(error, DivergenceError) and not session.fenced:
        actor.diverged(error)


def _was_cut(actor: RunActor, session: Session) -> bool:
    """Whether the body ended because it was put to sleep, or because its host ends."""
    task = session.root
    if not session.fenced and task is not None and task.cancelling() and not actor.sup.going:
        session.fence()
    return session.fenced


def _uncancel() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def _compensate(context: RunContext) -> None:
    """Undo completed steps, last first; a step that cannot be undone does not stop the others.

    The run's error says what was not undone (`ending.py`).
    """
    for name, function, args in context.undo_order():
        try:
            await context.step(undo_name(name), function, *args)
        except StepflowError as error:
            _log.error("%s: compensation of %s failed: %s", context.run_id, name, error)
