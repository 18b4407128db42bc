"""How much Python an event costs for each subscriber: bytecode instructions, of both streams.

Beside benchmarks/instructions.py, which counts a run. Subscribers are connections without sockets,
through the server's own protocol to the bytes that a socket would be given. What does not grow with
their number falls out: each figure is the difference between two numbers of them, by the subscriber
and event, and only the product's own code counts. `…_opening` is in how many writes a subscriber's
stream begins, `…_writes` in how many its events come.

- **one by one** (`ticks`): each cause makes two events, which become durable together;
- **a burst**: a hundred events as fast as they come, which a cursor takes in few goes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from uvicorn.server import ServerState

from benchmarks.http_instructions import Wire, request
from benchmarks.instructions import Count, StillClock, figures_of
from benchmarks.report import ROOT, arguments, finish
from benchmarks.servers import KEY
from benchmarks.workload import flow
from stepflow import Stepflow
from stepflow.clock import next_pass
from stepflow.config import MEMORY, Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.memory import MemoryDisk
from stepflow.web.server import make_config

if TYPE_CHECKING:
    from types import CodeType

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from stepflow.engine.protocol import Engine

FEW: Final = 50
MANY: Final = 150
TICKS: Final = 10
EVENTS_A_TICK: Final = 2
ITEMS: Final = 50
_PRODUCT: Final = str(ROOT / "stepflow")
_PASSES: Final = 400
"""Of the loop, by which all is done: nothing here waits for a clock or a disk."""


class Kept(Wire):
    """A transport that keeps each write, by no Python of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []
        self.write = self.parts.append  # type: ignore[method-assign, assignment]


class Shape(NamedTuple):
    """What is published: a run of that workflow, so many events by each of so many causes."""

    workflow: str
    size: int
    event: str
    causes: int
    events: int


SHAPES: Final = {
    "ticks": Shape("ticker", TICKS + 1, "tick", TICKS, EVENTS_A_TICK * TICKS),
    "burst": Shape("burst", ITEMS, "go", 1, 2 * ITEMS),
}


class Seen(NamedTuple):
    """What all subscribers together cost, and how many writes one got: at the start, and then."""

    count: Count
    opening: int
    writes: int


async def settle() -> None:
    for _ in range(_PASSES):
        await next_pass()


class Bench:
    """The product over a disk in memory, its clock at a stand."""

    def __init__(self) -> None:
        engine = LocalEngine(
            flow.registry,
            MEMORY,
            settings=Settings(),
            clock=StillClock(),
            disk=MemoryDisk(),
            threads=False,
        )
        self.engine = engine
        as_engine: Engine = engine
        self.flow = Stepflow(MEMORY, engine=as_engine)
        self.flow.registry = flow.registry

    def connect(self, path: str, count: int) -> tuple[list[Kept], list[HttpToolsProtocol]]:
        """Return so many subscribers' transports, and their protocols."""
        config = make_config(cast("Any", self.flow.asgi()), Settings())
        config.load()
        kind = cast("type[HttpToolsProtocol]", config.http_protocol_class)
        state = ServerState()
        wires = [Kept() for _ in range(count)]
        protocols = []
        for wire in wires:
            protocol = kind(config=config, server_state=state, app_state={})
            protocol.connection_made(cast("asyncio.Transport", wire))
            protocol.data_received(request("GET", path))
            protocols.append(protocol)
        return wires, protocols

    async def see(self, shape: Shape, *, readers: int, of_all: bool) -> Seen:
        """Publish to so many subscribers, and return what it took."""
        run = await self.flow.trigger(shape.workflow, shape.size)
        await settle()
        wires, protocols = self.connect("/stream" if of_all else f"/runs/{run.id}/stream", readers)
        await settle()
        opening = len(wires[-1].parts)
        with Count() as count:
            for _ in range(shape.causes):
                await self.engine.notify(shape.event, b"{}")
                await settle()
        told = {b"".join(wire.parts) for wire in wires}
        if len(told) != 1 or told.pop().count(b"\n\n") < shape.events:
            raise RuntimeError("the subscribers were told different things, or not all of it")
        writes = len(wires[-1].parts) - opening
        for protocol in protocols:
            protocol.connection_lost(None)
        await settle()
        return Seen(count, opening, writes)

    async def compare(self, shape: Shape, *, of_all: bool) -> tuple[dict[str, Any], Any]:
        """Return the figures of one shape on one stream, and those by function."""
        few = await self.see(shape, readers=FEW, of_all=of_all)
        many = await self.see(shape, readers=MANY, of_all=of_all)
        more = Count()
        more.instructions = ours(many.count.instructions) - ours(few.count.instructions)
        more.calls = many.count.calls - few.count.calls
        found = figures_of(more, (MANY - FEW) * shape.events)
        each = more.instructions.total() / ((MANY - FEW) * shape.events)
        figures = {"instructions": round(each, 1), "opening": many.opening, "writes": many.writes}
        return figures, found["by_function"]

    async def measure(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        by_function: dict[str, Any] = {}
        async with self.flow:
            for name, of_all in (("run", False), ("all", True)):
                for how, shape in SHAPES.items():
                    found, by_function[f"{name}_{how}"] = await self.compare(shape, of_all=of_all)
                    figures |= {f"{name}_{how}_{what}": value for what, value in found.items()}
        return figures | {"by_function": by_function}


def ours(counted: Counter[CodeType]) -> Counter[CodeType]:
    """Return what is the product's own: the loop's passes while all settles are this script's."""
    mine = {code: n for code, n in counted.items() if code.co_filename.startswith(_PRODUCT)}
    return Counter(mine)


def main() -> None:
    options = arguments("Bytecode instructions for each subscriber and event")
    figures = asyncio.run(Bench().measure())
    facts = {"implementation": sys.implementation.name, "subscribers": MANY}
    finish(facts | figures, options.json)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    os.environ["STEPFLOW_API_KEYS"] = KEY
    main()
