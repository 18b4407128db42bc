"""Lives of a service with its own workflows: what the worlds of control and composition share.

One seed: some lives on one simulated disk, each ended by a power cut, a kill or a stop; then one in
which all must end, and one more that looks at what is left. A world says what happens in a life
(`actions`), what a start must find (`believe`) and how all comes to its end (`finish`).
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, ClassVar, Final

from stepflow.config import MEMORY, Settings
from stepflow.engine import local
from stepflow.errors import ApiError, ConflictError, OutcomeUnknownError, UnavailableError
from tests.sim.disk import SimDisk
from tests.sim.loop import SimBackground, SimClock, SimLoop, SimStepThreads, SimWriter

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["SETTINGS", "Lives"]

SETTINGS: Final = Settings(
    segment_bytes_first=64 * 1024,
    segment_bytes_max=256 * 1024,
    room_reserve_bytes=2048,
    reserve_file_bytes=4096,
    free_bytes_min=4096,
    lock_wait_s=0.0,
    passivate_after_s=0.2,
    cancel_grace_s=0.5,
)
_LATENCIES: Final = ((0.0,), (0.0, 0.003), (0.0, 0.001, 0.05))
_NOTHING: Final = (UnavailableError, OutcomeUnknownError, ConflictError)
"""Answers that promise nothing: what was asked may have been done, or could not be."""


class Lives:
    """One seed under way."""

    name: ClassVar[str]
    registry: ClassVar[Any]
    weights: ClassVar[dict[str, int]]
    settings: Settings = SETTINGS

    def __init__(self, seed: int, focus: tuple[str, ...] = ()) -> None:
        self.seed = seed
        self.focus = focus
        self.dice = random.Random(f"{self.name} {seed}")
        self.clock = SimClock()
        self.disk = SimDisk(random.Random(f"{self.name} {seed} disk"))
        self.violations: list[str] = []
        self.latencies = (0.05,) if "crash" in focus else self.dice.choice(_LATENCIES)
        self.lives = self.cuts = self.kills = 0

    def wrong(self, what: str) -> None:
        """What is not as it must be."""
        self.violations.append(f"life {self.lives}: {what}")

    def run(self) -> list[str]:
        """Live all lives; return what was wrong."""
        for part in (SimWriter, SimBackground, SimStepThreads):
            part.latency_s = self.latencies
        for _ in range(self.dice.randrange(2, 5)):
            self._live(self._act(), self.dice.choice(("cut", "cut", "kill", "stop")))
            self.clock.now_s += self.dice.choice((0.0, 0.0, 1.0, 30.0))
        self._live(self._end(), "cut", quiet=True)
        self._live(self._start(), "cut", quiet=True)
        return self.violations

    def _live(self, work: Coroutine[Any, Any, None], ending: str, *, quiet: bool = False) -> None:
        if self.violations:
            work.close()
            return
        self.lives += 1
        disk = self.disk
        disk.begin_life()
        loop = SimLoop(self.clock, random.Random(f"{self.name} {self.seed} {self.lives}"))
        disk.die_at, disk.die_on = 0, ""
        if not quiet and ending != "stop" and self.dice.random() < 0.7:
            disk.die_at = self.dice.randrange(20, 500)
            if "crash" in self.focus or self.dice.random() < 0.4:
                # At a sync: what was written and not synced may be there or not.
                disk.die_at, disk.die_on = self.dice.randrange(6, 80), "fdatasync"
        disk.on_death = lambda: setattr(loop, "dead", True)
        self.loop = loop
        self.ending = ending
        self.engine = local.LocalEngine(
            self.registry,
            MEMORY,
            settings=self.settings,
            clock=self.clock,
            disk=disk,
            entropy=random.Random(f"{self.name} {self.seed} {self.lives} entropy"),
            threads=False,
        )
        self.begin_life()
        end = loop.do(work)
        if end in {"idle", "spinning"}:
            self.wrong(f"the service is {end}")
        for error in loop.errors:
            self.wrong(str(error))
        loop.bury()
        if ending == "cut":
            disk.power_cut(0.5)
        self.cuts += ending == "cut"
        self.kills += ending == "kill"

    async def _start(self) -> None:
        await self.engine.start()
        await self.believe()

    async def _act(self) -> None:
        await self._start()
        tasks: list[asyncio.Task[None]] = []
        for _ in range(self.dice.randrange(8, 30)):
            await asyncio.sleep(self.dice.choice((0, 0, 0.001, 0.02, 0.1, 0.5)))
            tasks.append(asyncio.Task(self._action(), loop=self.loop))
        await asyncio.sleep(self.dice.choice((0, 0.01, 0.2, 2.0)))
        if self.ending == "stop":
            await self.engine.stop()

    async def _action(self) -> None:
        weights = {kind: 6 * n if kind in self.focus else n for kind, n in self.weights.items()}
        kind = self.dice.choices(list(weights), list(weights.values()))[0]
        try:
            await getattr(self, f"do_{kind}")()
        except _NOTHING:
            return
        except ApiError as error:
            self.wrong(f"{kind} was answered {error!r}")

    async def _end(self) -> None:
        await self._start()
        await self.finish()

    def states(self) -> list[Any]:
        """Return the runs as the engine holds them."""
        sup = self.engine.sup
        return [sup.runs[run_id].peek() for run_id in list(sup.runs)]

    @property
    def promised(self) -> int:
        """How many things clients were promised."""
        raise NotImplementedError

    def begin_life(self) -> None:
        """What was in memory is gone."""

    async def believe(self) -> None:
        """Compare what a start has found with what was promised."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Let all come to its end, and compare that."""
        raise NotImplementedError
