"""`python -m tests.sim`: run seeds of the simulation from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.sim.bugs import BUGS
from tests.sim.many import Summary, explain, run_block, run_for, run_seeds


def main() -> int:
    """Run what the arguments say; 1 when a seed failed, or when no seed found a planted bug."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--seconds", type=float, default=0.0, help="or for how long")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--planted", choices=sorted(BUGS), help="break this rule first")
    given = parser.parse_args()
    summary = _run(given)
    print(json.dumps(summary.figures(), indent=2))
    if given.json:
        given.json.write_text(json.dumps(summary.figures()))
    for failure in summary.failures[:1]:
        print(explain(failure.seed, given.planted or ""))
    return int(bool(summary.failures) != bool(given.planted))


def _run(given: argparse.Namespace) -> Summary:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if given.planted:
        return run_block(given.first, given.seeds, given.planted)
    if given.seconds:
        return run_for(given.seconds, given.first, given.jobs, say)
    return run_seeds(given.first, given.seeds, given.jobs, say)


if __name__ == "__main__":
    sys.exit(main())
