"""What a test sees of a run's steps: decoded values, and words for what was not as expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.model.views import RunView, StepView
    from stepflow.testing.stubs import Attempt

__all__ = ["SeenStep", "called", "calls_in_words", "seen_steps"]

_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One thing the body asked for by name: a step, a sleep, an event or a child.

    `result` and `error` are decoded JSON, `None` while there is none.
    """

    name: str
    key: str
    kind: str
    status: str
    attempts: int
    result: Any = None
    error: dict[str, Any] | None = None

    def __str__(self) -> str:
        """Return it in one line."""
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        what = ""
        if self.status == "failed" and self.error:
            what = f": {self.error.get('type')}: {self.error.get('message')}"
        elif self.result is not None:
            what = f": {self.result!r}"
        return f"{self.kind} {self.key.removesuffix('#1')} {self.status}{tries}{what}"


def seen_steps(view: RunView) -> list[SeenStep]:
    """Return what the run has asked for, in the order of first asking."""
    return [_seen(step) for step in ([] if view.steps is UNSET else view.steps)]


def _seen(step: StepView) -> SeenStep:
    return SeenStep(
        name=step.name,
        key=step.key,
        kind=step.kind,
        status=step.status,
        attempts=0 if step.attempts is UNSET else step.attempts,
        result=None if step.result is UNSET else msgspec.json.decode(step.result),
        error=None if step.error is UNSET else msgspec.json.decode(step.error),
    )


def called(attempts: Sequence[Attempt], step: str) -> list[tuple[Any, ...]]:
    """Return the arguments of each attempt at the steps of that name, in order."""
    return [attempt.args for attempt in attempts if attempt.name == step]


def calls_in_words(attempts: Sequence[Attempt]) -> str:
    """Return every attempt on a line of its own, for a failed assertion."""
    lines = [
        f"  {a.key}{a.args!r}" + (f"  attempt {a.number}" if a.number > 1 else "") for a in attempts
    ]
    if len(lines) > _SHOWN_MAX:
        lines[_SHOWN_MAX:] = [f"  … and {len(lines) - _SHOWN_MAX} more"]
    return "\n".join(lines) or "  no step ran"
