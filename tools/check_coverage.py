"""Fail unless every line and branch of the rooms that durability and access rest on was taken.

`python -m tools.check_coverage build/coverage.json` reads what `coverage json` wrote, prints the
branch coverage of each room, and names every line that no test reaches and every branch that none
takes. Not in the report at all is not covered either.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
ROOMS: Final = (
    "stepflow/model/*.py",
    "stepflow/journal/*.py",
    "stepflow/runtime/replay.py",
    "stepflow/auth/*.py",
)


class Summary(msgspec.Struct):
    """What a file or the whole came to."""

    num_statements: int
    covered_lines: int
    num_branches: int = 0
    covered_branches: int = 0

    @property
    def percent(self) -> float:
        total = self.num_statements + self.num_branches
        return 100.0 * (self.covered_lines + self.covered_branches) / total if total else 100.0


class Measured(msgspec.Struct):
    """One file of the report."""

    summary: Summary
    missing_lines: list[int] = []
    missing_branches: list[tuple[int, int]] = []


class Report(msgspec.Struct):
    """What `coverage json` writes, as far as it is needed."""

    files: dict[str, Measured]
    totals: Summary


def missing(path: Path, measured: Measured | None) -> Iterator[str]:
    """Yield what of the file was not reached, ready to be clicked on."""
    name = path.relative_to(ROOT)
    if measured is None:
        if path.stat().st_size:
            yield f"{name}: no test imports it"
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in measured.missing_lines:
        yield f"{name}:{line}: {lines[line - 1].strip()}"
    for line, target in measured.missing_branches:
        if line not in measured.missing_lines and target not in measured.missing_lines:
            where = f"line {target}" if target > 0 else "the end"
            yield f"{name}:{line}: never goes on at {where}: {lines[line - 1].strip()}"


def main(report_path: Path) -> int:
    report = msgspec.json.decode(report_path.read_bytes(), type=Report)
    found: list[str] = []
    for room in ROOMS:
        paths = sorted(ROOT.glob(room))
        measured = [report.files.get(str(path.relative_to(ROOT))) for path in paths]
        whole = Summary(0, 0)
        for path, one in zip(paths, measured, strict=True):
            found += missing(path, one)
            if one is not None:
                whole.num_statements += one.summary.num_statements
                whole.covered_lines += one.summary.covered_lines
                whole.num_branches += one.summary.num_branches
                whole.covered_branches += one.summary.covered_branches
        branches = f"{whole.covered_branches:,} of {whole.num_branches:,} branches"
        print(f"{whole.percent:6.2f} %  {room}: {branches}")
    print(f"{report.totals.percent:6.2f} %  everything")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
