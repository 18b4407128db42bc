"""What runs in a step's place, and what was run: the test kit's hands in the runtime."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow.authoring.signature import is_async
from stepflow.runtime.current import current_step
from stepflow.runtime.seams import Seams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.errors import DivergenceError
    from stepflow.runtime.calls import StepAsk

__all__ = ["Attempt", "TestSeams"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a step: of which run, under which key, which try it was, with what arguments."""

    run_id: str
    name: str
    key: str
    number: int
    args: tuple[Any, ...]


class TestSeams(Seams):
    """Stubs by step name, a note of every attempt, and every divergence."""

    __test__ = False

    def __init__(self, *, replays_always: bool, threads: bool) -> None:
        self.replays_always = replays_always
        self.threads = threads
        self.stubs: dict[str, Callable[..., Any]] = {}
        """By step name, or by `name[key]` where the author gave the key."""
        self.attempts: list[Attempt] = []
        self.divergences: list[tuple[str, DivergenceError]] = []

    def stub(self, name: str, key: str | None, outcomes: Sequence[object]) -> None:
        """Let the outcomes decide, attempt by attempt, what the steps of that name come to."""
        bodies = [_as_body(outcome) for outcome in outcomes]
        body = bodies[0] if len(bodies) == 1 else functools.partial(_in_turn, bodies)
        self.stubs[name if key is None else f"{name}[{key}]"] = body

    def body_of(self, ask: StepAsk) -> Callable[..., Any]:
        self.attempts.append(_attempt(ask))
        body = self.stubs.get(ask.key) or self.stubs.get(ask.name, ask.func)
        if self.threads or is_async(body):
            return body
        # In the loop, so that a test runs the same way each time.
        return _inline(body)

    def diverged(self, run_id: str, error: DivergenceError) -> None:
        self.divergences.append((run_id, error))


def _attempt(ask: StepAsk) -> Attempt:
    session = ask.wait.session
    call = session.actor.state.calls[ask.key]
    return Attempt(session.run_id, ask.name, ask.key, call.attempt, ask.call_args)


def _as_body(outcome: object) -> Callable[..., Any]:
    if isinstance(outcome, BaseException) or _is_error_class(outcome):
        return functools.partial(_fail, outcome)
    if callable(outcome):
        return outcome
    return lambda *_args: outcome


def _is_error_class(outcome: object) -> bool:
    return isinstance(outcome, type) and issubclass(outcome, BaseException)


async def _fail(error: Any, *_args: Any) -> None:
    raise error


async def _in_turn(bodies: Sequence[Callable[..., Any]], *args: Any) -> Any:
    """Come to what the present attempt's outcome is; the last one stands for all that follow."""
    body = bodies[min(current_step().attempt, len(bodies)) - 1]
    value = body(*args)
    return await value if inspect.isawaitable(value) else value


def _inline(body: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any) -> Any:
        value = body(*args)
        return await value if inspect.isawaitable(value) else value

    return run
