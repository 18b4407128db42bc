"""The long forms: order checks of other lives, sweeps of other journals, the broken rules again.

`torture(seconds, seed, say)` works for about so long, in turns; every figure it draws on comes from
`seed`. It raises `AssertionError` with what to call again at the first violation.
"""

from __future__ import annotations

import itertools
import logging
import random
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.recovery.broken_rules import BROKEN, find
from tests.recovery.journal_sweep import Sweep
from tests.recovery.order_check import OrderCheck
from tests.recovery.order_lives import record_lives

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["torture"]

_SHORT_SHARE: Final = 0.3
_DEEP_SHARE: Final = 0.3
_SWEEP_SHARE: Final = 0.25
_BROKEN_SHARE: Final = 0.15
_SWEEP_STEPS: Final = 40


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Look for a loss in orders, damage and broken rules; return what was looked at."""
    counts = dict.fromkeys(
        ("seeds", "lives", "simulated_cuts", "recoveries", "cases", "sweeps", "violations"), 0
    )
    counts |= {"planted_found": 0, "planted_total": 0, "lost": 0}
    with _silent():
        _order(seconds * _SHORT_SHARE, seed, counts, deep=False)
        say(f"order check: {counts}")
        _order(seconds * _DEEP_SHARE, seed + 1, counts, deep=True)
        say(f"order check, cut again inside each start: {counts}")
        _sweeps(seconds * _SWEEP_SHARE, seed, counts)
        say(f"sweeps: {counts}")
        _broken(seconds * _BROKEN_SHARE, seed, counts)
    return dict(counts)


def _order(seconds: float, seed: int, counts: dict[str, int], *, deep: bool) -> None:
    """Check other lives, at operations drawn at random in the deep form, for so long."""
    dice = random.Random(seed)
    until = 0.0
    while not until or time.monotonic() < until:
        lives = dice.randrange(2, 1 << 30)
        trace = record_lives(lives)
        until = until or time.monotonic() + seconds
        share = 0.05 if deep else 1.0
        chosen = frozenset(at for at in range(len(trace)) if dice.random() < share)

        def look_at(at: int, chosen: frozenset[int] = chosen, end: float = until) -> bool:
            return at in chosen and time.monotonic() < end

        report = OrderCheck(deep=deep, look_at=look_at).run(trace)
        counts["seeds"] += 1
        counts["lives"] += 1 + max(op.history.number for op in trace)
        counts["simulated_cuts"] += report.states
        counts["recoveries"] += report.recoveries
        counts["violations"] += len(report.violations)
        again = f"python -m tests.recovery.order_check --seed {lives}{' --deep' if deep else ''}"
        assert report.violations == [], f"seed {seed}: {again}: {report.violations[:3]}"


def _sweeps(seconds: float, seed: int, counts: dict[str, int]) -> None:
    until = time.monotonic() + seconds
    for number in itertools.count(seed << 20):
        sweep = Sweep(number)
        for _ in range(_SWEEP_STEPS):
            sweep.step()
        counts["cases"] += sweep.cases
        counts["sweeps"] += 1
        if time.monotonic() > until:
            return


def _broken(seconds: float, seed: int, counts: dict[str, int]) -> None:
    """Break as many rules as there is time for, in lives of other seeds; each must be found."""
    dice, until = random.Random(seed), time.monotonic() + seconds
    for rule in dice.sample(BROKEN, len(BROKEN)):
        if time.monotonic() > until and counts["planted_total"]:
            return
        lives = dice.randrange(2, 1 << 30)
        counts["planted_total"] += 1
        counts["planted_found"] += bool(find(rule, lives).violations)
        text = f"{rule.name!r} was not found in the lives of seed {lives}"
        assert counts["planted_found"] == counts["planted_total"], text


@contextmanager
def _silent() -> Generator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:]]
    print(torture(arguments[0], int(arguments[1]), print))  # noqa: T201
