"""W1 on llama-index-workflows: four events, in memory. It is not durable: a run dies with it."""

from __future__ import annotations

import asyncio

from contestant import INPUT, serve
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent


async def small(what: str) -> dict[str, object]:
    return {"ok": True, "what": what}


class First(Event):
    """The first step has ended."""

    user: dict[str, str]


class Second(Event):
    """The second step has ended."""

    user: dict[str, str]


class W1(Workflow):
    """W1."""

    @step
    async def first(self, ev: StartEvent) -> First:
        await small(ev.user["userId"])
        return First(user=ev.user)

    @step
    async def second(self, ev: First) -> Second:
        await small(ev.user["email"])
        return Second(user=ev.user)

    @step
    async def third(self, ev: Second) -> StopEvent:
        del ev
        return StopEvent(result=await small("done"))


async def main() -> None:
    workflow = W1(timeout=None)

    async def one_run() -> object:
        return await workflow.run(user=INPUT)

    await serve(one_run)


if __name__ == "__main__":
    asyncio.run(main())
