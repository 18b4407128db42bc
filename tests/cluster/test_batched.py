"""Reads that are asked for at a time share queries, and each is answered."""

from __future__ import annotations

import asyncio

import pytest

from stepflow.engine.postgres.batched import Batched

pytestmark = pytest.mark.asyncio


async def test_what_is_asked_for_at_a_time_is_one_query_and_the_rest_goes_with_the_next() -> None:
    asked: list[list[str]] = []
    may_answer = asyncio.Event()

    async def ask(keys: list[str]) -> dict[str, str]:
        asked.append(keys)
        await may_answer.wait()
        return {key: key.upper() for key in keys if key != "none"}

    batched = Batched(ask, at_once=3)
    first = [asyncio.ensure_future(batched.get(key)) for key in ("a", "b", "a", "none")]
    await asyncio.sleep(0.001)
    later = [asyncio.ensure_future(batched.get(key)) for key in "cdefg"]
    first[0].cancel()
    await asyncio.sleep(0.001)
    may_answer.set()
    assert await asyncio.gather(*first[1:]) == ["B", "A", None]
    assert await asyncio.gather(*later) == list("CDEFG")
    assert asked[0] == ["a", "b", "none"]
    assert len(asked) == 3


async def test_who_asks_in_the_moment_in_which_all_queries_end_is_answered() -> None:
    may_answer = asyncio.Event()

    async def ask(keys: list[str]) -> dict[str, str]:
        await may_answer.wait()
        return dict.fromkeys(keys, "found")

    batched = Batched(ask, at_once=1)

    async def twice(key: str) -> None:
        assert await batched.get(key) == "found"
        assert await batched.get(key) == "found"

    both = asyncio.gather(twice("a"), batched.get("b"))
    await asyncio.sleep(0.001)
    may_answer.set()
    async with asyncio.timeout(20):
        await both


async def test_an_error_is_told_to_who_asked_and_to_nobody_later() -> None:
    fails = True

    async def ask(keys: list[str]) -> dict[str, str]:
        if fails:
            raise RuntimeError("gone")
        return dict.fromkeys(keys, "found")

    batched = Batched(ask, at_once=10)
    with pytest.raises(RuntimeError, match="gone"):
        await batched.get("a")
    fails = False
    assert await batched.get("a") == "found"
