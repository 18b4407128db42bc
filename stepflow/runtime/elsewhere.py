"""Runs that are not in this process: what an engine of many processes is asked to tell them.

Where all runs are here there is nobody elsewhere, and a run that is not known is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stepflow.runtime import messages as msg

__all__ = ["Elsewhere"]


class Elsewhere(Protocol):
    """The way to runs that other processes have. What is told goes with the sender's records."""

    def tell(self, sender: str, run_id: str, message: msg.CancelAsked | msg.ChildFinished) -> None:
        """Tell the run, wherever it is."""
        ...

    def look_for(self, parent_id: str, key: str, child_id: str) -> None:
        """Let the parent hear of its child's end, if that has ended already."""
        ...
