"""All parts, several at a time, within the time given.

The parts are dealt to lanes so that each lane has about the same share; within a lane a part gets
what is left of the time in the proportion of its share to those still to come. So what one part
takes too long the next ones lose, and the whole ends in time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tests.torture.process import Outcome, run_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.torture.parts import Part

OTHER_SEEDS = 10_000_000
"""How far the seeds of another instance of the same part are: no part gets that far in one run."""

MORE_S = 60.0
"""A round of further worlds takes so long at least: it looks for planted bugs first."""


class Show(Protocol):
    """Who wants to know how it goes."""

    def started(self, part: Part, seed: int, seconds: float) -> None: ...
    def said(self, part: Part, seed: int, text: str) -> None: ...
    def ended(self, outcome: Outcome) -> None: ...


@dataclass(slots=True)
class Programme:
    """What is to be run, and what became of it."""

    parts: Sequence[Part]
    seconds: float
    seed: int
    jobs: int
    logs: Path
    show: Show
    seeds: int = 0
    """So many simulated worlds at least, however long that takes."""
    grace_s: float = 60.0
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    async def run(self) -> list[Outcome]:
        """Run all parts; then more of the simulation, if it has not seen `seeds` worlds yet."""
        self.logs.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + self.seconds
        async with asyncio.TaskGroup() as group:
            for lane in self.lanes():
                group.create_task(self._run_lane(lane, until))
        await self._more_seeds()
        return self.outcomes

    def lanes(self) -> list[list[tuple[Part, int]]]:
        """Deal parts and their seeds to lanes; a lane without one simulates more, or nothing."""
        lanes: list[list[tuple[Part, int]]] = [[] for _ in range(self.jobs)]
        by_share = sorted(self.parts, key=lambda part: -part.share)
        for part in by_share:
            lane = min(lanes, key=lambda dealt: sum(other.share for other, _ in dealt))
            lane.append((part, self.seed))
        for number, lane in enumerate(lanes):
            if not lane and (many := self._many()):
                lane.append((many, self.seed + number * OTHER_SEEDS))
        return lanes

    def _many(self) -> Part | None:
        return next((part for part in self.parts if part.many), None)

    async def _run_lane(self, lane: list[tuple[Part, int]], until: float) -> None:
        shares = sum(part.share for part, _ in lane)
        for part, seed in lane:
            left_s = max(1.0, until - time.monotonic())
            await self._run(part, left_s * part.share / shares, seed)
            shares -= part.share

    async def _more_seeds(self) -> None:
        sim = self._many()
        number = self.jobs
        while sim is not None and (seen := self._seen()) < self.seeds:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.jobs):
                    seed = self.seed + number * OTHER_SEEDS
                    group.create_task(self._run(sim, max(self.seconds, MORE_S), seed))
                    number += 1
            if self._seen() == seen or not all(outcome.passed for outcome in self.outcomes):
                return

    def _seen(self) -> int:
        return sum(outcome.counts.get("seeds", 0) for outcome in self.outcomes)

    async def _run(self, part: Part, seconds: float, seed: int) -> None:
        self.show.started(part, seed, seconds)

        def say(text: str) -> None:
            self.show.said(part, seed, text)

        outcome = await run_part(part, seconds, seed, say, logs=self.logs, grace_s=self.grace_s)
        self.outcomes.append(outcome)
        self.show.ended(outcome)
