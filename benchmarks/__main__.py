"""Run the benchmarks one after the other, each in a process of its own, and keep the figures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import compare, results, table
from benchmarks.catalog import BY_NAME, LONG, QUICK, SHORT
from benchmarks.report import ROOT, WORK


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--quick", action="store_true", help="short: shows that they work")
    parser.add_argument("--long", action="store_true", help=f"{', '.join(LONG)}")
    parser.add_argument("--all", action="store_true", help="all but the soak, then the quick forms")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="into the committed results and tables")
    parser.add_argument("--out", type=Path, help="default: build/bench/results.json")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BY_NAME):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BY_NAME)}")
    out = results.RESULTS if options.keep else options.out or WORK / "results.json"
    # What is kept is added to; what is only looked at begins anew.
    kept = results.read(out) if options.keep else results.read(Path("nowhere"))
    failed: list[str] = []
    for name, quick in _wanted(options):
        if fault := take(kept, out, name, options.repeats, quick=quick):
            print(f"== {name} FAILED: {fault}", flush=True)
            failed.append(name)
    if options.keep:
        table.write()
    else:
        print(compare.report(kept))
    print(f"== written to {out}")
    if failed:
        print(f"== failed: {', '.join(failed)}")
    return bool(failed)


def _wanted(options: argparse.Namespace) -> list[tuple[str, bool]]:
    """Return the names in their order, each with whether its short form is meant."""
    if options.all:
        return [(name, False) for name in SHORT + LONG] + [(name, True) for name in QUICK]
    default = LONG if options.long else QUICK if options.quick else SHORT
    return [(name, options.quick) for name in options.names or default]


def take(
    kept: results.Results, out: Path, name: str, repeats: int, *, quick: bool = False
) -> str | None:
    """Run one script and write its figures at once; return what went wrong."""
    print(f"== {name}{' (quick)' if quick else ''}", flush=True)
    began = time.monotonic()
    try:
        figures = run(name, repeats, quick=quick)
        results.put(kept, name, figures, quick=quick)
    except subprocess.CalledProcessError as error:
        return f"it ended with status {error.returncode}"
    except ValueError as error:
        return str(error)
    results.write(kept, out)
    print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    return None


def run(name: str, repeats: int, *, quick: bool) -> dict[str, Any]:
    """Run one script; return its figures. What it prints is shown when it fails, or when long."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", file.name]
        command += ["--repeats", str(repeats), *(["--quick"] if quick else [])]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        figures: dict[str, Any] = json.loads(Path(file.name).read_bytes())
    return figures


if __name__ == "__main__":
    sys.exit(main())
