"""`make torture SECONDS=600 [SEED= SEEDS= JOBS= PARTS=]`: the long programme of faults."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from tests.torture.parts import PARTS
from tests.torture.report import Report, by_count, by_part, headline
from tests.torture.runner import Programme
from tests.torture.show import Lively, Plain
from tools import processes

if TYPE_CHECKING:
    from tests.torture.process import Outcome

BUILD: Final = Path(__file__).resolve().parents[2] / "build"


def main() -> int:
    """Run it; return 0 if every rule held, 1 if not, 130 if it was cut short."""
    arguments = _arguments()
    began, started = datetime.now(UTC), time.monotonic()
    programme = Programme(
        parts=[part for part in PARTS if part.name in arguments.parts],
        seconds=arguments.seconds,
        seed=arguments.seed,
        jobs=arguments.jobs,
        seeds=arguments.seeds,
        logs=BUILD / "torture",
        show=Plain(),
    )
    whole = _run(programme)
    report = Report(
        seconds=arguments.seconds,
        seed=arguments.seed,
        jobs=arguments.jobs,
        began=began.isoformat(timespec="seconds"),
        commit=_commit(),
        machine=_machine(),
        took_s=time.monotonic() - started,
        outcomes=programme.outcomes,
    )
    report.save(BUILD / "torture.json")
    _print(report)
    if not whole:
        print("It was cut short.")
        return 130
    if report.total("seeds") < arguments.seeds:
        print(f"{arguments.seeds:,} simulated worlds were asked for: {report.total('seeds'):,}.")
        return 1
    return 0 if report.passed else 1


def _arguments() -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it may take")
    parser.add_argument("--seed", type=int, default=None, help="all chance comes from it")
    parser.add_argument("--seeds", type=int, default=0, help="simulated worlds at least")
    parser.add_argument("--jobs", type=int, default=2, help="how many parts run at a time")
    parser.add_argument(
        "--parts", type=lambda text: text.split(","), default=names, help=f"of {','.join(names)}"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(names):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if arguments.jobs < 1 or arguments.seconds <= 0:
        parser.error("it takes at least one job and a time above 0")
    if arguments.seed is None:
        # Below the distance of two instances of a part.
        arguments.seed = secrets.randbelow(1_000_000)
    return arguments


def _run(programme: Programme) -> bool:
    """Run the programme; return whether it ran to its end."""
    console = Console()
    print(f"seed {programme.seed}; logs in build/torture/", flush=True)
    if console.is_terminal:
        with Lively(console) as programme.show:
            return _run_in_loop(programme)
    return _run_in_loop(programme)


def _run_in_loop(programme: Programme) -> bool:
    async def run() -> None:
        task = asyncio.ensure_future(programme.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        return False
    return True


def _print(report: Report) -> None:
    # In a pipe a table takes the room that it needs.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for rows in (by_part(report.outcomes), by_count(report)):
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for outcome in report.outcomes:
        if not outcome.passed:
            print(f"\n{outcome.part} {outcome.verdict}: {outcome.why}")
            print(f"  log: build/{outcome.log}")
            print(f"  again: make torture {again(outcome)}")
        for process in outcome.left:
            print(f"{outcome.part} left behind: {process}")
    print(headline(report))


def again(outcome: Outcome) -> str:
    """Return the arguments that run this part again as it was run."""
    return f"PARTS={outcome.part} JOBS=1 SECONDS={outcome.asked_s:.0f} SEED={outcome.seed}"


def _commit() -> str:
    """Return the commit, with a `+` if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    cores, linux, python = os.cpu_count(), platform.release(), platform.python_version()
    return f"{cores} cores, Linux {linux.partition('-')[0]}, Python {python}"


if __name__ == "__main__":
    processes.adopt_orphans()
    status = main()
    # What a part that crashed left behind.
    for process in processes.end(processes.below(os.getpid())):
        print(f"cannot be killed: {process}")
    sys.exit(status)
