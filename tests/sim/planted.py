"""Planted bugs: each breaks one rule of the core from outside, and must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepflow.journal.writer import JournalWriter
from tests.sim.patching import replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["BUGS", "executed"]

executed: dict[str, int] = {}
"""How often the broken code of each bug ran."""

BUGS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {}


def bug(function: Callable[[Callable[[], None]], AbstractContextManager[None]]) -> Any:
    """Enter a planted bug; it calls what it is given whenever its broken code runs."""
    name = function.__name__.replace("_", "-")

    def ran() -> None:
        executed[name] = executed.get(name, 0) + 1

    BUGS[name] = lambda: function(ran)
    return function


@bug
def acknowledge_before_sync(ran: Callable[[], None]) -> AbstractContextManager[None]:
    """The writer reports a frame that is written and not synced."""

    def sync(self: JournalWriter, segment: Any) -> float:
        ran()
        return 0.0

    return replaced(JournalWriter, "_sync", sync)
