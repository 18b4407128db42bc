"""What a run of the claims came to: a line an engine, and the table of capabilities by engine.

Made of the properties that each claim's report carries (claims/base.py), so that it is the same
whether one process ran them or many.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Claimed", "gathered", "lines", "table"]


@dataclass
class Claimed:
    """How the claims on one engine came out. A claim that did not hold is in `failed` alone."""

    held: Counter[str] = field(default_factory=Counter[str])
    """By the capability that it needs; `""` is what every engine must do."""
    refused: Counter[str] = field(default_factory=Counter[str])
    """Likewise; claims that the engine declares it cannot meet, and that were clearly refused."""
    otherwise: Counter[str] = field(default_factory=Counter[str])
    """Likewise; what holds in their place."""
    failed: Counter[str] = field(default_factory=Counter[str])

    def add(self, capability: str, outcome: str, *, passed: bool) -> None:
        """Count one claim."""
        kinds = {"held": self.held, "refused": self.refused, "otherwise": self.otherwise}
        (kinds[outcome] if passed else self.failed)[capability] += 1


def gathered(claims: Iterable[tuple[str, bool]]) -> dict[str, Claimed]:
    """Return what is counted, by engine; a claim is its property's text and whether it passed."""
    found: dict[str, Claimed] = {}
    for text, passed in claims:
        engine, _, capability, outcome = text.split("|")
        found.setdefault(engine, Claimed()).add(capability, outcome, passed=passed)
    return found


def lines(by_engine: Mapping[str, Claimed]) -> list[str]:
    """Return what is said at the end of a run, a line an engine."""
    said: list[str] = []
    for engine, claimed in sorted(by_engine.items()):
        text = f"conformance of {engine}: {claimed.held.total()} claims hold"
        for how, counted in (
            ("clearly refused, as declared", claimed.refused),
            ("otherwise, as declared", claimed.otherwise),
        ):
            if counted:
                which = ", ".join(f"{name} {n}" for name, n in sorted(counted.items()))
                text += f"; {counted.total()} {how} ({which})"
        if claimed.failed:
            text += f"; {claimed.failed.total()} DO NOT HOLD"
        said.append(text)
    return said


def table(by_engine: Mapping[str, Claimed]) -> str:
    """Return capability by engine, in Markdown: how many claims hold, or are clearly refused."""
    engines = sorted(by_engine)
    capabilities = sorted(
        {
            name
            for each in by_engine.values()
            for name in (*each.held, *each.refused, *each.otherwise, *each.failed)
        }
    )
    rows = [["capability", *engines], ["---"] * (len(engines) + 1)]
    for name in capabilities:
        cells = [_cell(by_engine[engine], name) for engine in engines]
        rows.append([f"`{name}`" if name else "what every engine must do", *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(claimed: Claimed, name: str) -> str:
    if claimed.failed[name]:
        return f"**{claimed.failed[name]} do not hold**"
    if claimed.refused[name]:
        return f"refused ({claimed.refused[name]})"
    if claimed.otherwise[name]:
        return f"otherwise ({claimed.otherwise[name]})"
    return f"{claimed.held[name]} hold" if claimed.held[name] else "not claimed"
