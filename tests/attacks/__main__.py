"""List the attack tables and run them against the product in this process.

python -m tests.attacks            every table
python -m tests.attacks jwt tokens those
python -m tests.attacks --list     names and numbers
python -m tests.attacks --torture 60 --seed 7
python -m tests.attacks --round 7000021   one round of it again
"""

from __future__ import annotations

import argparse
import sys

from tests.attacks.run import TABLES, run_table
from tests.attacks.torture import repeat, torture


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--torture", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, metavar="SEED")
    options = parser.parse_args()
    if unknown := set(options.names) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}")
    if options.round is not None:
        say(str(repeat(options.round)))
        return 0
    if options.torture:
        say(str(torture(options.torture, options.seed, say)))
        return 0
    total = bad = 0
    for name in options.names or TABLES:
        if options.list:
            say(f"{name:<18} {TABLES[name].what}")
            continue
        count, wrong = run_table(name)
        total, bad = total + count, bad + len(wrong)
        say(f"{name:<18} {count:>6} attacks, {len(wrong)} not answered as they should be")
        for line in wrong[:20]:
            say(f"    {line}")
    if not options.list:
        say(f"{'all':<18} {total:>6} attacks, {bad} not answered as they should be")
    return 1 if bad else 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
