"""`current_step()`: what a step's function may know of itself."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepflow.errors import AuthoringError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StepInfo", "current_step", "in_step"]

in_step: contextvars.ContextVar[StepInfo | None] = contextvars.ContextVar(
    "stepflow_step", default=None
)


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The running attempt. `idempotency_key` is the same at every attempt, and no other step's."""

    run_id: str
    name: str
    key: str
    attempt: int
    idempotency_key: str
    emitter: Callable[[Any], None] = field(repr=False)

    async def emit(self, data: Any) -> None:
        """Put a live event on the run's stream, under the step's name; `data` is any JSON value."""
        self.emitter(data)


def current_step() -> StepInfo:
    """Return the step whose function is running. Raises `AuthoringError` outside a step."""
    info = in_step.get()
    if info is None:
        message = "current_step() was called outside a step"
        raise AuthoringError(message)
    return info
