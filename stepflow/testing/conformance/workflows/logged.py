"""Runs whose steps say on a side channel that they ran, for claims about what ran again.

The channel is a file that all processes of a deployment can append to: one line an attempt,
`<run id> <step key> <attempt>`, in one write.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.runtime.current import current_step

if TYPE_CHECKING:
    from stepflow.flow import Stepflow

__all__ = ["Logged", "register_logged"]


@dataclass
class Logged:
    """The id of its events, how many steps stand before and after the wait, and the file."""

    id: str
    steps: int
    log: str


def _add_one(n: int, log: str) -> int:
    step = current_step()
    line = f"{step.run_id} {step.key} {step.attempt}\n".encode()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    return n + 1


def register_logged(flow: Stepflow) -> None:
    """Register them."""

    @flow.workflow("conformance-logged", events=["go-on-{id}"])
    async def logged(ctx: Context, plan: Logged) -> Any:
        n = 0
        for _ in range(plan.steps):
            n = await ctx.step("before", _add_one, n, plan.log)
        word = await ctx.wait_for_event("go-on", f"go-on-{plan.id}", timeout=None)
        for _ in range(plan.steps):
            n = await ctx.step("after", _add_one, n, plan.log)
        return [n, word]

    @flow.workflow("conformance-plodding")
    async def plodding(ctx: Context, plan: Logged) -> int:
        """Step after step with a nap before each, so that a restart finds it anywhere."""
        n = 0
        for _ in range(plan.steps):
            await ctx.sleep("nap", 0.02)
            n = await ctx.step("plod", _add_one, n, plan.log)
        return n
