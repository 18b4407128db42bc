"""The same key, workflow and input give the same run, however often and whenever asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepflow.errors import ConflictError
from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.reading import fresh

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["IdempotencyClaims"]


class IdempotencyClaims(Claims):
    """The claims."""

    async def test_a_key_that_was_used_gives_the_same_run(self, caller: Caller) -> None:
        key = fresh()
        runs = [
            await caller.trigger("conformance-echo", {"a": 1, "b": 2}, idempotency_key=key),
            await caller.trigger("conformance-echo", {"b": 2, "a": 1}, idempotency_key=key),
        ]
        assert runs[0].id == runs[1].id
        other = await caller.trigger("conformance-echo", {"a": 1}, idempotency_key=fresh())
        assert other.id != runs[0].id

    async def test_many_at_once_with_one_key_start_one_run(self, caller: Caller) -> None:
        key = fresh()
        runs = await asyncio.gather(
            *(caller.trigger("conformance-echo", 1, idempotency_key=key) for _ in range(20))
        )
        assert len({run.id for run in runs}) == 1

    async def test_a_used_key_refuses_another_input(self, caller: Caller) -> None:
        key = fresh()
        await caller.trigger("conformance-echo", 1, idempotency_key=key)
        with pytest.raises(ConflictError):
            await caller.trigger("conformance-echo", 2, idempotency_key=key)

    async def test_a_key_belongs_to_its_workflow(self, caller: Caller) -> None:
        key = fresh()
        first = await caller.trigger("conformance-echo", key, idempotency_key=key)
        second = await caller.trigger("conformance-wait", key, idempotency_key=key)
        assert first.id != second.id
