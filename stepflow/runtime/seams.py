"""Where the test kit puts its hands into the runtime. In production every seam does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow.runtime.replay import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.errors import DivergenceError
    from stepflow.journal.api import Journal
    from stepflow.runtime.calls import StepAsk

__all__ = ["Seams"]


class Seams:
    """What the runtime asks at its seams, and the answers of production."""

    replays_always = False
    """Whether a run is suspended and replayed whenever a result of it was recorded.

    Then also: a replay that begins something new while a recorded result was not asked for has
    diverged, because the code cannot have changed in between.
    """

    gate: type[Gate] = Gate
    """What decides which recorded result goes to which call."""

    def body_of(self, ask: StepAsk) -> Callable[..., Any]:
        """Return the function that runs in the step's place."""
        return ask.func

    def opened(self, journal: Journal) -> None:
        """Hear of the journal, before anything is recorded in it."""

    def diverged(self, run_id: str, error: DivergenceError) -> None:
        """Hear that a run has diverged and is parked."""
