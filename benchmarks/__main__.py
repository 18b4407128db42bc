"""Run the benchmarks one after the other, each in a process of its own, and keep the figures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.report import ROOT, WORK, surroundings

NAMES = ("http_triggers", "http_guard", "in_process", "fan_out", "recovery", "instructions")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="short: shows that they work")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results.json, if all are run")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    names = options.names or NAMES
    results: dict[str, Any] = surroundings() | {"quick": options.quick, "figures": {}}
    for name in names:
        print(f"== {name}", flush=True)
        results["figures"][name] = run(name, options.repeats, quick=options.quick)
    out = options.out or _where(whole=not options.quick and tuple(names) == NAMES)
    out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if out == table.RESULTS:
        table.write()
    print(f"== written to {out}")


def _where(*, whole: bool) -> Path:
    return table.RESULTS if whole else WORK / "results.json"


def run(name: str, repeats: int, *, quick: bool) -> dict[str, Any]:
    """Run one script; return its figures."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", file.name]
        command += ["--repeats", str(repeats), *(["--quick"] if quick else [])]
        subprocess.run(command, cwd=ROOT, check=True)
        figures: dict[str, Any] = json.loads(Path(file.name).read_bytes())
    return figures


if __name__ == "__main__":
    main()
