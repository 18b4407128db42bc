"""Rows that several processes share: what keeps them, as the auth room asks for it. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

__all__ = ["SharedTable"]


class SharedTable(Protocol):
    """Rows by their id, as JSON that whoever keeps them need not understand.

    `read` and `turn` may wait, and are called in a thread. They raise `UnavailableError`, and
    `OutcomeUnknownError` where nobody knows whether a change was kept.
    """

    @property
    def version(self) -> int:
        """Rises when `known` changes."""
        ...

    def known(self) -> Mapping[str, bytes]:
        """Return the rows as this process knows them: no older than the engine says."""
        ...

    def read(self) -> Mapping[str, bytes]:
        """Return the rows as they are."""
        ...

    def turn(self) -> AbstractContextManager[dict[str, bytes]]:
        """Give the rows to be changed, to one at a time; what was changed is durable at the end.

        It is `known` here then, and a moment later in every other process.
        """
        ...
