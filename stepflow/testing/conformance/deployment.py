"""A service as its operators see it: processes that can be killed and started again, and addresses.

::

    clients ── url ──► balancer ──► base_urls: each API process, complete by itself
                                      processes: these, workers, the database, the balancer

The local engine is one process whose `url` is its only base URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["Deployment"]


class Deployment(Protocol):
    """Processes that together serve one store; the flow of each has `register`ed the workflows."""

    @property
    def url(self) -> str:
        """Where clients go; the same for as long as it lives."""
        ...

    @property
    def base_urls(self) -> Sequence[str]:
        """Where each API process answers by itself; the same for as long as it lives."""
        ...

    @property
    def api_key(self) -> str:
        """A key with all scopes."""
        ...

    @property
    def processes(self) -> Sequence[str]:
        """The names of all processes, whatever they do."""
        ...

    @property
    def spare(self) -> Collection[str]:
        """Those without which the others go on serving everything."""
        ...

    def start(self) -> None:
        """Start all; returns when they serve."""
        ...

    def stop(self) -> None:
        """End all that lives of it; harmless twice."""
        ...

    def kill(self, process: str) -> None:
        """End the process at once, as `kill -9` does, and return when it has ended."""
        ...

    def revive(self, process: str) -> None:
        """Start the process again, at the same address; returns when all of it serves."""
        ...
