"""What lies in `snapshots/format-1-keys`: API keys that were made and revoked over HTTP.

Before a snapshot and after it, among runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow import Context, Settings, Stepflow
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

__all__ = ["live", "register"]

_RUNS = 10


async def same(value: Any) -> Any:
    return value


def register(flow: Stepflow) -> None:
    """Register the workflow."""

    @flow.workflow("doubles")
    async def doubles(ctx: Context, n: int) -> int:
        return 2 * await ctx.step("same", same, n)


async def live(work: Path, settings: Settings) -> AsyncGenerator[Stepflow]:
    """Live it, and yield the flow while its process still runs."""
    flow = Stepflow(work, settings=settings)
    register(flow)
    async with flow:
        engine = flow.engine
        assert isinstance(engine, LocalEngine)
        await engine.note_key_act("make", "k7Qm2xAa", name="billing", by="key:ops")
        await engine.note_key_act("make", "p3Zt9yBb", name="reports", by="key:ops")
        for n in range(_RUNS):
            run_id = f"run_doubles{n:09d}"
            await flow.trigger("doubles", n, run_id=run_id)
            await engine.wait(run_id)
        await engine.snapshot()
        await engine.note_key_act("revoke", "k7Qm2xAa", name="billing", by="user:ada")
        yield flow
