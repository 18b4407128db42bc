"""The parts of the long programme of faults: what each is, and its share of the time.

A part is a module with `torture(seconds, seed, say) -> dict[str, int]`: it works for about
`seconds`, takes all chance from `seed`, tells its progress by `say`, returns what it counted
(`COUNTS` says what the names mean) and raises AssertionError, with what reproduces it, when a rule
is broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name, its module, its share of the time (relative), one line about it."""

    name: str
    module: str
    share: float
    what: str
    many: bool = False
    """Whether it may run several times at once, each with seeds of its own."""


PARTS: Final = (
    Part("sim", "tests.sim.torture", 30, "the runtime on virtual time and a simulated disk", True),
    Part("recovery", "tests.recovery.torture", 12, "every order in which a disk may keep writes"),
    Part("faults", "tests.faults.torture", 25, "real processes: kills, failing disks, power cuts"),
    Part("damage", "tests.damage.torture", 10, "bytes cut, bits flipped, files swapped"),
    Part("plenty", "tests.plenty.torture", 8, "floods, huge values, many live runs, blocked loops"),
    Part("attacks", "tests.attacks.torture", 10, "forged credentials, hostile bytes, enumeration"),
    Part("marked", "tests.torture.marked", 1, "the tests that pytest marks as torture"),
)

COUNTS: Final = {
    "seeds": "simulated worlds, each from a seed of its own",
    "lives": "starts of a runtime or a server",
    "simulated_cuts": "power cuts of the simulated disk",
    "simulated_kills": "simulated processes that died, the disk's cache staying",
    "kills": "kill -9 of a real server",
    "block_cuts": "power cuts of a real file system",
    "sweeps": "places at which a write, a sync or a byte was made to fail",
    "cases": "single cases of a table or of random damage",
    "recoveries": "recoveries that were checked",
    "attacks": "hostile requests and credentials",
    "acknowledged": "answers that promised something, all checked",
    "events_seen": "events of streams, each seen again after a cut",
    "steps_run": "bodies of steps, none of them after its result was recorded",
    "planted_found": "planted bugs that were found",
    "planted_total": "planted bugs",
    "lost": "acknowledged things that were lost",
    "violations": "other broken rules",
}
"""What may be counted, in the order of the summary."""

RATED: Final = ("seeds", "simulated_cuts", "kills", "block_cuts", "cases", "attacks")
"""What is worth a rate an hour."""
