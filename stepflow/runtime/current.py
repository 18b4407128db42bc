"""`current_step()`: what a step's function may know of itself."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from stepflow.errors import AuthoringError

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Emitter", "Running", "StepInfo", "current_step", "in_step"]


class Running(Protocol):
    """The attempt that runs; few steps ask it."""

    def info(self) -> StepInfo:
        """Return what its function may know of it."""
        ...

    def place(self) -> tuple[str, str, str, int]:
        """Return run id, workflow, step key and attempt; from any thread, also after its end."""
        ...


in_step: contextvars.ContextVar[Running | None] = contextvars.ContextVar(
    "stepflow_step", default=None
)


class Emitter(Protocol):
    """Takes what the attempt emits."""

    def __call__(self, data: Any, *, durable: bool) -> Awaitable[None]:
        """Record it, or pass it on; what it returns may be awaited."""
        ...


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The running attempt. `idempotency_key` is the same at every attempt, and no other step's."""

    run_id: str
    name: str
    key: str
    attempt: int
    idempotency_key: str
    emitter: Emitter = field(repr=False)

    def emit(self, data: Any, *, durable: bool = True) -> Awaitable[None]:
        """Put a live event on the run's stream, under the step's name; `data` is any JSON value.

        It is recorded when this returns, so that a step in a thread may call it too; `await` it in
        an async one: then the loop goes on, and an attempt that emits faster than the disk takes it
        waits. Events of a few milliseconds share one write, and come before the step's end.
        Raises `StepInterruptedError` in an attempt that has timed out or was given up, and
        `AuthoringError` for more than the run may emit.

        With `durable=False` it goes to those who read the stream now and is kept nowhere.
        """
        return self.emitter(data, durable=durable)


def current_step() -> StepInfo:
    """Return the step whose function is running. Raises `AuthoringError` outside a step."""
    running = in_step.get()
    if running is None:
        message = "current_step() was called outside a step"
        raise AuthoringError(message)
    return running.info()
