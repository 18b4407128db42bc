"""Asks the database for many things at once: what is wanted meanwhile goes with the next query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Batched"]

K = TypeVar("K")
T = TypeVar("T")
_UNDER_WAY_MAX: Final = 2
"""More queries at a time would carry fewer each; one alone would wait for one that is slow."""


class Batched(Generic[K, T]):
    """Gives what `ask` returns for a key. A query that answers a call begins after the call."""

    def __init__(self, ask: Callable[[list[K]], Awaitable[Mapping[K, T]]], *, at_once: int) -> None:
        self._ask = ask
        self._at_once = at_once
        self._wanted: dict[K, list[asyncio.Future[T | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0

    async def get(self, key: K) -> T | None:
        """Return what there is for the key. Raises what `ask` raises."""
        future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(key, []).append(future)
        if self._under_way < _UNDER_WAY_MAX:
            # Counted by itself: a task that looks no more is among the tasks for a moment longer.
            self._under_way += 1
            task = asyncio.ensure_future(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self) -> None:
        try:
            while self._wanted:
                wanted = {key: self._wanted.pop(key) for key in list(self._wanted)[: self._at_once]}
                try:
                    found = await self._ask(list(wanted))
                except Exception as error:  # noqa: BLE001  it is whoever asked that it concerns
                    self._answer(wanted, error)
                else:
                    self._answer(wanted, found)
        finally:
            self._under_way -= 1

    def _answer(
        self, wanted: dict[K, list[asyncio.Future[T | None]]], found: Mapping[K, T] | Exception
    ) -> None:
        for key, futures in wanted.items():
            for future in futures:
                if future.done():
                    continue
                if isinstance(found, Exception):
                    future.set_exception(found)
                else:
                    future.set_result(found.get(key))
