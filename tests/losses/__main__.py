"""`python -m tests.losses`: 1,000 runs over 4 workers, processes killed in turn; a report.

Exit status 1 when anything acknowledged was lost.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.losses.losses import Plan, lose_nothing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--apis", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="kills of each kind")
    parser.add_argument("--claim-timeout", type=int, default=2, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    plan = Plan(
        runs=asked.runs,
        workers=asked.workers,
        apis=asked.apis,
        rounds=asked.rounds,
        claim_timeout_s=asked.claim_timeout,
        seed=asked.seed,
    )
    with tempfile.TemporaryDirectory(prefix="losses-") as folder:
        seen = lose_nothing(plan, Path(folder), lambda line: print(line, flush=True))
    print("\n".join(seen.lines()))
    return 1 if seen.faults else 0


if __name__ == "__main__":
    sys.exit(main())
