"""`results.json`: each script's figures, and where, when and on what each was taken.

`{"figures": {SCRIPT: {"taken": …, figures…}}, "quick": {the same, of the short forms}}`. A script
that is run again replaces its own figures only, and the file is written after each one, so that
what is cut short keeps what there is. The quick ones are there for CI to compare with.

`python -m benchmarks.results SCRIPT FILE` puts a script's own `--json` in, such as the soak's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.report import ROOT, surroundings
from benchmarks.rows import missing

RESULTS: Final = ROOT / "benchmarks" / "results.json"
FULL: Final = "figures"
QUICK: Final = "quick"
_ABOUT: Final = ("machine", "versions", "commit", "changed_since", "durability")

Results = dict[str, Any]


def read(path: Path | None = None) -> Results:
    """Return what has been kept, by default the committed; nothing, where there is no file."""
    path = path or RESULTS
    if not path.exists():
        return {FULL: {}, QUICK: {}}
    kept: Results = json.loads(path.read_bytes())
    return {FULL: {}, QUICK: {}} | kept


def put(results: Results, script: str, figures: dict[str, Any], *, quick: bool = False) -> None:
    """Replace the script's figures; raise ValueError when they lack what is published."""
    if lacking := missing(script, figures):
        raise ValueError(f"{script} gave no {', '.join(lacking)}: see its rows in rows.py")
    # A script that says itself where it was taken, as one of an hour does, knows best.
    own = {name: figures[name] for name in _ABOUT if name in figures}
    rest = {name: value for name, value in figures.items() if name not in _ABOUT}
    results[QUICK if quick else FULL][script] = {"taken": surroundings() | own} | rest


def write(results: Results, path: Path | None = None) -> None:
    """Replace the file at once: an end in the middle leaves the old one."""
    path = path or RESULTS
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def main() -> None:
    script, file = sys.argv[1:]
    results = read()
    put(results, script, json.loads(Path(file).read_bytes()))
    write(results)


if __name__ == "__main__":
    main()
