"""Lives that end in a kill, one after the other on one directory, under one load."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.faults.ledger import KEY, Ledger, check, until
from tests.faults.processes import Load, Served, strace
from tests.recovery.reference_replayer import compare, replay_directory

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

CALLS: Final = ("pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink")
KILLED: Final = -signal.SIGKILL
_TINY: Final = {
    "STEPFLOW_SEGMENT_BYTES_FIRST": "8192",
    "STEPFLOW_SEGMENT_BYTES_MAX": "16384",
    "STEPFLOW_FRAME_BYTES_MAX": "8192",
    "STEPFLOW_SNAPSHOT_WAL_BYTES": "65536",
}
"""So small that a life of a second makes, cuts and drops segments."""
_ENOUGH: Final = 1000
"""A life in which the N-th call does not come ends after so many promises."""


@dataclass
class Lives:
    """The lives of one data directory, with the log of steps of each.

    `data` is it, where it is not one of the folder's.
    """

    folder: Path
    load: Load
    unsafe: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    wrap: Sequence[str] = ()
    data: Path | None = None
    count: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list[str])
    _before: Ledger = field(default_factory=Ledger)

    def begin(self, wrap: Sequence[str] = ()) -> Served:
        """Start one more life; what was seen until now must not run in it."""
        self._before = self.load.ledger()
        self.count += 1
        return Served(
            self.data or self.folder / "data",
            self.folder,
            wrap=[*self.wrap, *wrap],
            env={"STEP_LOG": str(self._steps), "UNSAFE": self.unsafe, **_TINY, **self.env},
            url_file=self.load.url_file,
        )

    def over(self, server: Served, fault: str = "kill", allowed: Collection[int] = ()) -> None:
        """End the life if it goes on; note which steps ran in it that must not have."""
        self.kills += server.process.poll() == KILLED
        status = server.close()
        if status not in {KILLED, 0, *allowed}:
            said = f"life {self.count}, {fault}, ended with {status}: {server.said}"
            self.faults.append(said)
        # Before it listens a command says it as all commands do.
        if status in allowed and "CRITICAL" not in server.said and "error:" not in server.said:
            self.faults.append(f"life {self.count}, {fault}, ended and did not say why")
        if self._steps.exists():
            self.faults += self._before.run_again(self._steps)

    def judge(self) -> dict[str, int]:
        """Start once more and ask for everything; return the figures."""
        with self.begin() as server:
            server.ready()
            ledger = self.load.stop()
            self.faults += check(ledger, server.url)
            if self.data is None:
                self.faults += self._told_by_the_records(server)
            self.faults += self._before.run_again(self._steps)
        assert not self.faults, self.faults[:10]
        told = {"lives": self.count, "kills": self.kills, "lost": 0}
        return told | {"acknowledged": ledger.acknowledged}

    def _told_by_the_records(self, server: Served) -> list[str]:
        """Return where another reader of the directory finds something else than is served."""
        found: list[str] = ["not read yet"]

        def same() -> bool:
            # What is lazy may be on its way to the disk while the copy is made.
            copy = self.folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            try:
                shutil.copytree(self.folder / "data", copy)
            except OSError:  # a file was dropped meanwhile
                return False
            found[:] = compare(replay_directory(copy), server.url, KEY)
            return not found

        with contextlib.suppress(AssertionError):
            until(same, within_s=20)
        return found

    @property
    def _steps(self) -> Path:
        return self.folder / f"steps-{self.count:04d}.log"


def kill_at_random(
    folder: Path, lives: int, rng: random.Random, *, unsafe: str = ""
) -> dict[str, int]:
    """Kill a server under load after a random progress, so many times; return the figures."""
    with Load(folder, seed=rng.randrange(10**6)) as load:
        all_lives = Lives(folder, load, unsafe)
        for _ in range(lives):
            with all_lives.begin() as server:
                # Some are killed while they recover.
                if rng.random() < 0.2:
                    time.sleep(rng.uniform(0.2, 0.8))
                else:
                    load.more(rng.randint(1, 300), server.ready())
                server.kill()
                all_lives.over(server)
        return all_lives.judge()


def kill_at_calls(folder: Path, call: str, numbers: Iterable[int], *, seed: int) -> dict[str, int]:
    """Kill a server at its N-th call, for each N; return the figures."""
    with Load(folder, seed=seed) as load:
        all_lives = Lives(folder, load)
        for number in numbers:
            wrap = strace(f"{call}:signal=KILL:when={number}")
            with all_lives.begin(wrap) as server:
                _live(server, load)
                all_lives.over(server)
        return all_lives.judge()


def _live(server: Served, load: Load) -> None:
    """Return when the server was killed, or after a while in which it was not."""
    try:
        server.ready()
    except (AssertionError, FileNotFoundError):
        # Killed before it could say where it listens.
        if server.alive:
            raise
        return
    load.more(_ENOUGH, server)
