"""Lives in which one kind of system call fails, at its N-th time or from then on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tests.faults.kills import Lives
from tests.faults.ledger import until
from tests.faults.processes import Load, Served, strace

if TYPE_CHECKING:
    import random
    from pathlib import Path

CALLS: Final = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "fallocate")
ERRORS: Final = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EACCES")
DISK_FAILED: Final = 74
_ENOUGH: Final = 150
_SECONDS: Final = 5
"""A life that is read-only is promised no more, so it is ended after a while."""


def fail_at_random(folder: Path, lives: int, rng: random.Random) -> dict[str, int]:
    """Let calls of a server under load fail, of one kind a life; return the figures.

    Each life serves on, refuses, or ends with 74 and says why; nothing is lost by it.
    """
    with Load(folder, seed=rng.randrange(10**6)) as load:
        all_lives = Lives(folder, load)
        for _ in range(lives):
            fault = f"{rng.choice(CALLS)}:error={rng.choice(ERRORS)}"
            fault += f":when={rng.randint(1, 25)}{rng.choice(['', '+', '+3'])}"
            with all_lives.begin(strace(fault)) as server:
                _live(server, load)
                all_lives.over(server, fault, allowed={DISK_FAILED})
        return all_lives.judge() | {"kills": 0, "cases": lives}


def _live(server: Served, load: Load) -> None:
    """Return when the server has ended, has done enough, or does no more."""
    ends = time.monotonic() + _SECONDS
    until(lambda: not server.alive or time.monotonic() > ends or server.status("/ready") == 200)
    if server.alive:
        server.tell()
    enough = load.ledger().acknowledged + _ENOUGH
    until(
        lambda: not server.alive or time.monotonic() > ends or load.ledger().acknowledged >= enough,
        lambda: server.said,
    )
