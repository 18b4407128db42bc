"""Counts what the engine asks of the database: statements, and trips to it and back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Counted:
    """What was asked in this process since it was last emptied."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.trips = 0

    def count(self, part: str) -> int:
        """Return how many statements have that part."""
        return sum(part in statement for statement in self.statements)

    def forget(self) -> None:
        self.statements.clear()
        self.trips = 0


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Count all that goes through psycopg meanwhile."""
    seen = Counted()
    cls = psycopg.AsyncConnection
    execute, pipeline, transaction = cls.execute, cls.pipeline, cls.transaction

    async def counting_execute(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        text = query if isinstance(query, bytes) else str(query).encode()
        seen.statements.append(text.decode())
        if self._pipeline is None:
            seen.trips += 1
        return await execute(self, query, *args, **more)

    def counting_pipeline(self: Any) -> Any:
        seen.trips += 1
        return pipeline(self)

    def counting_transaction(self: Any, *args: Any, **more: Any) -> Any:
        if self._pipeline is None:
            seen.trips += 2
        return transaction(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(cls, "execute", counting_execute)
        patch.setattr(cls, "pipeline", counting_pipeline)
        patch.setattr(cls, "transaction", counting_transaction)
        yield seen
