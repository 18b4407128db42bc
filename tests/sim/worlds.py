"""The worlds beside that of random runs: each has its own workflows, clients, rules, planted bugs.

They share the loop, the clock and the disk of the simulation. What happens in one comes from its
seed alone, so a seed that fails fails again.
"""

from __future__ import annotations

import gc
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from tests.sim.admission import AdmissionWorld
from tests.sim.compose import ComposeWorld
from tests.sim.control import ControlWorld
from tests.sim.kept import KeptWorld
from tests.sim.planted_admission import ADMISSION_BUGS, ADMISSION_FOCUS
from tests.sim.planted_compose import COMPOSE_BUGS, COMPOSE_FOCUS
from tests.sim.planted_control import CONTROL_BUGS, CONTROL_FOCUS
from tests.sim.planted_kept import KEPT_BUGS, KEPT_FOCUS
from tests.sim.world import Report, simulating

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["WORLDS", "Found", "World", "find", "world_of"]

SEEDS_MAX: Final = 600
_COLLECT_EVERY: Final = 8
_runs = itertools.count()


class Lived(Protocol):
    """One seed of a world."""

    lives: int
    cuts: int
    kills: int

    @property
    def promised(self) -> int:
        """How many things clients were promised, all of them checked."""
        ...

    def run(self) -> list[str]:
        """Live all lives; return what was wrong."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """A world, and the bugs that can be planted in it."""

    name: str
    what: str
    make: Callable[[int, tuple[str, ...]], Lived]
    bugs: Mapping[str, Callable[[], Any]]
    focus: Mapping[str, tuple[str, ...]]
    """By bug: what the seeds are about that find it soonest."""

    def run(self, seed: int, bug: str = "") -> Report:
        """Run one seed inside `simulating()`, about what finds the bug; it is not planted here."""
        world = self.make(seed, self.focus.get(bug, ()))
        violations = world.run()
        if next(_runs) % _COLLECT_EVERY == 0:
            gc.collect()
        return Report(
            violations,
            digest="",
            lives=world.lives,
            cuts=world.cuts,
            kills=world.kills,
            # The first start has nothing to find.
            recoveries=world.lives - 1,
            counts={"acknowledged": world.promised, "seen": 0, "steps": 0},
        )


WORLDS: Final = {
    world.name: world
    for world in (
        World(
            "control",
            "pause, resume, retry, fork, cancel by force, purge",
            ControlWorld,
            CONTROL_BUGS,
            CONTROL_FOCUS,
        ),
        World(
            "compose",
            "sagas, first of several, loops, children, emits, at most once",
            ComposeWorld,
            COMPOSE_BUGS,
            COMPOSE_FOCUS,
        ),
        World(
            "admission",
            "limits, keys, rates, schedules",
            AdmissionWorld,
            ADMISSION_BUGS,
            ADMISSION_FOCUS,
        ),
        World(
            "kept",
            "retention by age, count and bytes, of a workflow and of all",
            KeptWorld,
            KEPT_BUGS,
            KEPT_FOCUS,
        ),
    )
}


def world_of(bug: str) -> World | None:
    """Return the world that the bug is planted in, or `None` for that of random runs."""
    return next((world for world in WORLDS.values() if bug in world.bugs), None)


@dataclass(frozen=True, slots=True)
class Found:
    """A seed that fails with the bug and because of it."""

    seed: int
    violation: str


def find(world: World, bug: str) -> Found | None:
    """Return the first seed that fails with the bug and not without it."""
    with simulating():
        for seed in range(SEEDS_MAX):
            with world.bugs[bug]():
                report = world.run(seed, bug)
            if report.violations and not world.run(seed, bug).violations:
                return Found(seed, report.violations[0])
    return None
