"""The long programme of faults to real processes: kills, errors, clocks, full disks, power cuts.

Each round takes its dice from the seed and its number alone, so a failure is made again by them.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.clocks import FAKETIME, jump_at_random
from tests.faults.errors import fail_at_random
from tests.faults.full import fill_and_empty
from tests.faults.kills import CALLS, kill_at_calls, kill_at_random
from tests.faults.power import cut_power, why_no_power

if TYPE_CHECKING:
    from collections.abc import Callable

_WAYS: Final = ("clone", "clone", "ext4", "seen", "xfs")
_CUTS: Final = {"clone": 6, "ext4": 3, "seen": 3, "xfs": 3}
_KILLS: Final = 8
_SELDOM: Final = {"fsync": 12, "rename": 10, "ftruncate": 10, "unlink": 4}
"""Of some calls a short life has no more; of the others it has hundreds."""
_OFTEN: Final = 60
_MARGIN_S: Final = 25.0
"""What a round may take at most is not known before: none begins in the last seconds."""


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Do faults to real processes for so long; return the figures of all rounds.

    Raises `AssertionError` with the seed and the round when a promise was broken.
    """
    ends = time.monotonic() + seconds
    figures: Counter[str] = Counter(kills=0, block_cuts=0, acknowledged=0, lost=0)
    lacking = "not root" if os.geteuid() else why_no_power()
    if lacking:
        say(f"faults: NO POWER CUTS: {lacking}")
    longest = _MARGIN_S
    for number in range(10**6):
        if time.monotonic() + longest > ends and number:
            break
        began = time.monotonic()
        told = _round(seed, number, cuts=not lacking)
        longest = max(longest, time.monotonic() - began)
        figures.update(told)
        say(f"faults: round {number} of seed {seed}: {told}; in all {dict(figures)}")
    return dict(figures)


def _round(seed: int, number: int, *, cuts: bool) -> dict[str, int]:
    rng = random.Random(f"{seed}-{number}")
    with tempfile.TemporaryDirectory(prefix="stepflow-faults-") as name:
        folder = Path(name)
        try:
            if number % 2 == 0 and cuts:
                way = _WAYS[number // 2 % len(_WAYS)]
                return cut_power(folder, way, _CUTS[way], rng.randrange(10**6))
            return _fault(folder, number // 2 % 5, rng, cuts=cuts)
        except AssertionError as error:
            again = f"python -m tests.faults.torture {seed} {number}"
            raise AssertionError(f"round {number} of seed {seed}: {again}: {error}") from error


def _fault(folder: Path, kind: int, rng: random.Random, *, cuts: bool) -> dict[str, int]:
    match kind:
        case 1:
            call = rng.choice(CALLS)
            numbers = [rng.randint(1, _SELDOM.get(call, _OFTEN)) for _ in range(_KILLS // 2)]
            return kill_at_calls(folder, call, numbers, seed=rng.randrange(10**6))
        case 2:
            return fail_at_random(folder, _KILLS // 2, rng)
        case 3 if FAKETIME.exists():
            return jump_at_random(folder, 2, rng)
        case 4 if cuts:
            return fill_and_empty(folder, 4, rng)
        case _:
            return kill_at_random(folder, _KILLS, rng)


def main() -> None:
    """Do one round again: `python -m tests.faults.torture SEED ROUND`."""
    seed, number = map(int, sys.argv[1:])
    figures = _round(seed, number, cuts=not os.geteuid() and not why_no_power())
    sys.stdout.write(f"{figures}\n")


if __name__ == "__main__":
    main()
