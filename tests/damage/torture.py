"""Damage for as long as wanted: the same seed spoils the same.

======== ============================================================================
sweep    every bit flipped, every byte cut, every sector torn, spoiled and misplaced,
         files lost and confused, noise: directories of ever other frames
mend     each such image repaired: nothing lost, nothing else believed
stop     `repair` and `backup` stopped at every operation, the power cut there
hostile  every member of every record spoiled: folded, packed, folded again
serve    such records served through: read, notified, snapshotted, started again
======== ============================================================================
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from tests.damage.hostile import cases, check
from tests.damage.mending import mend_image
from tests.damage.sweep import (
    ENDS,
    Image,
    Subject,
    confused_files,
    cuts,
    flips,
    forged,
    judge,
    noise,
    spoiled_sectors,
    subject,
    torn_sectors,
)
from tests.damage.test_repair import DAMAGES, stop_everywhere
from tests.damage.test_set_aside import serve_through, served_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["torture"]

_PORTION: Final = 200
"""Cases between two looks at the clock."""


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Damage for about so long; return how often. Raises `AssertionError` with what to repeat."""
    counts = {"seeds": 0, "sweeps": 0, "cases": 0, "recoveries": 0, "lost": 0, "violations": 0}
    until_s = time.monotonic() + seconds
    logging.disable(logging.CRITICAL)
    try:
        works = [
            _Endless(_sweeps(seed, counts)),
            _Endless(_mends(seed, counts)),
            _Endless(_stops(seed, counts)),
            _Endless(_hostile(seed, counts)),
            _Endless(_serves(seed, counts)),
        ]
        said_s = time.monotonic()
        while time.monotonic() < until_s:
            for work in works:
                work.go_on(until_s)
            if time.monotonic() - said_s > 10:
                said_s = time.monotonic()
                say(f"{counts['sweeps']} images swept, {counts['cases']} other cases")
    except BaseException:
        counts["violations"] += 1
        raise
    finally:
        logging.disable(logging.NOTSET)
    counts["recoveries"] = counts["sweeps"] + counts["cases"]
    return counts


class _Endless:
    """One kind of work, a portion at a time, so that every kind gets its share of the time."""

    def __init__(self, steps: Iterator[None]) -> None:
        self._steps = steps

    def go_on(self, until_s: float, share_s: float = 2.0) -> None:
        """Work for a share of the time, or until it is over."""
        end_s = min(until_s, time.monotonic() + share_s)
        for _ in self._steps:
            if time.monotonic() >= end_s:
                return


def _subjects(seed: int, counts: dict[str, int]) -> Iterator[tuple[int, Subject]]:
    number = seed * 1_000_003
    while True:
        counts["seeds"] += 1
        for end in ENDS:
            yield number, subject(end, number)
        number += 1


def _images(made: Subject, seed: int, *, every_bit: bool) -> Iterator[Image]:
    return chain(
        torn_sectors(made),
        confused_files(made),
        forged(made),
        spoiled_sectors(made, seed),
        noise(made, seed, 2000),
        cuts(made),
        flips(made, every_bit=every_bit),
    )


def _sweeps(seed: int, counts: dict[str, int]) -> Iterator[None]:
    for number, made in _subjects(seed, counts):
        for image in _images(made, number, every_bit=True):
            with _named(f"sweep, seed {number}"):
                judge(made, image)
            counts["sweeps"] += 1
            if counts["sweeps"] % _PORTION == 0:
                yield


def _mends(seed: int, counts: dict[str, int]) -> Iterator[None]:
    for number, made in _subjects(seed + 1, {"seeds": 0}):
        for image in _images(made, number, every_bit=False):
            with _named(f"mend, seed {number}"):
                mend_image(made, image)
            counts["cases"] += 1
            yield


def _stops(seed: int, counts: dict[str, int]) -> Iterator[None]:
    number = seed
    while True:
        for damage in DAMAGES:
            with _named(f"stop, seed {number}"):
                counts["cases"] += stop_everywhere(damage, random.Random(number))
            yield
        number += 1


def _hostile(seed: int, counts: dict[str, int]) -> Iterator[None]:
    dice = random.Random(seed)
    while True:
        for case in islice(cases(), dice.randrange(7), None, 7):
            check(case)
            counts["cases"] += 1
            yield


def _serves(seed: int, counts: dict[str, int]) -> Iterator[None]:
    dice = random.Random(seed)
    while True:
        for case in islice(served_cases(), dice.randrange(50), None, 50):
            with _named(case.name):
                asyncio.run(serve_through(case))
            counts["cases"] += 1
            yield


@contextmanager
def _named(name: str) -> Generator[None]:
    """Say in an error which case it was."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
