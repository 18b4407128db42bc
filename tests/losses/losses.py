"""A cluster under load whose processes are killed in turn; the external checker looks for losses.

The checker (tests/recovery/checker.py) is a process of its own that knows the API alone. It drives
runs, letters, cancels and streams through the balancer, keeps a ledger of all it was told, and at
the end compares the service with it: each acknowledged run, event and cancel, each result that it
was told, each stream without a gap, and no step that ran after its end was told.

Take-over times are read beside that, from outside:

- of a worker: from its kill to the next step of the run that waited longest for one, among the runs
  that step every 50 ms until they are cancelled, and had stepped in the second before
- of anything: the longest silence, in which not one client was told anything
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.cli_kit import ROOT
from tests.recovery.ledger import read_ledger
from tests.served import doomed, end_group
from tools.cluster import DATABASE, Cluster

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP: Final = ROOT / "tests" / "recovery" / "crash_app.py"
_AFTER_S: Final = 3.0
_ROW: Final = b'{"k":"run"'


@dataclass(frozen=True, slots=True)
class Plan:
    runs: int = 1000
    workers: int = 4
    apis: int = 2
    rounds: int = 3
    """So often each kind of process is killed."""
    claim_timeout_s: int = 2
    in_flight: int = 60
    subscribers: int = 30
    seed: int = 1


@dataclass
class Kill:
    process: str
    at_s: float
    away_s: float = 0.0
    """From the kill until it served again."""
    silence_s: float = 0.0
    """The longest time in which no client was told anything, till some seconds after its return."""
    stepped_s: float | None = None
    """From a worker's kill to the next step of the run that waited longest for it."""


@dataclass
class Seen:
    report: dict[str, Any]
    kills: list[Kill] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        faults: list[str] = self.report["faults"]
        return faults

    def lines(self) -> list[str]:
        r = self.report
        acknowledged = ", ".join(
            f"{r[kind]:,} {name}"
            for kind, name in (
                *(("runs", "runs"), ("letters", "events"), ("cancels", "cancels")),
                *(("ends", "ends"), ("steps", "results"), ("events", "events of streams")),
            )
        )
        said = [f"told to clients: {acknowledged}: {len(self.faults) or 'zero'} losses"]
        for kill in self.kills:
            text = f"kill -9 of {kill.process:<9} the longest silence was {kill.silence_s:.2f} s"
            if kill.stepped_s is not None:
                text += f"; its runs went on within {kill.stepped_s:.2f} s"
            said.append(f"{text}; away for {kill.away_s:.2f} s")
        return said + self.faults


def lose_nothing(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> Seen:
    """Put the load on a cluster in `folder`, kill, and return what the checker has found."""
    step_log, ledger = folder / "steps.log", folder / "ledger"
    cluster = Cluster(
        folder,
        APP,
        workers=plan.workers,
        apis=plan.apis,
        claim_timeout_s=plan.claim_timeout_s,
        env={"STEP_LOG": str(step_log)},
        on_line=say,
    )
    with cluster:
        checker = _checker(cluster, plan, ledger, step_log)
        try:
            kills = _kill_in_turn(cluster, plan, checker, ledger, say)
            say("the load ends; the ledger is checked")
            out, _ = checker.communicate()
        finally:
            end_group(checker)
    seen = Seen(json.loads(out), kills)
    told = [row["at"] for row in read_ledger(ledger) if row["k"] not in {"inv", "fault"}]
    steps = _steps(step_log)
    for kill in seen.kills:
        kill.silence_s = silence(told, kill.at_s, kill.at_s + kill.away_s + _AFTER_S)
        if kill.process.startswith("worker"):
            kill.stepped_s = longest_step(steps, kill.at_s)
    return seen


def _checker(cluster: Cluster, plan: Plan, ledger: Path, step_log: Path) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "tests.recovery.checker", "live"),
        *("--url", cluster.url, "--key", cluster.api_key, "--seed", str(plan.seed)),
        *("--ledger", str(ledger), "--step-log", str(step_log), "--limit-s", "900"),
        *("--in-flight", str(plan.in_flight), "--subscribers", str(plan.subscribers)),
    ]
    return subprocess.Popen(
        doomed(command),
        cwd=ROOT,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _kill_in_turn(
    cluster: Cluster,
    plan: Plan,
    checker: subprocess.Popen[bytes],
    ledger: Path,
    say: Callable[[str], None],
) -> list[Kill]:
    """Kill a worker, an API node and the database in turn, spread over the runs."""
    rng = random.Random(plan.seed)
    kills: list[Kill] = []
    total = 3 * plan.rounds

    def until_runs(count: int) -> None:
        # A moment that depends on progress, not on the clock.
        while not ledger.exists() or ledger.read_bytes().count(_ROW) < count:
            assert checker.poll() is None, "the checker gave up"
            time.sleep(0.01)

    for number in range(total):
        until_runs(plan.runs * (number + 1) // (total + 1))
        kind = number % 3
        names = (cluster.workers, cluster.apis, (DATABASE,))[kind]
        kill = Kill(rng.choice(names), time.monotonic())
        cluster.kill(kill.process)
        # A worker stays away until another must have taken its runs over.
        if kind == 0:
            mark = ledger.read_bytes().count(_ROW) if ledger.exists() else 0
            until_runs(mark + plan.runs // (4 * total))
            time.sleep(max(0.0, kill.at_s + plan.claim_timeout_s + 1 - time.monotonic()))
        cluster.revive(kill.process)
        kill.away_s = time.monotonic() - kill.at_s
        kills.append(kill)
        say(f"killed and started again: {kill.process} ({number + 1} of {total})")
    until_runs(plan.runs)
    return kills


def _steps(step_log: Path) -> dict[str, list[float]]:
    """Return when each run's attempts began."""
    steps: dict[str, list[float]] = {}
    for line in step_log.read_text().splitlines():
        at, run_id, *_ = line.split(" ")
        steps.setdefault(run_id, []).append(float(at))
    return steps


def silence(told: list[float], from_s: float, to_s: float) -> float:
    """Return the longest time without one of the moments in that span, its ends counted."""
    # Behind the last word of all the load was over.
    end_s = min(to_s, max(told, default=to_s))
    times = [from_s, *sorted(at for at in told if from_s < at < end_s), end_s]
    return max(after - before for before, after in itertools.pairwise(times))


def longest_step(steps: dict[str, list[float]], at_s: float) -> float | None:
    """Return the longest time to the next step, of runs that had stepped in the second before."""
    waits = [
        min(after) - at_s
        for run in steps.values()
        if any(at_s - 1 < at <= at_s for at in run) and (after := [at for at in run if at > at_s])
    ]
    return max(waits, default=None)


def killed(seen: Seen) -> Counter[str]:
    """Return how often each kind was killed."""
    return Counter(kill.process.partition("-")[0] for kill in seen.kills)
