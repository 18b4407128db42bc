"""Many seeds, in this process or in several, and what is said of one that fails."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import msgspec

from tests.sim.bugs import BUGS
from tests.sim.plan import draw
from tests.sim.shrink import shorten, tell
from tests.sim.world import Report, run_plan, simulating
from tests.sim.worlds import WORLDS, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.sim.plan import Plan

__all__ = [
    "RUNS",
    "Failure",
    "Summary",
    "digests",
    "explain",
    "run_block",
    "run_for",
    "run_seeds",
]

Block = tuple[int, int, str]
"""The first seed, how many, and of which world."""

RUNS: Final = "runs"
"""The world of random runs, the one whose failures are made shorter."""
BLOCK: Final = 25
_PR_SET_PDEATHSIG: Final = 1
_FAILURES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that failed, and the first things that were wrong."""

    seed: int
    violations: tuple[str, ...]


@dataclass(slots=True)
class Summary:
    """What came of many seeds."""

    seeds: int = 0
    lives: int = 0
    cuts: int = 0
    kills: int = 0
    recoveries: int = 0
    acknowledged: int = 0
    seen: int = 0
    steps: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list[Failure])

    def add(self, seed: int, report: Report) -> None:
        """Count a seed."""
        self.seeds += 1
        self.lives += report.lives
        self.cuts += report.cuts
        self.kills += report.kills
        self.recoveries += report.recoveries
        self.acknowledged += report.counts["acknowledged"]
        self.seen += report.counts["seen"]
        self.steps += report.counts["steps"]
        if report.violations:
            self.failures.append(Failure(seed, tuple(report.violations[:3])))

    def merge(self, other: Summary) -> None:
        """Count what another has counted."""
        for name in ("seeds", "lives", "cuts", "kills", "recoveries", "acknowledged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seen += other.seen
        self.steps += other.steps
        self.failures += other.failures

    @property
    def per_hour(self) -> int:
        """Seeds an hour at the rate of these."""
        return int(self.seeds / self.seconds * 3600) if self.seconds else 0

    def figures(self) -> dict[str, int]:
        """Return the counts by name."""
        return {
            "seeds": self.seeds,
            "lives": self.lives,
            "simulated_cuts": self.cuts,
            "simulated_kills": self.kills,
            "recoveries": self.recoveries,
            "acknowledged": self.acknowledged,
            "events_seen": self.seen,
            "steps_run": self.steps,
            "seeds_per_hour": self.per_hour,
            "violations": len(self.failures),
        }


def run_block(first: int, seeds: int, bug: str = "", world: str = RUNS) -> Summary:
    """Run seeds in this process, up to the first that fails where a bug is planted."""
    summary = Summary()
    began = time.monotonic()
    with simulating(), _broken(bug):
        for seed in range(first, first + seeds):
            summary.add(seed, _run_one(world, seed, bug))
            if bug and summary.failures:
                break
    summary.seconds = time.monotonic() - began
    return summary


def _run_one(world: str, seed: int, bug: str) -> Report:
    return run_plan(_plan(seed, bug)) if world == RUNS else WORLDS[world].run(seed, bug)


def run_seeds(
    first: int,
    seeds: int,
    jobs: int = 1,
    say: Callable[[str], None] | None = None,
    world: str = RUNS,
) -> Summary:
    """Run so many seeds in `jobs` processes; stop after some that fail."""
    starts = range(first, first + seeds, BLOCK)
    blocks = ((at, min(BLOCK, first + seeds - at), world) for at in starts)
    return _run(blocks, jobs, say)


def run_for(
    seconds: float,
    first: int,
    jobs: int = 1,
    say: Callable[[str], None] | None = None,
    world: str = RUNS,
) -> Summary:
    """Run seeds from `first` on for about so many seconds."""
    deadline = time.monotonic() + seconds

    def blocks() -> Iterator[Block]:
        for at in count(first, BLOCK):
            if time.monotonic() >= deadline:
                return
            yield at, BLOCK, world

    return _run(blocks(), jobs, say)


def _run(blocks: Iterable[Block], jobs: int, say: Callable[[str], None] | None) -> Summary:
    began = time.monotonic()
    total = Summary()
    if jobs <= 1:
        parts = (run_block(first, seeds, world=world) for first, seeds, world in blocks)
    else:
        parts = _in_processes(blocks, jobs)
    told_s = began
    for part in parts:
        total.merge(part)
        total.seconds = time.monotonic() - began
        if say is not None and time.monotonic() - told_s > 10:
            told_s = time.monotonic()
            say(f"{total.seeds} seeds, {total.per_hour} an hour, {len(total.failures)} failed")
        if len(total.failures) >= _FAILURES_MAX:
            break
    total.seconds = time.monotonic() - began
    return total


def _in_processes(blocks: Iterable[Block], jobs: int) -> Iterator[Summary]:
    """Let `jobs` processes take blocks, each its next one when it is done."""
    source = iter(blocks)
    mutex = threading.Lock()
    done: SimpleQueue[Summary | BaseException | None] = SimpleQueue()
    workers = [_Worker() for _ in range(jobs)]

    def serve(worker: _Worker) -> None:
        try:
            while True:
                with mutex:
                    block = next(source, None)
                if block is None:
                    break
                done.put(worker.run(*block))
        except BaseException as error:  # noqa: BLE001  told to whoever waits
            done.put(error)
        done.put(None)

    try:
        for worker in workers:
            threading.Thread(target=serve, args=(worker,), daemon=True).start()
        left = jobs
        while left:
            summary = done.get()
            if isinstance(summary, BaseException):
                raise summary
            if summary is None:
                left -= 1
            else:
                yield summary
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that runs blocks: it ends with its standard input, or with its parent."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.sim.many import work; work()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, first: int, seeds: int, world: str) -> Summary:
        """Return what came of a block."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{first} {seeds} {world}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            message = f"the process for seeds {first} to {first + seeds - 1} is gone"
            raise ChildProcessError(message)
        return msgspec.json.decode(line, type=Summary)

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


def work() -> None:
    """Run the blocks that standard input names; a line of JSON for each."""
    die_with_parent()
    for line in sys.stdin:
        first, seeds, world = line.split()
        summary = run_block(int(first), int(seeds), world=world)
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
        sys.stdout.flush()


def die_with_parent() -> None:
    """Whoever starts us may be killed: nothing is to be left behind."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def digests(first: int, seeds: int) -> list[str]:
    """Return the digest of each seed: all that happened, and what every life left on disk."""
    with simulating():
        return [run_plan(draw(seed)).digest for seed in range(first, first + seeds)]


def _plan(seed: int, bug: str) -> Plan:
    return draw(seed, BUGS[bug].focus if bug else None)


def _broken(bug: str) -> contextlib.AbstractContextManager[None]:
    if not bug:
        return contextlib.nullcontext()
    world = world_of(bug)
    return BUGS[bug].enter() if world is None else world.bugs[bug]()


def _fails(bug: str, plan: Plan) -> bool:
    with _broken(bug):
        return bool(run_plan(plan).violations)


def explain(seed: int, bug: str = "", world: str = RUNS) -> str:
    """Return what is wrong with a seed, the shortest schedule found, and how to run it again.

    A schedule is made shorter in the world of random runs alone; the others have none.
    """
    again = f"python -m tests.sim --first {seed} --seeds 1" + (f" --planted {bug}" if bug else "")
    if world != RUNS:
        again += "" if bug else f" --world {world}"
        with simulating(), _broken(bug):
            violations = WORLDS[world].run(seed, bug).violations
        wrong = "\n".join(violations[:5]) or "it does not fail here"
        return f"seed {seed} of {world} fails:\n{wrong}\n\nrun it again: {again}"
    with simulating():
        plan = _plan(seed, bug)
        if not _fails(bug, plan):
            return f"seed {seed} does not fail here; {again}"
        short = shorten(plan, partial(_fails, bug))
        with _broken(bug):
            report = run_plan(short, story=True)
    story = "\n".join(report.story[-60:])
    wrong = "\n".join(report.violations[:5])
    return (
        f"seed {seed} fails; shortest schedule found:\n{tell(short)}\n\nends:\n{story}\n\n"
        f"violations:\n{wrong}\n\nrun it again: {again}"
    )
