"""`python -m tests.sim`: run seeds of the simulation from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.sim.bugs import BUGS
from tests.sim.many import RUNS, Summary, explain, run_block, run_for, run_seeds
from tests.sim.worlds import WORLDS, world_of


def main() -> int:
    """Run what the arguments say; 1 when a seed failed, or when no seed found a planted bug."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1000, help="how many, of each world")
    parser.add_argument("--seconds", type=float, default=0.0, help="or for how long, each world")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument(
        "--world", choices=[RUNS, *WORLDS, "all"], default=RUNS, help="random runs, or another"
    )
    bugs = sorted([*BUGS, *(bug for world in WORLDS.values() for bug in world.bugs)])
    parser.add_argument(
        "--planted", choices=bugs, metavar="BUG", help="break this rule of its world first"
    )
    given = parser.parse_args()
    if given.planted:
        world = world_of(given.planted)
        given.world = RUNS if world is None else world.name
    names = [RUNS, *WORLDS] if given.world == "all" else [given.world]
    summaries = {name: _run(given, name) for name in names}
    figures = {name: summary.figures() for name, summary in summaries.items()}
    shown = figures if given.world == "all" else figures[given.world]
    print(json.dumps(shown, indent=2))
    if given.json:
        given.json.write_text(json.dumps(shown))
    failed = [(name, one.failures[0]) for name, one in summaries.items() if one.failures]
    for name, failure in failed[:1]:
        print(explain(failure.seed, given.planted or "", name))
    return int(bool(failed) != bool(given.planted))


def _run(given: argparse.Namespace, world: str) -> Summary:
    def say(text: str) -> None:
        print(f"{world}: {text}", file=sys.stderr, flush=True)

    if given.planted:
        return run_block(given.first, given.seeds, given.planted, world)
    if given.seconds:
        return run_for(given.seconds, given.first, given.jobs, say, world)
    return run_seeds(given.first, given.seeds, given.jobs, say, world)


if __name__ == "__main__":
    sys.exit(main())
