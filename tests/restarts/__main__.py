"""`python -m tests.restarts`: the restart under the full load; a report."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.restarts.load import Load, restart_under


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--triggers", type=int, default=200, help="a second")
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--beats", type=int, default=10, help="events of each stream")
    parser.add_argument("--every-ms", type=int, default=2000, help="between two of them")
    parser.add_argument("--way", choices=("socket", "port", "both"), default="both")
    asked = parser.parse_args()
    failed = False
    for way in ("socket", "port") if asked.way == "both" else (asked.way,):
        plan = (asked.streams, asked.triggers, asked.restarts, asked.beats, asked.every_ms)
        with tempfile.TemporaryDirectory() as root:
            seen = asyncio.run(restart_under(Load(*plan, way), Path(root)))
        print(f"handed over by its {way}\n{seen.lines()}", flush=True)
        failed = failed or bool(seen.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
