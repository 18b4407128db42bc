"""What runs in a step's place, and what was run: the test kit's hands in the runtime."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from stepflow.authoring.signature import is_async
from stepflow.runtime.seams import Seams

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.errors import DivergenceError
    from stepflow.runtime.calls import StepAsk

__all__ = ["TestSeams"]


class TestSeams(Seams):
    """Stubs by step name, a note of every attempt, and every divergence."""

    __test__ = False

    def __init__(self, *, replays_always: bool, threads: bool) -> None:
        self.replays_always = replays_always
        self.threads = threads
        self.stubs: dict[str, Callable[..., Any]] = {}
        self.attempts: list[tuple[str, tuple[Any, ...]]] = []
        self.divergences: list[tuple[str, DivergenceError]] = []

    def stub(self, name: str, outcome: object) -> None:
        """Let `outcome` decide what the steps of that name come to."""
        self.stubs[name] = _as_body(outcome)

    def body_of(self, ask: StepAsk) -> Callable[..., Any]:
        self.attempts.append((ask.name, ask.call_args))
        body = self.stubs.get(ask.name, ask.func)
        if self.threads or is_async(body):
            return body
        # In the loop, so that a test runs the same way each time.
        return _inline(body)

    def diverged(self, run_id: str, error: DivergenceError) -> None:
        self.divergences.append((run_id, error))


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


def _inline(body: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any) -> Any:
        value = body(*args)
        return await value if inspect.isawaitable(value) else value

    return run
