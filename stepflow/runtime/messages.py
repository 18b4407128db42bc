"""What an actor can be told: a closed set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow.runtime.plain import Fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from stepflow.runtime.calls import StepAsk
    from stepflow.runtime.replay import Ask
    from stepflow.runtime.session import Session

__all__ = [
    "BodyEnded",
    "CallsAsked",
    "CancelAsked",
    "ChildFinished",
    "EventArrived",
    "Message",
    "PauseAsked",
    "RestartAsked",
    "ResumeAsked",
    "RetryAsked",
    "StepEnded",
    "TimerFired",
    "WakeUp",
]


class CallsAsked(Fixed, frozen=True):
    """The body asked for calls that have no recorded result."""

    session: Session
    asks: Sequence[Ask]


class StepEnded(Fixed, frozen=True):
    """An attempt of a step returned `value` or raised `error`."""

    session: Session
    ask: StepAsk
    attempt: int
    value: Any
    error: BaseException | None


class RestartAsked(Fixed, frozen=True):
    """The body ends its history and goes on with a fresh one, on the input `body`."""

    session: Session
    body: bytes
    events: tuple[str, ...]


class TimerFired(Fixed, frozen=True):
    """Hybrid time has reached `due_ms`, at which the call `key` was due."""

    key: str
    due_ms: int


class EventArrived(Fixed, frozen=True):
    """An event the run waits for or declared; its payload was recorded at `lsn`."""

    event: str
    lsn: int
    payload: bytes


class ChildFinished(Fixed, frozen=True):
    """An awaited child run ended."""

    key: str
    child: str
    result: Raw
    error: Raw


class CancelAsked(Fixed, frozen=True):
    """Someone cancels the run; by `force` without waiting for its cleanup."""

    by: str
    reason: str
    force: bool = False


class PauseAsked(Fixed, frozen=True):
    """Someone holds the run before its next effect."""

    by: str
    reason: str


class ResumeAsked(Fixed, frozen=True):
    """Someone lets the run go on that was paused."""

    by: str
    reason: str


class RetryAsked(Fixed, frozen=True):
    """Someone lets the run go on that has failed or was cancelled."""

    by: str
    reason: str


class BodyEnded(Fixed, frozen=True):
    """The workflow's function returned `value` or raised `error`."""

    session: Session
    value: Any
    error: BaseException | None


class WakeUp(Fixed, frozen=True):
    """Go on: after a restart, when code is there again, when there is room again."""


Message = (
    CallsAsked
    | StepEnded
    | TimerFired
    | EventArrived
    | ChildFinished
    | CancelAsked
    | PauseAsked
    | ResumeAsked
    | RetryAsked
    | BodyEnded
    | RestartAsked
    | WakeUp
)
