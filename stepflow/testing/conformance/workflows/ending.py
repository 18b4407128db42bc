"""Runs that are cancelled or fail, with something left to do: cleanup steps, compensations."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.model.retry import RetryPolicy
from stepflow.testing.conformance.workflows.basic import Order  # noqa: TC001  likewise

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["register_ending"]


def _note(text: str, path: str) -> str:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return text


def _clean(number: int) -> str:
    return f"cleaned {number}"


def _fail_unless(path: str) -> str:
    """Fail until the file is there: an operator's retry finds another world."""
    if not Path(path).exists():
        raise ValueError("not yet")
    return "there"


def register_ending(flow: Stepflow) -> None:
    """Register them."""

    @flow.workflow("conformance-cleanup")
    async def cleanup(ctx: Context, order: Order) -> Any:
        try:
            return await ctx.wait_for_event("answer", f"answer-{order.id}", timeout=None)
        except asyncio.CancelledError:
            for number in range(order.count):
                await ctx.step("clean", _clean, number)
            raise

    @flow.workflow("conformance-undo")
    async def undo(ctx: Context, path: str) -> None:
        await ctx.step("first", _keep, "first", path, compensate=_undo)
        await ctx.step("second", _keep, "second", path, compensate=_undo)
        await ctx.step("refuse", _refuse, retry=RetryPolicy(max_attempts=1))

    @flow.workflow("conformance-mended")
    async def mended(ctx: Context, path: str) -> str:
        """Fail once; an operator mends what was wrong and lets the run go on."""
        await ctx.step("before", _note, "before", f"{path}.log")
        return await ctx.step("there", _fail_unless, path, retry=RetryPolicy(max_attempts=1))


def _keep(text: str, path: str) -> str:
    del path
    return text


def _undo(text: str, path: str) -> None:
    _note(f"undid {text}", path)


def _refuse() -> None:
    raise ValueError("refused on purpose")
