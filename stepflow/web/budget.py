"""How many bytes large requests and large answers may hold at once.

A caller may send a large body slowly, or ask for a large run and never read it: each such request
is within its own limits, and thousands of them together would fill the memory. What is small is
bounded by the number of connections already and is not counted.
"""

from __future__ import annotations

from typing import Final

from stepflow.errors import UnavailableError

__all__ = ["LARGE_BYTES", "Budget", "Share"]

LARGE_BYTES: Final = 64 * 1024
"""What has more than so many bytes is counted."""


class Budget:
    """So many bytes, for all at once."""

    __slots__ = ("_free", "_what")

    def __init__(self, nbytes: int, what: str) -> None:
        self._free = nbytes
        self._what = what

    def take(self, nbytes: int) -> None:
        """Count so many more. Raises `UnavailableError` when there are not so many left."""
        if nbytes > self._free:
            message = f"Too many large {self._what} at once; try again"
            raise UnavailableError(message, retry_after_s=1)
        self._free -= nbytes

    def give(self, nbytes: int) -> None:
        """Give so many back."""
        self._free += nbytes


class Share:
    """What one request holds of a budget: it grows as its body arrives, and is given back whole."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def hold(self, nbytes: int) -> None:
        """Hold so many bytes in all, where those are many. Raises `UnavailableError`."""
        if nbytes > LARGE_BYTES:
            self._budget.take(nbytes - self._held)
            self._held = nbytes

    def release(self) -> None:
        """Give all of it back."""
        self._budget.give(self._held)
        self._held = 0
