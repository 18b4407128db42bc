"""What an actor can be told: a closed set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "StepEnded",
    "TimerFired",
    "WakeUp",
]


@dataclass(frozen=True, slots=True)
class CallsAsked:
    """The body asked for calls that have no recorded result."""

    session: Session
    asks: list[Ask]


@dataclass(frozen=True, slots=True)
class StepEnded:
    """An attempt of a step returned `value` or raised `error`."""

    session: Session
    ask: StepAsk
    attempt: int
    value: Any
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Hybrid time has reached `due_ms`, at which the call `key` was due."""

    key: str
    due_ms: int


@dataclass(frozen=True, slots=True)
class EventArrived:
    """An event the run waits for or declared; its payload was recorded at `lsn`."""

    event: str
    lsn: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChildFinished:
    """An awaited child run ended."""

    key: str
    result: Raw
    error: Raw


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Someone cancels the run."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """The workflow's function returned `value` or raised `error`."""

    session: Session
    value: Any
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Go on: after a restart, when code is there again, when there is room again."""


Message = (
    CallsAsked
    | StepEnded
    | TimerFired
    | EventArrived
    | ChildFinished
    | CancelAsked
    | BodyEnded
    | WakeUp
)
