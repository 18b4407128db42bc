"""Which helper of asyncio makes a task, and what a loop's factories do with each other."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.runtime import branches
from stepflow.runtime.branches import Branch, install_factory, uninstall_factory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.asyncio


async def creators(body: Callable[[], Awaitable[Any]]) -> list[str]:
    """Return what made each task that was born while `body` ran."""
    loop = asyncio.get_running_loop()
    found: list[str] = []

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        found.append(branches._creator(sys._getframe(1))[0])
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    try:
        await body()
    finally:
        loop.set_task_factory(None)
    return found


async def nothing() -> None:
    return None


async def test_tasks_of_the_authors_are_of_no_helper() -> None:
    async def body() -> None:
        await asyncio.create_task(nothing())
        await asyncio.gather(nothing(), nothing())
        async with asyncio.TaskGroup() as group:
            group.create_task(nothing())
        await asyncio.shield(nothing())
        await asyncio.wait({asyncio.ensure_future(nothing())})

    assert await creators(body) == [""] * 6


async def test_wait_for_is_seen_where_it_makes_a_task() -> None:
    async def body() -> None:
        await asyncio.wait_for(nothing(), 5)

    assert await creators(body) == (["wait_for"] if sys.version_info < (3, 12) else [])


@pytest.mark.parametrize("timeout", [None, 5])
async def test_what_is_made_under_wait_for_is_not_of_wait_for(timeout: float | None) -> None:
    async def inner() -> None:
        await asyncio.gather(nothing(), nothing())

    async def body() -> None:
        await asyncio.wait_for(inner(), timeout)

    found = await creators(body)
    assert found[-2:] == ["", ""]


async def test_as_completed_over_bare_coroutines_is_seen() -> None:
    async def body() -> None:
        for part in asyncio.as_completed([nothing(), nothing()]):
            await part

    assert await creators(body) == ["as_completed", "as_completed"]


async def test_a_branch_counts_names_and_children() -> None:
    session: Any = None
    root = Branch(session, "")
    assert [root.key("a"), root.key("b"), root.key("a")] == ["a#1", "b#1", "a#2"]
    child = root.child("go")
    assert (child.path, root.child("go").path, root.child("x").path) == ("go~1", "go~2", "x~1")
    assert child.child("go").key("a") == "go~1/go~1/a#1"


async def test_a_loop_without_a_run_is_as_it_was() -> None:
    loop = asyncio.get_running_loop()
    made: list[Any] = []

    def host(loop: Any, coro: Any, **kwargs: Any) -> Any:
        made.append(kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(host)
    factory = install_factory(loop)
    try:
        await asyncio.create_task(nothing())
        assert made
    finally:
        uninstall_factory(loop, factory)
        assert loop.get_task_factory() is host
        loop.set_task_factory(None)
