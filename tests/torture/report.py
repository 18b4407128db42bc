"""What came of a programme: one table for all readers, and `build/torture.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import msgspec

from tests.torture.parts import COUNTS, PARTS, RATED
from tests.torture.process import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(slots=True)
class Report:
    """One run of the programme."""

    seconds: float
    seed: int
    jobs: int
    began: str
    """The time of its start, ISO 8601."""
    commit: str
    machine: str
    took_s: float
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def passed(self) -> bool:
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)

    def total(self, name: str) -> int:
        """Return how many of it all parts counted together."""
        return sum(outcome.counts.get(name, 0) for outcome in self.outcomes)

    def rate(self, name: str) -> int:
        """Return how many of it an hour, over the time of the parts that count it."""
        counting = [outcome for outcome in self.outcomes if name in outcome.counts]
        took_s = sum(outcome.took_s for outcome in counting)
        return round(self.total(name) * 3600 / took_s) if took_s else 0

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        return msgspec.json.decode(path.read_bytes(), type=cls)


def by_part(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return a table: a row for each part, as it was run."""
    rows = [["part", "what it does", "result", "time", "counted"]]
    whats = {part.name: part.what for part in PARTS}
    for outcome in sorted(outcomes, key=lambda one: (one.part, one.seed)):
        counted = [
            f"{count:,} {name.replace('_', ' ')}"
            for name, count in _ordered(outcome.counts).items()
            if count or name == "lost"
        ]
        took = f"{outcome.took_s:.0f} s"
        what = whats.get(outcome.part, "")
        rows.append([outcome.part, what, outcome.verdict, took, ", ".join(counted) or "–"])
    return rows


def by_count(report: Report) -> list[list[str]]:
    """Return a table: a row for each thing that was counted."""
    names = {name: 0 for outcome in report.outcomes for name in outcome.counts}
    names |= {"acknowledged": 0, "lost": 0}
    rows = [["count", "what it is", "in all", "an hour of its part"]]
    for name in _ordered(names):
        rate = f"{report.rate(name):,}" if name in RATED and report.total(name) else "–"
        what = COUNTS.get(name, "")
        rows.append([name.replace("_", " "), what, f"{report.total(name):,}", rate])
    return rows


def _ordered(counts: dict[str, int]) -> dict[str, int]:
    places = {name: place for place, name in enumerate(COUNTS)}
    return dict(sorted(counts.items(), key=lambda item: (places.get(item[0], 99), item[0])))


def headline(report: Report) -> str:
    """Return one sentence about it."""
    held = "every rule held" if report.passed else "NOT ALL RULES HELD"
    return (
        f"{report.seconds:.0f} s asked for, {report.took_s:.0f} s taken, {report.jobs} parts at a "
        f"time, seed {report.seed}: {report.total('acknowledged'):,} acknowledged, "
        f"{report.total('lost'):,} lost, {report.total('planted_found'):,} of "
        f"{report.total('planted_total'):,} planted bugs found; {held}."
    )


def markdown(report: Report) -> str:
    """Return the report as it stands in docs/faults.md."""
    parts = [f"{report.began[:10]}, commit `{report.commit}`, {report.machine}. {headline(report)}"]
    for rows in (by_count(report), by_part(report.outcomes)):
        head, *body = (f"| {' | '.join(row)} |" for row in rows)
        parts.append("\n".join([head, "|---" * len(rows[0]) + "|", *body]))
    return "\n\n".join(parts)
