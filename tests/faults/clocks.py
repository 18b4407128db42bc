"""The wall clock of a real server, in our hands: libfaketime, preloaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.kills import Lives
from tests.faults.processes import Load

if TYPE_CHECKING:
    import random

FAKETIME: Final = next(
    Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), Path("/usr/lib/none")
)
CACHED_S: Final = 2.2
"""So long the library may keep what it read: reading the file at every look is slow."""
_HOUR_S: Final = 3600


class Clock:
    """The wall clock of a server: it goes as ours does, and jumps when told."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "faketime"
        self.jump("+0")
        self.env = {
            "LD_PRELOAD": str(FAKETIME),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
        }

    def jump(self, offset: str) -> None:
        """Be so far from the true time from now on."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{offset}\n")
        draft.replace(self._file)


def jump_at_random(folder: Path, lives: int, rng: random.Random) -> dict[str, int]:
    """Let the wall clock of a server under load jump, with a kill now and then.

    Forward by less than a day: later finished runs and idempotency keys are given up, as promised.
    """
    clock = Clock(folder)
    jumps = 0
    with Load(folder, seed=rng.randrange(10**6)) as load:
        all_lives = Lives(folder, load, env=clock.env)
        for _ in range(lives):
            with all_lives.begin() as server:
                server.ready()
                for _ in range(3):
                    clock.jump(f"{rng.randint(-365 * 24 * _HOUR_S, 20 * _HOUR_S):+d}")
                    jumps += 1
                    time.sleep(CACHED_S / 2)
                    load.more(30, server)
                server.kill()
                all_lives.over(server)
        return all_lives.judge() | {"cases": jumps}
