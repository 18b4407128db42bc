"""What every host of the suite serves: one flow, and the words that its own start and end print."""

from __future__ import annotations

import os
from typing import Any

from stepflow import Context, Stepflow

PREFIX = "/api/stepflow"
ENDPOINTS: Any = os.environ.get("ENDPOINTS", "all")

flow = Stepflow(os.environ["DATA"])


def doubled(n: int) -> int:
    return 2 * n


@flow.workflow("double")
async def double(ctx: Context, n: int) -> int:
    return await ctx.step("double", doubled, n)


@flow.workflow("talk", events=["say-{id}"])
async def talk(ctx: Context, who: dict[str, str]) -> Any:
    """Say a word for each event, until one says to stop."""
    for turn in range(1000):
        heard = await ctx.wait_for_event(f"turn-{turn}", f"say-{who['id']}", timeout=None)
        if heard == "stop":
            break
    return turn


def say(word: str) -> None:
    print(f"host {word}", flush=True)
